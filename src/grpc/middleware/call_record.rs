//! The record of a call for the metrics and the access log: its method, its duration until the response begins, and its status.
//!
//! Invariant: a call is counted and logged when its [`CallRecord`] is dropped, with the response's body or with the future of the response.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use http::{HeaderMap, StatusCode};
use hyper::body::{Bytes, Frame, SizeHint};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::{Code, Status, body::Body};
use tracing::Level;

use super::{concurrency::CallPermits, rewrite_status};
use crate::{
    grpc::auth::caller::Caller,
    message::id::ApplicationName,
    ops::{
        metrics::{GrpcMethod, Metrics, code_name},
        milliseconds,
    },
};

/// The target of the access log, for filters (docs/OPERATIONS.md#logs).
const ACCESS_LOG: &str = "smsbridge::access::grpc";
/// The key of a response's status: in its trailers, or in its headers if it has no body.
const STATUS: &str = "grpc-status";

/// The streams that the services end when the shutdown begins. Whoever did not read all of one goes on where it was.
const END_AT_SHUTDOWN: [&str; 3] = [
    "smsbridge.v1.EventService/StreamEvents",
    "smsbridge.v1.EventService/Subscribe",
    "grpc.health.v1.Health/Watch",
];

/// A call in flight. Counted, and its permits released, when dropped.
pub(super) struct CallRecord {
    metrics: Metrics,
    method: GrpcMethod,
    began: Instant,
    /// Until the response began.
    took: Option<Duration>,
    /// CANCELLED until the response has a status.
    code: Code,
    /// Of an authenticated caller, if the access log is on.
    application: Option<ApplicationName>,
    permits: Option<CallPermits>,
    /// While the shutdown waits for the call.
    awaited: Option<TaskTrackerToken>,
    ends_at_shutdown: bool,
}

/// Whether the access log of calls is on.
fn is_logged() -> bool {
    tracing::enabled!(target: ACCESS_LOG, Level::DEBUG)
}

impl CallRecord {
    pub(super) fn new(
        method: &str,
        metrics: Metrics,
        permits: Option<CallPermits>,
        awaited: TaskTrackerToken,
    ) -> Self {
        Self {
            metrics,
            method: GrpcMethod::named(method),
            began: Instant::now(),
            took: None,
            code: Code::Cancelled,
            application: None,
            permits,
            awaited: Some(awaited),
            ends_at_shutdown: END_AT_SHUTDOWN.contains(&method),
        }
    }

    /// Notes the caller for the access log.
    pub(super) fn note_caller(&mut self, caller: &Caller) {
        if is_logged() {
            self.application = Some(caller.application.clone());
        }
    }

    /// Rewrites and notes the status in the response's headers, if it is there. Releases the permits of a check, and a stream that ends
    /// by itself at the shutdown.
    pub(super) fn response_began(
        &mut self,
        response: &mut http::Response<Body>,
        max_message_bytes: usize,
    ) {
        self.permits = self.permits.take().filter(|held| !held.end_with_head);
        if self.ends_at_shutdown {
            self.awaited = None;
        }
        if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            self.code = Code::InvalidArgument;
            return;
        }
        self.took = Some(self.began.elapsed());
        rewrite_status::rewrite(response.headers_mut(), max_message_bytes);
        self.note_status(response.headers());
    }

    fn note_status(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get(STATUS) {
            self.code = Code::from_bytes(status.as_bytes());
        }
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        let took = self.took.unwrap_or_else(|| self.began.elapsed());
        self.metrics.grpc_call(self.method, self.code, took);
        tracing::debug!(
            target: ACCESS_LOG,
            method = self.method.name(),
            application = self.application.as_ref().map(ApplicationName::as_str),
            code = code_name(self.code),
            ms = milliseconds(self.began.elapsed()),
            "a call ended"
        );
    }
}

/// A response's body, which notes the status in its trailers.
pub(in crate::grpc) struct RecordedBody {
    inner: Body,
    record: CallRecord,
    max_message_bytes: usize,
}

impl RecordedBody {
    pub(super) fn new(inner: Body, record: CallRecord, max_message_bytes: usize) -> Self {
        Self {
            inner,
            record,
            max_message_bytes,
        }
    }
}

impl hyper::body::Body for RecordedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut frame = ready!(Pin::new(&mut self.inner).poll_frame(task));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            rewrite_status::rewrite(trailers, self.max_message_bytes);
            self.record.note_status(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
