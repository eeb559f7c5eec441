//! What a caller can make the bridge keep is bounded: filters, subscriptions and streams of events.

use smsbridge::{
    grpc::auth::APPLICATION_METADATA,
    proto::v1::{
        EventFilter, StreamEventsRequest, SubscriptionStart,
        event_service_client::EventServiceClient,
    },
};
use tonic::{Code, Request, Status};

use super::subscribe::{Subscriber, request_id, send};
use crate::support::{
    bridge::TestBridge,
    credentials::{refusal, refused},
    eventually,
    simulator::TestSimulator,
};

async fn subscribe(
    bridge: &TestBridge,
    name: &str,
    filter: Option<EventFilter>,
) -> Result<Subscriber, Status> {
    let start = SubscriptionStart {
        name: name.to_owned(),
        filter,
        max_outstanding: 1,
    };
    Subscriber::start(&bridge.channel, start, Request::new).await
}

#[tokio::test]
async fn filters_subscriptions_and_streams_of_an_application_are_bounded() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let stream = async |filter: Option<EventFilter>, application: &str| {
        let mut request = Request::new(StreamEventsRequest {
            filter,
            ..Default::default()
        });
        let name = application.parse().unwrap();
        request.metadata_mut().insert(APPLICATION_METADATA, name);
        let mut client = EventServiceClient::new(bridge.channel.clone());
        client.stream_events(request).await
    };

    let of_types = |types: Vec<String>| EventFilter {
        types,
        ..Default::default()
    };
    let of_ids = |count| EventFilter {
        message_ids: vec!["x".repeat(128); count],
        ..Default::default()
    };
    let invalid = refused(Code::InvalidArgument, "INVALID_REQUEST");
    for (filter, fits) in [
        (of_types(vec!["#".to_owned(); 50]), true),
        (of_types(vec!["#".to_owned(); 51]), false),
        (of_types(vec!["#.#.#.#.#.#.#.#".to_owned()]), true),
        (of_types(vec!["#.#.#.#.#.#.#.#.#".to_owned()]), false),
        (of_ids(400), true),
        (of_ids(600), false),
    ] {
        let streamed = stream(Some(filter.clone()), "default").await;
        let subscribed = subscribe(&bridge, "filtered", Some(filter)).await;
        if fits {
            drop((streamed.unwrap(), subscribed.unwrap()));
        } else {
            assert_eq!(refusal(streamed), invalid);
            assert_eq!(refusal(subscribed), invalid);
        }
    }

    // Subscriptions stay when their subscribers leave. One is there already.
    for number in 1..100 {
        let name = format!("s-{number}");
        let subscriber = eventually("the streams before have ended", async || {
            subscribe(&bridge, &name, None).await.ok()
        })
        .await;
        assert!(subscriber.ready.created);
    }
    let limit = refused(Code::ResourceExhausted, "SUBSCRIPTION_LIMIT");
    assert_eq!(refusal(subscribe(&bridge, "s-100", None).await), limit);
    let mut kept = subscribe(&bridge, "s-1", None).await.unwrap();
    assert!(!kept.ready.created);
    send(&bridge, ["a"]).await;
    assert_eq!(request_id(&kept.next().await), "a");

    // The streams of another application do not count.
    let mut streams = Vec::new();
    let refused_stream = loop {
        match stream(None, "billing").await {
            Ok(open) => streams.push(open),
            Err(status) => break status,
        }
        assert!(streams.len() <= 256);
    };
    assert_eq!(streams.len(), 256);
    let overloaded = refused(Code::ResourceExhausted, "OVERLOADED");
    assert_eq!(refusal::<()>(Err(refused_stream)), overloaded);
    drop(stream(None, "shop").await.unwrap());
    drop(streams.pop());
    eventually("a place is free", async || {
        stream(None, "billing").await.ok()
    })
    .await;
    bridge.stop().await;
}
