//! A call: one request from an edge while its results are gathered.
//!
//! Invariants: each slot is settled once; a call is done when its last slot is settled, and answers then, once; a slot that
//! waits for the same id in another call is settled by that one; a result that is not durable as an event has a retryable
//! refusal, so that nobody takes its destination for done (P1). Neighbours: `core` makes calls, `dispatcher` and `in_doubt`
//! settle slots.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use smallvec::{SmallVec, smallvec};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{SendError, Sent};
use crate::{
    events::ContentDigest,
    message::{id::ApplicationName, reason::Reason},
    proto::v1::{self, FieldViolation},
};

/// Violations in all results of a call together. Each result of an invalid message has the violations of the whole message: without
/// a bound, 10,000 destinations with one violation each would make 100 million.
const MAX_VIOLATIONS: usize = 4_096;

/// How a slot ended.
#[derive(Debug, Clone)]
pub(super) enum Settled {
    /// With a result, durable as an event.
    Result(Box<v1::SendResult>),
    /// Without: nothing was attempted, or the result could not be made durable.
    Failed(SendError),
}

/// One destination of a call.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// Digits only.
    pub(super) to: String,
    /// Without the application.
    pub(super) message_id: String,
    /// The id that Infobip sees.
    pub(super) wire_id: String,
    /// Which message of the request.
    pub(super) message_index: i32,
    /// What is sent, where the caller can repeat the id.
    pub(super) digest: Option<ContentDigest>,
}

impl Slot {
    /// The slot of a message without destinations. It is only ever rejected.
    pub(super) fn without_destination(message: usize) -> Self {
        Self {
            to: String::new(),
            message_id: String::new(),
            wire_id: String::new(),
            message_index: i32::try_from(message).unwrap_or(i32::MAX),
            digest: None,
        }
    }

    /// A result without status.
    fn result(&self, outcome: v1::Outcome, bulk_id: &str) -> v1::SendResult {
        v1::SendResult {
            to: self.to.clone(),
            message_id: self.message_id.clone(),
            outcome: outcome.into(),
            message_index: self.message_index,
            bulk_id: bulk_id.to_owned(),
            ..v1::SendResult::default()
        }
    }

    /// The result of a slot that ended with an error, one of `results` results of its call.
    fn failed(
        &self,
        error: &SendError,
        retryable: bool,
        bulk_id: &str,
        results: usize,
    ) -> v1::SendResult {
        let outcome = match error {
            // The API may have it.
            SendError::LogUnavailable(_) => v1::Outcome::Unknown,
            _ => v1::Outcome::Rejected,
        };
        let refusal = v1::Refusal {
            reason: error.reason().into(),
            detail: error.to_string(),
            retryable,
            violations: first_violations(error.violations(), results),
        };
        v1::SendResult {
            refusal: Some(Box::new(refusal)),
            ..self.result(outcome, bulk_id)
        }
    }
}

/// The destinations of a call, in the order of the request. As a rule there is one.
pub(super) type Slots = SmallVec<[Slot; 1]>;

/// Receives the outcome of a call.
pub(super) enum Answer {
    /// A caller that waits, or went away.
    To(oneshot::Sender<Result<Sent, SendError>>),
    /// A function that must not block: it runs where the last slot is settled. It gets one result for each slot, also where
    /// the call failed as a whole.
    Then(Box<dyn FnOnce(Sent) + Send>),
}

/// Gives back the ids that a call claimed. It is told whether the log knows what came of all of them, which it does not where it
/// could not be written, or read.
pub(super) type Release = Box<dyn FnOnce(bool) + Send>;

struct State {
    settled: SmallVec<[Option<Settled>; 1]>,
    open: usize,
    tracking_process_key: String,
    /// Slots of other calls that asked for the same id meanwhile: (my slot, their call, their slot).
    followers: Vec<(usize, Arc<Call>, usize)>,
    /// Released when the call is done.
    permit: Option<OwnedSemaphorePermit>,
    /// Called when the call is done, before the answer. Set where ids are claimed, so that other calls may still ask for
    /// the results.
    release: Option<Release>,
    /// Called when the call is done.
    answer: Option<Answer>,
}

/// A request while its results are gathered.
pub(super) struct Call {
    pub(super) application: ApplicationName,
    pub(super) request_id: String,
    pub(super) bulk_id: String,
    pub(super) slots: Slots,
    /// What is sent, without destinations: those are slots.
    pub(super) messages: Vec<v1::OutboundMessage>,
    state: Mutex<State>,
}

impl Call {
    pub(super) fn new(
        application: ApplicationName,
        request_id: String,
        bulk_id: String,
        slots: Slots,
        messages: Vec<v1::OutboundMessage>,
        permit: OwnedSemaphorePermit,
        answer: Answer,
    ) -> Arc<Self> {
        let open = slots.len();
        let state = State {
            settled: smallvec![None; open],
            open,
            tracking_process_key: String::new(),
            followers: Vec::new(),
            permit: Some(permit),
            release: None,
            answer: Some(answer),
        };
        Arc::new(Self {
            application,
            request_id,
            bulk_id,
            slots,
            messages,
            state: Mutex::new(state),
        })
    }

    /// A result of a slot, without status.
    pub(super) fn result(&self, slot: usize, outcome: v1::Outcome) -> Box<v1::SendResult> {
        Box::new(self.slots[slot].result(outcome, &self.bulk_id))
    }

    /// A result that the bridge itself decided.
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

    /// Settles a slot; the first time counts.
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
        state.settled[slot] = Some(settled);
        state.open -= 1;
        let done = (state.open == 0).then(|| {
            state.permit = None;
            let outcome = self.outcome(&mut state);
            (state.release.take(), state.answer.take(), outcome)
        });
        // Not under the lock: followers and the registry have locks of their own.
        drop(state);
        if let Some((release, answer, outcome)) = done {
            if let Some(release) = release {
                let is_known = !matches!(
                    outcome,
                    Err(SendError::LogUnavailable(_) | SendError::LogUnreadable(_))
                );
                release(is_known);
            }
            match answer {
                Some(Answer::To(waiting)) => drop(waiting.send(outcome)),
                Some(Answer::Then(answer)) => {
                    answer(outcome.unwrap_or_else(|error| self.failed(&error)));
                }
                None => {}
            }
        }
        for (call, their_slot, settled) in followers {
            call.settle_as(their_slot, settled);
        }
    }

    /// Settles a slot with what another call, or an earlier one, got for the same id.
    pub(super) fn settle_as(&self, slot: usize, mut settled: Settled) {
        if let Settled::Result(result) = &mut settled {
            result.message_index = self.slots[slot].message_index;
        }
        self.settle(slot, settled);
    }

    /// Settles `their_slot` of `call` as soon as `slot` is.
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

    /// Notes the tracking process of the request.
    pub(super) fn set_tracking_process_key(&self, key: &str) {
        key.clone_into(&mut self.state().tracking_process_key);
    }

    /// Calls `release` when every slot is settled, before anybody hears of it.
    pub(super) fn release_when_done(&self, release: impl FnOnce(bool) + Send + 'static) {
        self.state().release = Some(Box::new(release));
    }

    /// Whether every slot was taken back before anything was attempted.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.state()
            .settled
            .iter()
            .all(|settled| matches!(settled, Some(Settled::Failed(SendError::Withdrawn))))
    }

    /// What the settled slots come to. Takes the results out, unless other calls may still ask for them.
    fn outcome(&self, state: &mut State) -> Result<Sent, SendError> {
        let settled = || state.settled.iter().flatten();
        let failures = || {
            settled().filter_map(|settled| match settled {
                Settled::Failed(error) => Some(error),
                Settled::Result(_) => None,
            })
        };
        // A log that can't be written fails the whole call: its caller must not take any result for granted.
        let unwritten = failures().find(|error| matches!(error, SendError::LogUnavailable(_)));
        let failure = unwritten.or_else(|| {
            if failures().count() < state.settled.len() {
                return None;
            }
            // An error that ends the whole call for good must hold for each of its destinations.
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
            // A slot that was taken from is neither failed nor withdrawn.
            match settled {
                Some(Settled::Result(result)) => results.push(*result),
                Some(Settled::Failed(error)) => {
                    // The result is not durable, so it is retryable whatever the error is: a repeated call finds in the
                    // event log what became of the id. (`ID_REUSED` comes here only where another call with the same id,
                    // which this one waited for, ended with it.)
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

    /// The results of a call that failed as a whole with `error`: each slot has its own error, unless results could not be
    /// made durable, which fails all of them.
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

/// The violations for one of `results` results of a call: all of them, or the first ones if all results together would have
/// more than [`MAX_VIOLATIONS`].
pub(super) fn first_violations(all: &[FieldViolation], results: usize) -> Vec<FieldViolation> {
    let most = (MAX_VIOLATIONS / results.max(1)).max(1);
    all.iter().take(most).cloned().collect()
}

/// The results of slots that ended with errors.
pub(super) fn failed_results<'a>(
    slots: &[Slot],
    bulk_id: &str,
    errors: impl Iterator<Item = &'a SendError>,
) -> Sent {
    let results = slots.iter().zip(errors);
    Sent {
        tracking_process_key: String::new(),
        results: results
            .map(|(slot, error)| slot.failed(error, error.is_retryable(), bulk_id, slots.len()))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    fn call(answer: Answer) -> Arc<Call> {
        call_to(1, answer)
    }

    /// A call with so many destinations.
    fn call_to(destinations: usize, answer: Answer) -> Arc<Call> {
        let slot = |n| Slot {
            to: "41793026727".into(),
            message_id: format!("m{n}"),
            wire_id: format!("default.m{n}"),
            message_index: 0,
            digest: None,
        };
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let application = ApplicationName::default_application();
        Call::new(
            application,
            String::new(),
            String::new(),
            (0..destinations).map(slot).collect(),
            Vec::new(),
            place,
            answer,
        )
    }

    /// Its caller's deadline may pass in the moment in which it is done: "nothing was sent" would be a lie.
    #[test]
    fn what_was_sent_is_never_withdrawn() {
        let (answer, mut answered) = oneshot::channel();
        let call = call(Answer::To(answer));
        let accepted = call.result(0, v1::Outcome::Accepted);
        call.settle(0, Settled::Result(accepted.clone()));
        call.settle(0, Settled::Failed(SendError::Withdrawn));
        assert!(!call.is_withdrawn());
        assert_eq!(answered.try_recv().unwrap().unwrap().results, [*accepted]);
    }

    /// P1: an edge that acknowledges what is not retryable would lose the destination.
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
            let (answer, mut answered) = oneshot::channel();
            let call = call_to(2, Answer::To(answer));
            let accepted = call.result(0, v1::Outcome::Accepted);
            call.settle(0, Settled::Result(accepted.clone()));
            call.settle(1, Settled::Failed(error.clone()));
            let results = answered.try_recv().unwrap().unwrap().results;
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
        let (answer, mut answered) = oneshot::channel();
        let call = call_to(2, Answer::To(answer));
        call.settle(0, Settled::Failed(reused.clone()));
        call.settle(1, Settled::Failed(SendError::ShuttingDown));
        assert_eq!(answered.try_recv().unwrap(), Err(SendError::ShuttingDown));

        let (answer, mut answered) = oneshot::channel();
        let call = call_to(2, Answer::To(answer));
        call.settle(0, Settled::Failed(reused.clone()));
        call.settle(1, Settled::Failed(reused.clone()));
        assert_eq!(answered.try_recv().unwrap(), Err(reused));
    }

    /// Else a repeated call would take the id for a new one.
    #[test]
    fn an_id_whose_result_is_not_durable_is_not_ended() {
        let unwritten = SendError::LogUnavailable("full".into());
        let unread = SendError::LogUnreadable("full".into());
        for (error, known) in [
            (unwritten, false),
            (unread, false),
            (SendError::Withdrawn, true),
        ] {
            let (released, told) = std::sync::mpsc::channel();
            let call = call(Answer::Then(Box::new(|_| {})));
            call.release_when_done(move |is_known| released.send(is_known).unwrap());
            call.settle(0, Settled::Failed(error));
            assert_eq!(told.try_recv(), Ok(known));
        }
    }

    #[test]
    fn what_was_taken_back_whole_is_withdrawn() {
        let (answer, mut answered) = oneshot::channel();
        let call = call(Answer::To(answer));
        assert!(!call.is_withdrawn());
        call.settle(0, Settled::Failed(SendError::Withdrawn));
        assert!(call.is_withdrawn());
        assert_eq!(answered.try_recv().unwrap(), Err(SendError::Withdrawn));
    }
}
