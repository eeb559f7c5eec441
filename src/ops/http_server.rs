//! The HTTP/1.1 server of `http.listen` and `admin.listen`: a router of axum behind bounds that axum's own server lacks.
//!
//! Invariants: at most `max_connections` are open, more wait in the backlog; a connection that does not send the head of its
//! next request in time is closed, and so is one that is older than `MAX_AGE`; after `stop` the server waits only for
//! requests under way; every connection is a task that the server owns and awaits. Neighbours: `webhooks` and [`super::admin`]
//! bring the routes and bound what a request may take; `grpc::connections` does the same for HTTP/2.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use hyper::{body::Incoming, server::conn::http1, service::Service as _};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// How long accepting rests after it failed, as it does where no more files may be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The size of a connection's read buffer, and so the longest head of a request. A longer head is answered with 431.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// A connection that is older ends after the request under way, so that a client that reads nothing does not stay for ever.
const MAX_AGE: Duration = Duration::from_secs(300);
/// How long a connection without a request under way may take to end: enough to write what is in its buffers.
const CLOSING_TIMEOUT: Duration = Duration::from_millis(100);

/// What clients may take of a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once.
    pub max_connections: usize,
    /// How long a connection may take to send the head of its next request.
    pub header_timeout: Duration,
    /// How long a request under way is waited for when its connection is to end.
    pub request_timeout: Duration,
}

/// Serves what connects to `listener` until `stop`; then accepts nothing more, and waits for the requests under way.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(
        limits.max_connections.min(Semaphore::MAX_PERMITS),
    ));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (accept(&listener).await, place)
        };
        let (stream, place) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            serve_connection(stream, router, limits, stop).await;
            drop(place);
        });
    }
    // The port is free at once: new clients are refused instead of waiting in the backlog.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// The next connection.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                return stream;
            }
            // This connection failed while it was accepted; the listener goes on.
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::ConnectionAborted | std::io::ErrorKind::ConnectionReset
                ) => {}
            // The process is out of files or memory: trying again at once would only burn what is left.
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection can't be accepted: trying again in 100 ms");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let is_busy = Arc::new(AtomicBool::new(false));
    let routes = TowerToHyperService::new(router);
    let service = hyper::service::service_fn({
        let is_busy = Arc::clone(&is_busy);
        move |request: http::Request<Incoming>| {
            let busy = Busy::new(&is_busy);
            let answering = routes.call(request);
            async move {
                let answer = answering.await;
                drop(busy);
                answer
            }
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(MAX_HEAD_BYTES);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        served = connection.as_mut() => {
            if let Err(error) = served {
                tracing::debug!(%error, "an HTTP connection ended early");
            }
            return;
        }
        () = tokio::time::sleep(MAX_AGE) => {}
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    // hyper waits for a first head that may never come, so only a request under way gets the time of a request.
    let wait = if is_busy.load(Ordering::Relaxed) {
        limits.request_timeout + CLOSING_TIMEOUT
    } else {
        CLOSING_TIMEOUT
    };
    let _ = tokio::time::timeout(wait, connection).await;
}

/// While it lives, a request of the connection is under way. HTTP/1.1 has one at a time.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn new(is_busy: &Arc<AtomicBool>) -> Self {
        is_busy.store(true, Ordering::Relaxed);
        Self(Arc::clone(is_busy))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
