//! Advances the virtual clock on request, moment by moment.
//!
//! Invariant: all pushes of one moment are answered before the timers of the next moment fire.
//! Neighbour: `engine` fires timers while the clock runs by itself.

use std::sync::Arc;

use super::{Engine, MAX_TIMERS_PER_LOCK};
use crate::{dates::LATEST_MS, push::DuePushes};

impl Engine {
    /// Advances virtual time and fires every timer that becomes due. Returns when the due pushes were answered.
    ///
    /// The advance completes even if the caller is dropped, so that no push is lost.
    pub(crate) async fn advance(self: &Arc<Self>, by_ms: i64) {
        let engine = self.clone();
        let advance = self
            .tasks
            .spawn(async move { engine.advance_exclusively(by_ms).await });
        // The task fails only if it panics, and the runtime reports that.
        let _ = advance.await;
    }

    async fn advance_exclusively(self: Arc<Self>, by_ms: i64) {
        let _firing = self.firing_lock.lock().await;
        let (target_ms, was_frozen) = {
            let mut state = self.lock();
            let was_frozen = state.clock.frozen();
            state.clock.set_frozen(true);
            (
                state.clock.now_ms().saturating_add(by_ms).min(LATEST_MS),
                was_frozen,
            )
        };
        self.wait_for_pushes().await;
        while let Some(due_pushes) = self.fire_next_moment(target_ms) {
            self.send_pushes(due_pushes).await;
            self.wait_for_pushes().await;
            if self.shutdown.is_cancelled() {
                break;
            }
        }
        let mut state = self.lock();
        state.clock.set(target_ms);
        state.clock.set_frozen(was_frozen);
        state.wakes_at_ms = i64::MAX;
        state.changes.clock();
        self.release(state);
    }

    /// Sets the clock to the next moment at which timers are due and fires them. Returns the pushes to send, or `None` if
    /// no timer is due by `target_ms`.
    fn fire_next_moment(&self, target_ms: i64) -> Option<DuePushes> {
        let mut state = self.lock();
        let mut fired = 0_usize;
        let mut moment_ms = None;
        loop {
            let due_ms = state.timers.next_due_ms().filter(|due| *due <= target_ms);
            // Moments without a push are handled under one lock; MAX_TIMERS_PER_LOCK bounds how long it is held.
            if due_ms != moment_ms
                && (due_ms.is_none()
                    || !state.due_pushes.is_empty()
                    || fired >= MAX_TIMERS_PER_LOCK)
            {
                break;
            }
            let Some((due_ms, timer)) = due_ms.and_then(|due| state.timers.pop_due(due)) else {
                break;
            };
            if moment_ms != Some(due_ms) {
                let now_ms = state.clock.now_ms().max(due_ms);
                state.clock.set(now_ms);
                moment_ms = Some(due_ms);
            }
            state.fire(timer, due_ms, &self.config);
            fired += 1;
        }
        let due_pushes = state.take_due_pushes();
        (fired > 0 || !due_pushes.pushes.is_empty()).then_some(due_pushes)
    }
}
