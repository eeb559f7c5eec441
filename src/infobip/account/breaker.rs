//! The breaker: stops sends while the API fails or refuses them all, and lets one probe through at a time
//! (docs/RELIABILITY.md#outages-of-the-api).
//!
//! Invariants: only answers to sends move it; while it is open, at most one send is in flight that began since; failures of requests
//! that were in flight together count as one wait. A rate limit (429) makes sends wait, but does not open it.
//! Neighbours: the dispatcher of `send` asks before each request, reports its outcome, and fails waiting callers while it is open; the
//! shutdown does not wait for an API that is down.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::{sync::Notify, time::Instant};

use super::outage_clock::OutageClock;
use crate::{ops::metrics::Metrics, primitives::retry::RetryPolicy};

/// Number of failures in a row that open the breaker.
const FAILURES_IN_A_ROW: u32 = 3;
/// It also opens if half of this many answers are failures.
const RECENT_ANSWERS: usize = 20;
/// Waits between failures before the breaker opens, and after a 429 without Retry-After.
const WAIT: RetryPolicy = RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(5));
/// Waits before the probes of an open breaker.
const PROBES: RetryPolicy = RetryPolicy::new(Duration::from_millis(500), Duration::from_secs(5));
/// A command that is refused alone makes room for others if the API took some within this time, which is longer than the delays between
/// its attempts.
const LATELY: Duration = Duration::from_secs(600);
/// The cause of a wait after a 429.
pub const RATE_LIMIT: &str = "HTTP 429 Too Many Requests";

pub struct Breaker {
    state: Mutex<State>,
    changed: Notify,
    clock: Arc<OutageClock>,
    metrics: Metrics,
}

#[derive(Default)]
struct State {
    /// The last answers, oldest first: whether each was a failure.
    recent: VecDeque<bool>,
    failures_in_a_row: u32,
    last_success: Option<Instant>,
    rate_limits_in_a_row: u32,
    /// No request begins before these times.
    wait_until: Option<Instant>,
    rate_limited_until: Option<Instant>,
    open: Option<Open>,
    /// Number of outages so far.
    outages: u64,
    /// The last failure, for callers.
    cause: String,
}

#[derive(Default)]
struct Open {
    failed_probes: u32,
    is_probing: bool,
}

/// Whether a request may begin.
#[derive(Debug, PartialEq, Eq)]
pub enum Permission {
    Send,
    /// A request with one item, or one that a caller named.
    Probe,
    /// Not before this time, or before [`Breaker::changed`] resolves.
    Wait(Option<Instant>),
}

/// Why no request may begin.
pub struct Obstacle {
    /// The last failure.
    pub cause: String,
    /// Time until the next request or probe.
    pub retry_after: Duration,
    /// Whether callers fail at once: while the breaker is open, unless a probe is due, which is the first message in a lane.
    pub fails_callers: bool,
}

/// A probe in flight.
pub struct ProbeGuard {
    breaker: Arc<Breaker>,
    /// The outage in which it began.
    outage: u64,
}

impl Drop for ProbeGuard {
    fn drop(&mut self) {
        self.breaker.state().end_probe(self.outage);
        self.breaker.changed.notify_one();
    }
}

impl Breaker {
    pub fn new(clock: Arc<OutageClock>, metrics: Metrics) -> Self {
        Self {
            state: Mutex::default(),
            changed: Notify::new(),
            clock,
            metrics,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Whether a request may begin now.
    pub fn permission(&self) -> Permission {
        self.state().permission(Instant::now())
    }

    /// Resolves when [`Self::permission`] may have changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Counts a probe as in flight until the guard is dropped.
    pub fn begin_probe(self: &Arc<Self>) -> ProbeGuard {
        let outage = self.state().begin_probe();
        ProbeGuard {
            breaker: Arc::clone(self),
            outage,
        }
    }

    /// Why [`Permission::Wait`] is the answer.
    pub fn obstacle(&self) -> Obstacle {
        self.state().obstacle(Instant::now())
    }

    /// Why the API does not take sends, while the breaker is open.
    #[must_use]
    pub fn outage(&self) -> Option<String> {
        let state = self.state();
        let is_open = state.open.is_some();
        is_open.then(|| state.obstacle(Instant::now()).cause)
    }

    pub fn is_open(&self) -> bool {
        self.state().open.is_some()
    }

    /// Whether the API answered a send lately: then it is not down for all of them.
    pub fn took_sends_lately(&self) -> bool {
        let last = self.state().last_success;
        last.is_some_and(|at| at.elapsed() < LATELY)
    }

    /// The API answered a send: it works.
    pub fn succeeded(&self) {
        let mut state = self.state();
        if state.succeeded(Instant::now()) {
            // Under the lock, so that the clock and the metric follow the order of the changes.
            self.clock.set_sends_fail(false);
            self.metrics.breaker_open(false);
            tracing::debug!("a send was answered: sends go on");
            self.changed.notify_one();
        }
    }

    /// A send failed in a way that says nothing about its messages. Returns the time until the next request. `waits` tells whether
    /// requests wait even if the breaker stays closed: not after a failure that other messages may not have.
    pub fn failed(&self, cause: &str, waits: bool) -> Duration {
        let now = Instant::now();
        let mut state = self.state();
        let opened = state.failed(cause, waits, now);
        let wait = state.wait(now);
        if opened {
            self.clock.set_sends_fail(true);
            self.metrics.breaker_open(true);
            tracing::debug!(cause, "too many sends failed: only probes are sent");
        }
        drop(state);
        // What waits in the lanes learns of the outage at once.
        self.changed.notify_one();
        wait
    }

    /// The API answered 429. Returns the time until the next request.
    pub fn rate_limited(&self, retry_after: Option<Duration>) -> Duration {
        let now = Instant::now();
        let mut state = self.state();
        state.rate_limited(retry_after, now);
        state.wait(now)
    }
}

impl State {
    fn permission(&self, now: Instant) -> Permission {
        if let Some(until) = self.not_before(now) {
            return Permission::Wait(Some(until));
        }
        match &self.open {
            None => Permission::Send,
            Some(open) if open.is_probing => Permission::Wait(None),
            Some(_) => Permission::Probe,
        }
    }

    /// Returns the number of the outage.
    fn begin_probe(&mut self) -> u64 {
        if let Some(open) = &mut self.open {
            open.is_probing = true;
        }
        self.outages
    }

    /// The probe of an earlier outage, which a success of another request ended, says nothing about the probe of this one.
    fn end_probe(&mut self, outage: u64) {
        if let Some(open) = &mut self.open
            && outage == self.outages
        {
            open.is_probing = false;
        }
    }

    fn obstacle(&self, now: Instant) -> Obstacle {
        Obstacle {
            cause: self.cause.clone(),
            retry_after: self.wait(now),
            fails_callers: self.open.is_some() && self.permission(now) != Permission::Probe,
        }
    }

    /// True if this closed the breaker.
    fn succeeded(&mut self, now: Instant) -> bool {
        self.failures_in_a_row = 0;
        self.last_success = Some(now);
        self.wait_until = None;
        if self.rate_limited_until.is_none_or(|until| until <= now) {
            self.rate_limits_in_a_row = 0;
        }
        if self.open.take().is_some() {
            self.recent.clear();
            return true;
        }
        self.note(false);
        false
    }

    /// True if this opened the breaker.
    fn failed(&mut self, cause: &str, waits: bool, now: Instant) -> bool {
        let is_due = self.wait_until.is_none_or(|until| until <= now);
        let before = self.failures_in_a_row;
        self.failures_in_a_row = before.saturating_add(1);
        self.note(true);
        cause.clone_into(&mut self.cause);
        if let Some(open) = &mut self.open {
            if is_due {
                open.failed_probes = open.failed_probes.saturating_add(1);
                self.wait_until = Some(now + PROBES.wait(open.failed_probes));
            }
            return false;
        }
        if self.must_open() {
            self.open = Some(Open::default());
            self.outages += 1;
            self.wait_until = Some(now + PROBES.wait(0));
            return true;
        }
        if waits && is_due {
            self.wait_until = Some(now + WAIT.wait(before));
        }
        false
    }

    fn rate_limited(&mut self, retry_after: Option<Duration>, now: Instant) {
        RATE_LIMIT.clone_into(&mut self.cause);
        let running = self.rate_limited_until.filter(|until| *until > now);
        // Requests that were in flight together count once, unless the API asks for a longer wait.
        if running.is_some() && retry_after.is_none() {
            return;
        }
        let wait = retry_after
            .unwrap_or_default()
            .max(WAIT.wait(self.rate_limits_in_a_row));
        self.rate_limited_until = running.max(Some(now + wait));
        if running.is_none() {
            self.rate_limits_in_a_row = self.rate_limits_in_a_row.saturating_add(1);
        }
    }

    fn not_before(&self, now: Instant) -> Option<Instant> {
        self.wait_until
            .max(self.rate_limited_until)
            .filter(|until| *until > now)
    }

    fn wait(&self, now: Instant) -> Duration {
        self.not_before(now)
            .map_or(Duration::ZERO, |until| until - now)
    }

    fn note(&mut self, is_failure: bool) {
        if self.recent.len() == RECENT_ANSWERS {
            self.recent.pop_front();
        }
        self.recent.push_back(is_failure);
    }

    fn must_open(&self) -> bool {
        let failures = self.recent.iter().filter(|is_failure| **is_failure).count();
        self.failures_in_a_row >= FAILURES_IN_A_ROW
            || self.recent.len() == RECENT_ANSWERS && failures * 2 >= RECENT_ANSWERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn three_failures_in_a_row_open_it_and_probes_go_one_at_a_time() {
        let mut state = State::default();
        let mut now = Instant::now();
        for _ in 0..2 {
            assert!(!state.failed("HTTP 503", false, now));
            assert_eq!(state.permission(now), Permission::Send);
        }
        assert!(state.failed("HTTP 503", false, now));
        let wait = state.wait(now);
        assert!(wait > SECOND / 3 && wait <= SECOND / 2, "{wait:?}");
        state.failed("HTTP 503", false, now);
        assert_eq!(
            state.wait(now),
            wait,
            "requests in flight do not lengthen it"
        );
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert!(state.obstacle(now).fails_callers);
            waits.push(state.wait(now));
            now += state.wait(now);
            assert!(!state.obstacle(now).fails_callers, "a caller is the probe");
            assert_eq!(state.permission(now), Permission::Probe);
            let probe = state.begin_probe();
            assert_eq!(state.permission(now), Permission::Wait(None));
            assert!(state.obstacle(now).fails_callers);
            state.failed("HTTP 503", false, now);
            state.end_probe(probe);
        }
        assert!(waits.iter().all(|wait| *wait <= SECOND * 5), "{waits:?}");
        assert!(*waits.last().unwrap() > SECOND * 3, "{waits:?}");
        assert!(state.succeeded(now), "a request in flight was answered");
        assert_eq!(state.permission(now), Permission::Send);
    }

    #[test]
    fn a_probe_of_an_earlier_outage_does_not_end_the_one_in_flight() {
        let mut state = State::default();
        let now = Instant::now();
        let fail = |state: &mut State| {
            for _ in 0..3 {
                state.failed("HTTP 503", false, now);
            }
        };
        fail(&mut state);
        let earlier = state.begin_probe();
        state.succeeded(now);
        fail(&mut state);
        let later = now + SECOND;
        state.begin_probe();
        state.end_probe(earlier);
        assert_eq!(state.permission(later), Permission::Wait(None));
    }

    #[test]
    fn half_of_the_last_twenty_open_it() {
        let mut state = State::default();
        let now = Instant::now();
        for _ in 0..9 {
            assert!(!state.succeeded(now));
            assert!(!state.failed("HTTP 500", false, now));
        }
        state.succeeded(now);
        assert!(state.failed("HTTP 500", false, now), "20 answers");
    }

    #[test]
    fn a_success_does_not_end_a_retry_after_and_a_longer_one_counts() {
        let mut state = State::default();
        let now = Instant::now();
        state.rate_limited(Some(SECOND * 10), now);
        state.succeeded(now);
        assert_eq!(state.wait(now), SECOND * 10);
        state.rate_limited(Some(SECOND * 30), now);
        state.rate_limited(None, now);
        assert_eq!(state.wait(now), SECOND * 30);
        assert_eq!(state.permission(now + SECOND * 30), Permission::Send);
    }
}
