//! A customer's server: records the pushes that it receives and responds with a configurable status.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::eventually;

#[derive(Debug, Clone)]
pub struct ReceivedPush {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl ReceivedPush {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Debug)]
struct ReceiverState {
    pushed: Mutex<Vec<ReceivedPush>>,
    /// The status of all responses.
    status: Mutex<StatusCode>,
}

/// A server that receives pushes. It stops when it is dropped.
pub struct PushReceiver {
    address: SocketAddr,
    shared: Arc<ReceiverState>,
    _stop: DropGuard,
}

impl PushReceiver {
    /// Starts a server on a free port that responds with 200.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(ReceiverState {
            pushed: Mutex::default(),
            status: Mutex::new(StatusCode::OK),
        });
        let stop = CancellationToken::new();
        let router = Router::new().fallback(receive).with_state(shared.clone());
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(stopped)
                .await
        });
        Self {
            address,
            shared,
            _stop: stop.drop_guard(),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sets the status of all following responses.
    pub fn answer_with(&self, status: StatusCode) {
        *self.shared.status.lock().unwrap() = status;
    }

    /// All requests received so far.
    pub fn pushed(&self) -> Vec<ReceivedPush> {
        self.shared.pushed.lock().unwrap().clone()
    }

    /// Waits until `count` requests are received.
    pub async fn wait_for(&self, count: usize) -> Vec<ReceivedPush> {
        eventually(&format!("{count} pushes"), || async {
            Some(self.pushed()).filter(|pushed| pushed.len() >= count)
        })
        .await
    }
}

async fn receive(
    State(shared): State<Arc<ReceiverState>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    shared.pushed.lock().unwrap().push(ReceivedPush {
        method,
        uri,
        headers,
        body,
    });
    *shared.status.lock().unwrap()
}
