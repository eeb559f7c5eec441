//! Decides when the next look-up of a command may begin: not during a pause that the API asked for, and one at a time, after growing
//! waits, while look-ups fail.
//!
//! Invariants: failures of requests that were in flight together count as one; a success ends an outage, but no pause that the API
//! asked for. It has nothing to do with the breaker of sends: look-ups are another endpoint, and neither delays the other.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{infobip::ApiError, primitives::retry::RetryPolicy};

/// The waits between look-ups that fail.
const OUTAGE: RetryPolicy = RetryPolicy::new(Duration::from_secs(1), Duration::from_secs(60));
/// The least wait after refused credentials, which an operator has to correct.
const CREDENTIALS: Duration = Duration::from_secs(60);
/// An outage of which nobody has heard for this long is not shown any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(300);
/// The waits after a 429 without Retry-After.
const RATE_LIMIT: RetryPolicy =
    RetryPolicy::new(Duration::from_millis(500), Duration::from_secs(30));

#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    /// Somebody who waits may proceed.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Failures in a row.
    failures: u32,
    /// No request begins before these times.
    wait_until: Option<Instant>,
    rate_limited_until: Option<Instant>,
    rate_limits_in_a_row: u32,
    /// A request is in flight that finds out whether the outage is over.
    is_probing: bool,
    /// Whether a request of this outage may have been carried out.
    is_in_doubt: bool,
    failed_at: Option<Instant>,
    cause: String,
}

/// What a failure means for the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setback {
    NothingDone,
    Credentials,
    /// It may have been carried out, and paid for.
    InDoubt,
}

impl Setback {
    pub(super) fn of(error: &ApiError) -> Self {
        match error {
            ApiError::InDoubt { .. } => Self::InDoubt,
            ApiError::CredentialsRefused { .. } => Self::Credentials,
            ApiError::NotSent { .. } | ApiError::RateLimited { .. } | ApiError::Refused { .. } => {
                Self::NothingDone
            }
        }
    }
}

/// The permission to make one request.
pub struct Turn<'a> {
    gate: &'a Gate,
    begun: Begun,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Begun {
    is_probe: bool,
    /// The request is the first one after a failure that may have been paid for.
    is_after_doubt: bool,
}

impl Turn<'_> {
    pub(super) fn is_after_doubt(&self) -> bool {
        self.begun.is_after_doubt
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.begun.is_probe {
            self.gate.state.lock().is_probing = false;
            self.gate.changed.notify_waiters();
        }
    }
}

impl Gate {
    /// Waits for a turn.
    pub(super) async fn turn(&self) -> Turn<'_> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the question, so that a change after it is noticed.
            changed.as_mut().enable();
            let begun = self.state.lock().begin(Instant::now());
            match begun {
                Ok(begun) => return Turn { gate: self, begun },
                Err(None) => changed.await,
                Err(Some(at)) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(at) => {}
                },
            }
        }
    }

    /// How long the API's pause lasts; `None` if there is none.
    pub(super) fn rate_limited_for(&self) -> Option<Duration> {
        let now = Instant::now();
        let until = self.state.lock().rate_limited_until?;
        (until > now).then(|| until - now)
    }

    /// The API took a request.
    pub(super) fn succeeded(&self) {
        let mut state = self.state.lock();
        if state.succeeded(Instant::now()) {
            tracing::debug!("a look-up was answered: look-ups go on");
            self.changed.notify_waiters();
        }
    }

    /// A request failed in a way that the next one may, too.
    pub(super) fn failed(&self, setback: Setback, cause: &str) {
        self.state.lock().failed(setback, cause, Instant::now());
        tracing::debug!(cause, "a look-up failed: the next ones wait");
    }

    /// The API answered 429.
    pub(super) fn rate_limited(&self, retry_after: Option<Duration>) {
        self.state.lock().rate_limited(retry_after, Instant::now());
    }

    pub(super) fn outage(&self) -> Option<String> {
        let state = self.state.lock();
        let is_recent = state
            .failed_at
            .is_some_and(|at| at.elapsed() < FORGOTTEN_AFTER);
        (state.failures > 0 && is_recent).then(|| state.cause.clone())
    }
}

impl State {
    /// A request that begins now; an error with the time until which it has to wait, if that is known.
    fn begin(&mut self, now: Instant) -> Result<Begun, Option<Instant>> {
        let not_before = self.wait_until.max(self.rate_limited_until);
        if let Some(until) = not_before.filter(|until| *until > now) {
            return Err(Some(until));
        }
        if self.failures == 0 {
            return Ok(Begun {
                is_probe: false,
                is_after_doubt: false,
            });
        }
        if self.is_probing {
            return Err(None);
        }
        self.is_probing = true;
        Ok(Begun {
            is_probe: true,
            is_after_doubt: self.is_in_doubt,
        })
    }

    /// True if this ended an outage.
    fn succeeded(&mut self, now: Instant) -> bool {
        if self.rate_limited_until.is_none_or(|until| until <= now) {
            self.rate_limits_in_a_row = 0;
        }
        self.wait_until = None;
        self.is_in_doubt = false;
        std::mem::take(&mut self.failures) > 0
    }

    fn failed(&mut self, setback: Setback, cause: &str, now: Instant) {
        cause.clone_into(&mut self.cause);
        self.failed_at = Some(now);
        self.is_in_doubt |= setback == Setback::InDoubt;
        let is_due = self.wait_until.is_none_or(|until| until <= now);
        if is_due {
            let wait = OUTAGE.wait(self.failures);
            let wait = match setback {
                Setback::Credentials => wait.max(CREDENTIALS),
                Setback::NothingDone | Setback::InDoubt => wait,
            };
            self.failures = self.failures.saturating_add(1);
            self.wait_until = Some(now + wait);
        }
    }

    fn rate_limited(&mut self, retry_after: Option<Duration>, now: Instant) {
        let running = self.rate_limited_until.filter(|until| *until > now);
        // Requests that were in flight together count once, unless the API asks for a longer wait.
        if running.is_some() && retry_after.is_none() {
            return;
        }
        let wait = retry_after
            .unwrap_or_default()
            .max(RATE_LIMIT.wait(self.rate_limits_in_a_row));
        self.rate_limited_until = running.max(Some(now + wait));
        if running.is_none() {
            self.rate_limits_in_a_row = self.rate_limits_in_a_row.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn failures_in_flight_together_are_one_and_probes_go_one_at_a_time() {
        let (mut state, now) = (State::default(), Instant::now());
        assert!(state.begin(now).is_ok_and(|begun| !begun.is_probe));
        for _ in 0..4 {
            state.failed(Setback::NothingDone, "HTTP 404", now);
        }
        assert_eq!(state.failures, 1);
        let until = state.begin(now).unwrap_err().unwrap();
        assert!(until <= now + SECOND);
        let probe = state.begin(until).unwrap();
        assert!(probe.is_probe && !probe.is_after_doubt);
        assert_eq!(state.begin(until), Err(None), "one probe at a time");
        state.is_probing = false;
        state.failed(Setback::NothingDone, "HTTP 404", until);
        let next = state.begin(until).unwrap_err().unwrap();
        assert!(next > until + SECOND, "the wait grows");
        assert!(state.succeeded(until), "an answer to another request");
        assert!(state.begin(until).is_ok_and(|begun| !begun.is_probe));
    }

    #[test]
    fn after_a_doubt_the_next_request_is_preceded_by_one_that_costs_nothing() {
        let (mut state, now) = (State::default(), Instant::now());
        state.failed(Setback::InDoubt, "HTTP 503", now);
        let later = now + SECOND * 60;
        assert!(state.begin(later).unwrap().is_after_doubt);
        state.is_probing = false;
        // What cost nothing failed as well.
        state.failed(Setback::NothingDone, "no connection", later);
        let later = later + SECOND * 60;
        assert!(state.begin(later).unwrap().is_after_doubt, "still");
    }

    #[test]
    fn refused_credentials_and_rate_limits_are_waits_of_their_own() {
        let (mut state, now) = (State::default(), Instant::now());
        state.failed(Setback::Credentials, "HTTP 401", now);
        assert_eq!(state.begin(now), Err(Some(now + CREDENTIALS)));
        let (mut state, now) = (State::default(), Instant::now());
        state.rate_limited(Some(SECOND * 5), now);
        assert!(!state.succeeded(now), "no outage");
        assert_eq!(state.begin(now), Err(Some(now + SECOND * 5)));
        assert!(
            state
                .begin(now + SECOND * 5)
                .is_ok_and(|begun| !begun.is_probe)
        );
    }
}
