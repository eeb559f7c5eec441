//! Every field of an event, and every way to read events, end to end (docs/CONTRACT.md).

use serde_json::Value;
use smsbridge::proto::Timestamp;
use smsbridge::{
    grpc::auth::APPLICATION_METADATA,
    proto::v1::{
        self, EventFilter, StreamEventsRequest, event::Payload,
        event_service_client::EventServiceClient, stream_events_request::Start,
    },
};
use tonic::Request;

use crate::support::{
    bridge::{TestBridge, text, text_with_id},
    simulator::TestSimulator,
};

const TO: &str = "41793026727";

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[tokio::test]
async fn an_event_carries_every_field() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut events = bridge.events().await;
    let begun = now();
    let sent = bridge
        .sms()
        .send_sms(text_with_id("r1", &[TO]))
        .await
        .unwrap()
        .into_inner();
    let event = events.next().await;
    assert!(!event.id.is_empty());
    let time = event.time.unwrap().seconds;
    assert!((begun..=now()).contains(&time), "{time} is not now");
    assert_eq!(
        (event.r#type.as_str(), event.application.as_str()),
        ("send.accepted", "default")
    );
    assert_eq!(
        (event.request_id.as_str(), event.source_payload.as_str()),
        ("r1", "")
    );
    let Some(Payload::Result(result)) = event.payload else {
        panic!("no result")
    };
    assert_eq!([*result], *sent.results);

    let delivered = events.next_of("report.delivered").await;
    assert_ne!(delivered.id, event.id);
    let Some(Payload::Report(report)) = delivered.payload else {
        panic!("no report")
    };
    assert_eq!(report.message_id, "r1");
    let payload: Value = serde_json::from_str(&delivered.source_payload).unwrap();
    assert_eq!(payload["messageId"], "default.r1");
    // Reading continues after the cursor of each event.
    let after = StreamEventsRequest {
        start: Some(Start::Cursor(event.cursor)),
        end_at_head: true,
        ..Default::default()
    };
    let mut after = bridge.read(after).await;
    while let Some(next) = after.next_or_end().await {
        assert_ne!(next.id, event.id);
        if next.id == delivered.id {
            return;
        }
    }
    panic!("the report does not follow");
}

/// The message ids of the results that a request of `caller` returns.
async fn found(
    bridge: &TestBridge,
    caller: &'static str,
    asked: StreamEventsRequest,
) -> Vec<String> {
    let mut request = Request::new(asked);
    if !caller.is_empty() {
        let application = caller.parse().unwrap();
        request
            .metadata_mut()
            .insert(APPLICATION_METADATA, application);
    }
    let mut events = EventServiceClient::new(bridge.channel.clone())
        .stream_events(request)
        .await
        .unwrap()
        .into_inner();
    let mut ids = Vec::new();
    while let Some(answer) = events.message().await.unwrap() {
        match answer.event.unwrap().payload {
            Some(Payload::Result(result)) => ids.push(result.message_id),
            other => panic!("{other:?}"),
        }
    }
    ids
}

#[tokio::test]
async fn events_are_filtered_by_every_field() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.http.public_url = None).await;
    for (application, id, to) in [
        ("billing", "b1", TO),
        ("billing", "b2", "999010061"),
        ("shop", "s1", TO),
    ] {
        let mut request = Request::new(text_with_id(id, &[to]));
        let application = application.parse().unwrap();
        request
            .metadata_mut()
            .insert(APPLICATION_METADATA, application);
        bridge.sms().send_sms(request).await.unwrap();
    }
    let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
    let since = |seconds| Some(Start::Since(Timestamp { seconds, nanos: 0 }));
    let all = || StreamEventsRequest {
        start: since(0),
        end_at_head: true,
        ..Default::default()
    };
    let filtered = |filter: EventFilter| StreamEventsRequest {
        filter: Some(filter),
        ..all()
    };
    let types = |patterns: &[&str]| {
        filtered(EventFilter {
            types: list(patterns),
            ..Default::default()
        })
    };
    let applications = |names: &[&str]| {
        filtered(EventFilter {
            applications: list(names),
            ..Default::default()
        })
    };
    let message_ids = filtered(EventFilter {
        message_ids: list(&["s1", "b2", "other"]),
        ..Default::default()
    });
    for (caller, asked, expected) in [
        ("", all(), &["b1", "b2", "s1"][..]),
        ("", types(&["send.rejected", "report.#"]), &["b2"]),
        ("", types(&["send.*"]), &["b1", "b2", "s1"]),
        ("", applications(&["shop"]), &["s1"]),
        ("", message_ids, &["b2", "s1"]),
        (
            "",
            StreamEventsRequest {
                start: since(now() + 3600),
                ..all()
            },
            &[],
        ),
        (
            "",
            StreamEventsRequest {
                start: None,
                ..all()
            },
            &[],
        ),
        // A caller gets only its own events, whatever it requests.
        ("billing", all(), &["b1", "b2"]),
        ("billing", applications(&["billing", "shop"]), &["b1", "b2"]),
        ("billing", applications(&["shop"]), &[]),
    ] {
        let told = format!("{caller} {asked:?}");
        assert_eq!(found(&bridge, caller, asked).await, expected, "{told}");
    }
}

#[tokio::test]
async fn a_stream_without_an_end_stays_open() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.http.public_url = None).await;
    bridge.sms().send_sms(text(&[TO], "before")).await.unwrap();
    let mut events = bridge
        .read(StreamEventsRequest {
            start: Some(Start::Since(Timestamp::default())),
            end_at_head: false,
            ..Default::default()
        })
        .await;
    let first = events.next().await;
    bridge.sms().send_sms(text(&[TO], "after")).await.unwrap();
    assert_ne!(events.next().await.id, first.id);
}

#[tokio::test]
async fn a_pushed_message_carries_every_field() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut events = bridge.events().await;
    let pushed = "?sender=%2B41793026727&receiver=41790000000&bin=0500030C02014869&datacoding=0&esmclass=64\
                  &datetime=2019-11-09T16:00:00.000%2B0000&messageId=mo-1";
    let answer = reqwest::get(bridge.webhook("inbound") + pushed).await;
    assert_eq!(answer.unwrap().status(), 200);
    let event = events.next_of("inbound.received").await;
    let Some(Payload::Received(received)) = event.payload else {
        panic!("no message")
    };
    let expected = v1::ReceivedMessage {
        message_id: "mo-1".into(),
        from: "+41793026727".into(),
        to: "41790000000".into(),
        text: "Hi".into(),
        received_at: Some(Timestamp {
            seconds: 1_573_315_200,
            nanos: 0,
        }),
        data: b"Hi"[..].into(),
        data_coding: Some(0),
        esm_class: Some(64),
        user_data_header: b"\x05\x00\x03\x0c\x02\x01"[..].into(),
        ..Default::default()
    };
    assert_eq!(*received, expected);
}
