//! The HTTP/1.1 server of `http.listen` and `admin.listen`: an axum router with limits that axum's own server lacks.
//!
//! Invariants: at most `max_connections` are served; when one more comes, one without a request in flight gives its place up
//! ([`waiting`]), and if all have requests, it waits; a connection that does not send the head of its
//! next request in time, is older than `MAX_AGE`, or got a client error (4xx) is closed, so that strangers do not keep
//! connections that others wait for; after `stop` the server waits only for requests in flight;
//! every connection is a task that the server owns and awaits; every request has its [`PeerAddress`]. Neighbours: `webhooks` and [`super::admin`] have the routes and
//! limit the time and size of each request; `grpc::transport::connections` does the same for HTTP/2.

mod waiting;

use std::{convert::Infallible, net::IpAddr, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use http::{HeaderValue, header::CONNECTION};
use hyper::{body::Incoming, server::conn::http1, service::Service as _};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use self::waiting::{Busy, WaitingConnection, WaitingConnections};

/// The pause after accepting failed, as it does when the limit of open files is reached.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The size of a connection's read buffer, and so the longest head of a request. A longer head is answered with 431.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// An older connection is closed after the request in flight, so that a client that reads nothing cannot keep it open forever.
const MAX_AGE: Duration = Duration::from_secs(300);
/// How long a connection without a request in flight may take to close: enough to write its buffers.
const CLOSING_TIMEOUT: Duration = Duration::from_millis(100);

/// The address at the other end of the connection, in the extensions of each request: the client, or a proxy.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub IpAddr);

/// Limits of the connections and requests of a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub max_connections: usize,
    /// Whether a connection may have several requests.
    pub keep_alive: bool,
    /// How long a connection may take to send the head of its next request.
    pub header_timeout: Duration,
    /// How long the server waits for the request in flight when it closes a connection.
    pub request_timeout: Duration,
}

/// Serves connections to `listener` until `stop`; then accepts no more and waits for the requests in flight.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(
        limits.max_connections.min(Semaphore::MAX_PERMITS),
    ));
    let waiting = WaitingConnections::default();
    let mut connections = JoinSet::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener) => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Some(permit) = stop.run_until_cancelled(place(&permits, &waiting)).await else {
            break;
        };
        let connection = waiting.begin();
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            serve_connection(stream, peer, connection, router, limits, stop).await;
            drop(permit);
        });
    }
    // Closes the port: new clients are refused instead of waiting in the backlog.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// A place for one more connection, from one that waits if all are taken.
async fn place(permits: &Arc<Semaphore>, waiting: &WaitingConnections) -> OwnedSemaphorePermit {
    if let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
        return permit;
    }
    let mut permit = pin!(Arc::clone(permits).acquire_owned());
    loop {
        let given_up = async {
            waiting.give_up_one().await;
            // It may have got a request meanwhile: then it keeps its place, and the next one is asked.
            tokio::time::sleep(2 * CLOSING_TIMEOUT).await;
        };
        tokio::select! {
            permit = permit.as_mut() => return permit.expect("the semaphore is never closed"),
            () = given_up => {}
        }
    }
}

/// The next connection. Retries after errors.
async fn accept(listener: &TcpListener) -> (TcpStream, PeerAddress) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                return (stream, PeerAddress(peer.ip()));
            }
            // Only this connection failed.
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::ConnectionAborted | std::io::ErrorKind::ConnectionReset
                ) => {}
            // Usually the process has no file descriptors or memory left.
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection can't be accepted: trying again in 100 ms");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(
    stream: TcpStream,
    peer: PeerAddress,
    waiting: Arc<WaitingConnection>,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let routes = TowerToHyperService::new(router);
    let service = hyper::service::service_fn({
        let waiting = Arc::clone(&waiting);
        move |mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(peer);
            let busy = Busy::new(&waiting);
            let response = routes.call(request);
            async move {
                let mut response = response.await?;
                drop(busy);
                if response.status().is_client_error() {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                Ok::<_, Infallible>(response)
            }
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .keep_alive(limits.keep_alive)
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
        () = waiting.gives_up() => {
            // Nothing is to be written, so the other one has its place at once.
            if waiting.is_unused() {
                return;
            }
        }
    }
    connection.as_mut().graceful_shutdown();
    // hyper would wait for a first request that may never come, so only a request in flight gets `request_timeout`.
    let wait = if waiting.is_waiting() {
        CLOSING_TIMEOUT
    } else {
        limits.request_timeout + CLOSING_TIMEOUT
    };
    let _ = tokio::time::timeout(wait, connection).await;
}
