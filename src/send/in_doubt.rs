//! Resolves sends whose outcome is in doubt: looks them up in the API's logs, and resends with the same id only what the logs do
//! not have (docs/RELIABILITY.md#how-a-send-stays-single).
//!
//! Invariants: an answered look-up precedes every resend; a send that was refused as "duplicate id" is never resent; after
//! `send.in_doubt_for` the result is `unknown`, and a repeated call starts a new look-up.
//! Neighbours: `dispatcher` and `core` hand sends over; `outcome` classifies log rows; `recorder` records results.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    lanes::Lanes,
    outcome::{self, Verdict},
    plan::Part,
    recorder::{Finished, Recorder},
};
use crate::{
    config,
    infobip::{
        Client, LogsQuery, limits,
        pacing::{LogQuota, Priority},
        wire::{self, LogRow},
    },
    message::reason::Reason,
    ops::metrics::{Metrics, Resolution},
    primitives::retry::RetryPolicy,
    proto::v1::{self, Outcome},
};

/// Maximum time between two look-ups of one id.
const MAX_LOOKUP_INTERVAL: Duration = Duration::from_secs(30);
/// Look-ups that fall due within this time after the first one share its request.
const LOOKUP_BATCH_WINDOW: Duration = Duration::from_millis(20);
/// Maximum age of a send that is resent (docs/RELIABILITY.md#how-a-send-stays-single). The API's logs go back 48 hours.
const MAX_RESEND_AGE: SignedDuration = SignedDuration::from_hours(24);

/// One destination whose outcome is in doubt.
pub(super) struct Doubt {
    part: Part,
    may_resend: bool,
    since: Instant,
    due: Instant,
    /// Before this time "not found" does not count: the original request may still be in flight.
    not_found_counts_from: Instant,
    look_ups: u32,
}

impl Doubt {
    /// A send of this process whose response did not arrive.
    pub(super) fn new(mut part: Part, may_resend: bool, wait: Duration) -> Self {
        let now = Instant::now();
        let since = *part.in_doubt_since.get_or_insert(now);
        Self {
            part,
            may_resend,
            since,
            due: now + wait,
            not_found_counts_from: now,
            look_ups: 0,
        }
    }

    /// A send that another process may have begun. "Not found" counts only after `request_timeout`, when that process's request
    /// has ended.
    pub(super) fn redelivered(mut part: Part, request_timeout: Duration) -> Self {
        let now = Instant::now();
        part.in_doubt_since = Some(now);
        Self {
            part,
            may_resend: true,
            since: now,
            due: now,
            not_found_counts_from: now + request_timeout,
            look_ups: 0,
        }
    }

    /// Sets the time at which the send began. It is not resent if the API's logs may no longer show it.
    pub(super) fn begun_at(mut self, at: Timestamp) -> Self {
        self.may_resend &= Timestamp::now().duration_since(at) < MAX_RESEND_AGE;
        self
    }

    fn wire_id(&self) -> &str {
        let mut destinations = self.part.destinations();
        destinations
            .next()
            .map_or("", |destination| destination.wire_id)
    }

    fn finished(&self, result: Box<v1::SendResult>) -> Finished {
        Finished {
            call: Arc::clone(&self.part.call),
            slot: self.slot(),
            result,
        }
    }

    fn slot(&self) -> usize {
        self.part.slots.first().copied().unwrap_or_default()
    }

    /// The result `unknown`, for the reason `why`.
    pub(super) fn unknown(&self, why: &str) -> Finished {
        let detail = format!(
            "the request was sent, no usable response arrived, and the API's logs did not show the outcome: {why}. Repeat the call with the same ids to look it up again"
        );
        let result = self.part.call.refusal(
            self.slot(),
            Outcome::Unknown,
            Reason::OutcomeUnknown,
            detail,
            Vec::new(),
        );
        self.finished(result)
    }

    fn found(&self, log: &v1::SmsLog) -> Finished {
        let status = log.status.clone().unwrap_or_default();
        let outcome = match outcome::of_log(&status) {
            Verdict::Rejected => Outcome::Rejected,
            Verdict::Accepted | Verdict::LookUp => Outcome::Accepted,
        };
        let mut result = self.part.call.result(self.slot(), outcome);
        result.status = log.status.clone();
        result.sms_count = log.sms_count;
        self.finished(result)
    }
}

/// Hands sends in doubt to the [`Resolver`].
#[derive(Clone)]
pub(super) struct Doubts {
    pub(super) resolver: mpsc::Sender<Doubt>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) metrics: Metrics,
}

impl Doubts {
    /// Hands a send over. If the resolver has ended, its result is `unknown`.
    pub(super) async fn open(&self, doubt: Doubt) {
        self.metrics.in_doubt_opened();
        if let Err(mpsc::error::SendError(doubt)) = self.resolver.send(doubt).await {
            self.metrics.in_doubt_resolved(Resolution::Unknown);
            self.recorder
                .record(vec![doubt.unknown("the bridge is shutting down")])
                .await;
        }
    }
}

/// Asks the logs for what is in doubt.
pub(super) struct Resolver {
    pub(super) client: Client,
    pub(super) log_quota: Arc<LogQuota>,
    pub(super) config: config::Send,
    pub(super) lanes: Arc<Lanes>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) metrics: Metrics,
}

impl Resolver {
    /// Runs until it is told to end; then says `unknown` of what is left.
    pub(super) async fn run(self, mut doubts: mpsc::Receiver<Doubt>, end: CancellationToken) {
        let mut open: Vec<Doubt> = Vec::new();
        loop {
            let next_due = open.iter().map(|doubt| doubt.due).min();
            tokio::select! {
                () = end.cancelled() => break,
                doubt = doubts.recv() => match doubt {
                    Some(doubt) => open.push(doubt),
                    None => break,
                },
                () = sleep_until(next_due) => {
                    let horizon = Instant::now() + LOOKUP_BATCH_WINDOW;
                    let (due, later) = open.into_iter().partition(|doubt| doubt.due <= horizon);
                    open = later;
                    tokio::select! {
                        () = end.cancelled() => { open.extend(due); break; }
                        answers = self.ask_all(&due) => open.extend(self.conclude(due, answers).await),
                    }
                }
            }
        }
        doubts.close();
        while let Ok(doubt) = doubts.try_recv() {
            open.push(doubt);
        }
        let left = open
            .iter()
            .map(|doubt| {
                self.metrics.in_doubt_resolved(Resolution::Unknown);
                doubt.unknown("the bridge is shutting down")
            })
            .collect();
        self.recorder.record(left).await;
    }

    /// Looks up all ids. Returns the rows that were found, and the ids for which the API answered.
    async fn ask_all(&self, due: &[Doubt]) -> Asked {
        let mut asked = Asked::default();
        for ids in id_filters(due) {
            self.log_quota.acquire(Priority::InDoubt).await;
            let query = LogsQuery {
                message_ids: ids.clone(),
                limit: Some(limits::MAX_ROWS),
                ..LogsQuery::default()
            };
            let at = Instant::now();
            let rows = match self.client.logs(&query).await {
                Ok(answer) => wire::read_logs(&answer.body).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match rows {
                Ok(rows) => {
                    for id in ids {
                        asked.answered.insert(id, at);
                    }
                    for row in rows.rows {
                        asked.rows.insert(row.wire_id.clone(), row);
                    }
                }
                Err(detail) => tracing::warn!(
                    detail,
                    "looking up sends in doubt failed; it will be retried"
                ),
            }
        }
        asked
    }

    /// Records or resends what was answered. Returns the sends that stay in doubt.
    async fn conclude(&self, due: Vec<Doubt>, asked: Asked) -> Vec<Doubt> {
        let mut finished = Vec::new();
        let mut resend = Vec::new();
        let mut open = Vec::new();
        for mut doubt in due {
            let answered_at = asked.answered.get(doubt.wire_id());
            if let Some(row) = asked.rows.get(doubt.wire_id()) {
                self.metrics.in_doubt_resolved(Resolution::Found);
                finished.push(doubt.found(&row.log));
            } else if answered_at.is_some_and(|at| *at >= doubt.not_found_counts_from)
                && doubt.may_resend
                && !doubt.part.is_expired()
            {
                self.metrics.in_doubt_resolved(Resolution::Resent);
                resend.push(doubt.part);
            } else if doubt.since.elapsed() >= self.config.in_doubt_for {
                self.metrics.in_doubt_resolved(Resolution::Unknown);
                finished.push(doubt.unknown("send.in_doubt_for has passed"));
            } else {
                let wait = RetryPolicy::new(self.config.in_doubt_wait, MAX_LOOKUP_INTERVAL)
                    .wait(doubt.look_ups);
                doubt.look_ups += 1;
                doubt.due = Instant::now() + wait;
                if doubt.not_found_counts_from > Instant::now() {
                    doubt.due = doubt.due.min(doubt.not_found_counts_from);
                }
                open.push(doubt);
            }
        }
        if !resend.is_empty() {
            tracing::info!(
                destinations = resend.len(),
                "not found in the API's logs; resending with the same ids"
            );
            self.lanes.push(resend);
        }
        self.recorder.record(finished).await;
        open
    }
}

#[derive(Default)]
struct Asked {
    rows: HashMap<String, LogRow>,
    answered: HashMap<String, Instant>,
}

/// The ids to look up, in lists that fit the API's id filter.
fn id_filters(due: &[Doubt]) -> Vec<Vec<String>> {
    let mut filters: Vec<Vec<String>> = Vec::new();
    let mut characters = usize::MAX;
    for doubt in due {
        let id = doubt.wire_id();
        if characters.saturating_add(id.len() + 1) > limits::MAX_ID_FILTER_CHARACTERS {
            filters.push(Vec::new());
            characters = 0;
        }
        characters += id.len() + 1;
        if let Some(filter) = filters.last_mut() {
            filter.push(id.to_owned());
        }
    }
    filters
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
