//! The connections that wait for the head of a request. When all places are taken, one of them gives its place up, so that strangers
//! who send nothing, or half a head, keep nobody waiting.
//!
//! Invariant: a connection waits while it has no request in flight. Those that never had a request go first, then those that wait
//! longest. Neighbour: [`super`] asks for a place when a connection comes.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// All of a server. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct WaitingConnections(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Another one waits.
    came: Notify,
}

#[derive(Default)]
struct Queue {
    next: u64,
    waiting: BTreeMap<Turn, CancellationToken>,
}

/// Whether it had a request, and since when it waits: the first one gives its place up.
type Turn = (bool, u64);

/// One of them, which waits from the beginning.
pub(super) struct WaitingConnection {
    of: WaitingConnections,
    /// `None` while a request is in flight.
    turn: Mutex<Option<Turn>>,
    gives_up: CancellationToken,
}

impl WaitingConnections {
    pub(super) fn begin(&self) -> Arc<WaitingConnection> {
        let connection = WaitingConnection {
            of: self.clone(),
            turn: Mutex::new(None),
            gives_up: CancellationToken::new(),
        };
        connection.wait(false);
        Arc::new(connection)
    }

    /// Makes one give its place up, or waits until one waits.
    pub(super) async fn give_up_one(&self) {
        loop {
            let first = self.0.queue.lock().waiting.pop_first();
            if let Some((_, gives_up)) = first {
                gives_up.cancel();
                return;
            }
            self.0.came.notified().await;
        }
    }
}

impl WaitingConnection {
    fn wait(&self, had_request: bool) {
        let mut queue = self.of.0.queue.lock();
        let turn = (had_request, queue.next);
        queue.next += 1;
        // One that gave its place up while its request came closes after that, and is not asked again.
        if !self.gives_up.is_cancelled() {
            queue.waiting.insert(turn, self.gives_up.clone());
        }
        drop(queue);
        *self.turn.lock() = Some(turn);
        self.of.0.came.notify_one();
    }

    fn end_wait(&self) {
        if let Some(turn) = self.turn.lock().take() {
            self.of.0.queue.lock().waiting.remove(&turn);
        }
    }

    /// Whether it has no request in flight.
    pub(super) fn is_waiting(&self) -> bool {
        self.turn.lock().is_some()
    }

    /// Whether it never had a request.
    pub(super) fn is_unused(&self) -> bool {
        matches!(*self.turn.lock(), Some((false, _)))
    }

    /// Waits until it has to give its place up.
    pub(super) async fn gives_up(&self) {
        self.gives_up.cancelled().await;
    }
}

impl Drop for WaitingConnection {
    fn drop(&mut self) {
        self.end_wait();
    }
}

/// Exists while a request of the connection is in flight. HTTP/1.1 has one at a time.
pub(super) struct Busy(Arc<WaitingConnection>);

impl Busy {
    pub(super) fn new(connection: &Arc<WaitingConnection>) -> Self {
        connection.end_wait();
        Self(Arc::clone(connection))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.wait(true);
    }
}
