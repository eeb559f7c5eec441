//! A relay between the bridge and the API that refuses connections or swallows requests while a test wants it, and notes when
//! requests to send arrived.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Instant,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

use crate::support::{eventually, ports::unused_address};

/// How a request to send begins.
const SEND: &[u8] = b"POST /sms/1/text";

/// What the relay does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    Open,
    /// Nobody listens, and all connections are closed.
    Refused,
    /// Connections are accepted and nothing is forwarded in either direction.
    Silent,
}

/// Stops when dropped.
pub struct ApiGate {
    address: SocketAddr,
    passage: watch::Sender<Passage>,
    sends: Arc<Mutex<Vec<Instant>>>,
    accepting: JoinHandle<()>,
}

impl ApiGate {
    pub async fn start(api: SocketAddr) -> Self {
        let address = unused_address();
        let (passage, passages) = watch::channel(Passage::Open);
        let sends = Arc::default();
        let accepting = tokio::spawn(accept(address, api, passages, Arc::clone(&sends)));
        eventually("the relay listens", || async {
            TcpStream::connect(address).await.ok()
        })
        .await;
        Self {
            address,
            passage,
            sends,
            accepting,
        }
    }

    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn set(&self, passage: Passage) {
        self.passage.send_replace(passage);
    }

    /// When each request to send arrived. Those of refused connections are not among them.
    pub fn sends(&self) -> Vec<Instant> {
        self.sends.lock().unwrap().clone()
    }
}

impl Drop for ApiGate {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    address: SocketAddr,
    api: SocketAddr,
    mut passage: watch::Receiver<Passage>,
    sends: Arc<Mutex<Vec<Instant>>>,
) {
    let of_connections = passage.clone();
    while passage
        .wait_for(|now| *now != Passage::Refused)
        .await
        .is_ok()
    {
        let listener = eventually("the address is free", || async {
            TcpListener::bind(address).await.ok()
        })
        .await;
        loop {
            tokio::select! {
                _ = passage.wait_for(|now| *now == Passage::Refused) => break,
                Ok((client, _)) = listener.accept() => {
                    tokio::spawn(relay(client, api, of_connections.clone(), Arc::clone(&sends)));
                }
            }
        }
    }
}

async fn relay(
    client: TcpStream,
    api: SocketAddr,
    mut passage: watch::Receiver<Passage>,
    sends: Arc<Mutex<Vec<Instant>>>,
) {
    let Ok(server) = TcpStream::connect(api).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let of_requests = passage.clone();
    let of_responses = passage.clone();
    tokio::select! {
        () = forward(from_client, to_server, of_requests, |bytes| {
            if bytes.starts_with(SEND) {
                sends.lock().unwrap().push(Instant::now());
            }
        }) => {}
        () = forward(from_server, to_client, of_responses, |_| ()) => {}
        _ = passage.wait_for(|now| *now == Passage::Refused) => {}
    }
}

/// Forwards bytes until the peer closes. Once something was swallowed, the connection stays silent.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    passage: watch::Receiver<Passage>,
    note: impl Fn(&[u8]),
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut is_silent = false;
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        note(&buffer[..read]);
        is_silent |= *passage.borrow() == Passage::Silent;
        if !is_silent && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
