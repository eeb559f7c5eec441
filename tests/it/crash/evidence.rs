//! What the broker and the API hold at the end: events, dead letters, messages that are left in queues, the ledger and the
//! requests. It is read with a client of its own, not with the code of the bridge.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use futures_util::StreamExt as _;
use lapin::{
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;
use smsbridge::proto::v1::{self, event::Payload};
use tokio::task::JoinHandle;

use super::producer::INDEX_HEADER;
use crate::support::{
    DEADLINE,
    broker::{Client, TestBroker},
    simulator::TestSimulator,
};

/// The queues that are empty when all commands are handled.
const COMMAND_QUEUES: [&str; 7] = [
    "send.normal",
    "send.urgent",
    "lookup",
    "returned",
    "retry.1s",
    "retry.10s",
    "retry.60s",
];
const PREFETCH: u16 = 1_000;
/// The type of the message that ends the reading of the stream.
const END_OF_RUN: &str = "end-of-run";

pub struct DeadLetter {
    /// The command's index, if the header has it.
    pub index: Option<usize>,
    pub reason: String,
}

pub struct Evidence {
    /// In the order of the stream.
    pub events: Vec<v1::Event>,
    pub dead: Vec<DeadLetter>,
    /// Messages in the command queues, by queue.
    pub left: BTreeMap<String, u32>,
    pub ledger: Vec<Value>,
    pub requests: Vec<Value>,
}

/// Reads the stream of events from its beginning.
pub struct EventTail {
    client: Client,
    stream: String,
    events: Arc<Mutex<Vec<v1::Event>>>,
    reading: JoinHandle<()>,
}

impl EventTail {
    pub async fn start(broker: &TestBroker) -> Self {
        let client = broker.client().await;
        let stream = format!("{}.events.log", broker.prefix);
        let channel = client.channel.clone();
        channel
            .basic_qos(PREFETCH, BasicQosOptions::default())
            .await
            .unwrap();
        let mut arguments = FieldTable::default();
        let first = AMQPValue::LongString("first".into());
        arguments.insert("x-stream-offset".into(), first);
        let mut consumer = channel
            .basic_consume(
                stream.as_str().into(),
                "".into(),
                BasicConsumeOptions::default(),
                arguments,
            )
            .await
            .unwrap();
        let events = Arc::new(Mutex::new(Vec::new()));
        let read = Arc::clone(&events);
        let reading = tokio::spawn(async move {
            while let Some(delivery) = consumer.next().await {
                let delivery = delivery.unwrap();
                delivery.ack(BasicAckOptions::default()).await.unwrap();
                let kind = delivery.properties.kind().as_ref();
                if kind.is_some_and(|kind| kind.as_str() == END_OF_RUN) {
                    return;
                }
                let event = serde_json::from_slice(&delivery.data).unwrap();
                read.lock().unwrap().push(event);
            }
            panic!("the stream ended");
        });
        Self {
            client,
            stream,
            events,
            reading,
        }
    }

    /// The numbers with a result among the events from `first` on, and the number of events.
    pub fn numbers_with_results(&self, first: usize) -> (BTreeSet<String>, usize) {
        let events = self.events.lock().unwrap();
        let numbers = events[first..].iter().filter_map(|event| {
            let Some(Payload::Result(result)) = &event.payload else {
                return None;
            };
            Some(result.to.clone())
        });
        (numbers.collect(), events.len())
    }

    /// How many numbers have the result of a look-up.
    pub fn looked_up(&self) -> usize {
        let events = self.events.lock().unwrap();
        let numbers = events.iter().filter_map(|event| match &event.payload {
            Some(Payload::Lookup(lookup)) => Some(lookup.to.as_str()),
            _ => None,
        });
        numbers.collect::<BTreeSet<_>>().len()
    }

    /// Reads up to the current end of the stream.
    pub async fn finish(self) -> Vec<v1::Event> {
        let properties = lapin::BasicProperties::default()
            .with_delivery_mode(2)
            .with_type(END_OF_RUN.into());
        self.client
            .publish("", &self.stream, properties, b"{}")
            .await;
        tokio::time::timeout(DEADLINE * 3, self.reading)
            .await
            .expect("the stream is read to its end")
            .unwrap();
        std::mem::take(&mut *self.events.lock().unwrap())
    }
}

/// The number of messages that wait in each command queue; queues without any are left out.
pub async fn waiting(client: &Client, prefix: &str) -> BTreeMap<String, u32> {
    let mut waiting = BTreeMap::new();
    for name in COMMAND_QUEUES {
        let queue = client.channel.queue_declare(
            format!("{prefix}.{name}").into(),
            QueueDeclareOptions {
                passive: true,
                ..Default::default()
            },
            FieldTable::default(),
        );
        let count = queue.await.unwrap().message_count();
        if count > 0 {
            waiting.insert(name.to_owned(), count);
        }
    }
    waiting
}

async fn dead_letters(client: &Client, prefix: &str) -> Vec<DeadLetter> {
    let mut dead = Vec::new();
    while let Some(letter) = client.try_take(&format!("{prefix}.dead")).await {
        let headers = letter.properties.headers().clone().unwrap_or_default();
        let index = match headers.inner().get(INDEX_HEADER) {
            Some(AMQPValue::LongLongInt(index)) => usize::try_from(*index).ok(),
            _ => None,
        };
        let reason = match headers.inner().get("smsbridge-reason") {
            Some(AMQPValue::LongString(reason)) => reason.to_string(),
            _ => String::new(),
        };
        dead.push(DeadLetter { index, reason });
    }
    dead
}

impl Evidence {
    /// Collects everything. The bridge has stopped.
    pub async fn collect(tail: EventTail, broker: &TestBroker, simulator: &TestSimulator) -> Self {
        let client = broker.client().await;
        Self {
            events: tail.finish().await,
            dead: dead_letters(&client, &broker.prefix).await,
            left: waiting(&client, &broker.prefix).await,
            ledger: simulator.all_final().await,
            requests: simulator.requests().await,
        }
    }
}
