//! The publisher of the commands, and its record: what it published, and what the broker confirmed.
//!
//! A command with a request id is published again until it is confirmed. One without is published once: to repeat it would be to
//! send it twice. Whether an unconfirmed one is in a queue is not known.

use std::time::Duration;

use jiff::Timestamp;
use lapin::{
    BasicProperties,
    options::BasicPublishOptions,
    types::{AMQPValue, FieldTable},
};
use rand::{RngExt as _, rngs::StdRng};
use serde_json::json;
use smsbridge::proto::v1::{self, outbound_message::Content};
use tokio::sync::mpsc;

use crate::support::broker::{Client, TestBroker};

/// Numbers with this prefix are rejected by the API.
pub const REJECTED_PREFIX: &str = "4179";
const ACCEPTED_PREFIX: &str = "4178";
/// The header with the index of the command. The bridge keeps it on copies and dead letters.
pub const INDEX_HEADER: &str = "x-crash-test-index";
/// Publications that wait for confirms together.
const CHUNK: usize = 50;
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);
const RECONNECT_INTERVAL: Duration = Duration::from_millis(200);

/// A command. Each of its destinations has a number that no other has.
#[derive(Debug, Clone)]
pub struct Command {
    pub index: usize,
    /// Empty: none.
    pub request_id: String,
    pub numbers: Vec<String>,
    /// It cannot be decoded, and must become a dead letter.
    pub is_invalid: bool,
    routing_key: &'static str,
    properties: BasicProperties,
    body: Vec<u8>,
}

/// A command and what became of its publication.
pub struct Record {
    pub command: Command,
    pub published: Vec<Timestamp>,
    pub is_confirmed: bool,
}

/// Draws commands with consecutive indices and numbers.
#[derive(Default)]
pub struct Commands {
    commands: usize,
    numbers: usize,
}

impl Commands {
    /// Commands with a request id and one destination each, which the API accepts.
    pub fn plain(count: usize) -> Vec<Command> {
        let one = |index: usize| {
            let request_id = format!("r{index}");
            let to = format!("{ACCEPTED_PREFIX}{index:07}");
            let command = json!({"message":
                {"from": "InfoSMS", "destinations": [{"to": to}], "text": format!("c{index}")}});
            Command {
                index,
                numbers: vec![to],
                is_invalid: false,
                routing_key: "sms.send",
                properties: BasicProperties::default()
                    .with_delivery_mode(2)
                    .with_message_id(request_id.as_str().into()),
                body: command.to_string().into_bytes(),
                request_id,
            }
        };
        (0..count).map(one).collect()
    }

    pub fn draw(&mut self, random: &mut StdRng, count: usize) -> Vec<Command> {
        (0..count).map(|_| self.one(random)).collect()
    }

    fn one(&mut self, random: &mut StdRng) -> Command {
        let index = self.commands;
        self.commands += 1;
        let mut numbers = Vec::new();
        let (is_bulk, messages, most_destinations) = match random.random_range(0..100) {
            0..60 => (false, 1, 1),
            60..75 => (false, 1, 5),
            _ => (true, random.random_range(1..=4), 3),
        };
        let messages = (0..messages).map(|_| {
            let destinations = (0..random.random_range(1..=most_destinations)).map(|_| {
                let prefix = match random.random_bool(0.02) {
                    true => REJECTED_PREFIX,
                    false => ACCEPTED_PREFIX,
                };
                let to = format!("{prefix}{:07}", self.numbers);
                self.numbers += 1;
                numbers.push(to.clone());
                v1::Destination {
                    to,
                    message_id: String::new(),
                }
            });
            v1::OutboundMessage {
                from: "InfoSMS".into(),
                destinations: destinations.collect(),
                content: Some(Content::Text(format!("c{index}"))),
                ..Default::default()
            }
        });
        let mut messages: Vec<_> = messages.collect();
        let request_id = match random.random_bool(0.75) {
            true => format!("r{index}"),
            false => String::new(),
        };
        let is_in_body = random.random_bool(0.2);
        let in_body = match is_in_body {
            true => request_id.clone(),
            false => String::new(),
        };
        let mut headers = FieldTable::default();
        let number = i64::try_from(index).unwrap();
        headers.insert(INDEX_HEADER.into(), AMQPValue::LongLongInt(number));
        let mut properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_headers(headers);
        if !request_id.is_empty() && !is_in_body {
            properties = properties.with_message_id(request_id.as_str().into());
        }
        let is_binary = random.random_bool(0.2);
        let is_invalid = random.random_bool(0.01);
        let body = if is_invalid {
            json!({"message": {"from": "InfoSMS", "text": format!("c{index}"), "nonsense": 1}})
                .to_string()
                .into_bytes()
        } else if is_bulk {
            properties = properties.with_type("smsbridge.v1.SendSmsBulkRequest".into());
            let request = v1::SendSmsBulkRequest {
                request_id: in_body,
                messages,
                ..Default::default()
            };
            encode(&request, is_binary)
        } else {
            let request = v1::SendSmsRequest {
                request_id: in_body,
                message: messages.pop(),
                ..Default::default()
            };
            encode(&request, is_binary)
        };
        if is_binary && !is_invalid {
            properties = properties.with_content_type("application/protobuf".into());
        }
        let is_urgent = random.random_bool(0.2);
        Command {
            index,
            // The body of an invalid command has none.
            request_id: match is_invalid && is_in_body {
                true => String::new(),
                false => request_id,
            },
            numbers: match is_invalid {
                true => Vec::new(),
                false => numbers,
            },
            is_invalid,
            routing_key: match is_urgent {
                true => "sms.send.urgent",
                false => "sms.send",
            },
            properties,
            body,
        }
    }
}

fn encode<T: prost::Message + serde::Serialize>(request: &T, is_binary: bool) -> Vec<u8> {
    match is_binary {
        true => request.encode_to_vec(),
        false => serde_json::to_vec(request).unwrap(),
    }
}

/// Publishes what it receives, until the channel closes; returns the record.
pub async fn produce(broker: TestBroker, mut batches: mpsc::Receiver<Vec<Command>>) -> Vec<Record> {
    let exchange = broker.topology().commands();
    let mut records: Vec<Record> = Vec::new();
    let mut client = None;
    while let Some(commands) = batches.recv().await {
        let first = records.len();
        records.extend(commands.into_iter().map(|command| Record {
            command,
            published: Vec::new(),
            is_confirmed: false,
        }));
        for chunk in records[first..].chunks_mut(CHUNK) {
            let mut open: Vec<&mut Record> = chunk.iter_mut().collect();
            while !open.is_empty() {
                let connected = match client.take() {
                    Some(connected) => connected,
                    None => connect(&broker).await,
                };
                let is_working = publish(&connected, &exchange, &mut open).await;
                client = is_working.then_some(connected);
                open.retain(|record| {
                    let may_repeat =
                        !record.command.request_id.is_empty() || record.published.is_empty();
                    !record.is_confirmed && may_repeat
                });
            }
        }
    }
    records
}

async fn connect(broker: &TestBroker) -> Client {
    loop {
        if let Ok(client) = broker.try_client().await {
            return client;
        }
        tokio::time::sleep(RECONNECT_INTERVAL).await;
    }
}

/// Publishes the commands and notes which are confirmed. Returns whether the connection works.
async fn publish(client: &Client, exchange: &str, records: &mut [&mut Record]) -> bool {
    let mut is_working = true;
    let mut confirms = Vec::new();
    for (place, record) in records.iter_mut().enumerate() {
        record.published.push(Timestamp::now());
        let command = &record.command;
        let published = client.channel.basic_publish(
            exchange.into(),
            command.routing_key.into(),
            BasicPublishOptions::default(),
            &command.body,
            command.properties.clone(),
        );
        match tokio::time::timeout(CONFIRM_TIMEOUT, published).await {
            Ok(Ok(confirm)) => confirms.push((place, confirm)),
            _ => {
                is_working = false;
                break;
            }
        }
    }
    for (place, confirm) in confirms {
        match tokio::time::timeout(CONFIRM_TIMEOUT, confirm).await {
            Ok(Ok(confirmation)) => records[place].is_confirmed = confirmation.is_ack(),
            _ => is_working = false,
        }
    }
    is_working
}
