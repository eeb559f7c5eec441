//! Shutdown: waits for the sends in progress, then ends the tasks.
//!
//! Invariants: once it has begun, no command is admitted; when it returns, each send has a result or a retryable error, unless the
//! event log did not take the results before the deadline (P8, docs/RELIABILITY.md); a command in doubt gets no result, but goes back
//! to its queue (P1).
//! Neighbours: `app` calls it with the deadline of the grace period.

use std::time::Duration;

use tokio::time::Instant;

use super::Inner;
use crate::send::{
    SendError, batch_item::BatchItem, custody, dispatcher::settle_all, recorder::SlotResult,
    resolver::InDoubtSend,
};

/// Part of the grace period reserved for recording `unknown` results.
const SHUTDOWN_RESERVE: Duration = Duration::from_millis(500);

impl Inner {
    pub(super) async fn drain(&self, deadline: Instant) {
        self.closing.cancel();
        // What no request carries goes back to its queue at once. What is in doubt is looked up by the process that gets it next:
        // the resolver hands it back.
        custody::hand_commands_back(&self.lanes);
        // What only waits for an API that is down is not waited for.
        if self.account.breaker.is_open() {
            for item in self.lanes.remove(|item| item.in_doubt_since.is_none()) {
                settle_all(&item, &SendError::ShuttingDown);
            }
        }
        let all_calls_done = self.room.all_free();
        let reserve_begins = deadline.checked_sub(SHUTDOWN_RESERVE).unwrap_or(deadline);
        let _ = tokio::time::timeout_at(reserve_begins, all_calls_done).await;
        for item in self.lanes.remove(|item| item.in_doubt_since.is_none()) {
            settle_all(&item, &SendError::ShuttingDown);
        }
        self.end_dispatcher.cancel();
        if let Some((mut dispatcher, mut resolver)) = self.tasks.lock().await.take() {
            if tokio::time::timeout_at(reserve_begins, &mut dispatcher)
                .await
                .is_err()
            {
                tracing::warn!(
                    "requests to the API are still in flight at the end of the grace period"
                );
                dispatcher.abort();
            }
            self.end_resolver.cancel();
            if tokio::time::timeout_at(deadline, &mut resolver)
                .await
                .is_err()
            {
                resolver.abort();
            }
        }
        self.placing.close();
        let _ = tokio::time::timeout_at(deadline, self.placing.wait()).await;
        let left = self.lanes.remove(|_| true);
        let unknown = left.iter().flat_map(end).collect();
        let recording = self.recorder.record(unknown);
        if tokio::time::timeout_at(deadline, recording).await.is_err() {
            tracing::error!(
                "results of sends in doubt could not be recorded before the end of the grace period"
            );
        }
    }

    /// Ends what was placed after the shutdown had emptied the lanes. A caller's message may still be sent until the dispatcher ends.
    pub(super) fn end_late_placements(&self) {
        if self.closing.is_cancelled() {
            custody::hand_commands_back(&self.lanes);
        }
        if self.end_dispatcher.is_cancelled() {
            for item in self.lanes.remove(|item| item.in_doubt_since.is_none()) {
                settle_all(&item, &SendError::ShuttingDown);
            }
        }
    }
}

/// Ends an item that is left in a lane. Returns the result `unknown` for each destination of a caller that is in doubt. The others are
/// settled without a result.
fn end(item: &BatchItem) -> Vec<SlotResult> {
    if item.call.is_command || item.in_doubt_since.is_none() {
        custody::hand_back(item, &SendError::ShuttingDown);
        return Vec::new();
    }
    let unknown = |index| {
        InDoubtSend::redelivered(item.only(index), Duration::ZERO, Instant::now())
            .unknown("the bridge is shutting down")
    };
    (0..item.slots.len()).map(unknown).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        message::id::ApplicationName,
        proto::v1::{self, Outcome},
        send::{
            Sent,
            call::{Call, ReplyTo},
            places::Taken,
            slot::Slot,
        },
    };

    /// An item with two destinations, and the outcome of its call.
    fn item(
        reply_to: impl FnOnce(oneshot::Sender<Result<Sent, SendError>>) -> ReplyTo,
    ) -> (BatchItem, oneshot::Receiver<Result<Sent, SendError>>) {
        let slot = |n| Slot {
            to: "41793026727".into(),
            message_id: format!("m{n}"),
            wire_id: format!("default.m{n}"),
            message_index: 0,
            digest: None,
        };
        let (sender, outcome) = oneshot::channel();
        let call = Call::new(
            ApplicationName::default_application(),
            String::new(),
            String::new(),
            (0..2).map(slot).collect(),
            Vec::new(),
            Taken::alone(),
            reply_to(sender),
        );
        let item = BatchItem {
            call: Arc::new(call),
            message: 0,
            slots: [0, 1].into_iter().collect(),
            since: Instant::now(),
            in_doubt_since: None,
            is_resent: false,
            exclusive: None,
        };
        (item, outcome)
    }

    /// A refusal may return an item to its lane after the others were settled.
    #[tokio::test]
    async fn what_was_not_attempted_is_not_unknown() {
        let (item, mut outcome) = item(ReplyTo::Caller);
        assert!(end(&item).is_empty());
        assert_eq!(outcome.try_recv().unwrap(), Err(SendError::ShuttingDown));
    }

    #[tokio::test]
    async fn each_destination_in_doubt_is_unknown() {
        let (mut item, _outcome) = item(ReplyTo::Caller);
        item.in_doubt_since = Some(Instant::now());
        let unknown = end(&item);
        let slots: Vec<_> = unknown
            .iter()
            .map(|one| (one.slot, one.result.message_id.as_str()))
            .collect();
        assert_eq!(slots, [(0, "m0"), (1, "m1")]);
        let is_unknown = |one: &SlotResult| one.result.outcome() == Outcome::Unknown;
        assert!(unknown.iter().all(is_unknown));
    }

    /// The next process looks it up.
    #[tokio::test]
    async fn a_command_in_doubt_gets_no_result() {
        let (mut item, mut outcome) = item(ReplyTo::Command);
        item.in_doubt_since = Some(Instant::now());
        assert!(end(&item).is_empty());
        let results = outcome.try_recv().unwrap().unwrap().results;
        assert!(results.iter().all(v1::SendResult::has_retryable_refusal));
    }
}
