//! A call: one request from an edge while its results are collected.
//!
//! Invariants: each slot is settled once; a call is done when its last slot is settled, and replies then, once; a slot that
//! follows a slot of another call with the same id is settled with that one; a result that is not durable as an event has a
//! retryable refusal, so that no caller takes its destination for done (P1, docs/RELIABILITY.md); a command always gets the ids of
//! messages that may have been sent, so that its copy is looked up by them (P2).
//! Neighbours: `core` makes calls; `recorder`, `dispatcher` and `core` settle slots; `slot` makes the results of failed ones.

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use smallvec::{SmallVec, smallvec};
use tokio::sync::oneshot;

use super::{
    QueueDelivery, SendError, Sent,
    custody::Leases,
    guards::Counted,
    places::Taken,
    refusal_note::Refusal,
    slot::{Slots, failed_results},
};
use crate::{
    message::{
        id::{ApplicationName, logged_id},
        reason::Reason,
        traceparent::Traceparent,
    },
    proto::v1::{self, FieldViolation},
};

/// How a slot ended.
#[derive(Debug, Clone)]
pub(super) enum Settled {
    /// With a result that is durable as an event.
    Result(Box<v1::SendResult>),
    /// Without a durable result: nothing was attempted, or the result could not be made durable.
    Failed(SendError),
}

/// Receives the outcome of a call.
pub(super) enum ReplyTo {
    /// A waiting caller, which may have gone away.
    Caller(oneshot::Sender<Result<Sent, SendError>>),
    /// A command of a queue. It waits in its lane while the API is down, because the queue would only deliver it again.
    Command(oneshot::Sender<Result<Sent, SendError>>),
    /// A function that must not block, because it runs where the last slot is settled. It gets one result for each slot, even
    /// if the call failed as a whole.
    Callback(Box<dyn FnOnce(Sent) + Send>),
}

/// Releases the ids that a call claimed. The argument is true if the event log has the outcome of all of them, and false if it could
/// not be written or read.
pub(super) type Release = Box<dyn FnOnce(bool) + Send>;

struct State {
    settled: SmallVec<[Option<Settled>; 1]>,
    /// Number of slots that are not settled yet.
    open: usize,
    tracking_process_key: String,
    /// Slots of later calls that get the result of a slot of this call, because they have the same message id: (slot of this
    /// call, later call, slot of the later call).
    followers: Vec<(usize, Arc<Call>, usize)>,
    /// Free again when the call is done.
    places: Option<Taken>,
    /// Called when the call is done, before the reply. Set if the call claimed ids: then later calls may still ask for its
    /// results.
    release: Option<Release>,
    reply_to: Option<ReplyTo>,
    /// What guards counted, by slot, until the slot is settled.
    counted: Vec<(usize, Counted)>,
}

/// A request while its results are collected.
pub(super) struct Call {
    pub(super) application: ApplicationName,
    pub(super) request_id: String,
    pub(super) bulk_id: String,
    pub(super) slots: Slots,
    /// The messages without their destinations, which are the slots.
    pub(super) messages: Vec<v1::OutboundMessage>,
    pub(super) is_command: bool,
    /// The trace that it belongs to, which its events carry.
    pub(super) traceparent: Option<Traceparent>,
    /// What its queue tells of it, if it is a command.
    delivery: Option<QueueDelivery>,
    state: Mutex<State>,
}

impl Call {
    pub(super) fn new(
        application: ApplicationName,
        request_id: String,
        bulk_id: String,
        slots: Slots,
        messages: Vec<v1::OutboundMessage>,
        places: Taken,
        reply_to: ReplyTo,
    ) -> Self {
        let open = slots.len();
        let is_command = matches!(reply_to, ReplyTo::Command(_));
        let state = State {
            settled: smallvec![None; open],
            open,
            tracking_process_key: String::new(),
            followers: Vec::new(),
            places: Some(places),
            release: None,
            reply_to: Some(reply_to),
            counted: Vec::new(),
        };
        Self {
            application,
            request_id,
            bulk_id,
            slots,
            messages,
            is_command,
            traceparent: None,
            delivery: None,
            state: Mutex::new(state),
        }
    }

    pub(super) fn of_queue(self, delivery: Option<QueueDelivery>) -> Self {
        Self { delivery, ..self }
    }

    pub(super) fn of_trace(self, traceparent: Option<Traceparent>) -> Self {
        Self {
            traceparent,
            ..self
        }
    }

    /// Whether its queue may have given its command to another process.
    pub(super) fn is_lost(&self) -> bool {
        let delivery = self.delivery.as_ref();
        delivery.is_some_and(|delivery| delivery.lease.is_lost())
    }

    /// Whether its command was lost or has to be handed back to its queue now.
    pub(super) fn is_hold_over(&self) -> bool {
        self.is_hold_over_by(&mut Leases::default())
    }

    /// The same, for many calls.
    pub(super) fn is_hold_over_by(&self, leases: &mut Leases) -> bool {
        let delivery = self.delivery.as_ref();
        delivery.is_some_and(|delivery| leases.is_over(delivery))
    }

    /// Whether it shares a request with no other command.
    pub(super) fn is_alone(&self) -> bool {
        self.delivery
            .as_ref()
            .is_some_and(|delivery| delivery.alone)
    }

    /// Notes that the API refused a request that carried it.
    pub(super) fn note_refusal(&self, refusal: Refusal) {
        if let Some(delivery) = &self.delivery {
            delivery.refusal.note(refusal);
        }
    }

    /// When its command was published.
    pub(super) fn published_at(&self) -> Option<Timestamp> {
        Some(self.delivery.as_ref()?.published_at)
    }

    /// Notes what a guard counted for a slot. It is given back if nothing is sent.
    pub(super) fn note_counted(&self, slot: usize, counted: Counted) {
        self.state().counted.push((slot, counted));
    }

    /// A result of a slot, without status.
    pub(super) fn result(&self, slot: usize, outcome: v1::Outcome) -> Box<v1::SendResult> {
        Box::new(self.slots[slot].result(outcome, &self.bulk_id))
    }

    /// A result with a refusal that is not retryable.
    pub(super) fn refusal(
        &self,
        slot: usize,
        outcome: v1::Outcome,
        reason: Reason,
        detail: String,
        violations: Vec<FieldViolation>,
    ) -> Box<v1::SendResult> {
        let refusal = v1::Refusal {
            reason: reason.into(),
            detail,
            retryable: false,
            violations,
        };
        let mut result = self.result(slot, outcome);
        result.refusal = Some(Box::new(refusal));
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Settles a slot. Does nothing if it is settled already.
    pub(super) fn settle(&self, slot: usize, settled: Settled) {
        let mut state = self.state();
        if state.open == 0 || state.settled[slot].is_some() {
            return;
        }
        let followers: Vec<_> = state
            .followers
            .extract_if(.., |(followed, ..)| *followed == slot)
            .map(|(_, call, their_slot)| (call, their_slot, settled.clone()))
            .collect();
        for (_, counted) in state.counted.extract_if(.., |(of, _)| *of == slot) {
            if is_unsent(&settled) {
                counted.give_back();
            }
        }
        state.settled[slot] = Some(settled);
        state.open -= 1;
        let done = (state.open == 0).then(|| {
            state.places = None;
            let is_known = !state.settled.iter().flatten().any(may_be_sent);
            let outcome = self.outcome(&mut state);
            (
                state.release.take(),
                state.reply_to.take(),
                outcome,
                is_known,
            )
        });
        // Followers and the registry have locks of their own, which are not taken under this one.
        drop(state);
        if let Some((release, reply_to, outcome, is_known)) = done {
            let reason = outcome.as_ref().err().map(SendError::reason);
            tracing::debug!(
                application = %self.application,
                request_id = logged_id(&self.request_id),
                reason = reason.map(Reason::as_str),
                "a send was answered"
            );
            if let Some(release) = release {
                release(is_known && !matches!(outcome, Err(SendError::LogUnreadable(_))));
            }
            match reply_to {
                Some(ReplyTo::Caller(caller) | ReplyTo::Command(caller)) => {
                    drop(caller.send(outcome));
                }
                Some(ReplyTo::Callback(callback)) => {
                    callback(outcome.unwrap_or_else(|error| self.failed(&error)));
                }
                None => {}
            }
        }
        for (call, their_slot, settled) in followers {
            call.settle_as(their_slot, settled);
        }
    }

    /// Settles a slot as another slot with the same id was settled, in another call or an earlier one.
    pub(super) fn settle_as(&self, slot: usize, mut settled: Settled) {
        if let Settled::Result(result) = &mut settled {
            result.message_index = self.slots[slot].message_index;
        }
        self.settle(slot, settled);
    }

    /// Settles `their_slot` of `call` as soon as `slot` is settled.
    pub(super) fn follow(&self, slot: usize, call: &Arc<Call>, their_slot: usize) {
        let mut state = self.state();
        match state.settled[slot].clone() {
            Some(settled) => {
                drop(state);
                call.settle_as(their_slot, settled);
            }
            None => state.followers.push((slot, Arc::clone(call), their_slot)),
        }
    }

    /// Sets the tracking process key that the API assigned to the request.
    pub(super) fn set_tracking_process_key(&self, key: &str) {
        key.clone_into(&mut self.state().tracking_process_key);
    }

    /// Calls `release` when every slot is settled, before the reply.
    pub(super) fn release_when_done(&self, release: impl FnOnce(bool) + Send + 'static) {
        self.state().release = Some(Box::new(release));
    }

    /// Whether every slot was withdrawn before anything was attempted.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.state()
            .settled
            .iter()
            .all(|settled| matches!(settled, Some(Settled::Failed(SendError::Withdrawn))))
    }

    /// The outcome of the settled slots. Takes the results out, unless later calls may still ask for them.
    fn outcome(&self, state: &mut State) -> Result<Sent, SendError> {
        let settled = || state.settled.iter().flatten();
        let failures = || {
            settled().filter_map(|settled| match settled {
                Settled::Failed(error) => Some(error),
                Settled::Result(_) => None,
            })
        };
        // If results could not be made durable the whole call fails: its caller must not rely on any result. A command gets the
        // ids of its messages instead.
        let not_durable = failures().find(|error| matches!(error, SendError::LogUnavailable(_)));
        let failure = not_durable.filter(|_| !self.is_command).or_else(|| {
            let has_result = failures().count() < state.settled.len();
            if has_result || self.is_command && failures().any(SendError::may_be_sent) {
                return None;
            }
            // The call may only fail with a permanent error if the error of every destination is permanent.
            failures()
                .find(|error| error.is_retryable())
                .or_else(|| failures().next())
        });
        if let Some(error) = failure {
            return Err(error.clone());
        }
        let is_claimed = state.release.is_some();
        let mut results = Vec::with_capacity(state.settled.len());
        for (slot, settled) in state.settled.iter_mut().enumerate() {
            let settled = if is_claimed {
                settled.clone()
            } else {
                settled.take()
            };
            // A slot that was taken here reads as `None`, which `is_withdrawn` does not count as withdrawn.
            match settled {
                Some(Settled::Result(result)) => results.push(*result),
                Some(Settled::Failed(error)) => {
                    // The result is not durable, so it is retryable whatever the error is: a repeated call finds the outcome
                    // of the id in the event log. (`ID_REUSED` occurs here only if a call that this one followed ended with
                    // it.)
                    let retryable = true;
                    let slot = &self.slots[slot];
                    results.push(slot.failed(&error, retryable, &self.bulk_id, self.slots.len()));
                }
                None => {}
            }
        }
        Ok(Sent {
            results,
            tracking_process_key: std::mem::take(&mut state.tracking_process_key),
        })
    }

    /// The results of a call that failed as a whole with `error`. Each slot has its own error, unless results could not be made
    /// durable: that error is the error of all slots.
    fn failed(&self, error: &SendError) -> Sent {
        let state = self.state();
        let errors = state.settled.iter().map(|settled| match (error, settled) {
            (SendError::LogUnavailable(_), _) => error,
            (_, Some(Settled::Failed(own))) => own,
            _ => error,
        });
        failed_results(&self.slots, &self.bulk_id, errors)
    }
}

fn may_be_sent(settled: &Settled) -> bool {
    matches!(settled, Settled::Failed(error) if error.may_be_sent())
}

/// Whether nothing was sent, by the bridge's own decision.
fn is_unsent(settled: &Settled) -> bool {
    match settled {
        Settled::Failed(error) => !error.may_be_sent(),
        Settled::Result(result) => {
            result.outcome() == v1::Outcome::Rejected && result.status.is_none()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::send::slot::Slot;

    fn call(reply_to: ReplyTo) -> Arc<Call> {
        call_to(1, reply_to)
    }

    /// A call with one message id per destination.
    fn call_to(destinations: usize, reply_to: ReplyTo) -> Arc<Call> {
        let slot = |n| Slot {
            to: "41793026727".into(),
            message_id: format!("m{n}"),
            wire_id: format!("default.m{n}"),
            message_index: 0,
            digest: None,
        };
        let application = ApplicationName::default_application();
        let slots = (0..destinations).map(slot).collect();
        let (request_id, bulk_id) = (String::new(), String::new());
        Arc::new(Call::new(
            application,
            request_id,
            bulk_id,
            slots,
            Vec::new(),
            Taken::alone(),
            reply_to,
        ))
    }

    /// The deadline of the caller may pass while the last slot is settled: the caller must not get the answer that nothing was sent.
    #[test]
    fn an_accepted_send_is_never_withdrawn() {
        let (reply_to, mut outcome) = oneshot::channel();
        let call = call(ReplyTo::Caller(reply_to));
        let accepted = call.result(0, v1::Outcome::Accepted);
        call.settle(0, Settled::Result(accepted.clone()));
        call.settle(0, Settled::Failed(SendError::Withdrawn));
        assert!(!call.is_withdrawn());
        assert_eq!(outcome.try_recv().unwrap().unwrap().results, [*accepted]);
    }

    /// P1: an edge acknowledges results that are not retryable, and would lose the destination.
    #[test]
    fn a_result_that_is_not_durable_is_retryable() {
        let detail = || "refused".to_owned();
        for error in [
            SendError::IdReused { id: detail() },
            SendError::CredentialsRefused { detail: detail() },
            SendError::Withdrawn,
            SendError::ShuttingDown,
            SendError::LogUnreadable(detail()),
        ] {
            let (reply_to, mut outcome) = oneshot::channel();
            let call = call_to(2, ReplyTo::Caller(reply_to));
            let accepted = call.result(0, v1::Outcome::Accepted);
            call.settle(0, Settled::Result(accepted.clone()));
            call.settle(1, Settled::Failed(error.clone()));
            let results = outcome.try_recv().unwrap().unwrap().results;
            assert_eq!(results[0], *accepted);
            let refusal = results[1].refusal.as_ref().unwrap();
            assert_eq!(
                (refusal.reason.as_str(), refusal.retryable),
                (error.reason().as_str(), true)
            );
        }
    }

    #[test]
    fn a_call_fails_for_good_only_if_each_destination_does() {
        let reused = SendError::IdReused { id: "m0".into() };
        let (reply_to, mut outcome) = oneshot::channel();
        let call = call_to(2, ReplyTo::Caller(reply_to));
        call.settle(0, Settled::Failed(reused.clone()));
        call.settle(1, Settled::Failed(SendError::ShuttingDown));
        assert_eq!(outcome.try_recv().unwrap(), Err(SendError::ShuttingDown));

        let (reply_to, mut outcome) = oneshot::channel();
        let call = call_to(2, ReplyTo::Caller(reply_to));
        call.settle(0, Settled::Failed(reused.clone()));
        call.settle(1, Settled::Failed(reused.clone()));
        assert_eq!(outcome.try_recv().unwrap(), Err(reused));
    }

    /// Otherwise a repeated call would find the id unused and send the message again.
    #[test]
    fn an_id_whose_result_is_not_durable_is_not_ended() {
        let unwritten = SendError::LogUnavailable("full".into());
        let unread = SendError::LogUnreadable("full".into());
        for (error, known) in [
            (unwritten, false),
            (unread, false),
            (SendError::Withdrawn, true),
        ] {
            let (on_release, released) = std::sync::mpsc::channel();
            let call = call(ReplyTo::Callback(Box::new(|_| {})));
            call.release_when_done(move |is_known| on_release.send(is_known).unwrap());
            call.settle(0, Settled::Failed(error));
            assert_eq!(released.try_recv(), Ok(known));
        }
    }

    /// P2: the copy of a command without a request id is looked up by the ids in the results.
    #[test]
    fn a_command_gets_the_ids_of_what_may_have_been_sent() {
        for error in [
            SendError::StillInDoubt,
            SendError::LogUnavailable("full".into()),
        ] {
            let (reply_to, mut outcome) = oneshot::channel();
            let (on_release, released) = std::sync::mpsc::channel();
            let call = call_to(2, ReplyTo::Command(reply_to));
            call.release_when_done(move |is_known| on_release.send(is_known).unwrap());
            call.settle(0, Settled::Failed(error.clone()));
            call.settle(1, Settled::Failed(SendError::ShuttingDown));
            let results = outcome.try_recv().unwrap().unwrap().results;
            let ends: Vec<_> = results
                .iter()
                .map(|result| {
                    let refusal = result.refusal.as_ref().unwrap();
                    let id = result.message_id.as_str();
                    (id, result.outcome(), refusal.retryable)
                })
                .collect();
            let (unknown, rejected) = (v1::Outcome::Unknown, v1::Outcome::Rejected);
            assert_eq!(ends, [("m0", unknown, true), ("m1", rejected, true)]);
            assert_eq!(released.try_recv(), Ok(false), "its send has not ended");
        }
    }

    #[test]
    fn a_call_with_only_withdrawn_destinations_is_withdrawn() {
        let (reply_to, mut outcome) = oneshot::channel();
        let call = call(ReplyTo::Caller(reply_to));
        assert!(!call.is_withdrawn());
        call.settle(0, Settled::Failed(SendError::Withdrawn));
        assert!(call.is_withdrawn());
        assert_eq!(outcome.try_recv().unwrap(), Err(SendError::Withdrawn));
    }
}
