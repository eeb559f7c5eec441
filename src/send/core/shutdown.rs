//! Shutdown: waits for the sends in progress, then ends the tasks.
//!
//! Invariants: once it has begun, no command is admitted; when it returns, each send has a result or a retryable error, unless the
//! event log did not take the results before the deadline (P8, docs/RELIABILITY.md).
//! Neighbours: `app` calls it with the deadline of the grace period.

use std::time::Duration;

use tokio::time::Instant;

use super::Inner;
use crate::send::{SendError, dispatcher::settle_all, in_doubt::InDoubtSend};

/// Part of the grace period reserved for recording `unknown` results.
const SHUTDOWN_RESERVE: Duration = Duration::from_millis(500);

impl Inner {
    pub(super) async fn drain(&self, deadline: Instant) {
        self.closing.cancel();
        let all = u32::try_from(self.config.queue_capacity).unwrap_or(u32::MAX);
        let all_calls_done = self.capacity.acquire_many(all);
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
        let left = self.lanes.remove(|_| true);
        let unknown = left.into_iter().map(|item| {
            InDoubtSend::redelivered(item, Duration::ZERO).unknown("the bridge is shutting down")
        });
        let recording = self.recorder.record(unknown.collect());
        if tokio::time::timeout_at(deadline, recording).await.is_err() {
            tracing::error!(
                "results of sends in doubt could not be recorded before the end of the grace period"
            );
        }
        self.placing.close();
        let _ = tokio::time::timeout_at(deadline, self.placing.wait()).await;
    }
}
