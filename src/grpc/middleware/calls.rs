//! What stands around every call: it is counted, beyond `grpc.max_concurrent_calls` it is turned away at once, and what
//! tonic says of one that it can't read is put into our words.
//!
//! Invariants: a call is counted once, when its response ended or nobody waits for it any more, and holds its place until
//! then; health has places of its own, so it is answered whatever else is under way and takes no place from other calls.
//! Neighbours: `server` puts it outermost, `ops::metrics` counts.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use http::{HeaderMap, StatusCode};
use hyper::body::{Bytes, Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Sleep,
};
use tonic::{Code, Status, body::Body};

use super::{deadline, rewrite_status, router::Answering};
use crate::grpc::{
    auth::{Authenticated, Certificate},
    failure::Failure,
    services::health,
};
use crate::ops::metrics::{GrpcMethod, Metrics};

/// Where a response's code stands: in its trailers, or in its headers where it has nothing else.
const STATUS: &str = "grpc-status";

/// A service whose calls are counted and bounded. Cheap to clone.
#[derive(Clone)]
pub(in crate::grpc) struct Calls {
    inner: Authenticated,
    places: Places,
    max_message_bytes: usize,
    metrics: Metrics,
}

impl Calls {
    /// At most so many calls at once, with messages of at most so many bytes.
    pub(in crate::grpc) fn around(
        inner: Authenticated,
        most: usize,
        max_message_bytes: usize,
        metrics: Metrics,
    ) -> Self {
        Self {
            inner,
            places: Places::new(most),
            max_message_bytes,
            metrics,
        }
    }

    /// For a connection whose other side has shown this certificate.
    pub(in crate::grpc) fn with_certificate(self, certificate: Option<Certificate>) -> Self {
        Self {
            inner: self.inner.with_certificate(certificate),
            ..self
        }
    }

    /// Answers a call.
    pub(in crate::grpc) fn call(&self, request: http::Request<Body>) -> Answer {
        let path = request.uri().path();
        let method = path.strip_prefix('/').unwrap_or(path);
        let (pool, is_health) = self.places.of(method);
        let place = Arc::clone(pool).try_acquire_owned().ok();
        let is_refused = place.is_none();
        let call = Call {
            metrics: self.metrics.clone(),
            method: GrpcMethod::named(method),
            begun: Instant::now(),
            took: None,
            code: Code::Cancelled,
            _place: place,
        };
        let step = if !rewrite_status::is_grpc(request.headers()) {
            let mut response = http::Response::new(Body::default());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            Step::Refused(Box::new(response))
        } else if is_refused {
            let response = Status::from(Failure::Overloaded { is_health }).into_http();
            Step::Refused(Box::new(response))
        } else {
            let mut timeout = deadline::timeout(request.headers());
            if is_health {
                let asked = timeout.unwrap_or(health::TIMEOUT);
                timeout = Some(asked.min(health::TIMEOUT));
            }
            let deadline = timeout.map(tokio::time::sleep);
            Step::UnderWay(self.inner.call(request), deadline.map(Box::pin))
        };
        Answer(Some((step, call, self.max_message_bytes)))
    }
}

/// How many calls may be under way. Health has places of its own: it needs no credentials, so whoever reaches the port could
/// take those of all others; and a watch, which lasts as long as its client likes, takes none from the checks.
#[derive(Clone)]
struct Places {
    calls: Arc<Semaphore>,
    health_checks: Arc<Semaphore>,
    health_watches: Arc<Semaphore>,
}

impl Places {
    fn new(calls: usize) -> Self {
        Self {
            calls: Arc::new(Semaphore::new(calls.min(Semaphore::MAX_PERMITS))),
            health_checks: Arc::new(Semaphore::new(health::MAX_CHECKS)),
            health_watches: Arc::new(Semaphore::new(health::MAX_WATCHES)),
        }
    }

    /// Those of a method, and whether it is one of health.
    fn of(&self, method: &str) -> (&Arc<Semaphore>, bool) {
        match method.strip_prefix(health::SERVICE) {
            None => (&self.calls, false),
            Some("Watch") => (&self.health_watches, true),
            Some(_) => (&self.health_checks, true),
        }
    }
}

/// A call's response, to come. Not boxed: every call has one.
pub(in crate::grpc) struct Answer(Option<(Step, Call, usize)>);

enum Step {
    /// The services answer, until the caller's deadline.
    UnderWay(Answering, Option<Pin<Box<Sleep>>>),
    /// They are not asked.
    Refused(Box<http::Response<Body>>),
}

impl Step {
    fn poll(&mut self, task: &mut Context<'_>) -> Poll<http::Response<Body>> {
        match self {
            Self::Refused(response) => Poll::Ready(std::mem::take(response)),
            Self::UnderWay(answering, deadline) => match answering.as_mut().poll(task) {
                Poll::Ready(Ok(response)) => Poll::Ready(response),
                // Handlers answer earlier than this. What did not is dropped, as tonic would: it says CANCELLED then.
                Poll::Pending => match deadline {
                    Some(deadline) => deadline
                        .as_mut()
                        .poll(task)
                        .map(|()| too_late().into_http()),
                    None => Poll::Pending,
                },
            },
        }
    }
}

impl Future for Answer {
    type Output = Result<http::Response<CountedBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let Some((step, ..)) = &mut self.0 else {
            // Nobody asks twice.
            return Poll::Pending;
        };
        let mut response = ready!(step.poll(task));
        let Some((_, mut call, max_message_bytes)) = self.0.take() else {
            return Poll::Pending;
        };
        call.hear_response(&mut response, max_message_bytes);
        Poll::Ready(Ok(response.map(|inner| CountedBody {
            inner,
            call,
            max_message_bytes,
        })))
    }
}

fn too_late() -> Status {
    Status::from(Failure::Deadline {
        in_doubt: true,
        message_ids: Vec::new(),
    })
}

/// A call under way; counted when dropped.
struct Call {
    metrics: Metrics,
    method: GrpcMethod,
    begun: Instant,
    /// Until the response began.
    took: Option<Duration>,
    /// Cancelled until the response says something else.
    code: Code,
    _place: Option<OwnedSemaphorePermit>,
}

impl Call {
    /// What the beginning of a response says of it.
    fn hear_response(&mut self, response: &mut http::Response<Body>, max_message_bytes: usize) {
        if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            self.code = Code::InvalidArgument;
            return;
        }
        self.took = Some(self.begun.elapsed());
        rewrite_status::reword(response.headers_mut(), max_message_bytes);
        self.hear(response.headers());
    }

    fn hear(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get(STATUS) {
            self.code = Code::from_bytes(status.as_bytes());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let took = self.took.unwrap_or_else(|| self.begun.elapsed());
        self.metrics.grpc_call(self.method, self.code, took);
    }
}

/// A response's body, which tells its call how it ended.
pub(in crate::grpc) struct CountedBody {
    inner: Body,
    call: Call,
    max_message_bytes: usize,
}

impl hyper::body::Body for CountedBody {
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
            rewrite_status::reword(trailers, self.max_message_bytes);
            self.call.hear(trailers);
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
