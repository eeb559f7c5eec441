//! The quota of log requests, with priorities: sends in doubt first, then the reconciler, then callers.
//!
//! Invariant: no window of [`LOG_QUOTA_WINDOW`] has more requests than the quota. Callers do not wait: they get the time after
//! which to try again.

use std::{collections::VecDeque, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::{sync::Notify, time::Instant};

use crate::{infobip::limits::LOG_QUOTA_WINDOW, primitives::retry::RetryPolicy};

/// Waits after a 429 without Retry-After.
const RATE_LIMIT_WAIT: RetryPolicy =
    RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(5));

/// The purpose of a log request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Resolves a send in doubt: a caller is waiting.
    InDoubt,
    /// Searches the logs for missed reports. Nothing uses it yet: the reconciler is not built (docs/RELIABILITY.md).
    Reconciler,
}

/// Limits log requests to the API's quota. Shared by the whole process.
#[derive(Debug)]
pub struct LogQuota {
    state: Mutex<State>,
    /// One waiter of each priority waits for time; the others queue here in order of arrival.
    in_doubt_turn: tokio::sync::Mutex<()>,
    reconciler_turn: tokio::sync::Mutex<()>,
    /// Notified when a waiter leaves, because one of lower priority may then proceed.
    released: Notify,
}

#[derive(Debug)]
struct State {
    requests_per_minute: u32,
    /// This process's part of them, at least one.
    limit: usize,
    /// Start times of the requests within the window, oldest first.
    started: VecDeque<Instant>,
    /// No request starts before this time.
    paused_until: Option<Instant>,
    rate_limits_in_a_row: u32,
    in_doubt_waiting: usize,
    reconciler_waiting: usize,
}

/// The order in which requests get the quota. Unlike a [`Priority`], a caller never waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    InDoubt,
    Reconciler,
    Caller,
}

impl State {
    fn new(requests_per_minute: u32) -> Self {
        Self {
            requests_per_minute,
            limit: part(requests_per_minute, 1),
            started: VecDeque::new(),
            paused_until: None,
            rate_limits_in_a_row: 0,
            in_doubt_waiting: 0,
            reconciler_waiting: 0,
        }
    }

    /// Starts a request, or returns how long a request of this rank must wait. Callers leave a tenth of the quota unused and
    /// the reconciler a twentieth, so that a send in doubt seldom waits for a whole window.
    fn try_start(&mut self, rank: Rank, now: Instant) -> Result<(), Duration> {
        if let Some(until) = self.paused_until {
            if now < until {
                return Err(until - now);
            }
            self.paused_until = None;
        }
        while self
            .started
            .front()
            .is_some_and(|at| now >= *at + LOG_QUOTA_WINDOW)
        {
            self.started.pop_front();
        }
        let reserved = match rank {
            Rank::InDoubt => 0,
            Rank::Reconciler => self.limit / 20,
            Rank::Caller => self.limit / 10,
        };
        let outranked = match rank {
            Rank::InDoubt => 0,
            Rank::Reconciler => self.in_doubt_waiting,
            Rank::Caller => self.in_doubt_waiting + self.reconciler_waiting,
        };
        let allowed = self.limit - reserved;
        // Waiters of higher rank get free requests first.
        let started = self.started.len() + outranked;
        if started < allowed {
            self.started.push_back(now);
            return Ok(());
        }
        let must_end = (started - allowed).min(self.started.len().saturating_sub(1));
        let free_at = self
            .started
            .get(must_end)
            .map_or(now + LOG_QUOTA_WINDOW, |at| *at + LOG_QUOTA_WINDOW);
        Err(free_at
            .saturating_duration_since(now)
            .max(Duration::from_millis(1)))
    }

    fn waiting(&mut self, priority: Priority) -> &mut usize {
        match priority {
            Priority::InDoubt => &mut self.in_doubt_waiting,
            Priority::Reconciler => &mut self.reconciler_waiting,
        }
    }
}

fn part(requests_per_minute: u32, replicas: u32) -> usize {
    let part = requests_per_minute / replicas.max(1);
    part.max(1) as usize
}

/// Counts a waiter until it is dropped, so that a cancelled `acquire` is not counted.
struct Waiting<'a> {
    quota: &'a LogQuota,
    priority: Priority,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.quota.state();
        let waiting = state.waiting(self.priority);
        *waiting = waiting.saturating_sub(1);
        drop(state);
        self.quota.released.notify_waiters();
    }
}

impl LogQuota {
    /// `requests_per_minute` of 0 counts as 1.
    #[must_use]
    pub fn new(requests_per_minute: u32) -> Self {
        Self {
            state: Mutex::new(State::new(requests_per_minute)),
            in_doubt_turn: tokio::sync::Mutex::new(()),
            reconciler_turn: tokio::sync::Mutex::new(()),
            released: Notify::new(),
        }
    }

    /// Waits until a request may start. Dropping the future gives up the place in the queue.
    pub async fn acquire(&self, priority: Priority) {
        let (rank, turn) = match priority {
            Priority::InDoubt => (Rank::InDoubt, &self.in_doubt_turn),
            Priority::Reconciler => (Rank::Reconciler, &self.reconciler_turn),
        };
        *self.state().waiting(priority) += 1;
        let _waiting = Waiting {
            quota: self,
            priority,
        };
        let _turn = turn.lock().await;
        loop {
            let released = self.released.notified();
            let started = self.state().try_start(rank, Instant::now());
            let Err(wait) = started else { return };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = released => {}
            }
        }
    }

    /// Starts a caller's request without waiting.
    ///
    /// # Errors
    /// How long to wait, if the quota is used up or reserved for requests of higher rank.
    pub fn try_acquire(&self) -> Result<(), Duration> {
        self.state().try_start(Rank::Caller, Instant::now())
    }

    /// Sets the number of processes that share the quota.
    pub fn set_replicas(&self, replicas: u32) {
        let mut state = self.state();
        state.limit = part(state.requests_per_minute, replicas);
    }

    /// The API answered a log request with 429, which happens if others use the account too: starts no request for its Retry-After,
    /// or for a while that grows with each 429 in a row.
    pub fn rate_limited(&self, retry_after: Option<Duration>) {
        let mut state = self.state();
        let wait = retry_after.unwrap_or_else(|| RATE_LIMIT_WAIT.wait(state.rate_limits_in_a_row));
        state.rate_limits_in_a_row = state.rate_limits_in_a_row.saturating_add(1);
        let until = Instant::now() + wait;
        state.paused_until = state.paused_until.max(Some(until));
    }

    /// The API answered a log request.
    pub fn answered(&self) {
        self.state().rate_limits_in_a_row = 0;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_window_never_exceeds_the_quota() {
        let mut state = State::new(3);
        let start = Instant::now();
        for second in [0, 10, 20] {
            assert_eq!(
                state.try_start(Rank::InDoubt, start + SECOND * second),
                Ok(())
            );
        }
        assert_eq!(
            state.try_start(Rank::InDoubt, start + SECOND * 30),
            Err(SECOND * 30)
        );
        assert_eq!(state.try_start(Rank::InDoubt, start + SECOND * 60), Ok(()));
        assert_eq!(
            state.try_start(Rank::InDoubt, start + SECOND * 60),
            Err(SECOND * 10)
        );
    }

    #[test]
    fn lower_ranks_leave_a_reserve_and_yield_to_higher_ranks() {
        let mut state = State::new(20);
        let now = Instant::now();
        let start = |state: &mut State, rank| {
            (0..100)
                .take_while(|_| state.try_start(rank, now).is_ok())
                .count()
        };
        assert_eq!(start(&mut state, Rank::Caller), 18);
        assert_eq!(start(&mut state, Rank::Reconciler), 1);
        assert_eq!(start(&mut state, Rank::InDoubt), 1);
        assert_eq!(state.try_start(Rank::Caller, now), Err(LOG_QUOTA_WINDOW));

        let mut state = State::new(20);
        state.in_doubt_waiting = 18;
        assert!(state.try_start(Rank::Caller, now).is_err());
        assert_eq!(start(&mut state, Rank::Reconciler), 1);
    }

    #[test]
    fn each_replica_has_its_part_and_at_least_one_request() {
        let quota = LogQuota::new(3);
        let now = Instant::now();
        let start = || quota.state().try_start(Rank::InDoubt, now).is_ok();
        quota.set_replicas(2);
        assert!(start());
        assert!(!start());
        quota.set_replicas(1);
        assert!(start() && start());
        assert!(!start());
        quota.set_replicas(5);
        let wait = quota.state().try_start(Rank::InDoubt, now);
        assert_eq!(wait, Err(LOG_QUOTA_WINDOW));
    }

    #[test]
    fn a_pause_delays_every_rank() {
        let quota = LogQuota::new(10);
        quota.rate_limited(Some(SECOND * 5));
        let wait = quota.try_acquire().unwrap_err();
        assert!(wait > SECOND * 4 && wait <= SECOND * 5);
        let mut state = State::new(10);
        let now = Instant::now();
        state.paused_until = Some(now + SECOND);
        assert_eq!(state.try_start(Rank::InDoubt, now), Err(SECOND));
        assert_eq!(state.try_start(Rank::InDoubt, now + SECOND), Ok(()));
    }

    #[tokio::test]
    async fn a_cancelled_waiter_is_not_counted() {
        let quota = Arc::new(LogQuota::new(1));
        quota.acquire(Priority::InDoubt).await;
        let waiter = tokio::spawn({
            let quota = Arc::clone(&quota);
            async move { quota.acquire(Priority::InDoubt).await }
        });
        while quota.state().in_doubt_waiting == 0 {
            tokio::task::yield_now().await;
        }
        waiter.abort();
        assert!(waiter.await.unwrap_err().is_cancelled());
        assert_eq!(quota.state().in_doubt_waiting, 0);
        quota.state().started.clear();
        assert_eq!(quota.try_acquire(), Ok(()));
    }
}
