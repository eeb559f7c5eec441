//! Resolves sends of which nobody knows whether the API took them: it asks the logs, and only what they do not have is
//! sent again, with the same id (docs/RELIABILITY.md#how-a-send-stays-single).
//!
//! Invariants: a look-up that was answered comes before every resend; a part that only got "duplicate id" is never sent
//! again; after `send.in_doubt_for` the result is `unknown`, which a repeated call resolves anew.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    backoff::backoff,
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
    proto::v1::{self, Outcome},
};

/// Look-ups for one id are at most this far apart.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Doubts that become due so soon after the first are asked with it.
const GATHER: Duration = Duration::from_millis(20);
/// After this nothing is sent again (docs/RELIABILITY.md#how-a-send-stays-single): the API's logs go back 48 hours.
const SENT_AGAIN_FOR: SignedDuration = SignedDuration::from_hours(24);

/// One destination in doubt.
pub(super) struct Doubt {
    part: Part,
    may_send_again: bool,
    since: Instant,
    due: Instant,
    /// Before this, "not found" says nothing: the request may still be under way.
    not_found_counts_from: Instant,
    asked: u32,
}

impl Doubt {
    /// A send of the bridge's own that was not answered.
    pub(super) fn new(mut part: Part, may_send_again: bool, wait: Duration) -> Self {
        let now = Instant::now();
        let since = *part.in_doubt_since.get_or_insert(now);
        Self {
            part,
            may_send_again,
            since,
            due: now + wait,
            not_found_counts_from: now,
            asked: 0,
        }
    }

    /// A command that may have been sent by a process that is gone: "not found" counts only a request timeout later.
    pub(super) fn redelivered(mut part: Part, request_timeout: Duration) -> Self {
        let now = Instant::now();
        part.in_doubt_since = Some(now);
        Self {
            part,
            may_send_again: true,
            since: now,
            due: now,
            not_found_counts_from: now + request_timeout,
            asked: 0,
        }
    }

    /// It was begun at this time, which may be long ago: what the API's logs no longer show is not sent again.
    pub(super) fn begun_at(mut self, at: Timestamp) -> Self {
        self.may_send_again &= Timestamp::now().duration_since(at) < SENT_AGAIN_FOR;
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

    /// The result when it can't be resolved.
    pub(super) fn unknown(&self, why: &str) -> Finished {
        let detail = format!(
            "the request went out, its answer did not come, and the API's logs did not settle it: {why}. Repeat the call with the same ids to resolve it"
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
            Verdict::Accepted | Verdict::AskTheLogs => Outcome::Accepted,
        };
        let mut result = self.part.call.result(self.slot(), outcome);
        result.status = log.status.clone();
        result.sms_count = log.sms_count;
        self.finished(result)
    }
}

/// The way to the [`Resolver`].
#[derive(Clone)]
pub(super) struct Doubts {
    pub(super) resolver: mpsc::Sender<Doubt>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) metrics: Metrics,
}

impl Doubts {
    /// Hands a doubt to the resolver; settles what that can't take any more.
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
                    let horizon = Instant::now() + GATHER;
                    let (due, later) = open.into_iter().partition(|doubt| doubt.due <= horizon);
                    open = later;
                    tokio::select! {
                        () = end.cancelled() => { open.extend(due); break; }
                        still_open = self.ask_all(&due) => open.extend(self.conclude(due, still_open).await),
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

    /// Asks for all ids; gives what was found, and for which ids an answer came at all.
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
                    "the logs can't be asked for sends in doubt: trying again"
                ),
            }
        }
        asked
    }

    /// Finishes or resends what was answered; gives what stays open.
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
                && doubt.may_send_again
                && !doubt.part.is_expired()
            {
                self.metrics.in_doubt_resolved(Resolution::Resent);
                resend.push(doubt.part);
            } else if doubt.since.elapsed() >= self.config.in_doubt_for {
                self.metrics.in_doubt_resolved(Resolution::Unknown);
                finished.push(doubt.unknown("it took too long"));
            } else {
                let wait = backoff(doubt.asked, self.config.in_doubt_wait, LONGEST_WAIT);
                doubt.asked += 1;
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
                "not in the API's logs: sent again with the same ids"
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

/// The ids of doubts, in lists that fit the API's id filter.
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
