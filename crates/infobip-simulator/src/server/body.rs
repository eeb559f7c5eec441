//! Response bodies: complete, truncated by a fault, or a stream of events.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// A response body: complete, truncated, or a stream of events.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    /// `None` once they are sent.
    bytes: Option<Bytes>,
    /// `None`: it is not known before the end.
    content_length: Option<u64>,
    /// What follows `bytes`, until its sender is dropped.
    events: Option<mpsc::Receiver<Bytes>>,
    /// Whether the body ends with an error.
    truncated: bool,
    /// Whether the connection had the time to flush the bytes.
    yielded: bool,
}

impl ResponseBody {
    pub(crate) fn complete(bytes: Bytes) -> Self {
        Self {
            content_length: Some(bytes.len() as u64),
            bytes: Some(bytes),
            events: None,
            truncated: false,
            yielded: false,
        }
    }

    /// A body that lasts until the sender of its events is dropped.
    pub(crate) fn events(events: mpsc::Receiver<Bytes>) -> Self {
        Self {
            content_length: None,
            bytes: None,
            events: Some(events),
            truncated: false,
            yielded: false,
        }
    }

    /// A body that ends with an error after `after` bytes (default: half), short of its `Content-Length`.
    pub(crate) fn truncated(bytes: &Bytes, after: Option<usize>) -> Self {
        let after = after
            .unwrap_or(bytes.len() / 2)
            .min(bytes.len().saturating_sub(1));
        Self {
            content_length: Some(bytes.len() as u64),
            events: None,
            bytes: Some(bytes.slice(..after)),
            truncated: true,
            yielded: false,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(bytes) = self.bytes.take().filter(|bytes| !bytes.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if let Some(events) = &mut self.events {
            return events
                .poll_recv(cx)
                .map(|event| event.map(|event| Ok(Frame::data(event))));
        }
        if !self.truncated {
            return Poll::Ready(None);
        }
        if !std::mem::replace(&mut self.yielded, true) {
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
        self.events.is_none() && !self.truncated && self.bytes.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        match self.content_length {
            Some(length) => SizeHint::with_exact(length),
            None => SizeHint::new(),
        }
    }
}

pub(crate) type HttpResponse = Response<ResponseBody>;
