//! Closing a connection on request: in order, or with a reset.
//!
//! Invariant: a handler that closes its connection never returns, so that nothing is written after.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
};

/// Closes the connection of a request, from within its handler.
#[derive(Debug, Default)]
pub(crate) struct ConnectionCloser {
    /// Whether closing sends a reset.
    reset: AtomicBool,
    requested: Notify,
}

impl ConnectionCloser {
    /// Closes the connection, with a reset or in order. Never returns: the connection drops the handler.
    pub(crate) async fn close(&self, reset: bool) -> std::convert::Infallible {
        self.reset.store(reset, Ordering::Release);
        self.requested.notify_one();
        std::future::pending().await
    }

    /// Waits until a handler closes the connection.
    pub(super) async fn requested(&self) {
        self.requested.notified().await;
    }
}

/// The stream of a connection. Dropping it resets the connection if the closer requires that.
pub(super) struct ResettableStream {
    pub(super) stream: TcpStream,
    pub(super) closer: Arc<ConnectionCloser>,
}

impl Drop for ResettableStream {
    fn drop(&mut self) {
        if self.closer.reset.load(Ordering::Acquire) {
            // No lingering: closing sends RST. If the option cannot be set, closing sends FIN.
            let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for ResettableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for ResettableStream {
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
