//! Copies of commands, commands that the broker returned, and commands that wait in the process: none is lost, and none is
//! carried out beside another one (docs/RELIABILITY.md, P1, P2, P8 and P9).

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use lapin::{
    BasicProperties,
    message::Delivery,
    options::{BasicPublishOptions, QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions},
    types::{AMQPValue, FieldTable},
};
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
pub(super) async fn await_session(edge: &Edge, is_open: bool) {
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

/// Waits until every normal command has been delivered to the bridge.
async fn await_delivered(edge: &Edge) {
    let queue = edge.broker.topology().send_normal();
    eventually("all are delivered", async || {
        (waiting(&edge.client, &queue).await == 0).then_some(())
    })
    .await;
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
    assert_eq!(arrivals(&edge), [Arrival::First, Arrival::LookUpFirst]);
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
        assert_eq!(seen[1].arrival, Arrival::LookUpFirst, "{text}");
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

/// A copy in a retry queue has no `expiration`: the broker would dead-letter a lapsed one at once, and so through all queues again
/// and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_lapsed_command_waits_its_whole_delay() {
    let edge = Edge::start().await;
    let lapsed = jiff::Timestamp::now().as_millisecond() - 1_000;
    let mut headers = FieldTable::default();
    for (name, value) in [("smsbridge-expires-at", lapsed), ("smsbridge-attempt", 1)] {
        headers.insert(name.into(), AMQPValue::LongLongInt(value));
    }
    let properties = BasicProperties::default()
        .with_message_id("r1".into())
        .with_headers(headers);
    let body = json("unavailable once", 1);
    edge.publish("sms.send", properties, body.as_bytes()).await;
    let retry = format!("{}.retry.10s", edge.broker.prefix);
    let copy = edge.client.take(&retry).await;
    assert_eq!(copy.properties.expiration(), &None);
    let headers = copy.properties.headers().as_ref();
    assert_eq!(number_header(headers, "smsbridge-expires-at"), Some(lapsed));
    edge.stop().await;
}

/// Stops an edge; returns its broker and its client.
async fn stop(edge: Edge) -> (TestBroker, Client) {
    let Edge {
        broker,
        client,
        log,
        shutdown,
        task,
        ..
    } = edge;
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(20), task)
        .await
        .expect("the edge stops")
        .unwrap();
    log.close().await;
    (broker, client)
}

async fn start_again(broker: TestBroker) -> Edge {
    let endpoint = broker.endpoint();
    Edge::start_at(broker, endpoint).await
}

/// The reason of the next dead letter.
async fn next_reason(edge: &Edge) -> Option<String> {
    let letter = edge.client.take(&edge.broker.topology().dead()).await;
    text_header(letter.properties.headers().as_ref(), "smsbridge-reason")
}

/// Its `expiration` goes with it to the alternate exchange. It must not expire in `returned`, from where it would vanish.
#[tokio::test(flavor = "multi_thread")]
async fn an_unroutable_command_does_not_expire() {
    let (broker, client) = stop(Edge::start().await).await;
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id("r1".into())
        .with_expiration("1".into());
    let topology = broker.topology();
    client
        .publish(
            &topology.commands(),
            "sms.sned",
            properties,
            json("x", 1).as_bytes(),
        )
        .await;
    let edge = start_again(broker).await;
    assert_eq!(next_reason(&edge).await.as_deref(), Some("UNROUTABLE"));
    let events = edge.await_events("command.invalid", 1).await;
    assert!(
        matches!(&events[0].payload, Some(Payload::InvalidCommand(invalid))
        if invalid.routing_key == "sms.sned")
    );
    assert!(edge.sender.seen().is_empty());
    edge.stop().await;
}

/// An earlier build bound the alternate exchange to `returned`, and the broker keeps the binding.
#[tokio::test(flavor = "multi_thread")]
async fn an_unroutable_command_is_not_taken_for_an_expired_one() {
    let edge = Edge::start().await;
    let topology = edge.broker.topology();
    let bound = edge.client.channel.queue_bind(
        topology.returned().into(),
        topology.unroutable().into(),
        "".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.unwrap();
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id("r1".into());
    let body = json("x", 1);
    edge.client
        .publish(
            &topology.commands(),
            "sms.sned",
            properties,
            body.as_bytes(),
        )
        .await;
    // One by each way.
    for _ in 0..2 {
        assert_eq!(next_reason(&edge).await.as_deref(), Some("UNROUTABLE"));
    }
    assert!(edge.sender.seen().is_empty());
    edge.stop().await;
}

/// What a shutdown hands back has neither the exchange nor the `x-death` that told why the broker returned it.
#[tokio::test(flavor = "multi_thread")]
async fn a_returned_command_that_a_shutdown_hands_back_keeps_its_reason() {
    let edge = Edge::start().await;
    // Commands arrive all the time, also while the consumers wait for the last deliveries.
    let (channel, commands) = (
        edge.client.channel.clone(),
        edge.broker.topology().commands(),
    );
    let publishing = tokio::spawn(async move {
        for n in 0.. {
            let properties = BasicProperties::default()
                .with_delivery_mode(2)
                .with_message_id(format!("r{n}").into());
            let options = BasicPublishOptions::default();
            let (exchange, body) = (commands.as_str().into(), json("x", 1));
            let published = channel.basic_publish(
                exchange,
                "sms.sned".into(),
                options,
                body.as_bytes(),
                properties,
            );
            published.await.unwrap().await.unwrap();
        }
    });
    edge.client.take(&edge.broker.topology().dead()).await;
    let (broker, client) = stop(edge).await;
    publishing.abort();
    let topology = broker.topology();
    let mut copies = Vec::new();
    while let Some(delivery) = client.try_take(&topology.returned()).await {
        if has_header(&delivery, "smsbridge-first-seen") {
            copies.push(delivery);
        }
    }
    assert!(!copies.is_empty(), "no command was handed back");
    let purged = client.channel.queue_purge(
        topology.dead().as_str().into(),
        QueuePurgeOptions::default(),
    );
    purged.await.unwrap();
    let mut ids = BTreeSet::new();
    for copy in &copies {
        ids.insert(copy.properties.message_id().as_ref().unwrap().to_string());
        let properties = copy.properties.clone();
        client
            .publish("", &topology.returned(), properties, &copy.data)
            .await;
    }
    let edge = start_again(broker).await;
    while !ids.is_empty() {
        let letter = edge.client.take(&topology.dead()).await;
        let headers = letter.properties.headers().as_ref();
        let reason = text_header(headers, "smsbridge-reason");
        assert_eq!(reason.as_deref(), Some("UNROUTABLE"));
        ids.remove(letter.properties.message_id().as_ref().unwrap().as_str());
    }
    assert!(edge.sender.seen().is_empty());
    stop(edge).await;
}

/// A body of at least `bytes` bytes.
fn long_body(text: &str, bytes: usize) -> Vec<u8> {
    let mut body = json(text, 1).into_bytes();
    body.resize(bytes.max(body.len()), b' ');
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_above_the_size_limit_is_a_dead_letter() {
    let edge = Edge::start().await;
    let properties = BasicProperties::default().with_message_id("r1".into());
    edge.publish("sms.send", properties, &long_body("good", 4 * MIB))
        .await;
    edge.await_events("send.accepted", 1).await;
    let properties = BasicProperties::default().with_message_id("r2".into());
    edge.publish("sms.send", properties, &long_body("good", 4 * MIB + 1))
        .await;
    assert_eq!(
        next_reason(&edge).await.as_deref(),
        Some("MESSAGE_TOO_LARGE")
    );
    let events = edge.await_events("command.invalid", 1).await;
    assert!(
        matches!(&events[0].payload, Some(Payload::InvalidCommand(invalid))
        if invalid.detail.contains("4194305") && invalid.detail.contains("4194304")),
        "{events:?}"
    );
    edge.stop().await;
}

/// Two million empty messages fit into 4 MiB and take a hundred times as much when they are decoded.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_of_too_many_messages_is_a_dead_letter_without_being_decoded() {
    let edge = Edge::start().await;
    let json = format!(r#"{{"messages":[{}{{}}]}}"#, "{},".repeat(100_000));
    let binary = [0x1a, 0].repeat(100_000);
    for (content_type, body) in [
        ("application/json", json.into_bytes()),
        ("application/protobuf", binary),
    ] {
        let properties = BasicProperties::default()
            .with_type("smsbridge.v1.SendSmsBulkRequest".into())
            .with_content_type(content_type.into());
        edge.publish("sms.send", properties, &body).await;
        assert_eq!(
            next_reason(&edge).await.as_deref(),
            Some("MESSAGE_TOO_LARGE")
        );
    }
    edge.stop().await;
}

/// Memory is bounded by bytes, beside the count of deliveries.
#[tokio::test(flavor = "multi_thread")]
async fn long_commands_wait_for_room_in_bytes() {
    let edge = Edge::start().await;
    for n in 0..8 {
        let properties = BasicProperties::default().with_message_id(format!("r{n}").into());
        edge.publish("sms.send", properties, &long_body("held", 3 * MIB))
            .await;
    }
    await_count(&edge, "held", 5).await;
    // The other queue has a budget of its own.
    let properties = BasicProperties::default().with_message_id("urgent".into());
    edge.publish("sms.send.urgent", properties, json("good", 1).as_bytes())
        .await;
    edge.await_events("send.accepted", 1).await;
    assert_eq!(edge.sender.count("held"), 5);
    edge.sender.held.add_permits(8);
    edge.await_events("send.accepted", 9).await;
    edge.stop().await;
}

/// The commands of a lost session keep the room of their queue. Its consumer waits for room, and must notice that the next
/// session is lost too.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_without_room_does_not_keep_the_others_from_a_new_session() {
    let (edge, proxy) = edge_over_a_relay().await;
    for n in 0..PREFETCH {
        edge.publish_text(&format!("r{n}"), "held").await;
    }
    await_count(&edge, "held", PREFETCH).await;
    let normal = edge.broker.topology().send_normal();
    for _ in 0..2 {
        proxy.down();
        await_session(&edge, false).await;
        proxy.up();
        await_session(&edge, true).await;
        // They were delivered again.
        eventually("the queue is empty", async || {
            (waiting(&edge.client, &normal).await == 0).then_some(())
        })
        .await;
    }
    let properties = BasicProperties::default().with_message_id("urgent".into());
    edge.publish("sms.send.urgent", properties, json("good", 1).as_bytes())
        .await;
    edge.await_events("send.accepted", 1).await;
    edge.sender.held.add_permits(PREFETCH);
    edge.await_events("send.accepted", PREFETCH + 1).await;
    assert_eq!(edge.sender.count("held"), PREFETCH);
    edge.stop().await;
}

/// A full queue is no failure of the command: it keeps its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_waits_in_the_process_while_the_queue_is_full() {
    let edge = Edge::start().await;
    edge.sender.is_full.store(true, Ordering::SeqCst);
    edge.publish_text("r1", "good").await;
    let retry = retry_queue(&edge.broker);
    eventually("there is still no room", async || {
        let moved = edge.client.try_take(&retry).await;
        assert!(moved.is_none(), "it went to a retry queue");
        (edge.sender.count("good") >= 4).then_some(())
    })
    .await;
    edge.sender.is_full.store(false, Ordering::SeqCst);
    edge.await_events("send.accepted", 1).await;
    assert!(
        arrivals(&edge)
            .iter()
            .all(|arrival| *arrival == Arrival::First)
    );
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_wait_for_room_go_back_untried_at_a_shutdown() {
    const COUNT: usize = 5;
    let edge = Edge::start().await;
    edge.sender.is_full.store(true, Ordering::SeqCst);
    for n in 0..COUNT {
        edge.publish_text(&format!("r{n}"), "good").await;
    }
    await_delivered(&edge).await;
    let (broker, client) = stop(edge).await;
    for _ in 0..COUNT {
        let back = client.take(&broker.topology().send_normal()).await;
        assert!(!back.redelivered);
        let headers = back.properties.headers().as_ref();
        assert_eq!(number_header(headers, "smsbridge-attempt"), None);
        assert!(!has_header(&back, "smsbridge-in-doubt"));
    }
    assert!(client.try_take(&retry_queue(&broker)).await.is_none());
}

/// Each question costs the work of a whole command, and a new command must not take the room for which others wait.
#[tokio::test(flavor = "multi_thread")]
async fn new_commands_do_not_ask_for_room_before_those_that_wait() {
    const COUNT: usize = 50;
    let edge = Edge::start().await;
    edge.sender.is_full.store(true, Ordering::SeqCst);
    edge.publish_text("first", "good").await;
    await_count(&edge, "good", 2).await;
    for n in 1..COUNT {
        edge.publish_text(&format!("r{n}"), "good").await;
    }
    await_delivered(&edge).await;
    let before = edge.sender.count("good");
    await_count(&edge, "good", before + 8).await;
    let asked: BTreeSet<_> = edge
        .sender
        .seen()
        .into_iter()
        .map(|command| command.request.request_id)
        .collect();
    // After five seconds without room the next one has its turn.
    assert!(asked.len() < 5, "{asked:?}");
    edge.sender.is_full.store(false, Ordering::SeqCst);
    edge.await_events("send.accepted", COUNT).await;
    edge.stop().await;
}

/// Otherwise it would be sent beside the delivery that another replica may have got.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_waits_for_room_is_given_up_with_its_session() {
    let (edge, proxy) = edge_over_a_relay().await;
    edge.sender.is_full.store(true, Ordering::SeqCst);
    edge.publish_text("r1", "good").await;
    await_count(&edge, "good", 2).await;
    proxy.down();
    await_session(&edge, false).await;
    let before = edge.sender.count("good");
    proxy.up();
    await_session(&edge, true).await;
    // The delivery of the new session waits too.
    await_count(&edge, "good", before + 2).await;
    edge.sender.is_full.store(false, Ordering::SeqCst);
    edge.await_events("send.accepted", 1).await;
    assert_eq!(arrivals(&edge).last(), Some(&Arrival::Redelivered));
    edge.stop().await;
}

/// It waits for another delivery of its command. The broker delivers it again, to another replica perhaps.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_session_is_lost_while_it_waits_is_not_sent() {
    let (edge, proxy) = edge_over_a_relay().await;
    edge.publish_text("r1", "held").await;
    await_count(&edge, "held", 1).await;
    let mut headers = FieldTable::default();
    headers.insert("smsbridge-may-have-twin".into(), AMQPValue::Boolean(true));
    let properties = BasicProperties::default()
        .with_app_id("billing".into())
        .with_message_id("r1".into())
        .with_headers(headers);
    edge.publish("sms.send", properties, json("held", 1).as_bytes())
        .await;
    await_delivered(&edge).await;
    proxy.down();
    await_session(&edge, false).await;
    edge.sender.held.add_permits(2);
    edge.await_events("send.accepted", 1).await;
    proxy.up();
    await_session(&edge, true).await;
    // One redelivery is acknowledged for the first delivery, the other one is looked up.
    await_count(&edge, "held", 2).await;
    assert_eq!(arrivals(&edge), [Arrival::First, Arrival::Redelivered]);
    edge.stop().await;
}

/// Under a backlog the limit of deliveries is reached. Each acknowledgement lets the broker deliver another command, until the
/// cancellation is carried out; what arrives after its reply is lost by the client and delivered again as tried.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_backlog_looks_tried_after_a_shutdown() {
    const BACKLOG: usize = 1_000;
    let edge = Edge::start().await;
    for n in 0..BACKLOG {
        edge.publish_text(&format!("r{n}"), "held").await;
    }
    await_count(&edge, "held", PREFETCH).await;
    // Commands end all the time.
    let sender = edge.sender.clone();
    let ending = tokio::spawn(async move {
        loop {
            sender.held.add_permits(1);
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    });
    await_count(&edge, "held", PREFETCH + 50).await;
    let sender = edge.sender.clone();
    let (broker, client) = stop(edge).await;
    ending.abort();
    let mut left = 0;
    let mut tried = Vec::new();
    let queue = broker.topology().send_normal();
    while let Some(delivery) = client.try_take(&queue).await {
        left += 1;
        if delivery.redelivered {
            let id = delivery.properties.message_id().as_ref();
            tried.push(id.unwrap().to_string());
        }
    }
    assert!(tried.is_empty(), "{tried:?}");
    assert_eq!(left + sender.count("held"), BACKLOG);
}
