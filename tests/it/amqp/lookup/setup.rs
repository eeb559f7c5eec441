//! What the tests of look-ups by commands share: commands that look numbers up, their results, and what was paid for.
//!
//! Neighbour: `amqp::custody` has the bridge with a broker that this extends.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use lapin::{BasicProperties, message::Delivery, options::QueueDeclareOptions, types::FieldTable};
use serde_json::{Value, json};
use smsbridge::{
    amqp::headers::text_header,
    proto::v1::{self, NumberLookup, event::Payload},
};

use crate::{
    amqp::custody::Setup,
    support::{
        broker::{Client, TestBroker},
        eventually,
        simulator::TestSimulator,
    },
};

pub(crate) const LOOKUP_PATH: &str = "/number/1/query";

pub(crate) fn number(n: usize) -> String {
    format!("41793{n:06}")
}

pub(super) fn numbers(range: Range<usize>) -> Vec<String> {
    range.map(number).collect()
}

pub(crate) fn with_id(request_id: &str) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_app_id("billing".into())
        .with_message_id(request_id.into())
}

/// Publishes a command without waiting for anything but the confirm.
pub(crate) async fn publish(
    broker: &TestBroker,
    client: &Client,
    properties: BasicProperties,
    to: &[String],
) {
    let body = json!({"to": to}).to_string();
    let commands = broker.topology().commands();
    client
        .publish(&commands, "number.lookup", properties, body.as_bytes())
        .await;
}

/// How often each number was paid for.
pub(crate) async fn paid(simulator: &TestSimulator) -> BTreeMap<String, u64> {
    let ledger = simulator.get("/_sim/lookups").await;
    let rows = ledger["lookups"].as_array().unwrap().iter();
    rows.map(|row| {
        let to = row["to"].as_str().unwrap().to_owned();
        (to, row["count"].as_u64().unwrap())
    })
    .collect()
}

/// The number of messages that wait in a queue, and of its consumers.
pub(super) async fn messages_and_consumers(client: &Client, queue: &str) -> (u32, u32) {
    let passive = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let channel = &client.channel;
    let queue = channel.queue_declare(queue.into(), passive, FieldTable::default());
    let queue = queue.await.unwrap();
    (queue.message_count(), queue.consumer_count())
}

/// The reason of the refusal; empty if the number was answered.
pub(super) fn reason(result: &NumberLookup) -> &str {
    result.refusal.as_ref().map_or("", |one| &one.reason)
}

fn assert_each_once(paid: &BTreeMap<String, u64>) {
    assert!(paid.values().all(|times| *times == 1), "{paid:?}");
}

impl Setup {
    pub(super) async fn publish_lookup(&self, properties: BasicProperties, to: &[String]) {
        publish(&self.broker, &self.client, properties, to).await;
    }

    /// One command for each number; the request id of number 7 is `r7`.
    pub(super) async fn publish_each(&self, range: Range<usize>) {
        for n in range {
            let id = format!("r{n}");
            self.publish_lookup(with_id(&id), &numbers(n..n + 1)).await;
        }
    }

    /// A fault of the path of look-ups.
    pub(super) async fn fault(&self, mut fault: Value) {
        fault["path"] = LOOKUP_PATH.into();
        self.simulator.fault(fault).await;
    }

    /// The results of numbers, by number. Events with equal ids count once, the first.
    async fn lookups(&self) -> BTreeMap<String, NumberLookup> {
        let (mut ids, mut results) = (BTreeSet::new(), BTreeMap::new());
        for event in self.bridge.all_events().await {
            if event.r#type != "lookup.completed" || !ids.insert(event.id) {
                continue;
            }
            let Some(Payload::Lookup(lookup)) = event.payload else {
                panic!("an event without a look-up")
            };
            assert_eq!(event.source_payload, lookup.source_payload);
            let twice = results.insert(lookup.to.clone(), *lookup);
            assert!(twice.is_none(), "two results: {twice:?}");
        }
        results
    }

    /// Waits until so many numbers have a result.
    pub(super) async fn completed(&self, count: usize) -> BTreeMap<String, NumberLookup> {
        eventually("all have a result", async || {
            let results = self.lookups().await;
            (results.len() == count).then_some(results)
        })
        .await
    }

    /// Waits until so many numbers have a result, and asserts that no result is a refusal.
    pub(super) async fn answered(&self, count: usize) -> BTreeMap<String, NumberLookup> {
        let results = self.completed(count).await;
        let refused: Vec<_> = results
            .values()
            .filter(|one| one.refusal.is_some())
            .collect();
        assert!(refused.is_empty(), "{refused:?}");
        results
    }

    pub(super) async fn requests(&self) -> usize {
        let paths = self.simulator.paths().await;
        paths.iter().filter(|path| *path == LOOKUP_PATH).count()
    }

    /// Waits until the API has carried out requests for so many numbers.
    pub(super) async fn until_paid(&self, count: usize) {
        eventually("the API has the requests", async || {
            (paid(&self.simulator).await.len() == count).then_some(())
        })
        .await;
    }

    pub(super) async fn assert_none_paid_twice(&self) {
        assert_each_once(&paid(&self.simulator).await);
    }

    pub(super) async fn assert_paid_once(&self, count: usize) {
        let paid = paid(&self.simulator).await;
        assert_eq!(paid.len(), count);
        assert_each_once(&paid);
    }

    /// Takes a dead letter with this reason.
    pub(super) async fn take_dead(&self, expected: &str) -> Delivery {
        let dead = self.client.take(&self.broker.topology().dead()).await;
        let headers = dead.properties.headers().as_ref();
        let reason = text_header(headers, "smsbridge-reason");
        assert_eq!(reason.as_deref(), Some(expected));
        dead
    }

    /// Takes the event of a number from a queue that is bound to the exchange of events.
    pub(super) async fn take_result(&self, queue: &str) -> NumberLookup {
        let event = self.client.take(queue).await;
        let event: v1::Event = serde_json::from_slice(&event.data).unwrap();
        let Some(Payload::Lookup(lookup)) = event.payload else {
            panic!("no look-up")
        };
        *lookup
    }

    /// Checks that the queues are empty when the bridge has stopped.
    pub(super) async fn stop(self) {
        self.bridge.stop().await;
        for queue in ["lookup", "returned", "retry.1s", "retry.10s", "retry.60s"] {
            let queue = format!("{}.{queue}", self.broker.prefix);
            let left = self.client.try_take(&queue).await;
            assert!(left.is_none(), "left in {queue}: {left:?}");
        }
    }
}
