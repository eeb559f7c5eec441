//! Accepts gRPC connections up to `grpc.max_connections`. Each is shut down gracefully at `grpc.max_connection_age` and closed
//! after the grace period.
//!
//! Invariants: a connection that has not finished its TLS handshake and HTTP/2 preface in time, or that exceeds its lifetime, is
//! closed and gives its permit back, even if its client does not read; at the shutdown a client that does not read has
//! [`UNREAD_TIMEOUT`] after its calls; clients beyond the limit wait in the backlog of the port;
//! every connection is a task that the server owns and awaits. Neighbours: `server` starts it, `outermost` answers the calls,
//! `tls` performs the handshake, `stream` awaits the preface.

mod stream;

use std::{pin::pin, sync::Arc, time::Duration};

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::body::Body;

use self::stream::{HttpStream, Progress};
use crate::grpc::{auth::Certificate, middleware::outermost::Outermost, transport::tls::Tls};
use crate::{
    config::{self, DEFAULT_MAX_CONNECTIONS},
    ops::open_files,
};

/// The pause after accepting failed, as it does when the limit of open files is reached.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Files reserved for the rest of the process: the event log, connections to the API and the broker.
const OTHER_FILES: usize = 256;
/// How long a connection without calls in flight may write nothing at the shutdown before it is closed: its client does not read the end
/// of its streams.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(1);
/// Limit of the headers of a call, in bytes.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// Serves connections to `listener` until `stop`; then accepts no more and waits for the calls in flight.
pub(in crate::grpc) async fn serve(
    listener: TcpListener,
    config: &config::Grpc,
    max_connections: usize,
    tls: Option<Arc<Tls>>,
    service: Outermost,
    stop: CancellationToken,
) {
    let mut listener = Listener {
        listener,
        permits: Arc::new(Semaphore::new(max_connections)),
        preface_timeout: config.keepalive_timeout,
    };
    let http = Http2 {
        builder: builder(config),
        age: config.max_connection_age,
        lifetime: config.max_connection_age + config.max_connection_age_grace,
        stop: stop.clone(),
    };
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (http, tls, service) = (http.clone(), tls.clone(), service.clone());
        connections.spawn(async move {
            let Accepted {
                stream,
                preface_deadline,
                permit: _permit,
            } = accepted;
            match tls {
                None => {
                    let service = service.for_connection(None);
                    http.serve(stream, preface_deadline, service).await;
                }
                Some(tls) => {
                    // If the handshake fails, rustls has sent the alert.
                    let handshake = tls.accept(stream, preface_deadline);
                    let handshake = http.stop.run_until_cancelled(handshake).await;
                    if let Some(stream) = handshake.flatten() {
                        let service = service.for_connection(Certificate::of(&stream));
                        http.serve(stream, preface_deadline, service).await;
                    }
                }
            }
        });
    }
    // Closes the port: new clients are refused instead of waiting in the backlog.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

fn builder(config: &config::Grpc) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.max_concurrent_calls_per_connection)
        .keep_alive_interval(config.keepalive_interval)
        .keep_alive_timeout(config.keepalive_timeout)
        .max_header_list_size(MAX_HEADER_BYTES);
    builder
}

/// Serves HTTP/2 on a connection.
#[derive(Clone)]
struct Http2 {
    builder: http2::Builder<TokioExecutor>,
    /// When the graceful shutdown begins.
    age: Duration,
    /// When the connection is closed: the age and the grace period.
    lifetime: Duration,
    stop: CancellationToken,
}

impl Http2 {
    /// Returns when the client has closed the connection, or when the calls in flight at its maximum age or at `stop` have
    /// ended, and at the end of its lifetime at the latest.
    async fn serve<S>(self, stream: S, preface_deadline: Instant, service: Outermost)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let end = Instant::now() + self.lifetime;
        let progress = Arc::<Progress>::default();
        let stream = HttpStream::new(stream, preface_deadline, Arc::clone(&progress));
        let calls = TaskTracker::new();
        let service = service.tracked_by(calls.clone());
        let service = hyper::service::service_fn(move |request: http::Request<_>| {
            service.call(request.map(Body::new))
        });
        let mut connection = pin!(self.builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            served = connection.as_mut() => return log_end(served),
            () = tokio::time::sleep(self.age) => {}
            () = self.stop.cancelled() => {
                // hyper would wait for the preface, and no call can be in flight before it.
                if !progress.has_begun() {
                    return;
                }
            }
        }
        connection.as_mut().graceful_shutdown();
        // While the client reads nothing, hyper waits to write, without a limit.
        let unread = async {
            self.stop.cancelled().await;
            unread(&calls, &progress).await;
        };
        tokio::select! {
            served = connection => log_end(served),
            () = tokio::time::sleep_until(end) => {
                tracing::debug!("a gRPC connection was closed at the end of its lifetime");
            }
            () = unread => {
                tracing::debug!("a gRPC connection was closed at the shutdown: its client does not read");
            }
        }
    }
}

/// Waits until no call is in flight, and nothing could be written for [`UNREAD_TIMEOUT`].
async fn unread(calls: &TaskTracker, progress: &Progress) {
    calls.close();
    loop {
        calls.wait().await;
        let before = progress.bytes_written();
        tokio::time::sleep(UNREAD_TIMEOUT).await;
        if calls.is_empty() && progress.bytes_written() == before {
            return;
        }
    }
}

fn log_end(served: hyper::Result<()>) {
    if let Err(error) = served {
        tracing::debug!(%error, "a gRPC connection ended early");
    }
}

/// `grpc.max_connections`, reduced to what the limit of open files allows beside `others`, the connections of other ports.
pub(in crate::grpc) fn allowed(wanted: usize, others: usize) -> usize {
    let Some(files) = open_files::limit() else {
        return wanted;
    };
    let allowed = files.saturating_sub(OTHER_FILES + others).max(1);
    // Nobody has asked for the default, which few systems allow in full.
    if allowed < wanted && wanted != DEFAULT_MAX_CONNECTIONS {
        tracing::warn!(
            max_connections = wanted,
            open_files = files,
            allowed,
            "the limit of open files is too low for grpc.max_connections: raise the limit (ulimit -n, LimitNOFILE)"
        );
    }
    wanted.min(allowed)
}

/// Accepts connections up to the limit.
struct Listener {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    /// For the TLS handshake and the preface together.
    preface_timeout: Duration,
}

/// A connection before its handshake and preface.
struct Accepted {
    stream: TcpStream,
    preface_deadline: Instant,
    permit: OwnedSemaphorePermit,
}

impl Listener {
    /// Waits for a permit, then for the next connection. Cancel-safe.
    async fn accept(&mut self) -> Accepted {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    return Accepted {
                        stream,
                        preface_deadline: Instant::now() + self.preface_timeout,
                        permit,
                    };
                }
                // Only this connection failed.
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::ConnectionAborted | std::io::ErrorKind::ConnectionReset
                    ) => {}
                // The process is out of files or memory.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a gRPC connection: trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}
