//! Drives the simulator: holds the lock around [`State`], fires timers and sends pushes.
//!
//! Invariants: timers fire in order, either in [`Engine::run_clock`] or in [`Engine::advance`], never in both at once. While the
//! clock runs, pushes are sent concurrently. During an advance, all pushes of one moment are answered before the next
//! moment, and pushes to one server are sent one after the other, so that an advance is reproducible.
//! Neighbours: `state` is the data, `push` makes the requests.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::SimulatorConfig,
    dates::LATEST_MS,
    faults::Faults,
    push::{self, PushId},
    requests::{Recorded, Requests},
    state::State,
};

/// Timers fired while the lock is held once: a few milliseconds at most. With fewer, the clock falls behind at full load,
/// because every connection competes for the lock between two batches.
const BATCH: usize = 4096;
/// Maximum sleep of the clock loop.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// The simulator's shared state and tasks.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) config: SimulatorConfig,
    /// What goes wrong on demand.
    pub(crate) faults: Faults,
    state: Mutex<State>,
    requests: Mutex<Requests>,
    client: reqwest::Client,
    wake: Notify,
    /// Held while timers are fired, so that only one task does it.
    firing: tokio::sync::Mutex<()>,
    push_permits: Semaphore,
    pushing: AtomicUsize,
    pushed: Notify,
    tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

impl Engine {
    /// Creates the state at the configured time. No task runs yet.
    pub(crate) fn new(config: SimulatorConfig, client: reqwest::Client) -> Self {
        Self {
            faults: Faults::new(config.seed),
            state: Mutex::new(State::new(&config, start_ms(&config))),
            requests: Mutex::new(Requests::new(config.bounds.requests)),
            client,
            wake: Notify::new(),
            firing: tokio::sync::Mutex::new(()),
            push_permits: Semaphore::new(config.push_concurrency.max(1)),
            pushing: AtomicUsize::new(0),
            pushed: Notify::new(),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            config,
        }
    }

    /// Locks the state. A caller that may have set timers or queued pushes must end with [`Engine::release`].
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.lock().clock.now_ms()
    }

    /// Unlocks the state, sends the queued pushes and wakes the clock loop if a timer is due earlier than it expected.
    pub(crate) fn release(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let ready = std::mem::take(&mut state.ready);
        let generation = state.generation;
        let earlier = state
            .timers
            .next_due_ms()
            .is_some_and(|due| due < state.wakes_at_ms);
        drop(state);
        if earlier {
            self.wake.notify_one();
        }
        self.launch(ready, generation);
    }

    /// Adds a request to the request log.
    pub(crate) fn record(&self, request: Recorded) {
        self.requests().add(request);
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fires timers as virtual time passes, until shutdown.
    pub(crate) async fn run_clock(self: Arc<Self>) {
        loop {
            let sleep = {
                let mut state = self.lock();
                state.wakes_at_ms = state.timers.next_due_ms().unwrap_or(i64::MAX);
                let due = state.wakes_at_ms;
                // A frozen clock reaches no timer: sleep until woken.
                state
                    .clock
                    .real_time_until(due)
                    .unwrap_or(LONGEST_SLEEP)
                    .min(LONGEST_SLEEP)
            };
            if !sleep.is_zero() {
                tokio::select! {
                    () = self.shutdown.cancelled() => return,
                    () = self.wake.notified() => continue,
                    () = tokio::time::sleep(sleep) => {}
                }
            }
            if self.shutdown.is_cancelled() {
                return;
            }
            let _firing = self.firing.lock().await;
            while self.fire_batch() {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Fires what is due, up to a batch; true if more is due.
    fn fire_batch(self: &Arc<Self>) -> bool {
        let mut state = self.lock();
        let now_ms = state.clock.now_ms();
        let mut more = false;
        for fired in 0.. {
            if fired == BATCH {
                more = true;
                break;
            }
            let Some((due_ms, timer)) = state.timers.pop_due(now_ms) else {
                break;
            };
            state.fire(timer, due_ms, &self.config);
        }
        self.release(state);
        more
    }

    /// Advances virtual time and fires every timer that falls due; returns when the pushes that became due were answered.
    ///
    /// The advance completes even if the caller is dropped, so that no push is lost.
    pub(crate) async fn advance(self: &Arc<Self>, by_ms: i64) {
        let engine = self.clone();
        let advancing = self
            .tasks
            .spawn(async move { engine.advance_here(by_ms).await });
        // It can only fail by a panic, which the runtime reports.
        let _ = advancing.await;
    }

    async fn advance_here(self: Arc<Self>, by_ms: i64) {
        let _firing = self.firing.lock().await;
        let (target_ms, was_frozen) = {
            let mut state = self.lock();
            let was_frozen = state.clock.frozen();
            state.clock.set_frozen(true);
            (
                state.clock.now_ms().saturating_add(by_ms).min(LATEST_MS),
                was_frozen,
            )
        };
        self.pushes_answered().await;
        while let Some(ready) = self.fire_moment(target_ms) {
            self.carry_out(ready).await;
            self.pushes_answered().await;
            if self.shutdown.is_cancelled() {
                break;
            }
        }
        let mut state = self.lock();
        state.clock.set(target_ms);
        state.clock.set_frozen(was_frozen);
        state.wakes_at_ms = i64::MAX;
        self.release(state);
    }

    /// Sets the clock to the next time at which timers are due and fires them; returns the pushes to send.
    fn fire_moment(&self, target_ms: i64) -> Option<(Vec<(PushId, i64)>, u64)> {
        let mut state = self.lock();
        let mut fired = 0_usize;
        let mut moment_ms = None;
        loop {
            let due_ms = state.timers.next_due_ms().filter(|due| *due <= target_ms);
            // Times without a push are handled in one batch; BATCH bounds how long the lock is held.
            if due_ms != moment_ms
                && (due_ms.is_none() || !state.ready.is_empty() || fired >= BATCH)
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
        let ready = std::mem::take(&mut state.ready);
        (fired > 0 || !ready.is_empty()).then_some((ready, state.generation))
    }

    /// Sends pushes, sequentially for each server, and returns when all are answered.
    pub(crate) async fn carry_out(
        self: &Arc<Self>,
        (ready, generation): (Vec<(PushId, i64)>, u64),
    ) {
        let mut by_server: BTreeMap<String, Vec<(PushId, i64)>> = BTreeMap::new();
        for (id, at_ms) in ready {
            let url = self.lock().pushes.url(id).unwrap_or_default().to_owned();
            let server = reqwest::Url::parse(&url).map(|url| url.origin().ascii_serialization());
            by_server
                .entry(server.unwrap_or(url))
                .or_default()
                .push((id, at_ms));
        }
        let servers = by_server.into_values().map(|pushes| async {
            for (id, at_ms) in pushes {
                self.attempt(id, at_ms, generation).await;
            }
        });
        futures_util::future::join_all(servers).await;
    }

    fn launch(self: &Arc<Self>, ready: Vec<(PushId, i64)>, generation: u64) {
        for (id, at_ms) in ready {
            self.pushing.fetch_add(1, Ordering::AcqRel);
            let engine = self.clone();
            self.tasks.spawn(async move {
                tokio::select! {
                    () = engine.shutdown.cancelled() => {}
                    () = engine.attempt(id, at_ms, generation) => {}
                }
                engine.pushing.fetch_sub(1, Ordering::AcqRel);
                engine.pushed.notify_waiters();
            });
        }
    }

    async fn pushes_answered(&self) {
        loop {
            let pushed = self.pushed.notified();
            if self.pushing.load(Ordering::Acquire) == 0 {
                return;
            }
            pushed.await;
        }
    }

    /// Makes one attempt of a push, and a second push if a fault duplicates it.
    async fn attempt(self: &Arc<Self>, id: PushId, at_ms: i64, generation: u64) {
        let Ok(_permit) = self.push_permits.acquire().await else {
            return;
        };
        if let Some(copy) = self.attempt_once(id, at_ms, generation, true).await {
            self.attempt_once(copy, at_ms, generation, false).await;
        }
    }

    async fn attempt_once(
        self: &Arc<Self>,
        id: PushId,
        at_ms: i64,
        generation: u64,
        may_copy: bool,
    ) -> Option<PushId> {
        let outgoing = {
            let mut state = self.lock();
            if state.generation != generation {
                return None;
            }
            state.outgoing(id, &self.config.currency)?
        };
        let status = push::attempt(&self.client, self.config.push_timeout, outgoing).await;
        let mut state = self.lock();
        if state.generation != generation {
            return None;
        }
        let accepted = status == Some(200);
        let twice = may_copy
            && accepted
            && state
                .pushes
                .url(id)
                .is_some_and(|url| self.faults.duplicates_push(url));
        let copy = if twice { state.duplicate(id) } else { None };
        state.settle(id, at_ms, status);
        self.release(state);
        copy
    }

    /// Discards all state: a new account at the configured time.
    pub(crate) async fn reset(self: &Arc<Self>) {
        let _firing = self.firing.lock().await;
        self.faults.lift(None);
        self.requests().clear();
        let mut state = self.lock();
        let generation = state.generation + 1;
        *state = State::new(&self.config, start_ms(&self.config));
        state.generation = generation;
        drop(state);
        self.wake.notify_one();
    }

    /// Changes the clock's speed or frozen state.
    pub(crate) fn set_clock(self: &Arc<Self>, speed: Option<f64>, frozen: Option<bool>) {
        let mut state = self.lock();
        if let Some(speed) = speed {
            state.clock.set_speed(speed);
        }
        if let Some(frozen) = frozen {
            state.clock.set_frozen(frozen);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Waits until all tasks have ended.
    pub(crate) async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn start_ms(config: &SimulatorConfig) -> i64 {
    config
        .start_ms
        .unwrap_or_else(|| jiff::Timestamp::now().as_millisecond())
}
