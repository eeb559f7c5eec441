//! Accepts connections, serves HTTP/1 on them, and breaks them when a fault demands it.
//!
//! Invariant: each connection is one task, which handles its requests. A handler that breaks its connection signals the
//! [`Breaker`] and never returns; the connection's task then closes the socket, with a reset if requested.
//! Neighbour: `http` handles the requests.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use ::http::{Request, Response};
use bytes::Bytes;
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_util::task::TaskTracker;

use crate::{access_log::AccessLine, engine::Engine, http};

/// Grace period for requests in progress at shutdown.
const DRAIN: Duration = Duration::from_secs(2);

/// Breaks the connection that it belongs to.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    reset: AtomicBool,
    broken: Notify,
}

impl Breaker {
    /// Breaks the connection. Never returns.
    pub(crate) async fn break_connection(&self, reset: bool) -> std::convert::Infallible {
        self.reset.store(reset, Ordering::Release);
        self.broken.notify_one();
        std::future::pending().await
    }
}

/// Serves until shutdown, then waits for requests in progress.
pub(crate) async fn serve(engine: &Arc<Engine>, listener: TcpListener) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = engine.shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                connections.spawn(serve_connection(engine.clone(), stream, peer));
            }
            Err(error) => {
                // Most likely out of file descriptors: pause, so that open connections can finish.
                tracing::warn!(%error, "simulator cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn serve_connection(engine: Arc<Engine>, stream: TcpStream, peer: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "simulator connection without TCP_NODELAY");
    }
    let breaker = Arc::new(Breaker::default());
    let wire = Wire {
        stream,
        breaker: breaker.clone(),
    };
    let service = service_fn(|request: Request<Incoming>| {
        let (engine, breaker) = (engine.clone(), breaker.clone());
        async move {
            let line = engine
                .config
                .access_log
                .then(|| AccessLine::begin(&request));
            let response = http::handle(&engine, &breaker, request).await;
            if let Some(line) = line {
                line.end(response.status());
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(wire), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, %peer, "simulator connection ended");
            }
            return;
        }
        () = breaker.broken.notified() => return,
        () = engine.shutdown.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    // After the grace period only a fault still holds the connection open.
    let _ = tokio::time::timeout(DRAIN, connection).await;
}

/// A connection's stream. On drop it is reset if its breaker requested that.
struct Wire {
    stream: TcpStream,
    breaker: Arc<Breaker>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.breaker.reset.load(Ordering::Acquire) {
            // No lingering: closing sends RST instead of FIN.
            let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A response body, complete or truncated.
#[derive(Debug)]
pub(crate) struct Answer {
    bytes: Option<Bytes>,
    promised: u64,
    breaks_off: bool,
    paused: bool,
}

impl Answer {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self {
            promised: bytes.len() as u64,
            bytes: Some(bytes),
            breaks_off: false,
            paused: false,
        }
    }

    /// A body that ends with an error after `after` bytes (default: half), short of its `Content-Length`.
    pub(crate) fn truncated(bytes: &Bytes, after: Option<usize>) -> Self {
        let after = after
            .unwrap_or(bytes.len() / 2)
            .min(bytes.len().saturating_sub(1));
        Self {
            promised: bytes.len() as u64,
            bytes: Some(bytes.slice(..after)),
            breaks_off: true,
            paused: false,
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(bytes) = self.bytes.take().filter(|bytes| !bytes.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if !self.breaks_off {
            return Poll::Ready(None);
        }
        if !std::mem::replace(&mut self.paused, true) {
            // Let the connection flush the data before the error closes it.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "truncated on purpose",
        ))))
    }

    fn is_end_stream(&self) -> bool {
        !self.breaks_off && self.bytes.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.promised)
    }
}

pub(crate) type HttpResponse = Response<Answer>;
