//! `EventService`: reading the event log.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _, stream};
use tonic::{Request, Response, Status, Streaming};

use super::{Context, caller::Caller, failure::Failure};
use crate::{
    events::{Filter, Start},
    message::time,
    proto::v1::{
        self, event_service_server::EventService, stream_events_request::Start as RequestedStart,
    },
};

/// The service.
#[derive(Clone)]
pub(super) struct Events(pub(super) Context);

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
        _request: Request<Streaming<v1::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        Err(Failure::NotBuilt {
            detail: "read with StreamEvents and keep the cursor",
        }
        .into())
    }
}
