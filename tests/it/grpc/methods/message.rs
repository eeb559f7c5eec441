//! `SmsService.GetMessage`: what became of one message.

use std::sync::Arc;

use parking_lot::Mutex;
use reqwest::{Client, StatusCode};
use serde_json::json;
use smsbridge::proto::v1::{self, event::Payload};
use tonic::{Code, Request};

use super::{TO, by, in_hours, refusal};
use crate::support::{
    bridge::{TestBridge, text, text_with_id},
    broker::TestBroker,
    eventually,
    relay::{Peer, relay_frames},
    simulator::TestSimulator,
};

async fn get(
    bridge: &TestBridge,
    request: Request<v1::GetMessageRequest>,
) -> Result<v1::GetMessageResponse, tonic::Status> {
    let answer = bridge.sms().get_message(request).await;
    answer.map(tonic::Response::into_inner)
}

fn named(message_id: &str) -> v1::GetMessageRequest {
    v1::GetMessageRequest {
        message_id: message_id.into(),
        ..Default::default()
    }
}

/// Waits until the message has this many events; returns their types.
async fn types(
    bridge: &TestBridge,
    application: &'static str,
    id: &str,
    count: usize,
) -> Vec<String> {
    let events = eventually("its events", async || {
        let found = get(bridge, by(application, named(id))).await.ok()?;
        (found.events.len() >= count).then_some(found.events)
    });
    let events = events.await;
    assert!(events.iter().all(|event| !event.cursor.is_empty()));
    events.into_iter().map(|event| event.r#type).collect()
}

/// The story of messages with an id of the caller and of the bridge, with a click, and of one whose report came first.
async fn stories(configure: impl FnOnce(&mut smsbridge::config::Config)) {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, configure).await;
    let sent = by("shop", text_with_id("order-17", &[TO, "41793026728"]));
    bridge.sms().send_sms(sent).await.unwrap();
    let told = types(&bridge, "shop", "order-17~0", 2).await;
    assert_eq!(told, ["send.accepted", "report.delivered"]);

    let click = json!({"messageId": "shop.order-17~1", "recipient": "41793026728", "url": "https://example.com"});
    let clicks = Client::new()
        .post(bridge.webhook("clicks"))
        .body(click.to_string());
    assert_eq!(clicks.send().await.unwrap().status(), StatusCode::OK);
    let told = types(&bridge, "shop", "order-17~1", 3).await;
    assert!(told.contains(&"link.clicked".to_owned()), "{told:?}");

    let sent = bridge
        .sms()
        .send_sms(by("shop", text(&[TO], "Hello")))
        .await
        .unwrap();
    let made = sent.into_inner().results.remove(0).message_id;
    let told = types(&bridge, "shop", &made, 2).await;
    assert_eq!(told, ["send.accepted", "report.delivered"]);

    simulator
        .fault(json!({"kind": "early_push", "count": 1}))
        .await;
    let sent = by("shop", text_with_id("early", &[TO]));
    bridge.sms().send_sms(sent).await.unwrap();
    let told = types(&bridge, "shop", "early", 2).await;
    assert_eq!(
        told,
        ["report.delivered", "send.accepted"],
        "in the order of the log"
    );

    let later = v1::GetMessageRequest {
        since: Some(in_hours(1)),
        ..named("early")
    };
    let unknown = [
        by("shop", named("order-18")),
        // Of another application: it is not even told that it exists.
        by("billing", named("order-17~0")),
        by("shop", later),
    ];
    for request in unknown {
        let asked = format!("{request:?}");
        let refused = refusal(get(&bridge, request).await);
        assert_eq!(
            refused,
            (Code::NotFound, "MESSAGE_NOT_FOUND".into()),
            "{asked}"
        );
    }
    // Without authentication, a caller that names no application may see all.
    let of_shop = v1::GetMessageRequest {
        application: "shop".into(),
        ..named("early")
    };
    let found = get(&bridge, Request::new(of_shop)).await.unwrap();
    assert_eq!((found.events.len(), found.has_more), (2, false));
    let payload = found.events[0].payload.as_ref();
    assert!(matches!(payload, Some(Payload::Report(report)) if report.message_id == "early"));
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_log_tells_the_story_of_a_message() {
    stories(|_| ()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_on_the_broker_tells_the_story_of_a_message() {
    let broker = TestBroker::start().await;
    let amqp = broker.config();
    stories(|config| config.amqp = amqp).await;
}

/// Each reads the stream with channels of its own.
#[tokio::test(flavor = "multi_thread")]
async fn few_searches_read_the_stream_at_a_time() {
    const CHANNEL_OPEN: [u8; 4] = [0, 20, 0, 10];
    const CHANNEL_CLOSE: [u8; 4] = [0, 20, 0, 40];
    const SEARCHES: usize = 60;
    let broker = TestBroker::start().await;
    // Channels that are open, and the most of them.
    let channels = Arc::new(Mutex::new((0_usize, 0_usize)));
    let counted = Arc::clone(&channels);
    let url = relay_frames(&broker.url, move |(): &mut (), peer, frame| {
        let (open, most) = &mut *counted.lock();
        if peer == Peer::Client && frame.is_method(CHANNEL_OPEN) {
            *open += 1;
            *most = (*most).max(*open);
        } else if frame.is_method(CHANNEL_CLOSE) {
            *open = open.saturating_sub(1);
        }
        frame.0
    })
    .await;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.amqp = broker.config();
        config.amqp.url = Some(url.into());
    })
    .await;
    let sent = by("shop", text_with_id("order-17", &[TO]));
    bridge.sms().send_sms(sent).await.unwrap();
    types(&bridge, "shop", "order-17", 2).await;
    let before = channels.lock().0;
    let searches = (0..SEARCHES).map(|_| get(&bridge, by("shop", named("order-17"))));
    for found in futures_util::future::join_all(searches).await {
        assert_eq!(found.unwrap().events.len(), 2);
    }
    let most = channels.lock().1;
    assert!(
        most < before + SEARCHES / 2,
        "{most} channels, {before} before"
    );
    bridge.stop().await;
}

#[tokio::test]
async fn all_mistakes_of_the_question_are_named_at_once() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let request = v1::GetMessageRequest {
        message_id: String::new(),
        application: "No Such".into(),
        since: Some(smsbridge::proto::Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        }),
    };
    let answer = get(&bridge, Request::new(request)).await;
    let text = format!("{answer:?}");
    for field in ["message_id", "application", "since"] {
        assert!(text.contains(field), "{field} in {text}");
    }
    assert_eq!(
        refusal(answer),
        (Code::InvalidArgument, "INVALID_REQUEST".into())
    );
    bridge.stop().await;
}
