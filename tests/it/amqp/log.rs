//! The broker engine of the event log: durability by confirms, reading from any cursor or time, no dependence on subscribers.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use smsbridge::{
    amqp::{AmqpError, Publisher},
    events::{
        AppendError, EventLog as _, NewEvent, Quarantine as _, Quarantined, ReadError, Start,
        broker::BrokerLog,
    },
    message::{applications::Applications, id::ApplicationName},
    ops::metrics::Metrics,
    proto::v1::{self, event::Payload},
};

use crate::support::broker::{Client, TestBroker};

pub(super) async fn log(broker: &TestBroker) -> BrokerLog {
    BrokerLog::new(
        broker.publisher().await,
        broker.endpoint(),
        broker.topology(),
        broker.config().confirm_timeout,
        Metrics::new(),
    )
}

pub(crate) fn accepted(message_id: &str) -> NewEvent {
    let result = v1::SendResult {
        to: "41793026727".into(),
        message_id: message_id.into(),
        outcome: v1::Outcome::Accepted.into(),
        ..Default::default()
    };
    NewEvent::send_result(
        &ApplicationName::parse("billing").unwrap(),
        "r1",
        Some([7; 16]),
        Box::new(result),
        jiff::Timestamp::now(),
    )
}

pub(super) fn report(wire_id: &str, group: v1::StatusGroup, is_final: bool) -> NewEvent {
    let report = v1::DeliveryReport {
        status: Some(v1::Status {
            name: group.as_str_name().into(),
            group: group.into(),
            ..Default::default()
        }),
        r#final: is_final,
        ..Default::default()
    };
    NewEvent::report(&Applications::default(), wire_id, report, String::new())
}

pub(super) async fn read_to_head(log: &BrokerLog, start: Start) -> Vec<v1::Event> {
    let mut stream = log.read(start, true).await.unwrap();
    let mut events = Vec::new();
    let reading = async {
        while let Some(batch) = stream.next().await {
            events.extend(batch.unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reading)
        .await
        .expect("a read to the head ends");
    events
}

pub(super) fn ids(events: &[v1::Event]) -> Vec<&str> {
    events
        .iter()
        .map(|event| match event.payload.as_ref().unwrap() {
            Payload::Result(result) => result.message_id.as_str(),
            Payload::Report(report) => report.message_id.as_str(),
            other => panic!("{other:?}"),
        })
        .collect()
}

/// A cursor older than the log gets an error; the reader does not silently start later.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_before_a_truncated_stream_is_out_of_range() {
    let broker = TestBroker::start().await;
    let log = log(&broker).await;
    let client = broker.client().await;
    // Opens the readers' session now, because a new session declares the stream with its usual arguments.
    read_to_head(&log, Start::Since(jiff::Timestamp::UNIX_EPOCH)).await;
    small_stream(&client, &broker, 2_000_000, 1_000_000).await;

    log.append(Arc::new(vec![accepted("oldest")]))
        .await
        .unwrap();
    let cursor = read_to_head(&log, Start::Since(jiff::Timestamp::UNIX_EPOCH)).await[0]
        .cursor
        .clone();
    let filler = "x".repeat(50_000);
    let mut oldest_cursor = None;
    for _ in 0..50 {
        let mut event = accepted("filler");
        event.event.source_payload.clone_from(&filler);
        log.append(Arc::new(vec![event; 20])).await.unwrap();
        match log.read(Start::After(cursor.clone()), true).await {
            Err(ReadError::OutOfRange {
                oldest_cursor: oldest,
                ..
            }) => {
                oldest_cursor = Some(oldest);
                break;
            }
            Err(error) => panic!("{error}"),
            Ok(mut events) => {
                let first = events.next().await.unwrap().unwrap();
                let is_next = first[0].cursor.starts_with("stream:1-");
                assert!(is_next, "no event was skipped silently");
            }
        }
    }
    let oldest_cursor = oldest_cursor.expect("the stream was truncated");
    let rest = read_to_head(&log, Start::After(oldest_cursor)).await;
    assert!(!rest.is_empty(), "the oldest cursor can be read from");
    log.close().await;
}

/// Replaces the stream of the bridge with an empty one that is truncated early.
pub(super) async fn small_stream(
    client: &Client,
    broker: &TestBroker,
    max_bytes: i64,
    segment_bytes: i64,
) {
    let stream = broker.topology().events_log();
    client
        .channel
        .queue_delete(stream.as_str().into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("stream"));
    arguments.insert(
        "x-max-length-bytes".into(),
        AMQPValue::LongLongInt(max_bytes),
    );
    arguments.insert(
        "x-stream-max-segment-size-bytes".into(),
        AMQPValue::LongLongInt(segment_bytes),
    );
    let options = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    client
        .channel
        .queue_declare(stream.as_str().into(), options, arguments)
        .await
        .unwrap();
    // As the bridge does: over the exchange in front of the stream too.
    client
        .channel
        .queue_bind(
            stream.as_str().into(),
            stream.as_str().into(),
            "".into(),
            Default::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    client
        .channel
        .queue_bind(
            stream.as_str().into(),
            broker.topology().events().as_str().into(),
            "#".into(),
            Default::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
}

/// An event is durable once the stream has confirmed it, even if a subscriber's queue refuses it (P5).
#[tokio::test(flavor = "multi_thread")]
async fn a_full_subscriber_queue_does_not_keep_events_out_of_the_stream() {
    let broker = TestBroker::start().await;
    let log = log(&broker).await;
    let client = broker.client().await;
    let full = client
        .bind_queue(
            &broker.topology().events(),
            "send.#",
            &[
                ("x-queue-type", text("quorum")),
                ("x-max-length", AMQPValue::LongInt(1)),
                ("x-overflow", text("reject-publish")),
            ],
        )
        .await;
    // A quorum queue starts to refuse shortly after it is full.
    let mut appended = 0;
    while log.stream_only_total() == 0 {
        assert!(appended < 200, "the queue never refused");
        log.append(Arc::new(vec![accepted(&format!("m{appended}"))]))
            .await
            .unwrap();
        appended += 1;
    }
    let mut read = read_to_head(&log, Start::Since(jiff::Timestamp::UNIX_EPOCH)).await;
    // After a nack from the exchange the stream may have the event twice, with the same id.
    read.dedup_by_key(|event| event.id.clone());
    let expected: Vec<String> = (0..appended).map(|n| format!("m{n}")).collect();
    assert_eq!(ids(&read), expected);
    assert!(client.try_take(&full).await.is_some());
    log.close().await;
}

/// P6, within one process.
#[tokio::test(flavor = "multi_thread")]
async fn a_pending_report_never_follows_a_final_one() {
    let broker = TestBroker::start().await;
    let log = log(&broker).await;
    use v1::StatusGroup::{Delivered, Pending};
    log.append(Arc::new(vec![report("billing.a", Pending, false)]))
        .await
        .unwrap();
    log.append(Arc::new(vec![
        report("billing.b", Delivered, true),
        report("billing.b", Pending, false),
    ]))
    .await
    .unwrap();
    log.append(Arc::new(vec![
        report("billing.b", Pending, false),
        report("billing.c", Pending, false),
    ]))
    .await
    .unwrap();
    let events = read_to_head(&log, Start::Since(jiff::Timestamp::UNIX_EPOCH)).await;
    assert_eq!(ids(&events), ["a", "b", "c"]);
    assert_eq!(
        Applications::default().owner("billing.a").0,
        events[0].application
    );
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_skip_messages_that_are_not_events() {
    let broker = TestBroker::start().await;
    let log = log(&broker).await;
    let client = broker.client().await;
    log.append(Arc::new(vec![accepted("m0")])).await.unwrap();
    let events = broker.topology().events();
    client
        .publish(&events, "send.accepted.billing", Default::default(), b"{")
        .await;
    log.append(Arc::new(vec![accepted("m1")])).await.unwrap();
    let read = read_to_head(&log, Start::Since(jiff::Timestamp::UNIX_EPOCH)).await;
    assert_eq!(ids(&read), ["m0", "m1"]);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantined_bodies_are_stored_unchanged() {
    let broker = TestBroker::start().await;
    let log = log(&broker).await;
    log.add(Quarantined {
        key: None,
        endpoint: "reports",
        content_type: "text/html".into(),
        body: "<html>".into(),
        detail: "no JSON".into(),
    })
    .await
    .unwrap();
    let client = broker.client().await;
    let kept = client.take(&broker.topology().quarantine()).await;
    assert_eq!(kept.data, b"<html>");
    let headers = kept.properties.headers().as_ref().unwrap().inner();
    assert_eq!(headers.get("smsbridge-endpoint"), Some(&text("reports")));
    assert_eq!(headers.get("smsbridge-detail"), Some(&text("no JSON")));
    log.close().await;
}

/// The error names the queue and the remedy.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_with_other_arguments_is_named_in_the_error() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let name = broker.topology().send_normal();
    client
        .channel
        .queue_declare(
            name.as_str().into(),
            QueueDeclareOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let error = broker
        .topology()
        .declare(&client.channel)
        .await
        .unwrap_err();
    assert!(matches!(error, AmqpError::Conflict { .. }), "{error}");
    let message = error.to_string();
    assert!(
        message.contains(&name) && message.contains("amqp.prefix"),
        "{message}"
    );
}

/// Concurrent publications do not get each other's confirms. An unroutable message is an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_publication_gets_its_own_confirm() {
    let broker = TestBroker::start().await;
    let publisher = broker.publisher().await;
    let message = |queue: &str| smsbridge::amqp::Message {
        exchange: String::new(),
        routing_key: queue.into(),
        properties: Default::default(),
        body: "x".into(),
    };
    let dead = broker.topology().dead();
    let publish = |publisher: Arc<Publisher>, message| async move {
        publisher.publish_mandatory(message).await
    };
    let mut tasks = Vec::new();
    for n in 0..200 {
        let queue = if n % 3 == 0 { "no-such-queue" } else { &dead };
        tasks.push((n, tokio::spawn(publish(publisher.clone(), message(queue)))));
    }
    for (n, task) in tasks {
        let outcome = task.await.unwrap();
        if n % 3 == 0 {
            assert!(
                matches!(outcome, Err(AmqpError::Unroutable { .. })),
                "{outcome:?}"
            );
        } else {
            outcome.unwrap();
        }
    }
    let client = broker.client().await;
    let mut stored = 0;
    while client.try_take(&dead).await.is_some() {
        stored += 1;
    }
    assert_eq!(stored, 133);
    publisher.close().await;
    assert!(!publisher.is_ready(), "a closed publisher is not ready");
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// The broker closes the connection on a message above its limit, which depends on its version and its configuration.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_too_large_is_refused_for_good() {
    let broker = TestBroker::start().await;
    let log = log(&broker).await;
    let mut large = accepted("large");
    large.event.source_payload = "x".repeat(9 * 1024 * 1024);
    let refused = log.append(Arc::new(vec![large])).await;
    let Err(error) = refused else {
        panic!("an event of 9 MiB was published")
    };
    assert!(
        !matches!(error, AppendError::Unavailable(_) | AppendError::Closed),
        "{error}"
    );
    log.append(Arc::new(vec![accepted("small")])).await.unwrap();
    log.close().await;
}
