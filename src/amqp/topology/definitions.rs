//! The definitions of the exchanges, queues and bindings.
//!
//! RabbitMQ 3.10 and 4.x accept the same arguments. A command with an unknown routing key is unroutable and is dead-lettered,
//! because no other binding exists. Invariants: no message expires in a queue without a dead-letter exchange, where it would vanish
//! (P1, docs/RELIABILITY.md); no single binding or queue whose loss makes an event vanish (P5).
//!
//! An event takes two ways into the stream, which stores it once: from the exchange of events directly, and over an exchange in front of
//! the stream. RabbitMQ uses the alternate exchange of the latter as soon as the stream is not bound to it, whatever other queues get the
//! event. An alternate exchange of the exchange of events would not do: it is used only if no queue at all is bound for the event.

use std::time::Duration;

use lapin::{
    ExchangeKind,
    types::{AMQPValue, FieldTable},
};

use super::{RETRY_DELAYS, Topology, delay_name};
use crate::amqp::{
    codec,
    headers::{RETRY_DELAY, arguments, number, table, text},
};

/// Deliveries of one command before the broker dead-letters it. Only a backstop, because a crash counts as a delivery of
/// every prefetched command (docs/DECISIONS.md#lapin).
const DELIVERY_LIMIT: i32 = 1000;
/// Size of a stream segment. Retention removes whole segments.
const STREAM_SEGMENT_BYTES: i64 = 50_000_000;

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

/// What a binding leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    Queue,
    Exchange,
}

#[derive(Debug, Clone)]
pub struct Binding {
    /// The name of the queue or exchange that gets the messages.
    pub destination: String,
    pub kind: Destination,
    pub exchange: String,
    /// The binding key.
    pub routing_key: String,
    pub arguments: FieldTable,
}

impl Topology {
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
                table([(arguments::ALTERNATE_EXCHANGE, text(&self.unroutable()))]),
            ),
            exchange(self.retry(), ExchangeKind::Headers, table([])),
            exchange(self.events_unrouted(), ExchangeKind::Fanout, table([])),
            exchange(
                self.events_log(),
                ExchangeKind::Fanout,
                table([(arguments::ALTERNATE_EXCHANGE, text(&self.events_unrouted()))]),
            ),
            exchange(self.events(), ExchangeKind::Topic, table([])),
        ]
    }

    #[must_use]
    pub fn queues(&self) -> Vec<Queue> {
        let command_arguments = table([
            (arguments::QUEUE_TYPE, text("quorum")),
            (
                arguments::DELIVERY_LIMIT,
                AMQPValue::LongInt(DELIVERY_LIMIT),
            ),
            (arguments::DEAD_LETTER_EXCHANGE, text("")),
            (arguments::DEAD_LETTER_ROUTING_KEY, text(&self.returned())),
            // The broker dead-letters with confirms; that strategy requires reject-publish.
            (arguments::DEAD_LETTER_STRATEGY, text("at-least-once")),
            (arguments::OVERFLOW, text("reject-publish")),
        ]);
        // Practically no delivery limit: RabbitMQ 4.x drops a message after 20 deliveries by default.
        let kept = table([
            (arguments::QUEUE_TYPE, text("quorum")),
            (arguments::DELIVERY_LIMIT, AMQPValue::LongInt(i32::MAX)),
        ]);
        let mut queues = vec![
            Queue {
                name: self.send_normal(),
                arguments: command_arguments.clone(),
            },
            Queue {
                name: self.send_urgent(),
                arguments: command_arguments.clone(),
            },
            Queue {
                name: self.lookup(),
                arguments: command_arguments,
            },
            // Dead-letters at once: that removes the `expiration` of a message, which would expire in `returned` without a trace.
            Queue {
                name: self.unroutable(),
                arguments: table([
                    (arguments::QUEUE_TYPE, text("quorum")),
                    (arguments::MESSAGE_TTL, number(0)),
                    (arguments::DEAD_LETTER_EXCHANGE, text("")),
                    (arguments::DEAD_LETTER_ROUTING_KEY, text(&self.returned())),
                    (arguments::DEAD_LETTER_STRATEGY, text("at-least-once")),
                    (arguments::OVERFLOW, text("reject-publish")),
                ]),
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
                name: self.intake(),
                arguments: kept.clone(),
            },
            Queue {
                name: self.quarantine(),
                arguments: kept.clone(),
            },
            Queue {
                name: self.events_unrouted(),
                arguments: kept,
            },
            Queue {
                name: self.events_log(),
                arguments: table([
                    (arguments::QUEUE_TYPE, text("stream")),
                    (
                        arguments::MAX_AGE,
                        text(&format!("{}s", self.stream_retention.as_secs())),
                    ),
                    (
                        arguments::STREAM_SEGMENT_BYTES,
                        number(STREAM_SEGMENT_BYTES),
                    ),
                ]),
            },
        ];
        queues.extend(RETRY_DELAYS.map(|delay| Queue {
            name: self.retry_queue(delay),
            arguments: table([
                (arguments::QUEUE_TYPE, text("quorum")),
                (arguments::MESSAGE_TTL, number(milliseconds(delay))),
                // The default exchange with the message's own routing key: back to the queue of that name.
                (arguments::DEAD_LETTER_EXCHANGE, text("")),
                (arguments::DEAD_LETTER_STRATEGY, text("at-least-once")),
                (arguments::OVERFLOW, text("reject-publish")),
            ]),
        }));
        queues
    }

    #[must_use]
    pub fn bindings(&self) -> Vec<Binding> {
        let mut bindings = vec![
            binding(self.unroutable(), self.unroutable(), "", table([])),
            binding(self.send_normal(), self.commands(), codec::SEND, table([])),
            binding(
                self.send_urgent(),
                self.commands(),
                codec::SEND_URGENT,
                table([]),
            ),
            binding(self.lookup(), self.commands(), codec::LOOKUP, table([])),
        ];
        bindings.extend(self.event_bindings());
        bindings.extend(RETRY_DELAYS.map(|delay| {
            binding(
                self.retry_queue(delay),
                self.retry(),
                "",
                table([
                    (arguments::MATCH, text("all")),
                    (RETRY_DELAY, text(&delay_name(delay))),
                ]),
            )
        }));
        bindings
    }

    /// The bindings that lead events into the stream, or into the queue that keeps them while the stream has none.
    #[must_use]
    pub fn event_bindings(&self) -> Vec<Binding> {
        vec![
            binding(
                self.events_unrouted(),
                self.events_unrouted(),
                "",
                table([]),
            ),
            binding(self.events_log(), self.events_log(), "", table([])),
            binding(self.events_log(), self.events(), "#", table([])),
            Binding {
                kind: Destination::Exchange,
                ..binding(self.events_log(), self.events(), "#", table([]))
            },
        ]
    }
}

/// A binding of a queue.
fn binding(queue: String, exchange: String, routing_key: &str, arguments: FieldTable) -> Binding {
    Binding {
        destination: queue,
        kind: Destination::Queue,
        exchange,
        routing_key: routing_key.to_owned(),
        arguments,
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).expect("retry delays are constants of at most a minute")
}
