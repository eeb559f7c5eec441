//! The healthy subscribers: they read all events and acknowledge them at once. The first one notes when the probes' events arrive.

use futures_util::FutureExt as _;
use smsbridge::proto::v1::{
    self, event::Payload, event_service_client::EventServiceClient, subscribe_request::Action,
    subscribe_response::Item,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming, metadata::MetadataValue};

use super::{Arrivals, Bridge, Engine, connect};

/// Subscriptions of which none is stuck. The crowd's is the tenth.
const HEALTHY: usize = 9;
/// Deliveries that one acknowledgement covers at most.
const ACKNOWLEDGED_TOGETHER: usize = 100;

/// They end when they are dropped.
pub struct Healthy {
    _tasks: JoinSet<()>,
}

/// A subscription with one subscriber.
pub struct Subscribed {
    pub requests: mpsc::Sender<v1::SubscribeRequest>,
    pub responses: Streaming<v1::SubscribeResponse>,
}

impl Healthy {
    /// Nine subscriptions; on a broker, which has none, nine streams.
    pub async fn join(bridge: &Bridge, engine: Engine<'_>, arrivals: &Arrivals) -> Self {
        let mut tasks = JoinSet::new();
        for number in 0..HEALTHY {
            let arrivals = (number == 0).then(|| arrivals.clone());
            let note = move |event: Option<v1::Event>| {
                let payload = event.and_then(|event| event.payload);
                if let (Some(arrivals), Some(Payload::Report(report))) = (&arrivals, payload) {
                    arrivals.note(&report.message_id);
                }
            };
            match engine {
                Engine::Embedded => {
                    let name = format!("healthy-{number}");
                    let subscribed = subscribe(bridge, None, &name, 1000).await;
                    tasks.spawn(acknowledge_all(subscribed, note));
                }
                Engine::Broker(_) => {
                    let mut events = EventServiceClient::new(connect(bridge).await)
                        .stream_events(v1::StreamEventsRequest::default())
                        .await
                        .unwrap()
                        .into_inner();
                    tasks.spawn(async move {
                        while let Ok(Some(response)) = events.message().await {
                            note(response.event);
                        }
                    });
                }
            }
        }
        Self { _tasks: tasks }
    }
}

async fn acknowledge_all(subscribed: Subscribed, note: impl Fn(Option<v1::Event>)) {
    let Subscribed {
        requests,
        mut responses,
    } = subscribed;
    while let Ok(Some(first)) = responses.message().await {
        let mut delivery_ids = Vec::new();
        let mut next = Some(first);
        while let Some(response) = next.take() {
            if let Some(Item::Delivery(delivery)) = response.item {
                note(delivery.event);
                delivery_ids.push(delivery.delivery_id);
            }
            if delivery_ids.len() < ACKNOWLEDGED_TOGETHER
                && let Some(Ok(more)) = responses.message().now_or_never()
            {
                next = more;
            }
        }
        let acknowledge = v1::SubscribeRequest {
            action: Some(Action::Acknowledge(v1::Acknowledge { delivery_ids })),
        };
        if requests.send(acknowledge).await.is_err() {
            return;
        }
    }
}

/// Joins a subscription on a connection of its own, as an application, or as the operator, who sees the events of all.
pub async fn subscribe(
    bridge: &Bridge,
    application: Option<&str>,
    name: &str,
    max_outstanding: i32,
) -> Subscribed {
    let (requests, sent) = mpsc::channel(16);
    let start = v1::SubscriptionStart {
        name: name.to_owned(),
        filter: None,
        max_outstanding,
    };
    let start = v1::SubscribeRequest {
        action: Some(Action::Start(start)),
    };
    requests.send(start).await.unwrap();
    let mut request = Request::new(ReceiverStream::new(sent));
    if let Some(application) = application {
        let application = MetadataValue::try_from(application).unwrap();
        request
            .metadata_mut()
            .insert("x-smsbridge-application", application);
    }
    let responses = EventServiceClient::new(connect(bridge).await)
        .subscribe(request)
        .await
        .unwrap()
        .into_inner();
    Subscribed {
        requests,
        responses,
    }
}
