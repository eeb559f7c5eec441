//! The exchanges, queues and bindings that the bridge needs, and their declaration.
//!
//! The bridge declares all of them in every new session, so that deleted ones come back; `smsbridge topology` prints them.
//! RabbitMQ 3.10 and 4.x accept the same arguments. Only what is used is declared: a command with another routing key is
//! unroutable and is dead-lettered.

use std::time::Duration;

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{AmqpError, headers::text};
use crate::config;

/// Deliveries of one command before the broker dead-letters it. Only a backstop, because a crash counts as a delivery of
/// every prefetched command (docs/DECISIONS.md#lapin).
const DELIVERY_LIMIT: i32 = 1000;
/// The delays of the retry queues.
pub const RETRY_DELAYS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(60),
];
/// The header by which the retry exchange selects the queue with that delay.
pub const RETRY_DELAY_HEADER: &str = "smsbridge-delay";
/// Size of a stream segment. Retention removes whole segments.
const STREAM_SEGMENT_BYTES: i64 = 50_000_000;

/// The names and declarations under one prefix.
#[derive(Debug, Clone)]
pub struct Topology {
    prefix: String,
    stream_retention: Duration,
}

#[derive(Debug, Clone)]
pub struct Exchange {
    pub name: String,
    pub kind: ExchangeKind,
    pub arguments: FieldTable,
}

#[derive(Debug, Clone)]
pub struct Queue {
    pub name: String,
    /// Includes `x-queue-type`.
    pub arguments: FieldTable,
}

#[derive(Debug, Clone)]
pub struct Binding {
    pub queue: String,
    pub exchange: String,
    /// The binding key.
    pub routing_key: String,
    pub arguments: FieldTable,
}

impl Topology {
    #[must_use]
    pub fn new(amqp: &config::Amqp) -> Self {
        Self {
            prefix: amqp.prefix.clone(),
            stream_retention: amqp.stream_retention,
        }
    }

    fn name(&self, rest: &str) -> String {
        format!("{}.{rest}", self.prefix)
    }

    /// The exchange that commands are published to.
    #[must_use]
    pub fn commands(&self) -> String {
        self.name("commands")
    }

    /// The alternate exchange of `commands`: gets commands with an unknown routing key.
    #[must_use]
    pub fn unroutable(&self) -> String {
        self.name("unroutable")
    }

    /// The queue of commands that are sent with normal priority.
    #[must_use]
    pub fn send_normal(&self) -> String {
        self.name("send.normal")
    }

    /// The queue of commands that are sent before normal ones.
    #[must_use]
    pub fn send_urgent(&self) -> String {
        self.name("send.urgent")
    }

    /// The exchange of delayed retries. A message's [`RETRY_DELAY_HEADER`] selects the retry queue; its routing key is the
    /// queue that it returns to after the delay.
    #[must_use]
    pub fn retry(&self) -> String {
        self.name("retry")
    }

    /// The queue of commands that the broker dead-lettered (expired, delivery limit) or could not route.
    #[must_use]
    pub fn returned(&self) -> String {
        self.name("returned")
    }

    /// The queue of dead letters.
    #[must_use]
    pub fn dead(&self) -> String {
        self.name("dead")
    }

    /// The exchange of all events.
    #[must_use]
    pub fn events(&self) -> String {
        self.name("events")
    }

    /// The stream that stores all events.
    #[must_use]
    pub fn events_log(&self) -> String {
        self.name("events.log")
    }

    /// The queue of authenticated webhook bodies that cannot be read.
    #[must_use]
    pub fn quarantine(&self) -> String {
        self.name("quarantine")
    }

    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        let exchange = |name, kind, arguments| Exchange {
            name,
            kind,
            arguments,
        };
        vec![
            exchange(self.unroutable(), ExchangeKind::Fanout, table([])),
            exchange(
                self.commands(),
                ExchangeKind::Topic,
                table([("alternate-exchange", text(&self.unroutable()))]),
            ),
            exchange(self.retry(), ExchangeKind::Headers, table([])),
            exchange(self.events(), ExchangeKind::Topic, table([])),
        ]
    }

    #[must_use]
    pub fn queues(&self) -> Vec<Queue> {
        let command_arguments = table([
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT)),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(&self.returned())),
            // The broker dead-letters with confirms; that strategy requires reject-publish.
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ]);
        // Practically no delivery limit: RabbitMQ 4.x drops a message after 20 deliveries by default.
        let kept = table([
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", AMQPValue::LongInt(i32::MAX)),
        ]);
        let mut queues = vec![
            Queue {
                name: self.send_normal(),
                arguments: command_arguments.clone(),
            },
            Queue {
                name: self.send_urgent(),
                arguments: command_arguments,
            },
            Queue {
                name: self.returned(),
                arguments: kept.clone(),
            },
            Queue {
                name: self.dead(),
                arguments: kept.clone(),
            },
            Queue {
                name: self.quarantine(),
                arguments: kept,
            },
            Queue {
                name: self.events_log(),
                arguments: table([
                    ("x-queue-type", text("stream")),
                    (
                        "x-max-age",
                        text(&format!("{}s", self.stream_retention.as_secs())),
                    ),
                    (
                        "x-stream-max-segment-size-bytes",
                        AMQPValue::LongLongInt(STREAM_SEGMENT_BYTES),
                    ),
                ]),
            },
        ];
        queues.extend(RETRY_DELAYS.map(|delay| Queue {
            name: self.retry_queue(delay),
            arguments: table([
                ("x-queue-type", text("quorum")),
                ("x-message-ttl", AMQPValue::LongLongInt(milliseconds(delay))),
                // The default exchange with the message's own routing key: back to the queue of that name.
                ("x-dead-letter-exchange", text("")),
                ("x-dead-letter-strategy", text("at-least-once")),
                ("x-overflow", text("reject-publish")),
            ]),
        }));
        queues
    }

    #[must_use]
    pub fn bindings(&self) -> Vec<Binding> {
        let binding = |queue, exchange, routing_key: &str, arguments| Binding {
            queue,
            exchange,
            routing_key: routing_key.to_owned(),
            arguments,
        };
        let mut bindings = vec![
            binding(self.returned(), self.unroutable(), "", table([])),
            binding(
                self.send_normal(),
                self.commands(),
                super::codec::SEND,
                table([]),
            ),
            binding(
                self.send_urgent(),
                self.commands(),
                super::codec::SEND_URGENT,
                table([]),
            ),
            binding(self.events_log(), self.events(), "#", table([])),
        ];
        bindings.extend(RETRY_DELAYS.map(|delay| {
            binding(
                self.retry_queue(delay),
                self.retry(),
                "",
                table([
                    ("x-match", text("all")),
                    (RETRY_DELAY_HEADER, text(&delay_name(delay))),
                ]),
            )
        }));
        bindings
    }

    fn retry_queue(&self, delay: Duration) -> String {
        self.name(&format!("retry.{}", delay_name(delay)))
    }

    /// Declares everything. An exchange or queue that exists with the same arguments stays as it is.
    ///
    /// # Errors
    /// [`AmqpError::Conflict`] if one exists with different arguments, else [`AmqpError::Lost`].
    pub async fn declare(&self, channel: &Channel) -> Result<(), AmqpError> {
        for exchange in self.exchanges() {
            let options = ExchangeDeclareOptions {
                durable: true,
                ..Default::default()
            };
            channel
                .exchange_declare(
                    short(&exchange.name)?,
                    exchange.kind,
                    options,
                    exchange.arguments,
                )
                .await
                .map_err(|error| declare_error(&exchange.name, error))?;
        }
        for queue in self.queues() {
            let options = QueueDeclareOptions {
                durable: true,
                ..Default::default()
            };
            channel
                .queue_declare(short(&queue.name)?, options, queue.arguments)
                .await
                .map_err(|error| declare_error(&queue.name, error))?;
        }
        for binding in self.bindings() {
            channel
                .queue_bind(
                    short(&binding.queue)?,
                    short(&binding.exchange)?,
                    short(&binding.routing_key)?,
                    QueueBindOptions::default(),
                    binding.arguments,
                )
                .await
                .map_err(|error| declare_error(&binding.queue, error))?;
        }
        Ok(())
    }
}

/// A delay as it is written in queue names and headers, such as `10s`.
#[must_use]
pub fn delay_name(delay: Duration) -> String {
    format!("{}s", delay.as_secs())
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).expect("retry delays are constants of at most a minute")
}

fn table<const N: usize>(entries: [(&'static str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}

/// Converts a name or routing key to an AMQP short string.
///
/// # Errors
/// [`AmqpError::Lost`] if it is longer than 255 bytes.
pub(super) fn short(name: &str) -> Result<ShortString, AmqpError> {
    ShortString::try_new(name)
        .map_err(|_| AmqpError::Lost(format!("`{name}` is longer than 255 bytes")))
}

fn declare_error(name: &str, error: lapin::Error) -> AmqpError {
    use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
    if let lapin::ErrorKind::ProtocolError(protocol) = error.kind()
        && matches!(
            protocol.kind(),
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)
        )
    {
        return AmqpError::Conflict {
            name: name.to_owned(),
            detail: protocol.get_message().to_string(),
        };
    }
    error.into()
}
