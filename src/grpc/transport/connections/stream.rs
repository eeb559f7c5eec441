//! The stream under HTTP/2: TCP or TLS.
//!
//! Invariants: reads fail if the preface is not complete at its deadline, because hyper's keepalive begins with the preface; each
//! write yields once to the tasks that are ready, so that calls that complete together, such as those of one REST request, are
//! written in one system call. Neighbour: `connections` gives it to hyper.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// The length of the preface of HTTP/2, "PRI * HTTP/2.0…" (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;

/// What a connection has done.
#[derive(Default)]
pub(super) struct Progress {
    /// Whether the preface is complete.
    has_begun: AtomicBool,
    bytes_written: AtomicU64,
}

impl Progress {
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    pub(super) fn bytes_written(&self) -> u64 {
        self.bytes_written.load(Ordering::Relaxed)
    }

    /// Counts what a write has written.
    fn note(&self, write: &Poll<std::io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = write {
            self.bytes_written
                .fetch_add(*bytes as u64, Ordering::Relaxed);
        }
    }
}

pub(super) struct HttpStream<S> {
    stream: S,
    progress: Arc<Progress>,
    /// `None` when it is complete.
    preface: Option<Preface>,
    has_yielded: bool,
}

/// A preface that is not complete.
struct Preface {
    bytes_left: usize,
    deadline: Pin<Box<Sleep>>,
}

impl<S> HttpStream<S> {
    /// Notes what the connection does in `progress`.
    pub(super) fn new(stream: S, preface_deadline: Instant, progress: Arc<Progress>) -> Self {
        Self {
            stream,
            progress,
            preface: Some(Preface {
                bytes_left: PREFACE_BYTES,
                deadline: Box::pin(tokio::time::sleep_until(preface_deadline)),
            }),
            has_yielded: false,
        }
    }

    /// Pending once before each write.
    fn poll_yield(&mut self, task: &Context<'_>) -> Poll<()> {
        self.has_yielded = !self.has_yielded;
        if self.has_yielded {
            // tokio puts a task that wakes itself while it runs behind all tasks that are ready.
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HttpStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(task, buffer);
        if let Some(preface) = &mut self.preface {
            if read.is_pending() {
                ready!(preface.deadline.as_mut().poll(task));
                return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
            }
            let bytes_read = buffer.filled().len() - before;
            preface.bytes_left = preface.bytes_left.saturating_sub(bytes_read);
            if preface.bytes_left == 0 {
                self.progress.has_begun.store(true, Ordering::Relaxed);
                self.preface = None;
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HttpStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        ready!(self.poll_yield(task));
        let write = Pin::new(&mut self.stream).poll_write(task, bytes);
        self.progress.note(&write);
        write
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        ready!(self.poll_yield(task));
        let write = Pin::new(&mut self.stream).poll_write_vectored(task, slices);
        self.progress.note(&write);
        write
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
