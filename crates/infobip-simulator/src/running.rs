//! A simulator in the caller's process: its address, and control over it without HTTP.
//!
//! Invariant: each method does what the endpoint of the same name under `/_sim/` does, on the same state.
//! Neighbours: `http::control` is the same control for other processes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    engine::Engine,
    render,
    state::{MoContent, MoMessage},
    store::Message,
};

/// A running simulator. It stops when it is dropped.
#[derive(Debug)]
pub struct RunningSimulator {
    address: SocketAddr,
    engine: Arc<Engine>,
    shutdown_on_drop: DropGuard,
    task: JoinHandle<()>,
}

/// A message that the simulator accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LedgerMessage {
    /// The caller's id, or the one that the simulator generated.
    pub message_id: String,
    /// The sender.
    pub from: String,
    /// The destination, digits only.
    pub to: String,
    /// The text; `None` for binary messages.
    pub text: Option<String>,
    /// `scheduled`, `pending`, `delivered`, `undeliverable`, `expired` or `rejected`.
    pub state: &'static str,
    /// How often the handset received it.
    pub handset_deliveries: u32,
}

/// Why a fault cannot be set.
#[derive(Debug, thiserror::Error)]
#[error("the fault cannot be set: {0}")]
pub struct FaultRefused(String);

impl RunningSimulator {
    pub(crate) fn new(
        address: SocketAddr,
        engine: Arc<Engine>,
        shutdown: CancellationToken,
        task: JoinHandle<()>,
    ) -> Self {
        Self {
            address,
            engine,
            shutdown_on_drop: shutdown.drop_guard(),
            task,
        }
    }

    /// The address that the simulator listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL for clients of the API, such as `http://127.0.0.1:40123`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The accepted messages that are still stored, oldest first.
    #[must_use]
    pub fn messages(&self) -> Vec<LedgerMessage> {
        let state = self.engine.lock();
        let rows = state.messages.rows();
        let accepted = rows.filter_map(|row| state.messages.get(row).filter(|row| row.accepted));
        accepted.map(ledger_message).collect()
    }

    /// Receives a text as if a phone had sent it. Returns its message id.
    pub fn receive(&self, from: &str, to: &str, text: &str) -> String {
        let message = MoMessage {
            from: from.to_owned(),
            to: to.to_owned(),
            content: MoContent::Text(text.to_owned()),
            esm_class: 0,
        };
        let mut state = self.engine.lock();
        let now_ms = state.clock.now_ms();
        let id = state.receive(message, now_ms);
        self.engine.release(state);
        id.to_string()
    }

    /// Sets a fault, written as in `POST /_sim/faults`. Returns its id.
    ///
    /// # Errors
    /// [`FaultRefused`] if the fault is unknown or a parameter is wrong.
    pub fn set_fault(&self, fault: &Value) -> Result<u64, FaultRefused> {
        let now_ms = self.engine.now_ms();
        self.engine.faults.add(fault, now_ms).map_err(FaultRefused)
    }

    /// Removes all faults. Returns how many there were.
    pub fn lift_faults(&self) -> usize {
        self.engine.faults.remove(None)
    }

    /// Advances the virtual clock. Returns when every due timer has fired and the pushes were answered.
    pub async fn advance(&self, time: Duration) {
        let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        self.engine.advance(ms).await;
    }

    /// Discards all state and faults; the configuration stays.
    pub async fn reset(&self) {
        self.engine.reset().await;
    }

    /// Stops and waits until requests and pushes in progress have ended.
    pub async fn stop(self) {
        drop(self.shutdown_on_drop);
        // The task ends at shutdown. It fails only if it panicked, and the runtime has reported that.
        let _ = self.task.await;
    }
}

fn ledger_message(message: &Message) -> LedgerMessage {
    LedgerMessage {
        message_id: message.id.to_string(),
        from: message.content.from.to_string(),
        to: message.to.to_string(),
        text: render::handset_text(message).map(str::to_owned),
        state: render::ledger_state(message),
        handset_deliveries: message.handset_deliveries,
    }
}
