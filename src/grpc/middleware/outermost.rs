//! The outermost middleware: metrics, the concurrency limits, the caller's deadline, and tonic's bare errors rewritten
//! ([`rewrite_status`]).
//!
//! Invariants: a call is counted once, when its response has ended or its future is dropped, and holds its permits until then
//! (a health check until its response begins); a call beyond a limit is rejected at once. Neighbours: `server` builds it, `transport` calls it for each request,
//! `concurrency` has the limits, `call_record` counts.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::StatusCode;
use tokio::time::Sleep;
use tokio_util::task::TaskTracker;
use tonic::{Status, body::Body};

use super::{
    call_record::{CallRecord, RecordedBody},
    concurrency::ConcurrencyLimits,
    deadline, rewrite_status,
    router::ServiceFuture,
};
use crate::grpc::{
    auth::{Authenticated, Certificate},
    failure::Failure,
    services::health,
};
use crate::ops::metrics::Metrics;

/// A service whose calls are counted and limited. Cheap to clone.
#[derive(Clone)]
pub(in crate::grpc) struct Outermost {
    inner: Authenticated,
    limits: ConcurrencyLimits,
    max_message_bytes: usize,
    /// The calls of the connection that its shutdown waits for.
    calls: TaskTracker,
    metrics: Metrics,
}

impl Outermost {
    /// Limits the calls in flight, other than those of the health service, to `max_concurrent_calls`.
    pub(in crate::grpc) fn around(
        inner: Authenticated,
        max_concurrent_calls: usize,
        max_message_bytes: usize,
        metrics: Metrics,
    ) -> Self {
        Self {
            inner,
            limits: ConcurrencyLimits::new(max_concurrent_calls),
            max_message_bytes,
            calls: TaskTracker::new(),
            metrics,
        }
    }

    /// The same service, whose calls `calls` has: until their responses have ended, or begun where they end by themselves at the
    /// shutdown.
    pub(in crate::grpc) fn tracked_by(self, calls: TaskTracker) -> Self {
        Self { calls, ..self }
    }

    /// The same service for a new connection, with its client certificate and its own limits of health calls.
    pub(in crate::grpc) fn for_connection(self, certificate: Option<Certificate>) -> Self {
        Self {
            inner: self.inner.with_certificate(certificate),
            limits: self.limits.for_connection(),
            ..self
        }
    }

    pub(in crate::grpc) fn call(&self, request: http::Request<Body>) -> ResponseFuture {
        let path = request.uri().path();
        let method = path.strip_prefix('/').unwrap_or(path);
        let is_health = method.starts_with(health::SERVICE);
        let permits = self.limits.try_acquire(method);
        let is_rejected = permits.is_none();
        let mut record = CallRecord::new(method, self.metrics.clone(), permits, self.calls.token());
        let state = if !rewrite_status::is_grpc(request.headers()) {
            let mut response = http::Response::new(Body::default());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            CallState::Rejected(Box::new(response))
        } else if is_rejected {
            let response = Status::from(Failure::Overloaded { is_health }).into_http();
            CallState::Rejected(Box::new(response))
        } else {
            let mut timeout = deadline::timeout(request.headers());
            if is_health {
                let requested = timeout.unwrap_or(health::TIMEOUT);
                timeout = Some(requested.min(health::TIMEOUT));
            }
            let deadline = timeout.map(tokio::time::sleep);
            let answer = self
                .inner
                .call(request, |caller| record.note_caller(caller));
            CallState::InFlight(answer, deadline.map(Box::pin))
        };
        ResponseFuture(Some((state, record, self.max_message_bytes)))
    }
}

/// The future of a response. Not boxed, to save an allocation for each call.
pub(in crate::grpc) struct ResponseFuture(Option<(CallState, CallRecord, usize)>);

enum CallState {
    /// The service runs, until the caller's deadline.
    InFlight(ServiceFuture, Option<Pin<Box<Sleep>>>),
    /// The call does not reach the service.
    Rejected(Box<http::Response<Body>>),
}

impl CallState {
    fn poll(&mut self, task: &mut Context<'_>) -> Poll<http::Response<Body>> {
        match self {
            Self::Rejected(response) => Poll::Ready(std::mem::take(response)),
            Self::InFlight(service, deadline) => match service.as_mut().poll(task) {
                Poll::Ready(Ok(response)) => Poll::Ready(response),
                // Handlers answer before the deadline. A handler that did not is dropped, as tonic does.
                Poll::Pending => match deadline {
                    Some(deadline) => deadline
                        .as_mut()
                        .poll(task)
                        .map(|()| deadline_exceeded().into_http()),
                    None => Poll::Pending,
                },
            },
        }
    }
}

impl Future for ResponseFuture {
    type Output = Result<http::Response<RecordedBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        const POLLED_AGAIN: &str = "hyper does not poll a future that has completed";
        let (state, ..) = self.0.as_mut().expect(POLLED_AGAIN);
        let mut response = ready!(state.poll(task));
        let (_, mut record, max_message_bytes) = self.0.take().expect(POLLED_AGAIN);
        record.response_began(&mut response, max_message_bytes);
        Poll::Ready(Ok(
            response.map(|body| RecordedBody::new(body, record, max_message_bytes))
        ))
    }
}

fn deadline_exceeded() -> Status {
    Status::from(Failure::Deadline {
        in_doubt: true,
        message_ids: Vec::new(),
    })
}
