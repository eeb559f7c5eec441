//! Bare lapin beside the broker engine: the bodies of events that a bridge has published, published again to the same exchange and
//! bindings with confirms; and a consumer of the stream that decodes nothing.

use std::{collections::VecDeque, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Consumer, PublisherConfirm,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable, LongString},
};

use super::{Stopwatch, due, measure, measure_each, print_each};
use crate::{broker::Broker, confirm::connect, load::Measured};

/// Bodies that are published again and again.
const BODIES: usize = 1000;
/// Messages in flight: the best of these counts.
pub const IN_FLIGHT: [u16; 3] = [100, 1000, 5000];

/// Publishes events with the bodies of those in the stream of `from` to the exchange of another broker.
pub async fn publishing(from: &Broker, in_flight: u16, events: u64) -> Measured {
    let to = Broker::declare(&from.url).await;
    let (in_flight, count) = (in_flight.to_string(), events.to_string());
    let arguments = [
        "lapin-publish",
        &from.url,
        &from.prefix,
        &to.prefix,
        &in_flight,
        &count,
    ];
    let measured = measure(&arguments, events);
    to.delete().await;
    measured
}

/// Reads the stream from its first event.
pub fn reading(broker: &Broker, in_flight: u16, events: u64) -> Measured {
    let (in_flight, count) = (in_flight.to_string(), events.to_string());
    measure(
        &[
            "lapin-read",
            &broker.url,
            &broker.prefix,
            &in_flight,
            &count,
        ],
        events,
    )
}

/// Publishes single events at a pace. Returns how long each took to its confirm, from when it was due.
pub async fn publishing_singly(from: &Broker, per_second: u64, seconds: f64) -> Vec<Duration> {
    let to = Broker::declare(&from.url).await;
    let (per_second, seconds) = (per_second.to_string(), seconds.to_string());
    let took = measure_each(&[
        "lapin-single",
        &from.url,
        &from.prefix,
        &to.prefix,
        &per_second,
        &seconds,
    ]);
    to.delete().await;
    took
}

/// The peer of [`publishing`].
pub(super) async fn publish(url: &str, from: &str, to: &str, in_flight: &str, events: &str) {
    let (in_flight, events): (usize, usize) = (in_flight.parse().unwrap(), events.parse().unwrap());
    let bodies = bodies(url, from).await;
    let (_connection, channel) = connect(url).await;
    let exchange = format!("{to}.events");
    let mut confirms: VecDeque<PublisherConfirm> = VecDeque::with_capacity(in_flight);
    let stopwatch = Stopwatch::start();
    for body in bodies.iter().cycle().take(events) {
        if confirms.len() == in_flight {
            confirmed(confirms.pop_front()).await;
        }
        confirms.push_back(publish_one(&channel, &exchange, body).await);
    }
    while !confirms.is_empty() {
        confirmed(confirms.pop_front()).await;
    }
    stopwatch.stop();
}

/// The peer of [`reading`].
pub(super) async fn read(url: &str, prefix: &str, in_flight: &str, events: &str) {
    let (in_flight, events): (u16, u64) = (in_flight.parse().unwrap(), events.parse().unwrap());
    let (_connection, channel) = connect(url).await;
    let stopwatch = Stopwatch::start();
    let mut consumer = consume(&channel, prefix, in_flight).await;
    for event in 1..=events {
        let delivery = next(&mut consumer).await;
        if event % (u64::from(in_flight) / 2) == 0 {
            acknowledge(&delivery).await;
        }
    }
    stopwatch.stop();
}

/// The peer of [`publishing_singly`].
pub(super) async fn single(url: &str, from: &str, to: &str, per_second: &str, seconds: &str) {
    let bodies = bodies(url, from).await;
    let (_connection, channel) = connect(url).await;
    let exchange = format!("{to}.events");
    let mut waiting = Vec::new();
    for (body, due) in bodies.iter().cycle().zip(due(per_second, seconds)) {
        tokio::time::sleep_until(due.into()).await;
        let confirm = publish_one(&channel, &exchange, body).await;
        waiting.push(tokio::spawn(async move {
            confirmed(Some(confirm)).await;
            due.elapsed()
        }));
    }
    let mut took = Vec::new();
    for waiting in waiting {
        took.push(waiting.await.unwrap());
    }
    print_each(&took);
}

async fn publish_one(channel: &Channel, exchange: &str, body: &[u8]) -> PublisherConfirm {
    let persistent = BasicProperties::default().with_delivery_mode(2);
    channel
        .basic_publish(
            exchange.into(),
            "report.delivered.default".into(),
            BasicPublishOptions::default(),
            body,
            persistent,
        )
        .await
        .unwrap()
}

async fn confirmed(confirm: Option<PublisherConfirm>) {
    assert!(confirm.unwrap().await.unwrap().is_ack());
}

/// The bodies of the first events of a stream.
async fn bodies(url: &str, prefix: &str) -> Vec<Vec<u8>> {
    let (connection, channel) = connect(url).await;
    let mut consumer = consume(&channel, prefix, 100).await;
    let mut bodies = Vec::new();
    while bodies.len() < BODIES {
        let delivery = next(&mut consumer).await;
        acknowledge(&delivery).await;
        bodies.push(delivery.data);
    }
    connection.close(200, "done".into()).await.unwrap();
    bodies
}

async fn consume(channel: &Channel, prefix: &str, in_flight: u16) -> Consumer {
    channel
        .basic_qos(in_flight, BasicQosOptions::default())
        .await
        .unwrap();
    let mut first = FieldTable::default();
    let offset = AMQPValue::LongString(LongString::from("first"));
    first.insert("x-stream-offset".into(), offset);
    channel
        .basic_consume(
            format!("{prefix}.events.log").into(),
            "".into(),
            BasicConsumeOptions::default(),
            first,
        )
        .await
        .unwrap()
}

async fn next(consumer: &mut Consumer) -> Delivery {
    let next = tokio::time::timeout(Duration::from_secs(60), consumer.next()).await;
    next.expect("the stream has more events").unwrap().unwrap()
}

async fn acknowledge(delivery: &Delivery) {
    let multiple = BasicAckOptions { multiple: true };
    assert!(delivery.acker.ack(multiple).await.unwrap());
}
