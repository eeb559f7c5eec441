//! What differs between RabbitMQ 3.10, 4.0 and 4.3, and that the bridge does the right thing on each (docs/RABBITMQ.md#server-versions).

use std::collections::BTreeSet;

use lapin::{
    BasicProperties,
    message::BasicGetMessage,
    options::{BasicGetOptions, BasicNackOptions, BasicRejectOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::json;
use smsbridge::amqp::headers::number_header;

use super::custody::{SEND_PATH, Setup};
use crate::support::{
    broker::{Client, TestBroker},
    eventually,
    process::{BridgeProcess, parsed},
    simulator::TestSimulator,
};

const TO: &str = "41793026727";

fn command(to: &str) -> Vec<u8> {
    let message = json!({"from": "InfoSMS", "text": "Hello", "destinations": [{"to": to}]});
    json!({ "message": message }).to_string().into_bytes()
}

/// The broker takes the deliveries of a consumer back that does not acknowledge in time: up to 4.2 it closes the channel, from 4.3 on
/// it cancels the consumer. Nothing is lost, no handset gets a message twice, and the log says what happened.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_timeout_while_sends_hang_loses_and_repeats_nothing() {
    const COMMANDS: usize = 20;
    let (broker, node) = TestBroker::start_alone().await;
    let node = node.make_impatient().await;
    let version = broker.version().await;
    let simulator = TestSimulator::with(|config| config.delivery_latency_ms = (1, 5)).await;
    let hang = json!({"kind": "latency", "ms": 9_000, "count": 2, "path": SEND_PATH});
    simulator.fault(hang).await;
    // A second request for a command is then a second SMS.
    simulator.fault(json!({"kind": "forget_ids"})).await;
    drop(broker.publisher().await);
    let client = broker.client().await;
    let events = client.bind_queue("smsbridge.events", "send.#", &[]).await;
    let settings = [
        ("SMSBRIDGE_AMQP__URL", broker.url.as_str()),
        ("SMSBRIDGE_INFOBIP__REQUEST_TIMEOUT", "20s"),
    ];
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    for n in 0..COMMANDS {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id(format!("r{n}").into());
        let body = command(&format!("41793{n:06}"));
        client
            .publish("smsbridge.commands", "sms.send", properties, &body)
            .await;
    }
    let mut accepted = BTreeSet::new();
    while accepted.len() < COMMANDS {
        let event = client.take(&events).await;
        let kind = event.properties.kind().as_ref().unwrap().to_string();
        assert_eq!(kind, "send.accepted");
        accepted.insert(event.properties.message_id().as_ref().unwrap().to_string());
    }
    eventually("the queue is empty", async || {
        let queue = "smsbridge.send.normal";
        client.try_take(queue).await.is_none().then_some(())
    })
    .await;
    let (status, said) = bridge.stop().await;
    assert!(status.success());
    let told = parsed(&said).into_iter().find_map(|line| {
        let is_told = line["queue"] == "smsbridge.send.normal";
        is_told.then(|| line["why"].as_str().unwrap_or_default().to_owned())
    });
    let told = told.unwrap_or_else(|| panic!("{said}"));
    let expected = if version >= (4, 3) {
        "unacknowledged for longer than the consumer timeout"
    } else {
        "delivery acknowledgement on channel"
    };
    assert!(told.contains(expected), "{version:?}: {told}");
    let messages = simulator.all_final().await;
    assert_eq!(messages.len(), COMMANDS);
    let handsets = messages.iter().map(|one| &one["handsetDeliveries"]);
    assert!(
        handsets.into_iter().all(|times| *times == 1),
        "{messages:?}"
    );
    drop(node);
}

async fn get(client: &Client, queue: &str) -> BasicGetMessage {
    eventually("it is delivered", async || {
        let options = BasicGetOptions::default();
        client
            .channel
            .basic_get(queue.into(), options)
            .await
            .unwrap()
    })
    .await
}

/// A queue of the bridge that nobody consumes, and a client.
async fn idle_queue() -> (TestBroker, Client, String) {
    let broker = TestBroker::start().await;
    drop(broker.publisher().await);
    let (client, queue) = (broker.client().await, broker.topology().send_normal());
    (broker, client, queue)
}

/// `redelivered` tells of each earlier delivery, on every version. From 4.3 on a nack is no failed delivery.
#[tokio::test(flavor = "multi_thread")]
async fn every_earlier_delivery_is_told_whatever_the_broker_counts() {
    let (broker, client, queue) = idle_queue().await;
    let is_new = broker.version().await >= (4, 3);
    client
        .publish("", &queue, BasicProperties::default(), &command(TO))
        .await;
    let counts = |got: &BasicGetMessage| {
        let headers = got.properties.headers().as_ref();
        let count = |name| number_header(headers, name).unwrap_or(0);
        (count("x-delivery-count"), count("x-acquired-count"))
    };
    let first = get(&client, &queue).await;
    assert!(!first.redelivered);
    assert_eq!(counts(&first), (0, 0));
    let requeue = BasicNackOptions {
        requeue: true,
        ..Default::default()
    };
    first.acker.nack(requeue).await.unwrap();
    let second = get(&client, &queue).await;
    assert!(second.redelivered);
    assert_eq!(counts(&second), if is_new { (0, 1) } else { (1, 0) });
    let requeue = BasicRejectOptions { requeue: true };
    second.acker.reject(requeue).await.unwrap();
    let third = get(&client, &queue).await;
    assert!(third.redelivered);
    assert_eq!(counts(&third), if is_new { (1, 2) } else { (2, 0) });
}

/// Without a request id it may have been sent, and nothing can be looked up.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_the_broker_counted_is_never_taken_for_the_first_one() {
    let setup = Setup::start(|_| ()).await;
    let commands = setup.broker.topology().commands();
    for name in ["x-acquired-count", "x-delivery-count"] {
        let mut headers = FieldTable::default();
        headers.insert(name.into(), AMQPValue::LongLongInt(1));
        let properties = BasicProperties::default().with_headers(headers);
        let to = if name == "x-acquired-count" {
            "41793000001"
        } else {
            "41793000002"
        };
        setup
            .client
            .publish(&commands, "sms.send", properties, &command(to))
            .await;
    }
    eventually("both are unknown", async || {
        (setup.results("send.unknown").await.len() == 2).then_some(())
    })
    .await;
    assert!(setup.simulator.messages().await.is_empty());
    setup.bridge.stop().await;
}

/// The property `priority` of a publisher: ignored by 3.10, two levels in 4.0, strict in 4.3.
#[tokio::test(flavor = "multi_thread")]
async fn the_priority_of_a_publisher_changes_the_order_from_4_on() {
    let (broker, client, queue) = idle_queue().await;
    for priority in [None, Some(0), Some(4), Some(5), Some(9)] {
        let mut properties = BasicProperties::default();
        if let Some(priority) = priority {
            properties = properties.with_priority(priority);
        }
        client.publish("", &queue, properties, &command(TO)).await;
    }
    let mut order = Vec::new();
    for _ in 0..5 {
        order.push(*client.take(&queue).await.properties.priority());
    }
    match broker.version().await {
        (3, _) => assert_eq!(order, [None, Some(0), Some(4), Some(5), Some(9)]),
        // Two of those above 4, then one of the others.
        (4, 0..=2) => {
            let at = |wanted| order.iter().position(|one| *one == Some(wanted)).unwrap();
            assert!(at(5) < at(9) && at(9) < at(0) && at(0) < at(4), "{order:?}");
        }
        _ => assert_eq!(order, [Some(9), Some(5), None, Some(4), Some(0)]),
    }
}

/// A copy would be delivered before older commands, and a dead letter before older letters.
#[tokio::test(flavor = "multi_thread")]
async fn copies_and_dead_letters_have_no_priority() {
    let setup = Setup::start(|_| ()).await;
    let topology = setup.broker.topology();
    let refused = json!({"kind": "status", "status": 401, "path": SEND_PATH});
    setup.simulator.fault(refused).await;
    for (id, body) in [("wrong", b"{}".to_vec()), ("refused", command(TO))] {
        let properties = BasicProperties::default()
            .with_message_id(id.into())
            .with_priority(9);
        setup
            .client
            .publish(&topology.commands(), "sms.send", properties, &body)
            .await;
    }
    let retry = format!("{}.retry.60s", setup.broker.prefix);
    for queue in [topology.dead(), retry] {
        let copy = setup.client.take(&queue).await;
        assert_eq!(*copy.properties.priority(), None, "{queue}");
    }
    setup.bridge.stop().await;
}
