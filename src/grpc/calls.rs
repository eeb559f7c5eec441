//! What stands around every call: it is counted, beyond `grpc.max_concurrent_calls` it is turned away at once, and what
//! tonic says of one that it can't read is put into our words.
//!
//! Invariants: a call is counted once, when its response ended or nobody waits for it any more, and holds its place until
//! then; health is answered however much is under way. Neighbours: `server` puts it outermost, `ops::metrics` counts.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use http::{HeaderMap, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Sleep,
};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::{deadline, failure::Failure, unread};
use crate::ops::metrics::{GrpcMethod, Metrics};

const HEALTH: &str = "grpc.health.v1.Health/";
/// Where a response's code stands: in its trailers, or in its headers where it has nothing else.
const STATUS: &str = "grpc-status";

/// Puts [`Calls`] around services.
#[derive(Clone)]
pub(super) struct CallsLayer {
    places: Arc<Semaphore>,
    max_message_bytes: usize,
    metrics: Metrics,
}

impl CallsLayer {
    /// At most so many calls at once, with messages of at most so many bytes.
    pub(super) fn new(most: usize, max_message_bytes: usize, metrics: Metrics) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        Self {
            places: Arc::new(Semaphore::new(most)),
            max_message_bytes,
            metrics,
        }
    }
}

impl<S> Layer<S> for CallsLayer {
    type Service = Calls<S>;

    fn layer(&self, inner: S) -> Calls<S> {
        Calls {
            layer: self.clone(),
            inner,
        }
    }
}

/// Services whose calls are counted and bounded.
#[derive(Clone)]
pub(super) struct Calls<S> {
    layer: CallsLayer,
    inner: S,
}

impl<S, B, R> Service<http::Request<B>> for Calls<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Unpin,
    R: Default,
{
    type Response = http::Response<CountedBody<R>>;
    type Error = S::Error;
    type Future = Answer<S::Future, R>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let path = request.uri().path();
        let method = path.strip_prefix('/').unwrap_or(path);
        let place = Arc::clone(&self.layer.places).try_acquire_owned().ok();
        let is_refused = place.is_none() && !method.starts_with(HEALTH);
        let call = Call {
            metrics: self.layer.metrics.clone(),
            method: GrpcMethod::named(method),
            begun: Instant::now(),
            took: None,
            code: Code::Cancelled,
            _place: place,
        };
        let answering = if !unread::is_grpc(request.headers()) {
            let mut response = http::Response::new(R::default());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            Answering::Refused(Box::new(response))
        } else if is_refused {
            let response = Status::from(Failure::Overloaded).into_http();
            Answering::Refused(Box::new(response))
        } else {
            let deadline = deadline::timeout(request.headers()).map(tokio::time::sleep);
            Answering::UnderWay(self.inner.call(request), deadline.map(Box::pin))
        };
        Answer(Some((answering, call, self.layer.max_message_bytes)))
    }
}

/// A call's response, to come. Not boxed: every call has one.
pub(super) struct Answer<F, R>(Option<(Answering<F, R>, Call, usize)>);

enum Answering<F, R> {
    /// By the services, until the caller's deadline.
    UnderWay(F, Option<Pin<Box<Sleep>>>),
    /// Without asking them.
    Refused(Box<http::Response<R>>),
}

impl<F, R, E> Answering<F, R>
where
    F: Future<Output = Result<http::Response<R>, E>> + Unpin,
    R: Default,
{
    fn poll(&mut self, task: &mut Context<'_>) -> Poll<Result<http::Response<R>, E>> {
        match self {
            Self::Refused(response) => Poll::Ready(Ok(std::mem::take(response))),
            Self::UnderWay(answering, deadline) => match Pin::new(answering).poll(task) {
                Poll::Ready(answered) => Poll::Ready(answered),
                // Handlers answer earlier than this. What did not is dropped, as tonic would: it says CANCELLED then.
                Poll::Pending => match deadline {
                    Some(deadline) => deadline
                        .as_mut()
                        .poll(task)
                        .map(|()| Ok(too_late().into_http())),
                    None => Poll::Pending,
                },
            },
        }
    }
}

impl<F, R, E> Future for Answer<F, R>
where
    F: Future<Output = Result<http::Response<R>, E>> + Unpin,
    R: Default,
{
    type Output = Result<http::Response<CountedBody<R>>, E>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let Some((answering, ..)) = &mut self.0 else {
            // Nobody asks twice.
            return Poll::Pending;
        };
        let answered = ready!(answering.poll(task));
        let Some((_, mut call, max_message_bytes)) = self.0.take() else {
            return Poll::Pending;
        };
        let mut response = answered?;
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
    fn hear_response<R>(&mut self, response: &mut http::Response<R>, max_message_bytes: usize) {
        if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            self.code = Code::InvalidArgument;
            return;
        }
        self.took = Some(self.begun.elapsed());
        unread::reword(response.headers_mut(), max_message_bytes);
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
pub(super) struct CountedBody<R> {
    inner: R,
    call: Call,
    max_message_bytes: usize,
}

impl<R: Body + Unpin> Body for CountedBody<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<R::Data>, R::Error>>> {
        let mut frame = ready!(Pin::new(&mut self.inner).poll_frame(task));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            unread::reword(trailers, self.max_message_bytes);
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
