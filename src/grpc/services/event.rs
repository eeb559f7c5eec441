//! `EventService`: reading the event log.

use std::{pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::grpc::{Context, auth::caller::Caller, failure::Failure};
use crate::{
    events::{
        Filter, Start, SubscriptionKey, Visibility,
        subscription::{Attached, Subscriber, SubscriberHandle},
    },
    message::time,
    proto::v1::{
        self, event_service_server::EventService, stream_events_request::Start as RequestedStart,
        subscribe_request::Action, subscribe_response::Item,
    },
};

/// How long a listener may take to say what it wants.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The service.
#[derive(Clone)]
pub(in crate::grpc) struct Events(pub(in crate::grpc) Context);

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl EventService for Events {
    type StreamEventsStream = Boxed<v1::StreamEventsResponse>;

    async fn stream_events(
        &self,
        request: Request<v1::StreamEventsRequest>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let filter = Filter::new(request.filter.as_ref(), caller.visible());
        let start = match request.start {
            None => Start::Now,
            Some(RequestedStart::Cursor(cursor)) => Start::After(cursor),
            Some(RequestedStart::Since(since)) => Start::Since(
                time::from_proto(&since)
                    .ok_or_else(|| Failure::invalid("since", "is not a time"))?,
            ),
        };
        let batches = self
            .0
            .log
            .read(start, request.end_at_head)
            .await
            .map_err(Failure::Read)?;
        let events = batches.flat_map(move |batch| {
            let answers: Vec<_> = match batch {
                Ok(events) => events
                    .into_iter()
                    .filter(|event| filter.wants(event))
                    .map(|event| Ok(v1::StreamEventsResponse { event: Some(event) }))
                    .collect(),
                Err(error) => vec![Err(Failure::Read(error).into())],
            };
            stream::iter(answers)
        });
        // A stream that follows would hold up the shutdown for ever: it ends with the process.
        let events = events.take_until(self.0.closing.clone().cancelled_owned());
        Ok(Response::new(Box::pin(events)))
    }

    type SubscribeStream = Boxed<v1::SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<Streaming<v1::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let caller = Caller::of(&request);
        let mut said = request.into_inner();
        let first = tokio::time::timeout(START_TIMEOUT, said.message())
            .await
            .map_err(|_| Failure::invalid("start", "did not come within 30 s"))??;
        let Some(Action::Start(start)) = first.and_then(|request| request.action) else {
            return Err(Failure::invalid("start", "must be the first message").into());
        };
        let attached = self.attach(&caller, start).await?;
        let ready = v1::SubscriptionReady {
            created: attached.created,
            cursor: attached.cursor,
        };
        let (failure, failed) = oneshot::channel();
        let closing = self.0.closing.clone();
        self.0.tasks.spawn(async move {
            if let Err(status) = handle_requests(said, attached.handle, closing).await {
                // Whoever went away does not hear it.
                let _ = failure.send(status);
            }
        });
        let ready = stream::once(std::future::ready(Ok(response(Item::Ready(ready)))));
        let deliveries = ReceiverStream::new(attached.deliveries)
            .map(|delivery| Ok(response(Item::Delivery(delivery))));
        let failed = stream::once(failed).filter_map(async |failed| failed.ok().map(Err));
        Ok(Response::new(Box::pin(
            ready.chain(deliveries).chain(failed),
        )))
    }
}

impl Events {
    async fn attach(
        &self,
        caller: &Caller,
        start: v1::SubscriptionStart,
    ) -> Result<Attached, Failure> {
        let fits = (1..=64).contains(&start.name.len())
            && start
                .name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !fits {
            return Err(Failure::invalid(
                "start.name",
                "must be 1 to 64 characters: a-z, 0-9, -",
            ));
        }
        let max_outstanding = match start.max_outstanding {
            0 => 100,
            1..=10_000 => start.max_outstanding.unsigned_abs() as usize,
            _ => {
                return Err(Failure::invalid(
                    "start.max_outstanding",
                    "must be between 1 and 10000",
                ));
            }
        };
        let key = SubscriptionKey {
            application: caller.application.to_string(),
            name: start.name,
        };
        let subscriber = Subscriber {
            filter: start.filter,
            visibility: if caller.sees_all {
                Visibility::AllApplications
            } else {
                Visibility::OwnApplication
            },
            max_outstanding,
        };
        Ok(self.0.subscriptions.attach(key, subscriber).await?)
    }
}

/// Handles the subscriber's requests until the stream ends or fails, then requeues its unacknowledged deliveries.
async fn handle_requests(
    mut requests: Streaming<v1::SubscribeRequest>,
    subscriber: SubscriberHandle,
    closing: CancellationToken,
) -> Result<(), Status> {
    let ended = loop {
        let request = tokio::select! {
            () = closing.cancelled() => break Ok(()),
            () = subscriber.ended() => break Ok(()),
            request = requests.message() => request,
        };
        match request {
            Ok(Some(v1::SubscribeRequest {
                action: Some(action),
            })) => match action {
                Action::Acknowledge(done) => subscriber.acknowledge(done.delivery_ids).await,
                Action::Reject(again) => subscriber.reject(again.delivery_ids).await,
                // Only the first start counts.
                Action::Start(_) => {}
            },
            Ok(Some(_)) => {}
            Ok(None) => break Ok(()),
            Err(status) => break Err(status),
        }
    };
    subscriber.detach().await;
    ended
}

fn response(item: Item) -> v1::SubscribeResponse {
    v1::SubscribeResponse { item: Some(item) }
}
