//! Resolves sends whose outcome is in doubt: looks them up in the API's logs, and resends with the same id only what the logs do
//! not have (docs/RELIABILITY.md#how-a-send-stays-single).
//!
//! Invariants: an answered look-up precedes every resend; a rejection counts only if an earlier request cannot have been accepted; after
//! `send.in_doubt_for`, on a clock that stands still during outages, nothing is resent a second time; a send that was refused as
//! "duplicate id" is never resent; after `send.in_doubt_for` the result is `unknown`, and a repeated call starts a new look-up. A command
//! whose hold is over, or that is in doubt at a shutdown, gets no result here: it goes back to its queue and is looked up with its next
//! delivery.
//! Look-ups are made in rounds. A round ends with the first request that fails because the logs are down, and no request begins after
//! [`MAX_ROUND`]; what was not asked for stays due. During a round arrivals, holds and a shutdown are looked at as between rounds.
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
    custody::{self, Leases},
    dispatcher::settle_all,
    lanes::Lanes,
    recorder::{Recorder, SlotResult},
};
use crate::{
    config,
    infobip::{
        ApiError, LogsQuery,
        account::Account,
        limits,
        pacing::Priority,
        wire::{self, LogRow, Rows},
    },
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

/// A round of look-ups begins no request after this time, so that its answers are applied.
const MAX_ROUND: Duration = Duration::from_secs(5);

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
        let mut is_closing = false;
        let mut check = interval(HOLD_CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next_due = open.iter().map(|send| send.due).min();
            tokio::select! {
                // A look-up that is due never goes before what has to end.
                biased;
                () = end.cancelled() => break,
                () = self.closing.cancelled(), if !is_closing => {
                    is_closing = true;
                    self.end_holds(&mut open);
                }
                () = self.withdraw.notified() => self.end_holds(&mut open),
                _ = check.tick() => self.end_holds(&mut open),
                send = submitted.recv() => match send {
                    Some(send) => self.receive(send, &mut open),
                    None => break,
                },
                () = sleep_until(next_due) => {
                    let horizon = Instant::now() + LOOKUP_BATCH_WINDOW;
                    let (mut due, later): (Vec<_>, _) =
                        open.into_iter().partition(|send| send.due <= horizon);
                    open = later;
                    // What an earlier round did not ask for comes first.
                    due.sort_by_key(|send| send.due);
                    let answers = self.look_up(&due, &mut open, &mut submitted, &mut check, &end).await;
                    self.wait_out(answers.outage(), due.iter_mut().chain(&mut open));
                    if end.is_cancelled() {
                        open.extend(due);
                    } else {
                        open.extend(self.apply(due, answers).await);
                        self.end_holds(&mut open);
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

    /// A round of look-ups of `due`. It is left as soon as one of them has to be handed back: what was answered before that counts.
    async fn look_up(
        &self,
        due: &[InDoubtSend],
        open: &mut Vec<InDoubtSend>,
        submitted: &mut mpsc::Receiver<InDoubtSend>,
        check: &mut Interval,
        end: &CancellationToken,
    ) -> LogAnswers {
        let mut answers = LogAnswers::default();
        {
            let mut querying = pin!(self.query_logs(due, &mut answers));
            let mut is_closing = false;
            loop {
                tokio::select! {
                    biased;
                    () = end.cancelled() => break,
                    () = self.closing.cancelled(), if !is_closing => is_closing = true,
                    () = self.withdraw.notified() => {}
                    _ = check.tick() => {}
                    Some(send) = submitted.recv() => {
                        self.receive(send, open);
                        continue;
                    }
                    () = &mut querying => break,
                }
                self.end_holds(open);
                let mut leases = Leases::default();
                let mut calls = due.iter().map(|send| &send.item.call);
                if calls
                    .any(|call| is_closing && call.is_command || call.is_hold_over_by(&mut leases))
                {
                    break;
                }
            }
        }
        answers
    }

    /// The clock ran while a request failed that found the logs down. The sends get that time back.
    fn wait_out<'a>(&self, outage: Duration, sends: impl Iterator<Item = &'a mut InDoubtSend>) {
        let now = self.account.clock.now();
        if !outage.is_zero() {
            sends.for_each(|send| send.postpone(outage, now));
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
            self.hand_commands_back(open);
        }
        for send in open.extract_if(.., |send| send.is_hold_over()) {
            self.metrics.in_doubt_resolved(Resolution::HandedBack);
            settle_all(&send.item, &send.handed_back());
        }
    }

    /// Looks up the ids of `due` until [`MAX_ROUND`] has passed or the logs are down. A failed look-up leaves its ids unanswered.
    async fn query_logs(&self, due: &[InDoubtSend], answers: &mut LogAnswers) {
        let no_request_after = Instant::now() + MAX_ROUND;
        if self.find_among_recent(due, no_request_after, answers).await == Some(Logs::Down) {
            return;
        }
        let all = due.iter().map(InDoubtSend::wire_id);
        let rest: Vec<_> = all.filter(|id| answers.asked_at(id).is_none()).collect();
        for ids in id_filters(rest.into_iter()) {
            if Instant::now() > no_request_after {
                break;
            }
            let query = LogsQuery {
                message_ids: ids.clone(),
                limit: Some(limits::MAX_ROWS),
                ..LogsQuery::default()
            };
            let at = Instant::now();
            match self.ask(&query, answers).await {
                Ok(rows) => answers.add(ids, at, rows.rows),
                Err(logs) => {
                    answers.fail(ids);
                    if logs == Logs::Down {
                        return;
                    }
                }
            }
        }
        self.account.clock.set_logs_fail(false);
    }

    /// Makes one request. If the logs are down, the clock stands still from now on, and what it ran meanwhile is noted.
    async fn ask(&self, query: &LogsQuery, answers: &mut LogAnswers) -> Result<Rows<LogRow>, Logs> {
        let clock = &self.account.clock;
        let began = clock.now();
        let (detail, logs) = match self.account.logs(query, Priority::InDoubt).await {
            Ok(response) => match wire::read_logs(&response.body) {
                Ok(rows) => return Ok(rows),
                Err(error) => (error.to_string(), Logs::Refuse),
            },
            Err(error @ (ApiError::NotSent { .. } | ApiError::InDoubt { .. })) => {
                clock.set_logs_fail(true);
                answers.note_outage(clock.now().saturating_duration_since(began));
                (error.to_string(), Logs::Down)
            }
            Err(error) => (error.to_string(), Logs::Refuse),
        };
        tracing::debug!(
            detail,
            "looking up sends in doubt failed; it will be retried"
        );
        Err(logs)
    }

    /// Records or resends the sends that the answers resolve. Returns those that stay in doubt.
    async fn apply(&self, due: Vec<InDoubtSend>, answers: LogAnswers) -> Vec<InDoubtSend> {
        let mut results = Vec::new();
        let mut resend = Vec::new();
        let mut open = Vec::new();
        let now = self.account.clock.now();
        for mut send in due {
            send.was_sought |= answers.were_sought();
            if !answers.was_asked(send.wire_id()) {
                open.push(send);
                continue;
            }
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
                    send.was_sought = false;
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

/// What the API's logs are when a request to them did not get rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Logs {
    /// They cannot be reached, or do not answer.
    Down,
    /// They answer. Logs that refuse these credentials, say, may do so for ever: sends in doubt must end.
    Refuse,
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
