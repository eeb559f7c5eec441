//! `/_sim/stream`: tells its listeners what changed, as server-sent events.
//!
//! Changes are collected under the state's lock and sent together, at most once in [`INTERVAL`]. Invariants: the number of
//! listeners and the events that wait for each of them are bounded; a listener that is too slow misses events, and is told to
//! load again; nothing is collected while nobody listens.
//! Neighbours: `changes` collects, `http::control` subscribes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use super::Engine;
use crate::{changes::TakenChanges, state::SimulatorState};

/// The least time between two events.
const INTERVAL: Duration = Duration::from_millis(200);
/// The longest silence: an event without content is sent then, so that both sides notice a broken connection.
const HEARTBEAT: Duration = Duration::from_secs(15);
const MAX_LISTENERS: usize = 16;
/// Events that wait for one listener.
const MAX_WAITING_EVENTS: usize = 8;

/// The listeners, and what they were told last.
#[derive(Debug)]
pub(crate) struct ChangeStream {
    /// Taken before the state's lock.
    listeners: Mutex<Listeners>,
    joined: Notify,
    /// Differs between runs of the simulator.
    instance: String,
}

#[derive(Debug)]
struct Listeners {
    all: Vec<Listener>,
    closed: bool,
    next_event: u64,
    sent_at: Instant,
    requests: u64,
    faults_version: u64,
}

#[derive(Debug)]
struct Listener {
    events: mpsc::Sender<Bytes>,
    /// Whether it missed an event.
    is_behind: bool,
}

impl ChangeStream {
    pub(super) fn new() -> Self {
        let now = jiff::Timestamp::now().as_nanosecond();
        Self {
            listeners: Mutex::new(Listeners {
                all: Vec::new(),
                closed: false,
                next_event: 0,
                sent_at: Instant::now(),
                requests: 0,
                faults_version: 0,
            }),
            joined: Notify::new(),
            instance: format!("{now:x}-{:x}", std::process::id()),
        }
    }
}

impl Engine {
    /// Adds a listener. Its events begin with `hello`; `None`: there are too many listeners.
    pub(crate) fn subscribe(&self) -> Option<mpsc::Receiver<Bytes>> {
        let mut listeners = self.stream.listeners.lock();
        listeners
            .all
            .retain(|listener| !listener.events.is_closed());
        if listeners.closed || listeners.all.len() >= MAX_LISTENERS {
            return None;
        }
        // Before the state is locked: who reads the log of requests would hold up all sends.
        let totals = self.request_log().totals();
        let hello = {
            let mut state = self.lock();
            state.changes.listen(true);
            json!({
                "instance": self.stream.instance,
                "generation": state.generation,
                "clock": clock(&state),
                "counts": self.counts(&state, totals),
            })
        };
        if listeners.all.is_empty() {
            listeners.requests = totals.0;
            listeners.faults_version = self.faults.version();
        }
        let (events, received) = mpsc::channel(MAX_WAITING_EVENTS);
        let hello = Bytes::from(format!("retry: 1000\n\nevent: hello\ndata: {hello}\n\n"));
        // The channel is empty and its receiver exists.
        let _ = events.try_send(hello);
        listeners.all.push(Listener {
            events,
            is_behind: false,
        });
        drop(listeners);
        self.stream.joined.notify_one();
        Some(received)
    }

    /// Sends events while there are listeners, until shutdown.
    pub(crate) async fn run_stream(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                () = self.stream.joined.notified() => {}
            }
            while self.send_changes() {
                tokio::select! {
                    () = self.shutdown.cancelled() => break,
                    () = tokio::time::sleep(INTERVAL) => {}
                }
            }
        }
        let mut listeners = self.stream.listeners.lock();
        listeners.closed = true;
        listeners.send(Bytes::from_static(b"event: bye\ndata: {}\n\n"));
        // Their responses end.
        listeners.all.clear();
    }

    /// Sends what changed since the last event. Returns whether there are listeners.
    fn send_changes(&self) -> bool {
        let mut listeners = self.stream.listeners.lock();
        listeners
            .all
            .retain(|listener| !listener.events.is_closed());
        let totals = self.request_log().totals();
        let mut state = self.lock();
        if listeners.all.is_empty() {
            state.changes.listen(false);
            return false;
        }
        let changes = state.changes.take();
        let requests = totals.0;
        let requests_changed = std::mem::replace(&mut listeners.requests, requests) != requests;
        let version = self.faults.version();
        let faults_changed = std::mem::replace(&mut listeners.faults_version, version) != version;
        if changes.is_empty() && !requests_changed && !faults_changed {
            drop(state);
            listeners.catch_up();
            if listeners.sent_at.elapsed() >= HEARTBEAT {
                listeners.send(Bytes::from_static(b"event: heartbeat\ndata: {}\n\n"));
            }
            return true;
        }
        let data = json!({
            "generation": state.generation,
            "clock": clock(&state),
            "counts": self.counts(&state, totals),
            "phones": numbers(&state, &changes),
            "allPhones": changes.all_phones,
            "clockChanged": changes.clock,
            "pushesChanged": changes.pushes,
            "requestsChanged": requests_changed,
            "faultsChanged": faults_changed,
            "reset": changes.reset,
        });
        drop(state);
        let id = listeners.next_event;
        listeners.next_event += 1;
        listeners.send(Bytes::from(format!(
            "id: {id}\nevent: change\ndata: {data}\n\n"
        )));
        true
    }

    fn counts(&self, state: &SimulatorState, (requests, refused): (u64, u64)) -> Value {
        json!({
            "phones": state.phones.len(),
            "sent": state.messages.len(),
            "received": state.inbox.received.len(),
            "states": state.messages.counts.states,
            "requests": requests,
            "refused": refused,
            "pendingPushes": state.pushes.pending(),
            "clicks": state.links.clicks.len(),
            "faults": self.faults.len(),
        })
    }
}

impl Listeners {
    fn send(&mut self, event: Bytes) {
        self.sent_at = Instant::now();
        self.catch_up();
        for listener in self.all.iter_mut().filter(|listener| !listener.is_behind) {
            listener.is_behind = listener.events.try_send(event.clone()).is_err();
        }
    }

    /// Tells the listeners that missed events to load again, as soon as they read.
    fn catch_up(&mut self) {
        for listener in self.all.iter_mut().filter(|listener| listener.is_behind) {
            // All that waits must be read before, else it may fall behind again at once.
            if listener.events.capacity() == MAX_WAITING_EVENTS {
                let reload = Bytes::from_static(b"event: reload\ndata: {}\n\n");
                listener.is_behind = listener.events.try_send(reload).is_err();
            }
        }
    }
}

fn clock(state: &SimulatorState) -> Value {
    json!({
        "nowMs": state.clock.now_ms(),
        "speed": state.clock.speed(),
        "frozen": state.clock.frozen(),
    })
}

fn numbers<'a>(state: &'a SimulatorState, changes: &TakenChanges) -> Vec<&'a str> {
    let phones = changes.phones.iter();
    phones
        .filter_map(|id| state.phones.get(*id))
        .map(|phone| &*phone.number)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_listener_misses_events_and_is_told_to_load_again() {
        let (slow, mut of_slow) = mpsc::channel(MAX_WAITING_EVENTS);
        let (fast, mut of_fast) = mpsc::channel(MAX_WAITING_EVENTS);
        let listener = |events| Listener {
            events,
            is_behind: false,
        };
        let mut listeners = Listeners {
            all: vec![listener(slow), listener(fast)],
            closed: false,
            next_event: 0,
            sent_at: Instant::now(),
            requests: 0,
            faults_version: 0,
        };
        for event in 0..100_u8 {
            listeners.send(Bytes::from(vec![event]));
            assert_eq!(of_fast.try_recv().unwrap()[..], [event]);
        }
        for event in 0..8 {
            assert_eq!(of_slow.try_recv().unwrap()[..], [event]);
            listeners.catch_up();
        }
        assert!(of_slow.try_recv().unwrap().starts_with(b"event: reload\n"));
        assert!(of_slow.try_recv().is_err(), "no backlog is kept");
        listeners.send(Bytes::from_static(b"next"));
        assert_eq!(of_slow.try_recv().unwrap()[..], *b"next");
        assert_eq!(of_fast.try_recv().unwrap()[..], *b"next");
        assert!(of_fast.try_recv().is_err());
    }
}
