//! Resolves sends whose outcome is in doubt: looks them up in the API's logs, and resends with the same id only what the logs do
//! not have (docs/RELIABILITY.md#how-a-send-stays-single).
//!
//! Invariants: an answered look-up precedes every resend; a rejection counts only if an earlier request cannot have been accepted; after
//! `send.in_doubt_for`, on a clock that stands still during outages, nothing is resent a second time; a send that was refused as
//! "duplicate id" is never resent; after `send.in_doubt_for` the result is `unknown`, and a repeated call starts a new look-up. A command
//! whose hold is over, or that is in doubt at a shutdown, gets no result here: it goes back to its queue and is looked up with its next
//! delivery.
//! Look-ups are made in rounds. A round ends with the first request that fails because the logs are down, and no request begins after
//! `MAX_ROUND`; what was not asked for stays due. During a round arrivals, holds and a shutdown are looked at as between rounds.
//! Neighbours: `infobip::error` and `outcome` decide what is in doubt; `dispatcher` and `core` hand sends over; `round` asks the logs, and
//! `answers` has what they answered; `recorder` records results; `custody` withdraws what is lost.

mod answers;
mod recent;
mod round;
mod send;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, MissedTickBehavior, interval},
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
    infobip::account::Account,
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
                    open.extend(self.apply(due, answers).await);
                    self.end_holds(&mut open);
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

/// Ends a send because the process shuts down.
fn shut_down(send: &InDoubtSend, metrics: &Metrics) -> Option<SlotResult> {
    let result = send.shut_down();
    metrics.in_doubt_resolved(match result {
        Some(_) => Resolution::Unknown,
        None => Resolution::HandedBack,
    });
    result
}

/// Never resolves if `at` is `None`.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
