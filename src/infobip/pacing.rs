//! The account's budgets: the API's quota of log requests, and the contract's rate of send requests.
//!
//! Both are shared by everyone in the process. [`LogQuota`] never lets more requests begin in any minute than the API
//! allows: in-doubt look-ups first, then the reconciler, then callers, who do not wait but are told when to try again.

use std::{collections::VecDeque, num::NonZeroU32, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::{Mutex, MutexGuard};
use tokio::{sync::Notify, time::Instant};

/// The span that the quota counts over (docs/INFOBIP_API.md#limits: 120 requests a minute).
const WINDOW: Duration = Duration::from_secs(60);

/// Whose log request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Resolves a send that is in doubt: someone waits, and money is at stake.
    InDoubt,
    /// Heals reports.
    Reconciler,
}

/// The quota of log requests.
#[derive(Debug)]
pub struct LogQuota {
    state: Mutex<State>,
    /// First come, first served among those in doubt; only the first waits for time.
    in_doubt_turn: tokio::sync::Mutex<()>,
    reconciler_turn: tokio::sync::Mutex<()>,
    /// Told when the reconciler may look again: a waiter of higher priority is gone.
    released: Notify,
}

#[derive(Debug)]
struct State {
    limit: usize,
    /// When requests of the last minute began, oldest first: at most `limit`.
    begun: VecDeque<Instant>,
    /// Until when the API said to wait.
    paused_until: Option<Instant>,
    in_doubt_waiting: usize,
    reconciler_waiting: usize,
}

/// Whose request is to begin, callers included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    InDoubt,
    Reconciler,
    Caller,
}

impl State {
    fn new(requests_per_minute: u32) -> Self {
        Self {
            limit: usize::try_from(requests_per_minute.max(1)).unwrap_or(usize::MAX),
            begun: VecDeque::new(),
            paused_until: None,
            in_doubt_waiting: 0,
            reconciler_waiting: 0,
        }
    }

    /// Begins a request, or says how long none of this rank can. Callers leave a tenth of the quota and the reconciler a
    /// twentieth, so that a send in doubt seldom waits for a whole minute.
    fn try_begin(&mut self, rank: Rank, now: Instant) -> Result<(), Duration> {
        if let Some(until) = self.paused_until {
            if now < until {
                return Err(until - now);
            }
            self.paused_until = None;
        }
        while self.begun.front().is_some_and(|at| now >= *at + WINDOW) {
            self.begun.pop_front();
        }
        let left_to_others = match rank {
            Rank::InDoubt => 0,
            Rank::Reconciler => self.limit / 20,
            Rank::Caller => self.limit / 10,
        };
        let outranked = match rank {
            Rank::InDoubt => 0,
            Rank::Reconciler => self.in_doubt_waiting,
            Rank::Caller => self.in_doubt_waiting + self.reconciler_waiting,
        };
        let allowed = self.limit - left_to_others;
        // What waits before it takes what becomes free first.
        let begun = self.begun.len() + outranked;
        if begun < allowed {
            self.begun.push_back(now);
            return Ok(());
        }
        let must_end = (begun - allowed).min(self.begun.len().saturating_sub(1));
        let free_at = self
            .begun
            .get(must_end)
            .map_or(now + WINDOW, |at| *at + WINDOW);
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

/// Counts a waiter for as long as it waits, even where it is dropped.
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
    /// A quota of so many requests a minute, at least one.
    #[must_use]
    pub fn new(requests_per_minute: u32) -> Self {
        Self {
            state: Mutex::new(State::new(requests_per_minute)),
            in_doubt_turn: tokio::sync::Mutex::new(()),
            reconciler_turn: tokio::sync::Mutex::new(()),
            released: Notify::new(),
        }
    }

    /// Waits until a request may begin. Dropping the future gives up the place.
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
            let begun = self.state().try_begin(rank, Instant::now());
            let Err(wait) = begun else { return };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = released => {}
            }
        }
    }

    /// Begins a caller's request now.
    ///
    /// # Errors
    /// When to try again, where the quota is used up or others come first.
    pub fn try_acquire(&self) -> Result<(), Duration> {
        self.state().try_begin(Rank::Caller, Instant::now())
    }

    /// Lets nobody begin for a while: the API answered 429, since others use the account too.
    pub fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait.min(WINDOW * 10);
        let mut state = self.state();
        state.paused_until = Some(state.paused_until.map_or(until, |before| before.max(until)));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock()
    }
}

/// The contract's rate of send requests, shared by all lanes.
#[derive(Debug)]
pub struct SendPace {
    limiter: Option<DefaultDirectRateLimiter>,
}

impl SendPace {
    /// So many requests a second; 0: no limit. Requests are spread: at most a tenth of a second's worth begins at once.
    #[must_use]
    pub fn new(requests_per_second: u32) -> Self {
        let limiter = NonZeroU32::new(requests_per_second).map(|rate| {
            let at_once = NonZeroU32::new(requests_per_second / 10).unwrap_or(NonZeroU32::MIN);
            RateLimiter::direct(Quota::per_second(rate).allow_burst(at_once))
        });
        Self { limiter }
    }

    /// Waits until a request may begin.
    pub async fn acquire(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.until_ready().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn no_minute_has_more_than_the_quota() {
        let mut state = State::new(3);
        let start = Instant::now();
        for second in [0, 10, 20] {
            assert_eq!(
                state.try_begin(Rank::InDoubt, start + SECOND * second),
                Ok(())
            );
        }
        assert_eq!(
            state.try_begin(Rank::InDoubt, start + SECOND * 30),
            Err(SECOND * 30)
        );
        assert_eq!(state.try_begin(Rank::InDoubt, start + SECOND * 60), Ok(()));
        assert_eq!(
            state.try_begin(Rank::InDoubt, start + SECOND * 60),
            Err(SECOND * 10)
        );
    }

    #[test]
    fn lower_ranks_leave_room_and_give_way() {
        let mut state = State::new(20);
        let now = Instant::now();
        let begin = |state: &mut State, rank| {
            (0..100)
                .take_while(|_| state.try_begin(rank, now).is_ok())
                .count()
        };
        assert_eq!(begin(&mut state, Rank::Caller), 18);
        assert_eq!(begin(&mut state, Rank::Reconciler), 1);
        assert_eq!(begin(&mut state, Rank::InDoubt), 1);
        assert_eq!(state.try_begin(Rank::Caller, now), Err(WINDOW));

        let mut state = State::new(20);
        state.in_doubt_waiting = 18;
        assert!(state.try_begin(Rank::Caller, now).is_err());
        assert_eq!(begin(&mut state, Rank::Reconciler), 1);
    }

    #[test]
    fn a_pause_holds_everyone() {
        let quota = LogQuota::new(10);
        quota.pause(SECOND * 5);
        let wait = quota.try_acquire().unwrap_err();
        assert!(wait > SECOND * 4 && wait <= SECOND * 5);
        let mut state = State::new(10);
        let now = Instant::now();
        state.paused_until = Some(now + SECOND);
        assert_eq!(state.try_begin(Rank::InDoubt, now), Err(SECOND));
        assert_eq!(state.try_begin(Rank::InDoubt, now + SECOND), Ok(()));
    }

    #[tokio::test]
    async fn a_waiter_that_gives_up_leaves_no_trace() {
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
        quota.state().begun.clear();
        assert_eq!(quota.try_acquire(), Ok(()));
    }

    #[tokio::test]
    async fn no_rate_is_no_limit() {
        let pace = SendPace::new(0);
        for _ in 0..10_000 {
            pace.acquire().await;
        }
    }

    #[test]
    fn a_rate_spreads_requests() {
        let pace = SendPace::new(50);
        let limiter = pace.limiter.as_ref().unwrap();
        let at_once = (0..100).take_while(|_| limiter.check().is_ok()).count();
        assert_eq!(at_once, 5);
    }
}
