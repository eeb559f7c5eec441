//! A customer's server: records what is pushed to it and answers with a configurable status.

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
pub struct Pushed {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Pushed {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Debug)]
struct Shared {
    pushed: Mutex<Vec<Pushed>>,
    answer: Mutex<StatusCode>,
}

/// A server that receives pushes; gone when dropped.
pub struct PushReceiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

impl PushReceiver {
    /// Starts a server on a free port that answers 200.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            pushed: Mutex::default(),
            answer: Mutex::new(StatusCode::OK),
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
        *self.shared.answer.lock().unwrap() = status;
    }

    /// All requests received so far.
    pub fn pushed(&self) -> Vec<Pushed> {
        self.shared.pushed.lock().unwrap().clone()
    }

    /// Waits until `count` requests are received.
    pub async fn wait_for(&self, count: usize) -> Vec<Pushed> {
        eventually(&format!("{count} pushes"), || async {
            Some(self.pushed()).filter(|pushed| pushed.len() >= count)
        })
        .await
    }
}

async fn receive(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    shared.pushed.lock().unwrap().push(Pushed {
        method,
        uri,
        headers,
        body,
    });
    *shared.answer.lock().unwrap()
}
