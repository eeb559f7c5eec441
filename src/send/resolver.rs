//! Resolves sends whose outcome is in doubt: looks them up in the API's logs, and resends with the same id only what the logs do
//! not have (docs/RELIABILITY.md#how-a-send-stays-single).
//!
//! Invariants: an answered look-up precedes every resend; a rejection counts only if an earlier request cannot have been accepted; after
//! `send.in_doubt_for`, on a clock that stands still during outages, nothing is resent a second time; a send that was refused as
//! "duplicate id" is never resent; after `send.in_doubt_for` the result is `unknown`, and a repeated call starts a new look-up. A command
//! whose hold is over, or that is in doubt at a shutdown, gets no result here: it goes back to its queue and is looked up with its next
//! delivery.
//! Neighbours: `infobip::error` and `outcome` decide what is in doubt; `dispatcher` and `core` hand sends over; `answers` has what the logs
//! answered; `recorder` records results; `custody` withdraws what is lost.

mod answers;
mod recent;
mod send;

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, Interval, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use self::answers::{LogAnswer, LogAnswers};
pub(super) use self::send::InDoubtSend;
use self::send::Next;
use super::{
    batch_item::wire_ids,
    custody,
    dispatcher::settle_all,
    lanes::Lanes,
    recorder::{Recorder, SlotResult},
};
use crate::{
    config,
    infobip::{ApiError, LogsQuery, account::Account, limits, pacing::Priority, wire},
    ops::metrics::{Metrics, Resolution},
    primitives::retry::RetryPolicy,
    proto::v1::Outcome,
};

/// Maximum time between two look-ups of one id.
const MAX_LOOKUP_INTERVAL: Duration = Duration::from_secs(30);
/// How often the lanes are searched for commands that were lost or have to be handed back to their queue.
const HOLD_CHECK: Duration = Duration::from_secs(1);
/// Look-ups that fall due within this time after the first one share its request.
const LOOKUP_BATCH_WINDOW: Duration = Duration::from_millis(20);

/// Hands sends in doubt to the [`Resolver`].
#[derive(Clone)]
pub(super) struct ResolverHandle {
    pub(super) queue: mpsc::Sender<InDoubtSend>,
    /// Deliveries of commands were lost.
    pub(super) withdraw: Arc<Notify>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) metrics: Metrics,
}

impl ResolverHandle {
    /// Gives a send in doubt to the resolver. If the resolver has ended, the send ends as at a shutdown.
    pub(super) async fn submit(&self, send: InDoubtSend) {
        self.metrics.in_doubt_opened();
        if let Err(mpsc::error::SendError(send)) = self.queue.send(send).await {
            let result = shut_down(&send, &self.metrics);
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
    /// Deliveries of commands were lost.
    pub(super) withdraw: Arc<Notify>,
    /// The shutdown has begun: commands go back to their queue.
    pub(super) closing: CancellationToken,
    pub(super) metrics: Metrics,
}

impl Resolver {
    /// Resolves sends until `end` is cancelled; then records `unknown` for the callers' sends that are left.
    pub(super) async fn run(
        self,
        mut submitted: mpsc::Receiver<InDoubtSend>,
        end: CancellationToken,
    ) {
        let mut open: Vec<InDoubtSend> = Vec::new();
        let mut has_handed_back = false;
        let mut check = interval(HOLD_CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next_due = open.iter().map(|send| send.due).min();
            tokio::select! {
                () = end.cancelled() => break,
                () = self.closing.cancelled(), if !has_handed_back => {
                    has_handed_back = true;
                    self.hand_commands_back(&mut open);
                }
                () = self.withdraw.notified() => self.end_holds(&mut open),
                _ = check.tick() => self.end_holds(&mut open),
                send = submitted.recv() => match send {
                    Some(send) => self.receive(send, &mut open),
                    None => break,
                },
                () = sleep_until(next_due) => {
                    // All that are here share the requests of this round.
                    while let Ok(send) = submitted.try_recv() {
                        self.receive(send, &mut open);
                    }
                    let horizon = Instant::now() + LOOKUP_BATCH_WINDOW;
                    let (due, later) = open.into_iter().partition(|send| send.due <= horizon);
                    open = later;
                    match self.answers(&due, &mut check, &end, has_handed_back).await {
                        Some(answers) => open.extend(self.apply(due, answers).await),
                        // What is not handed back is looked up again.
                        None => open.extend(due),
                    }
                }
            }
        }
        submitted.close();
        while let Ok(send) = submitted.try_recv() {
            open.push(send);
        }
        let left = open.iter();
        let left = left.filter_map(|send| shut_down(send, &self.metrics));
        self.recorder.record(left.collect()).await;
    }

    /// Keeps a send until it is due. After the begin of the shutdown a command goes back to its queue.
    fn receive(&self, send: InDoubtSend, open: &mut Vec<InDoubtSend>) {
        if self.closing.is_cancelled() && send.item.call.is_command {
            shut_down(&send, &self.metrics);
        } else {
            open.push(send);
        }
    }

    /// Looks up all ids. `None` if some sends have to be handed back before.
    async fn answers(
        &self,
        due: &[InDoubtSend],
        check: &mut Interval,
        end: &CancellationToken,
        has_handed_back: bool,
    ) -> Option<LogAnswers> {
        let mut querying = pin!(self.query_logs(due));
        loop {
            tokio::select! {
                () = end.cancelled() => return None,
                () = self.closing.cancelled(), if !has_handed_back => return None,
                () = self.withdraw.notified() => {
                    // For the loop that holds the sends.
                    self.withdraw.notify_one();
                    return None;
                }
                _ = check.tick() => custody::end_holds(&self.lanes),
                answers = &mut querying => return Some(answers),
            }
        }
    }

    /// The shutdown has begun: a command is looked up by the process that gets it next.
    fn hand_commands_back(&self, open: &mut Vec<InDoubtSend>) {
        for send in open.extract_if(.., |send| send.item.call.is_command) {
            shut_down(&send, &self.metrics);
        }
    }

    /// Ends the sends of commands that are lost, or have to be handed back to their queue now. Another process looks them up, and its
    /// results would contradict `unknown`.
    fn end_holds(&self, open: &mut Vec<InDoubtSend>) {
        custody::end_holds(&self.lanes);
        if self.closing.is_cancelled() {
            // A request that was refused may have put its items back.
            custody::hand_commands_back(&self.lanes);
        }
        for send in open.extract_if(.., |send| send.item.call.is_hold_over()) {
            self.metrics.in_doubt_resolved(Resolution::HandedBack);
            settle_all(&send.item, &send.handed_back());
        }
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
                    if !send.may_be_accepted_earlier() {
                        self.metrics.in_doubt_resolved(Resolution::Found);
                        results.push(send.with_result(rejection));
                        continue;
                    }
                    send.note_rejection(rejection, self.log_lag);
                }
                LogAnswer::Duplicate => send.note_duplicate(),
                LogAnswer::NotFound | LogAnswer::Unanswered => {}
            }
            let is_answered = asked_at.is_some_and(|at| at >= send.not_found_counts_from);
            match send.next(is_answered, now, self.config.in_doubt_for) {
                Next::Resend => {
                    self.metrics.in_doubt_resolved(Resolution::Resent);
                    resend.push(send.item);
                }
                Next::End(result) => {
                    let is_unknown = result.result.outcome() == Outcome::Unknown;
                    self.metrics.in_doubt_resolved(match is_unknown {
                        true => Resolution::Unknown,
                        false => Resolution::Rejected,
                    });
                    results.push(result);
                }
                Next::HandBack(error) => {
                    self.metrics.in_doubt_resolved(Resolution::HandedBack);
                    settle_all(&send.item, &error);
                }
                Next::LookUp => {
                    let wait = RetryPolicy::new(self.config.in_doubt_wait, MAX_LOOKUP_INTERVAL)
                        .wait(send.look_ups);
                    send.look_ups += 1;
                    send.due = Instant::now() + wait;
                    // "Not found" cannot count before, and a message that was accepted earlier was found already.
                    send.due = send.due.max(send.not_found_counts_from);
                    open.push(send);
                }
            }
        }
        if !resend.is_empty() {
            tracing::debug!(
                message_ids = %wire_ids(&resend),
                "not found in the API's logs; resending with the same ids"
            );
            self.lanes.push(resend);
            if self.closing.is_cancelled() {
                custody::hand_commands_back(&self.lanes);
            }
        }
        self.recorder.record(results).await;
        open
    }
}

/// Ends a send because the process shuts down.
fn shut_down(send: &InDoubtSend, metrics: &Metrics) -> Option<SlotResult> {
    let result = send.shut_down();
    metrics.in_doubt_resolved(match result {
        Some(_) => Resolution::Unknown,
        None => Resolution::HandedBack,
    });
    result
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
