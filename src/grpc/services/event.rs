//! `EventService`: reading the event log, from a cursor (`StreamEvents`) or with a named subscription (`Subscribe`).
//!
//! Invariants: a stream ends at shutdown; an application has a bounded number of streams, each with a bounded filter. Neighbours:
//! `events` has the log, `events::subscription` the subscriptions, `places` counts the streams.

mod places;

use std::{pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use self::places::{MAX_STREAMS, StreamPlace, StreamPlaces};
use crate::grpc::{ServiceContext, auth::caller::Caller, failure::Failure};
use crate::{
    events::{
        Filter, Start, SubscriptionKey, Visibility, filter,
        subscription::{Attached, Subscriber, SubscriberHandle},
    },
    message::time,
    proto::v1::{
        self, event_service_server::EventService, stream_events_request::Start as RequestedStart,
        subscribe_request::Action, subscribe_response::Item,
    },
};

/// How long a subscriber may take to send `start`.
const START_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub(in crate::grpc) struct Events {
    context: ServiceContext,
    places: StreamPlaces,
}

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl EventService for Events {
    type StreamEventsStream = ResponseStream<v1::StreamEventsResponse>;

    async fn stream_events(
        &self,
        request: Request<v1::StreamEventsRequest>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        check_filter("filter", request.filter.as_ref())?;
        let place = self.place(&caller)?;
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
            .context
            .log
            .read_applications(start, request.end_at_head, filter.applications())
            .await
            .map_err(Failure::Read)?;
        let events = batches.flat_map(move |batch| {
            let responses: Vec<_> = match batch {
                Ok(events) => events
                    .into_iter()
                    .filter(|event| filter.wants(event))
                    .map(|event| Ok(v1::StreamEventsResponse { event: Some(event) }))
                    .collect(),
                Err(error) => vec![Err(Failure::Read(error).into())],
            };
            stream::iter(responses)
        });
        // Without this, a stream that follows the log would hold up the shutdown.
        let events = events.take_until(self.context.closing.clone().cancelled_owned());
        let events = events.inspect(move |_| _ = &place);
        Ok(Response::new(Box::pin(events)))
    }

    type SubscribeStream = ResponseStream<v1::SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<Streaming<v1::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let caller = Caller::of(&request);
        let mut requests = request.into_inner();
        let first = tokio::time::timeout(START_TIMEOUT, requests.message())
            .await
            .map_err(|_| Failure::invalid("start", "must be sent within 30 s"))??;
        let Some(Action::Start(start)) = first.and_then(|request| request.action) else {
            return Err(Failure::invalid("start", "must be the first message").into());
        };
        check_filter("start.filter", start.filter.as_ref())?;
        let place = self.place(&caller)?;
        let attached = self.attach(&caller, start).await?;
        let ready = v1::SubscriptionReady {
            created: attached.created,
            cursor: attached.cursor,
        };
        let (failure_sender, failure) = oneshot::channel();
        let closing = self.context.closing.clone();
        self.context.tasks.spawn(async move {
            if let Err(status) = handle_requests(requests, attached.handle, closing).await {
                // Fails only if the caller has gone away.
                let _ = failure_sender.send(status);
            }
        });
        let ready = stream::once(std::future::ready(Ok(response(Item::Ready(ready)))));
        let deliveries = ReceiverStream::new(attached.deliveries)
            .map(|delivery| Ok(response(Item::Delivery(delivery))));
        let failure = stream::once(failure).filter_map(async |failure| failure.ok().map(Err));
        let responses = ready.chain(deliveries).chain(failure);
        Ok(Response::new(Box::pin(
            responses.inspect(move |_| _ = &place),
        )))
    }
}

impl Events {
    pub(in crate::grpc) fn new(context: ServiceContext) -> Self {
        Self {
            context,
            places: StreamPlaces::default(),
        }
    }

    /// A place for one more stream of the caller's application.
    fn place(&self, caller: &Caller) -> Result<StreamPlace, Failure> {
        self.places
            .take(caller.application.as_str())
            .ok_or(Failure::EventStreamLimit { max: MAX_STREAMS })
    }

    async fn attach(
        &self,
        caller: &Caller,
        start: v1::SubscriptionStart,
    ) -> Result<Attached, Failure> {
        let subscriptions = self.context.subscriptions.as_ref();
        let subscriptions = subscriptions.ok_or(Failure::Unimplemented {
            detail: "this event engine has no subscriptions yet: read with StreamEvents and store the cursor",
        })?;
        let is_valid = (1..=64).contains(&start.name.len())
            && start
                .name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !is_valid {
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
        Ok(subscriptions.attach(key, subscriber).await?)
    }
}

fn check_filter(field: &str, filter: Option<&v1::EventFilter>) -> Result<(), Failure> {
    filter
        .map_or(Ok(()), filter::check)
        .map_err(|error| Failure::invalid(field, error))
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
            ended = subscriber.ended() => break ended.map_err(|error| Failure::Read(error).into()),
            request = requests.message() => request,
        };
        match request {
            Ok(Some(v1::SubscribeRequest {
                action: Some(action),
            })) => match action {
                Action::Acknowledge(request) => subscriber.acknowledge(request.delivery_ids).await,
                Action::Reject(request) => subscriber.reject(request.delivery_ids).await,
                // A repeated start is ignored.
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
