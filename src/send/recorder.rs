//! Records send results: appends them to the event log, then completes their slots.
//!
//! Invariant: a slot never completes successfully before its result is durable (P5, docs/RELIABILITY.md).
//! Neighbours: `dispatcher`, `resolver` and `core` produce results; `call` collects them.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    SendError,
    call::{Call, Settled},
};
use crate::{
    events::{AppendError, Batch, NewEvent, SharedEventLog},
    ops::metrics::{Metrics, SendOutcome},
    primitives::{joined::Joined, retry::RetryPolicy},
    proto::v1::{self, Outcome},
};

/// How long an append is retried before the calls fail.
const STORE_RETRY_TIMEOUT: Duration = Duration::from_secs(30);
const STORE_RETRY: RetryPolicy =
    RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(2));

/// A result for one slot of a call.
pub(super) struct SlotResult {
    pub(super) call: Arc<Call>,
    pub(super) slot: usize,
    pub(super) result: Box<v1::SendResult>,
}

impl SlotResult {
    fn wire_id_of((call, slot): &(Arc<Call>, usize)) -> &str {
        call.slots.get(*slot).map_or("", |slot| &slot.wire_id)
    }

    fn log(&self) {
        let status = self.result.status.as_ref();
        let refusal = self.result.refusal.as_ref();
        tracing::debug!(
            message_id = self.call.slots.get(self.slot).map(|slot| &slot.wire_id[..]),
            outcome = ?self.result.outcome(),
            status = status.map(|status| &status.name[..]),
            reason = refusal.map(|refusal| &refusal.reason[..]),
            "a result"
        );
    }
}

/// Appends results to the event log.
pub(super) struct Recorder {
    log: SharedEventLog,
    metrics: Metrics,
}

impl Recorder {
    pub(super) fn new(log: SharedEventLog, metrics: Metrics) -> Self {
        Self { log, metrics }
    }

    /// Appends the results as events, and settles their slots when the events are durable. If they cannot be made durable, the slots
    /// fail.
    pub(super) async fn record(&self, results: Vec<SlotResult>) {
        if results.is_empty() {
            return;
        }
        results.iter().for_each(SlotResult::log);
        let at = Timestamp::now();
        let mut slots = Vec::with_capacity(results.len());
        let mut events = Vec::with_capacity(results.len());
        for SlotResult { call, slot, result } in results {
            let digest = call.slots.get(slot).and_then(|slot| slot.digest);
            let event =
                NewEvent::send_result(&call.application, &call.request_id, digest, result, at);
            events.push(event.caused_by(call.traceparent));
            slots.push((call, slot));
        }
        let events = Arc::new(events);
        match self.append(&events).await {
            Ok(()) => {
                self.count(&events);
                tracing::debug!(
                    message_ids = %Joined(slots.iter().map(SlotResult::wire_id_of)),
                    "results were stored"
                );
                for ((call, slot), new) in slots.into_iter().zip(Arc::unwrap_or_clone(events)) {
                    if let Some(result) = new.into_result() {
                        call.settle(slot, Settled::Result(result));
                    }
                }
            }
            Err(error) => {
                tracing::error!(
                    cause = %error.cause(),
                    results = slots.len(),
                    "results could not be made durable: their calls fail and may be repeated"
                );
                for (call, slot) in slots {
                    let error = SendError::LogUnavailable(error.cause().into_owned());
                    call.settle(slot, Settled::Failed(error));
                }
            }
        }
    }

    /// Counts results by outcome, with one metric update for each run of equal outcomes.
    fn count(&self, events: &[NewEvent]) {
        let outcome = |event: &NewEvent| Some(event.result()?.outcome());
        for run in events.chunk_by(|one, other| outcome(one) == outcome(other)) {
            let outcome = match outcome(&run[0]) {
                Some(Outcome::Accepted) => SendOutcome::Accepted,
                Some(Outcome::Rejected) => SendOutcome::Rejected,
                Some(Outcome::Unknown | Outcome::Unspecified) => SendOutcome::Unknown,
                None => continue,
            };
            self.metrics.send_results(outcome, run.len() as u64);
        }
    }

    async fn append(&self, events: &Batch) -> Result<(), AppendError> {
        let is_transient = |error: &AppendError| matches!(error, AppendError::Unavailable(_));
        STORE_RETRY
            .retry(Instant::now() + STORE_RETRY_TIMEOUT, is_transient, || {
                self.log.append(Arc::clone(events))
            })
            .await
    }
}
