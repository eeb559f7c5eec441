//! What the bridge needs on the broker, and declaring it.
//!
//! Everything is declared by the bridge itself, again by each session, so that it heals; `smsbridge topology` prints it.
//! RabbitMQ 3.10 and 4.x take the same arguments. Only what is used is declared: a routing key that nothing serves is
//! unroutable, and answered as such.

use std::time::Duration;

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, LongString, ShortString},
};

use super::AmqpError;
use crate::config;

/// Deliveries of one command before the broker gives it up: a backstop only, as a crash counts for everything that was
/// prefetched (docs/DECISIONS.md#lapin).
const DELIVERY_LIMIT: i32 = 1000;
/// The waits of commands that can't be carried out now.
pub const RETRY_DELAYS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(60),
];
/// The header by which `retry` finds the queue with the right wait.
pub const RETRY_DELAY_HEADER: &str = "smsbridge-delay";
/// Size of the stream's files: retention throws whole files away.
const STREAM_SEGMENT_BYTES: i64 = 50_000_000;

/// Names and declarations below one prefix.
#[derive(Debug, Clone)]
pub struct Topology {
    prefix: String,
    stream_retention: Duration,
}

/// One exchange.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// How it routes.
    pub kind: ExchangeKind,
    /// Its arguments.
    pub arguments: FieldTable,
}

/// One queue.
#[derive(Debug, Clone)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its arguments, of which `x-queue-type` is one.
    pub arguments: FieldTable,
}

/// One binding of a queue to an exchange.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The queue.
    pub queue: String,
    /// The exchange.
    pub exchange: String,
    /// The pattern.
    pub routing_key: String,
    /// Its arguments.
    pub arguments: FieldTable,
}

impl Topology {
    /// The topology that a configuration asks for.
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

    /// The exchange that takes commands.
    #[must_use]
    pub fn commands(&self) -> String {
        self.name("commands")
    }

    /// The exchange for commands that fit no queue.
    #[must_use]
    pub fn unroutable(&self) -> String {
        self.name("unroutable")
    }

    /// The queue of the normal lane.
    #[must_use]
    pub fn send_normal(&self) -> String {
        self.name("send.normal")
    }

    /// The queue of the urgent lane.
    #[must_use]
    pub fn send_urgent(&self) -> String {
        self.name("send.urgent")
    }

    /// The exchange that leads to the queue whose wait a message's [`RETRY_DELAY_HEADER`] names; the routing key is the
    /// queue to go back to.
    #[must_use]
    pub fn retry(&self) -> String {
        self.name("retry")
    }

    /// What the broker gives back: lapsed, delivered too often, or unroutable.
    #[must_use]
    pub fn returned(&self) -> String {
        self.name("returned")
    }

    /// What could not be handled.
    #[must_use]
    pub fn dead(&self) -> String {
        self.name("dead")
    }

    /// The exchange of all events.
    #[must_use]
    pub fn events(&self) -> String {
        self.name("events")
    }

    /// The stream that keeps all events.
    #[must_use]
    pub fn events_log(&self) -> String {
        self.name("events.log")
    }

    /// Authenticated bodies that cannot be read.
    #[must_use]
    pub fn quarantine(&self) -> String {
        self.name("quarantine")
    }

    /// All exchanges.
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

    /// All queues.
    #[must_use]
    pub fn queues(&self) -> Vec<Queue> {
        let command_arguments = table([
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT)),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(&self.returned())),
            // Dead letters are moved with confirms; the broker asks for reject-publish with it.
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ]);
        // No delivery limit: what is here is kept until someone decides. (4.x would throw it away after 20 deliveries.)
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
                // The default exchange and the message's own routing key: back to the queue that it names.
                ("x-dead-letter-exchange", text("")),
                ("x-dead-letter-strategy", text("at-least-once")),
                ("x-overflow", text("reject-publish")),
            ]),
        }));
        queues
    }

    /// All bindings.
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

    /// Declares all of it. What is there already in the same way stays as it is.
    ///
    /// # Errors
    /// [`AmqpError::Conflict`] where something is there in another way, else [`AmqpError::Lost`].
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

/// How a delay is written in names and headers, such as `10s`.
#[must_use]
pub fn delay_name(delay: Duration) -> String {
    format!("{}s", delay.as_secs())
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn table<const N: usize>(entries: [(&'static str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

/// A name or routing key as the protocol carries it.
///
/// # Errors
/// [`AmqpError::Lost`] where it is longer than 255 octets.
pub(super) fn short(name: &str) -> Result<ShortString, AmqpError> {
    ShortString::try_new(name)
        .map_err(|_| AmqpError::Lost(format!("`{name}` is longer than 255 octets")))
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
