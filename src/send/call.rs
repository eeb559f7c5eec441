//! A call: one request from an edge while its results are gathered.
//!
//! Invariants: each slot is settled once; a call is done when its last slot is settled; a slot that waits for the same id
//! in another call is settled by that one. Neighbours: `core` makes calls, `dispatcher` and `in_doubt` settle slots.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{SendError, Sent};
use crate::{
    events::ContentDigest,
    message::id::ApplicationName,
    proto::v1::{self, FieldViolation},
};

/// How a slot ended.
#[derive(Debug, Clone)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every slot ends with a result"
)]
pub(super) enum Settled {
    /// With a result, durable as an event.
    Result(v1::SendResult),
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

struct State {
    settled: Vec<Option<Settled>>,
    open: usize,
    tracking_process_key: String,
    /// Slots of other calls that asked for the same id meanwhile: (my slot, their call, their slot).
    followers: Vec<(usize, Arc<Call>, usize)>,
    /// Released when the call is done.
    permit: Option<OwnedSemaphorePermit>,
    /// Called when the call is done.
    on_done: Option<Box<dyn FnOnce() + Send>>,
}

/// A request while its results are gathered.
pub(super) struct Call {
    pub(super) application: ApplicationName,
    pub(super) request_id: String,
    pub(super) bulk_id: String,
    pub(super) slots: Vec<Slot>,
    state: Mutex<State>,
    done: watch::Sender<bool>,
}

impl Call {
    pub(super) fn new(
        application: ApplicationName,
        request_id: String,
        bulk_id: String,
        slots: Vec<Slot>,
        permit: OwnedSemaphorePermit,
    ) -> Arc<Self> {
        let open = slots.len();
        let state = State {
            settled: vec![None; open],
            open,
            tracking_process_key: String::new(),
            followers: Vec::new(),
            permit: Some(permit),
            on_done: None,
        };
        let done = watch::Sender::new(open == 0);
        Arc::new(Self {
            application,
            request_id,
            bulk_id,
            slots,
            state: Mutex::new(state),
            done,
        })
    }

    /// A result of a slot, without status.
    pub(super) fn result(&self, slot: usize, outcome: v1::Outcome) -> v1::SendResult {
        let of = &self.slots[slot];
        v1::SendResult {
            to: of.to.clone(),
            message_id: of.message_id.clone(),
            outcome: outcome.into(),
            message_index: of.message_index,
            bulk_id: self.bulk_id.clone(),
            ..v1::SendResult::default()
        }
    }

    /// A result that the bridge itself decided.
    pub(super) fn refusal(
        &self,
        slot: usize,
        outcome: v1::Outcome,
        reason: &str,
        detail: String,
        violations: Vec<FieldViolation>,
    ) -> v1::SendResult {
        let refusal = v1::Refusal {
            reason: reason.to_owned(),
            detail,
            retryable: false,
            violations,
        };
        v1::SendResult {
            refusal: Some(refusal),
            ..self.result(slot, outcome)
        }
    }

    /// Settles a slot; the first time counts.
    pub(super) fn settle(&self, slot: usize, settled: Settled) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.settled[slot].is_some() {
            return;
        }
        let mut followers = Vec::new();
        let mut index = 0;
        while index < state.followers.len() {
            if state.followers[index].0 == slot {
                followers.push(state.followers.swap_remove(index));
            } else {
                index += 1;
            }
        }
        state.settled[slot] = Some(settled.clone());
        state.open -= 1;
        let done = state.open == 0;
        let on_done = if done { state.on_done.take() } else { None };
        if done {
            state.permit = None;
        }
        // Not under the lock: followers and the registry have locks of their own.
        drop(state);
        if let Some(on_done) = on_done {
            on_done();
        }
        if done {
            self.done.send_replace(true);
        }
        for (_, call, their_slot) in followers {
            call.settle_as(their_slot, settled.clone());
        }
    }

    /// Settles a slot with what another call, or an earlier one, got for the same id.
    pub(super) fn settle_as(&self, slot: usize, settled: Settled) {
        let settled = match settled {
            Settled::Result(result) => Settled::Result(v1::SendResult {
                message_index: self.slots[slot].message_index,
                ..result
            }),
            failed @ Settled::Failed(_) => failed,
        };
        self.settle(slot, settled);
    }

    /// Settles `their_slot` of `call` as soon as `slot` is.
    pub(super) fn follow(&self, slot: usize, call: &Arc<Call>, their_slot: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        key.clone_into(&mut state.tracking_process_key);
    }

    /// Calls `hook` when every slot is settled, before anybody hears of it.
    pub(super) fn when_done(&self, hook: impl FnOnce() + Send + 'static) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .on_done = Some(Box::new(hook));
    }

    /// Whether every slot was taken back before anything was attempted.
    pub(super) fn is_withdrawn(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .settled
            .iter()
            .all(|settled| matches!(settled, Some(Settled::Failed(SendError::Withdrawn))))
    }

    /// Waits until every slot is settled.
    pub(super) async fn finished(&self) -> Result<Sent, SendError> {
        let mut done = self.done.subscribe();
        // The sender lives in self: it can't be gone.
        let _ = done.wait_for(|done| *done).await;
        self.outcome()
    }

    fn outcome(&self) -> Result<Sent, SendError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let settled = || state.settled.iter().flatten();
        let all_failed = settled().all(|settled| matches!(settled, Settled::Failed(_)));
        // A log that can't be written fails the whole call: its caller must not take any result for granted.
        let failure = settled().find_map(|settled| match settled {
            Settled::Failed(error @ SendError::LogUnavailable(_)) => Some(error),
            Settled::Failed(error) if all_failed => Some(error),
            _ => None,
        });
        if let Some(error) = failure {
            return Err(error.clone());
        }
        let results = state
            .settled
            .iter()
            .enumerate()
            .filter_map(|(slot, settled)| match settled.as_ref()? {
                Settled::Result(result) => Some(result.clone()),
                Settled::Failed(error) => Some(self.not_attempted(slot, error)),
            });
        Ok(Sent {
            tracking_process_key: state.tracking_process_key.clone(),
            results: results.collect(),
        })
    }

    /// A destination of which nothing was attempted, beside others that were.
    fn not_attempted(&self, slot: usize, error: &SendError) -> v1::SendResult {
        let refusal = v1::Refusal {
            reason: error.reason().to_owned(),
            detail: error.to_string(),
            retryable: error.is_retryable(),
            violations: error.violations().to_vec(),
        };
        v1::SendResult {
            refusal: Some(refusal),
            ..self.result(slot, v1::Outcome::Rejected)
        }
    }
}
