//! The pause of all sending while the API cannot be reached or refuses every request.
//!
//! Invariant: requests that fail during a pause do not extend it, because requests that were in flight together fail together.
//! Neighbours: `dispatcher` begins and ends pauses, and sends nothing during one.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::primitives::retry::RetryPolicy;

/// How long sending pauses after failures of the API.
const PAUSE: RetryPolicy = RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(5));

/// Pauses with exponential backoff.
#[derive(Default)]
pub(super) struct Pause(Mutex<State>);

#[derive(Default)]
struct State {
    /// Pauses since the last success.
    failures: u32,
    until: Option<Instant>,
}

impl Pause {
    /// Begins a pause of at least `at_least`, unless there is one. Returns the time that is left of it.
    pub(super) fn begin(&self, at_least: Option<Duration>) -> Duration {
        let mut state = self.0.lock();
        let now = Instant::now();
        match state.until {
            Some(until) if until > now => until - now,
            _ => {
                let pause = PAUSE.wait(state.failures).max(at_least.unwrap_or_default());
                *state = State {
                    failures: state.failures + 1,
                    until: Some(now + pause),
                };
                pause
            }
        }
    }

    /// Ends the pause after a success, and resets the backoff.
    pub(super) fn end(&self) {
        *self.0.lock() = State::default();
    }

    /// The end of the latest pause, which may have passed.
    pub(super) fn until(&self) -> Option<Instant> {
        self.0.lock().until
    }
}
