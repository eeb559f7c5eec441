//! Runs the simulator: locks [`SimulatorState`], fires timers and sends pushes.
//!
//! Invariants: timers fire in order, either in [`Engine::run_clock`] or in [`Engine::advance`], never in both at once. While the
//! clock runs, pushes are sent concurrently. During an advance, all pushes of one moment are answered before the next
//! moment, and pushes to one server are sent one after the other, so that an advance is reproducible.
//! Neighbours: `state` is the data, `push` makes the requests.

mod advance;
mod pushes;
mod stream;

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::stream::ChangeStream;
use crate::{
    config::SimulatorConfig,
    faults::Faults,
    request_log::{Exchange, RequestLog, RequestRecord},
    state::SimulatorState,
};

/// Timers fired while the lock is held once: a few milliseconds at most. With fewer, the clock falls behind at full load,
/// because every connection competes for the lock between two batches.
const MAX_TIMERS_PER_LOCK: usize = 4096;
/// Maximum sleep of the clock loop.
const MAX_SLEEP: Duration = Duration::from_secs(3600);

/// The simulator's shared state and tasks.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) config: SimulatorConfig,
    /// Where the simulator listens.
    pub(crate) address: SocketAddr,
    pub(crate) faults: Faults,
    stream: ChangeStream,
    state: Mutex<SimulatorState>,
    request_log: Mutex<RequestLog>,
    client: reqwest::Client,
    clock_changed: Notify,
    /// Held while timers are fired, so that only one task fires them.
    firing_lock: tokio::sync::Mutex<()>,
    push_permits: Semaphore,
    /// Pushes whose task has not ended.
    pushes_in_flight: AtomicUsize,
    push_finished: Notify,
    tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

impl Engine {
    /// Creates the state at the configured time. Starts no task.
    pub(crate) fn new(
        config: SimulatorConfig,
        address: SocketAddr,
        client: reqwest::Client,
    ) -> Self {
        Self {
            address,
            faults: Faults::new(config.seed),
            stream: ChangeStream::new(),
            state: Mutex::new(SimulatorState::new(&config, start_ms(&config))),
            request_log: Mutex::new(RequestLog::new(config.bounds.requests)),
            client,
            clock_changed: Notify::new(),
            firing_lock: tokio::sync::Mutex::new(()),
            push_permits: Semaphore::new(config.push_concurrency.max(1)),
            pushes_in_flight: AtomicUsize::new(0),
            push_finished: Notify::new(),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            config,
        }
    }

    /// Locks the state. A caller that may have set timers or queued pushes must end with [`Engine::release`].
    pub(crate) fn lock(&self) -> MutexGuard<'_, SimulatorState> {
        self.state.lock()
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.lock().clock.now_ms()
    }

    /// Unlocks the state, sends the queued pushes and wakes the clock loop if a timer is due earlier than it expected.
    pub(crate) fn release(self: &Arc<Self>, mut state: MutexGuard<'_, SimulatorState>) {
        let due_pushes = state.take_due_pushes();
        let due_earlier = state
            .timers
            .next_due_ms()
            .is_some_and(|due| due < state.wakes_at_ms);
        drop(state);
        if due_earlier {
            self.clock_changed.notify_one();
        }
        self.spawn_pushes(due_pushes);
    }

    /// Adds a request to the request log.
    pub(crate) fn record(&self, request: RequestRecord, exchange: Exchange) {
        self.request_log().add(request, exchange);
    }

    pub(crate) fn request_log(&self) -> MutexGuard<'_, RequestLog> {
        self.request_log.lock()
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
                    .unwrap_or(MAX_SLEEP)
                    .min(MAX_SLEEP)
            };
            if !sleep.is_zero() {
                tokio::select! {
                    () = self.shutdown.cancelled() => return,
                    () = self.clock_changed.notified() => continue,
                    () = tokio::time::sleep(sleep) => {}
                }
            }
            if self.shutdown.is_cancelled() {
                return;
            }
            let _firing = self.firing_lock.lock().await;
            while self.fire_due_timers() {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Fires due timers, at most [`MAX_TIMERS_PER_LOCK`]; true if more are due.
    fn fire_due_timers(self: &Arc<Self>) -> bool {
        let mut state = self.lock();
        let now_ms = state.clock.now_ms();
        let mut more = false;
        for fired in 0.. {
            if fired == MAX_TIMERS_PER_LOCK {
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

    /// Discards all state: a new account at the configured time.
    pub(crate) async fn reset(self: &Arc<Self>) {
        let _firing = self.firing_lock.lock().await;
        self.faults.remove(None);
        self.request_log().clear();
        let mut state = self.lock();
        let generation = state.generation + 1;
        let changes = state.changes.after_reset();
        *state = SimulatorState::new(&self.config, start_ms(&self.config));
        state.changes = changes;
        state.generation = generation;
        drop(state);
        self.clock_changed.notify_one();
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
        state.changes.clock();
        drop(state);
        self.clock_changed.notify_one();
    }

    /// Waits until all tasks have ended.
    pub(crate) async fn wait_for_tasks(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn start_ms(config: &SimulatorConfig) -> i64 {
    config
        .start_ms
        .unwrap_or_else(|| jiff::Timestamp::now().as_millisecond())
}
