//! Copies of commands, commands that the broker returned, and commands that wait in the process: none is lost, and none is
//! carried out beside another one (docs/RELIABILITY.md, P1, P2, P8 and P9).

use std::{sync::atomic::Ordering, time::Duration};

use lapin::{BasicProperties, message::Delivery, options::QueueDeclareOptions, types::FieldTable};
use smsbridge::{
    amqp::{
        Endpoint,
        headers::{number_header, text_header},
    },
    events::EventLog as _,
    proto::v1::event::Payload,
    send::Arrival,
};

use super::commands::{Edge, json};
use crate::support::{
    broker::{Client, Proxy, TestBroker},
    eventually,
};

/// The prefetch limit of a test's broker.
const PREFETCH: usize = 100;
const MIB: usize = 1024 * 1024;

/// An edge that consumes over a relay, and publishes without it.
async fn edge_over_a_relay() -> (Edge, Proxy) {
    let broker = TestBroker::start().await;
    let proxy = broker.proxy().await;
    let endpoint = Endpoint::parse(&proxy.url.clone().into()).unwrap();
    let edge = Edge::start_at(broker, endpoint).await;
    await_session(&edge, true).await;
    (edge, proxy)
}

/// Waits until the consumers have a session, or have noticed that it ended.
async fn await_session(edge: &Edge, is_open: bool) {
    let expected = format!(
        "smsbridge_amqp_connected{{connection=\"commands\"}} {}",
        u8::from(is_open)
    );
    eventually(&expected, async || {
        let metrics = edge.metrics.encode().unwrap();
        metrics.lines().any(|line| line == expected).then_some(())
    })
    .await;
}

async fn await_count(edge: &Edge, text: &str, count: usize) {
    let what = format!("{count} times `{text}`");
    eventually(&what, async || {
        (edge.sender.count(text) >= count).then_some(())
    })
    .await;
}

fn arrivals(edge: &Edge) -> Vec<Arrival> {
    let seen = edge.sender.seen();
    seen.iter().map(|command| command.arrival).collect()
}

fn retry_queue(broker: &TestBroker) -> String {
    format!("{}.retry.1s", broker.prefix)
}

fn has_header(delivery: &Delivery, name: &str) -> bool {
    let headers = delivery.properties.headers().as_ref();
    headers.is_some_and(|headers| headers.contains_key(name))
}

/// The number of messages that wait in a queue.
async fn waiting(client: &Client, queue: &str) -> u32 {
    let passive = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let declared = client
        .channel
        .queue_declare(queue.into(), passive, FieldTable::default())
        .await;
    declared.unwrap().message_count()
}

/// The broker delivers the command again: a copy beside it would be a second command.
#[tokio::test(flavor = "multi_thread")]
async fn no_copy_is_published_for_a_delivery_of_a_lost_session() {
    let (edge, proxy) = edge_over_a_relay().await;
    let body = json("held and unavailable once", 1);
    edge.publish("sms.send", BasicProperties::default(), body.as_bytes())
        .await;
    await_count(&edge, "held and unavailable once", 1).await;
    proxy.down();
    await_session(&edge, false).await;
    edge.sender.held.add_permits(2);
    proxy.up();
    edge.await_events("send.unknown", 1).await;
    let copy = edge.client.try_take(&retry_queue(&edge.broker)).await;
    assert!(copy.is_none(), "{copy:?}");
    assert_eq!(edge.sender.seen().len(), 1);
    assert!(
        edge.events()
            .await
            .iter()
            .all(|event| event.r#type != "send.accepted")
    );
    edge.stop().await;
}

/// Its original may be delivered again, to another replica too, if its acknowledgement fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_looked_up_before_it_is_sent() {
    let edge = Edge::start().await;
    edge.publish_text("r1", "unavailable once").await;
    edge.await_events("send.accepted", 1).await;
    assert_eq!(arrivals(&edge), [Arrival::First, Arrival::Redelivered]);
    // It was not tried: the limit of 24 hours for what may have been sent does not hold.
    let last = edge.sender.seen().pop().unwrap();
    assert_eq!(last.request.messages[0].expires_at, None);

    // A copy carries the mark, which is not the one of a command that was tried.
    edge.publish_text("r2", "held and unavailable once").await;
    await_count(&edge, "held and unavailable once", 1).await;
    edge.sender.held.add_permits(2);
    let copy = edge.client.take(&retry_queue(&edge.broker)).await;
    assert!(has_header(&copy, "smsbridge-may-have-twin"));
    assert!(!has_header(&copy, "smsbridge-in-doubt"));
    edge.stop().await;
}

/// A copy without a request id has message ids, by which it and its twin are looked up.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_without_a_request_id_is_looked_up_by_its_message_ids() {
    let edge = Edge::start().await;
    let properties = BasicProperties::default();
    for text in ["unavailable once", "second later"] {
        edge.publish("sms.send", properties.clone(), json(text, 2).as_bytes())
            .await;
    }
    edge.await_events("send.accepted", 4).await;
    for text in ["unavailable once", "second later"] {
        let seen = edge.sender.seen();
        let seen: Vec<_> = seen
            .iter()
            .filter(|command| super::commands::text_of(command) == text)
            .collect();
        assert_eq!(seen[1].arrival, Arrival::Redelivered, "{text}");
        let destinations = &seen[1].request.messages[0].destinations;
        assert!(
            destinations.iter().all(|one| !one.message_id.is_empty()),
            "{destinations:?}"
        );
    }
    let events = edge.events().await;
    assert!(events.iter().all(|event| event.r#type != "send.unknown"));
    edge.stop().await;
}
