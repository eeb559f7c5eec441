//! The connections of the gRPC server: so many at once, each with HTTP/2 that is told to end at its age, and cut when it does not.
//!
//! Invariants: a connection that has not sent the preface of HTTP/2 in time, after the TLS handshake where there is one, or
//! that outstays its lifetime, gives its place back; clients that wait for a place wait in the backlog; every connection is a task that the server owns and waits for. Neighbours: `server` has the services,
//! `tls` the handshake.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, Sleep},
};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use crate::grpc::{auth::Certificate, middleware::calls::Calls, transport::tls::Tls};
use crate::{config, ops::open_files};

/// How long accepting rests after it failed, as it does where no more files may be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Files that connections leave to the rest of the process: the event log, the API's and the broker's connections.
const OTHER_FILES: usize = 256;
/// The bytes that every HTTP/2 connection begins with, "PRI * HTTP/2.0…" (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;
/// The longest headers of a call, in bytes.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// Serves what connects to `listener` until `stop`; then accepts nothing more, and waits for the calls under way.
pub(in crate::grpc) async fn serve(
    listener: TcpListener,
    config: &config::Grpc,
    max_connections: usize,
    tls: Option<Arc<Tls>>,
    calls: Calls,
    stop: CancellationToken,
) {
    let mut listener = Listener {
        listener,
        places: Arc::new(Semaphore::new(max_connections)),
        begin_timeout: config.keepalive_timeout,
    };
    let http = Http {
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
        let (http, tls, calls) = (http.clone(), tls.clone(), calls.clone());
        connections.spawn(async move {
            let Accepted {
                stream,
                begin_until,
                place: _place,
            } = accepted;
            match tls {
                None => http.serve(stream, begin_until, calls).await,
                Some(tls) => {
                    // TLS has sent its alert to a client that can't shake hands.
                    if let Some(stream) = tls.accept(stream, begin_until).await {
                        let certificate = Certificate::of(&stream);
                        let calls = calls.with_certificate(certificate);
                        http.serve(stream, begin_until, calls).await;
                    }
                }
            }
        });
    }
    // Its port is free at once: who connects now finds nobody, instead of one who never answers.
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

/// How a connection is served.
#[derive(Clone)]
struct Http {
    builder: http2::Builder<TokioExecutor>,
    age: Duration,
    /// How long a connection may live.
    lifetime: Duration,
    stop: CancellationToken,
}

impl Http {
    /// Until the other side is done, or its age has come and the calls under way then are answered.
    async fn serve<S>(self, stream: S, begin_until: Instant, calls: Calls)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = Connection {
            stream,
            bytes_to_begin: PREFACE_BYTES,
            lifetime: self.lifetime,
            until: Box::pin(tokio::time::sleep_until(begin_until)),
            write_is_due: false,
        };
        let service = hyper::service::service_fn(move |request: http::Request<_>| {
            calls.call(request.map(Body::new))
        });
        let mut connection = pin!(self.builder.serve_connection(TokioIo::new(stream), service));
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = tokio::time::sleep(self.age) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a gRPC connection ended early");
        }
    }
}

/// As many connections as `grpc.max_connections` says and the files of this process allow, beside `others` of other ports.
pub(in crate::grpc) fn allowed(wanted: usize, others: usize) -> usize {
    let Some(files) = open_files::limit() else {
        return wanted;
    };
    let allowed = files.saturating_sub(OTHER_FILES + others).max(1);
    if allowed < wanted {
        tracing::warn!(
            max_connections = wanted,
            open_files = files,
            allowed,
            "grpc.max_connections is more than the limit of open files allows: raise that (ulimit -n, LimitNOFILE)"
        );
    }
    wanted.min(allowed)
}

/// The port, and the places of those that connect to it.
struct Listener {
    listener: TcpListener,
    places: Arc<Semaphore>,
    /// How long a connection may take to begin, its TLS handshake included.
    begin_timeout: Duration,
}

/// A connection, not begun yet.
struct Accepted {
    stream: TcpStream,
    /// By when its preface has to be there.
    begin_until: Instant,
    place: Option<OwnedSemaphorePermit>,
}

impl Listener {
    /// The next connection, as soon as there is a place for it. Loses nothing where it is dropped.
    async fn accept(&mut self) -> Accepted {
        // Never closed.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    return Accepted {
                        stream,
                        begin_until: Instant::now() + self.begin_timeout,
                        place,
                    };
                }
                // One connection that failed while it was accepted: not the listener's end.
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::ConnectionAborted | std::io::ErrorKind::ConnectionReset
                    ) => {}
                // The process is out of files or memory: trying again at once would only burn what is left.
                Err(error) => {
                    tracing::warn!(%error, "a gRPC connection can't be accepted: waiting a little");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// What HTTP/2 is spoken on: TCP, or what TLS has decrypted. It fails where it does not begin in time, as keepalive and
/// maximum age begin with its preface, and where it is still there when its lifetime is over.
///
/// A write lets the tasks that are ready go first, once: calls that were settled together, as those of one REST request
/// are, then answer in one system call rather than in one each.
struct Connection<S> {
    stream: S,
    /// Of its preface, not read yet.
    bytes_to_begin: usize,
    lifetime: Duration,
    until: Pin<Box<Sleep>>,
    /// The others have had their turn.
    write_is_due: bool,
}

impl<S> Connection<S> {
    /// Pending once before each write, at the end of the runtime's queue.
    fn let_others_go_first(&mut self, task: &Context<'_>) -> Poll<()> {
        self.write_is_due = !self.write_is_due;
        if self.write_is_due {
            // What wakes itself while it runs is put behind all that is ready.
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(task, buffer);
        if self.bytes_to_begin > 0 {
            let bytes_read = buffer.filled().len() - before;
            self.bytes_to_begin = self.bytes_to_begin.saturating_sub(bytes_read);
            if self.bytes_to_begin == 0 {
                let end = Instant::now() + self.lifetime;
                self.until.as_mut().reset(end);
            }
        }
        if read.is_pending() {
            ready!(self.until.as_mut().poll(task));
            return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        ready!(self.let_others_go_first(task));
        Pin::new(&mut self.stream).poll_write(task, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        ready!(self.let_others_go_first(task));
        Pin::new(&mut self.stream).poll_write_vectored(task, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
