//! Resolves sends whose outcome is in doubt: looks them up in the API's logs, and resends with the same id only what the logs do
//! not have (docs/RELIABILITY.md#how-a-send-stays-single).
//!
//! Invariants: an answered look-up precedes every resend; a rejection counts only if an earlier request cannot have been accepted; after `send.in_doubt_for`, a clock that stands still during outages, nothing is
//! resent a second time; a send that was refused as "duplicate id" is never resent; after
//! `send.in_doubt_for` the result is `unknown`, and a repeated call starts a new look-up.
//! Neighbours: `infobip::error` and `outcome` decide what is in doubt; `dispatcher` and `core` hand sends over; `outcome` classifies log rows; `recorder` records results.

mod answers;
mod recent;
mod send;

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use self::answers::{LogAnswer, LogAnswers};
pub(super) use self::send::InDoubtSend;
use super::{SendError, batch_item::wire_ids, lanes::Lanes, recorder::Recorder};
use crate::{
    config,
    infobip::{ApiError, LogsQuery, account::Account, limits, pacing::Priority, wire},
    ops::metrics::{Metrics, Resolution},
    primitives::retry::RetryPolicy,
    proto::v1::Outcome,
};

/// Maximum time between two look-ups of one id.
const MAX_LOOKUP_INTERVAL: Duration = Duration::from_secs(30);
/// When a copy that could not be looked up is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// Look-ups that fall due within this time after the first one share its request.
const LOOKUP_BATCH_WINDOW: Duration = Duration::from_millis(20);

/// Hands sends in doubt to the [`Resolver`].
#[derive(Clone)]
pub(super) struct ResolverHandle {
    pub(super) queue: mpsc::Sender<InDoubtSend>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) metrics: Metrics,
}

impl ResolverHandle {
    /// Gives a send in doubt to the resolver. If the resolver has ended, records the result `unknown`.
    pub(super) async fn submit(&self, send: InDoubtSend) {
        self.metrics.in_doubt_opened();
        if let Err(mpsc::error::SendError(send)) = self.queue.send(send).await {
            self.metrics.in_doubt_resolved(Resolution::Unknown);
            let result = send.ended("the bridge is shutting down", &SendError::ShuttingDown);
            self.recorder.record(result.into_iter().collect()).await;
        }
    }
}

/// Looks up sends in doubt in the API's logs.
pub(super) struct Resolver {
    pub(super) account: Arc<Account>,
    pub(super) config: config::Send,
    /// `infobip.log_lag`
    pub(super) log_lag: Duration,
    pub(super) lanes: Arc<Lanes>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) metrics: Metrics,
}

impl Resolver {
    /// Resolves sends until `end` is cancelled; then records `unknown` for the sends that are left.
    pub(super) async fn run(
        self,
        mut submitted: mpsc::Receiver<InDoubtSend>,
        end: CancellationToken,
    ) {
        let mut open: Vec<InDoubtSend> = Vec::new();
        loop {
            let next_due = open.iter().map(|send| send.due).min();
            tokio::select! {
                () = end.cancelled() => break,
                send = submitted.recv() => match send {
                    Some(send) => open.push(send),
                    None => break,
                },
                () = sleep_until(next_due) => {
                    // All that are here share the requests of this round.
                    while let Ok(send) = submitted.try_recv() {
                        open.push(send);
                    }
                    let horizon = Instant::now() + LOOKUP_BATCH_WINDOW;
                    let (due, later) = open.into_iter().partition(|send| send.due <= horizon);
                    open = later;
                    tokio::select! {
                        () = end.cancelled() => { open.extend(due); break; }
                        answers = self.query_logs(&due) => open.extend(self.apply(due, answers).await),
                    }
                }
            }
        }
        submitted.close();
        while let Ok(send) = submitted.try_recv() {
            open.push(send);
        }
        let left = open
            .iter()
            .filter_map(|send| {
                self.metrics.in_doubt_resolved(Resolution::Unknown);
                send.ended("the bridge is shutting down", &SendError::ShuttingDown)
            })
            .collect();
        self.recorder.record(left).await;
    }

    /// Looks up all ids. A failed look-up leaves its ids unanswered.
    async fn query_logs(&self, due: &[InDoubtSend]) -> LogAnswers {
        let mut answers = LogAnswers::default();
        let mut is_down = false;
        let all = due.iter().map(InDoubtSend::wire_id);
        let requests = id_filters(all.clone()).len();
        self.find_among_recent(due, requests, &mut answers).await;
        let rest: Vec<_> = all.filter(|id| answers.asked_at(id).is_none()).collect();
        for ids in id_filters(rest.into_iter()) {
            let query = LogsQuery {
                message_ids: ids.clone(),
                limit: Some(limits::MAX_ROWS),
                ..LogsQuery::default()
            };
            let at = Instant::now();
            let rows = match self.account.logs(&query, Priority::InDoubt).await {
                Ok(response) => wire::read_logs(&response.body).map_err(|error| error.to_string()),
                Err(error) => {
                    // Logs that refuse these credentials, say, may do so for ever: sends in doubt must end.
                    is_down |= matches!(error, ApiError::NotSent { .. } | ApiError::InDoubt { .. });
                    Err(error.to_string())
                }
            };
            match rows {
                Ok(rows) => answers.add(ids, at, rows.rows),
                Err(detail) => tracing::debug!(
                    detail,
                    "looking up sends in doubt failed; it will be retried"
                ),
            }
        }
        self.account
            .clock
            .set_logs_fail(is_down && answers.is_empty());
        answers
    }

    /// Records or resends the sends that the answers resolve. Returns those that stay in doubt.
    async fn apply(&self, due: Vec<InDoubtSend>, answers: LogAnswers) -> Vec<InDoubtSend> {
        let mut results = Vec::new();
        let mut resend = Vec::new();
        let mut open = Vec::new();
        let now = self.account.clock.now();
        for mut send in due {
            let asked_at = answers.asked_at(send.wire_id());
            match answers.of(send.wire_id()) {
                LogAnswer::Accepted(log) => {
                    self.metrics.in_doubt_resolved(Resolution::Found);
                    results.push(send.with_result(send.found(log, Outcome::Accepted)));
                    continue;
                }
                LogAnswer::Rejected(log) => {
                    let rejection = send.found(log, Outcome::Rejected);
                    if !send.item.is_resent && send.rejection.is_none() {
                        self.metrics.in_doubt_resolved(Resolution::Found);
                        results.push(send.with_result(rejection));
                        continue;
                    }
                    send.note_rejection(rejection, self.log_lag);
                }
                // The API has seen the id, so an earlier request may have been accepted.
                LogAnswer::Duplicate => {
                    send.may_resend = false;
                    send.rejection = None;
                }
                LogAnswer::NotFound | LogAnswer::Unanswered => {}
            }
            let not_found_counts = asked_at.is_some_and(|at| at >= send.not_found_counts_from);
            if not_found_counts && let Some(rejection) = send.rejection.take() {
                self.metrics.in_doubt_resolved(Resolution::Found);
                results.push(send.with_result(rejection));
            } else if not_found_counts
                && send.may_resend
                // What was not tried is rejected as expired by the dispatcher.
                && !(send.was_tried && send.item.is_expired())
                && !(send.item.is_resent && send.is_over(now, self.config.in_doubt_for))
            {
                self.metrics.in_doubt_resolved(Resolution::Resent);
                resend.push(send.item);
            } else if send.is_over(now, self.config.in_doubt_for) {
                self.metrics.in_doubt_resolved(Resolution::Unknown);
                let unavailable = SendError::Unavailable {
                    detail: "the API's logs did not answer".to_owned(),
                    retry_after: RETRY_AFTER,
                };
                results.extend(send.ended("send.in_doubt_for has passed", &unavailable));
            } else {
                let wait = RetryPolicy::new(self.config.in_doubt_wait, MAX_LOOKUP_INTERVAL)
                    .wait(send.look_ups);
                send.look_ups += 1;
                send.due = Instant::now() + wait;
                // "Not found" cannot count before, and a message that was accepted earlier was found already.
                send.due = send.due.max(send.not_found_counts_from);
                open.push(send);
            }
        }
        if !resend.is_empty() {
            tracing::debug!(
                message_ids = %wire_ids(&resend),
                "not found in the API's logs; resending with the same ids"
            );
            self.lanes.push(resend);
        }
        self.recorder.record(results).await;
        open
    }
}

/// The ids to look up, in lists that fit the API's id filter.
fn id_filters<'a>(ids: impl Iterator<Item = &'a str>) -> Vec<Vec<String>> {
    let mut filters: Vec<Vec<String>> = Vec::new();
    let mut characters = usize::MAX;
    for id in ids {
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

/// Never resolves if `at` is `None`.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
