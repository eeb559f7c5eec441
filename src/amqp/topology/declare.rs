//! Declares the topology. RabbitMQ never changes the arguments of what exists, and refuses a declaration with other ones.
//!
//! Invariant: the bridge uses what exists with another retention or limit, and never what would break a promise
//! (docs/RELIABILITY.md): a queue of another type, or without its dead-letter exchange. The broker names only the first argument that
//! differs, so the queue is declared again with the current value of that one, until the broker accepts all others.
//! Neighbours: the publisher, the consumers of commands and the readers declare in each new session.

use std::{collections::BTreeMap, time::Duration};

use lapin::{
    Channel,
    options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
    types::{AMQPValue, FieldTable},
};

use super::{
    Binding, Destination, Exchange, Queue, Topology, conflict::Difference, permission::Step, short,
};
use crate::{
    amqp::{
        AmqpError, Endpoint, Session,
        endpoint::Node,
        headers::{arguments, number, text},
    },
    config::TopologyMode,
};

/// The arguments that may differ: how much is kept, how long, and how often it is delivered.
const MAY_DIFFER: [&str; 4] = [
    arguments::MAX_AGE,
    arguments::STREAM_SEGMENT_BYTES,
    arguments::DELIVERY_LIMIT,
    arguments::MESSAGE_TTL,
];

/// The current values of the arguments of a queue that differ from the configured ones; `None` if the queue has no such argument.
pub(super) type Differing = BTreeMap<&'static str, Option<AMQPValue>>;

impl Topology {
    /// Declares everything. An exchange or queue that exists with the same arguments stays as it is.
    ///
    /// # Errors
    /// [`AmqpError::Conflict`] if one exists with different arguments, [`AmqpError::NoPermission`] if the user may not declare it, else
    /// [`AmqpError::Lost`].
    pub async fn declare(&self, channel: &Channel) -> Result<(), AmqpError> {
        for exchange in self.exchanges() {
            self.declare_exchange(channel, exchange, false).await?;
        }
        for queue in self.queues() {
            let differing = self.differing.lock().get(&queue.name).cloned();
            let Some(differing) = differing else {
                self.declare_queue(channel, queue, false).await?;
                continue;
            };
            let existing = Queue {
                name: queue.name.clone(),
                arguments: FieldTable::default(),
            };
            // Passively: the broker only checks that it exists. A deleted queue is declared as configured the next time.
            if let Err(error) = self.declare_queue(channel, existing, true).await {
                self.differing.lock().remove(&queue.name);
                return Err(error);
            }
            self.declare_queue(channel, with_current(queue, &differing), false)
                .await?;
        }
        self.bind_all(channel, self.bindings()).await
    }

    /// Binds the stream of events and the queue behind it again, unless an operator owns the topology.
    ///
    /// # Errors
    /// As [`Topology::declare`]. A refused binding ends its channel.
    pub async fn bind_events(&self, channel: &Channel) -> Result<(), AmqpError> {
        if self.mode == TopologyMode::Passive {
            return Ok(());
        }
        self.bind_all(channel, self.event_bindings()).await
    }

    async fn bind_all(&self, channel: &Channel, bindings: Vec<Binding>) -> Result<(), AmqpError> {
        for binding in bindings {
            self.bind(channel, binding).await?;
        }
        Ok(())
    }

    /// Opens a session with the first node of a round that takes the connection and the declarations.
    ///
    /// # Errors
    /// As [`Session::open`] and [`Topology::declare`], for other differences than those that are used as they are.
    pub async fn open_session(
        &self,
        endpoint: &Endpoint,
        purpose: &'static str,
    ) -> Result<Session, AmqpError> {
        let mut round = endpoint.round(purpose);
        loop {
            match self.open_session_at(endpoint, round.node(), purpose).await {
                Ok(session) => {
                    round.succeeded(&session);
                    return Ok(session);
                }
                Err(error) => round.failed(error)?,
            }
        }
    }

    /// Opens a session and declares everything, but uses a queue that exists with another retention or limit, and logs the difference
    /// once. A refused declaration ends its session, so another one is opened then. Where an operator owns the topology, it is
    /// only checked.
    async fn open_session_at(
        &self,
        endpoint: &Endpoint,
        node: &Node,
        purpose: &str,
    ) -> Result<Session, AmqpError> {
        let timeout = endpoint.declare_timeout();
        if self.mode == TopologyMode::Passive {
            let session = Session::open_at(endpoint, node, purpose).await?;
            let checked = in_time(&self.name("*"), timeout, self.check(&session)).await;
            return match checked {
                Ok(()) => Ok(session),
                Err(error) => {
                    session.close().await;
                    Err(error)
                }
            };
        }
        let mut new: Vec<(String, String)> = Vec::new();
        for _ in 0..=self.queues().len() * MAY_DIFFER.len() {
            let session = Session::open_at(endpoint, node, purpose).await?;
            match self.declare_in(&session, timeout).await {
                Ok(()) => {
                    for (name, detail) in new {
                        log_difference(&name, &detail);
                    }
                    return Ok(session);
                }
                Err(AmqpError::Conflict { name, detail }) => {
                    let Some(is_new) = self.accept_difference(&name, &detail) else {
                        self.differing.lock().remove(&name);
                        return Err(AmqpError::Conflict { name, detail });
                    };
                    if is_new {
                        new.push((name, detail));
                    }
                    session.close().await;
                }
                Err(error) => return Err(error),
            }
        }
        Err(AmqpError::Lost(
            "the arguments of the queues changed again and again".to_owned(),
        ))
    }

    /// Declares everything on a channel of its own.
    ///
    /// # Errors
    /// As [`Topology::declare`]; [`AmqpError::Undeclared`] if that takes longer than `timeout`.
    pub async fn declare_in(&self, session: &Session, timeout: Duration) -> Result<(), AmqpError> {
        let declaring = async { self.declare(&session.consuming_channel(1).await?).await };
        in_time(&self.name("*"), timeout, declaring).await
    }

    /// Notes the current value of the argument that the broker names, if it may differ, and returns whether it is new.
    fn accept_difference(&self, name: &str, detail: &str) -> Option<bool> {
        let queues = self.queues();
        let queue = queues.iter().find(|queue| queue.name == name)?;
        let (argument, current) = acceptable_difference(queue, detail)?;
        let mut differing = self.differing.lock();
        let known = differing
            .entry(name.to_owned())
            .or_default()
            .insert(argument, current.clone());
        Some(known != Some(current))
    }

    pub(super) async fn declare_exchange(
        &self,
        channel: &Channel,
        exchange: Exchange,
        passive: bool,
    ) -> Result<(), AmqpError> {
        let options = ExchangeDeclareOptions {
            passive,
            durable: true,
            ..Default::default()
        };
        let declared = channel.exchange_declare(
            short(&exchange.name)?,
            exchange.kind,
            options,
            exchange.arguments,
        );
        let step = Step::Declare {
            name: &exchange.name,
        };
        declared.await.map_err(|error| self.refused(step, error))
    }

    pub(super) async fn declare_queue(
        &self,
        channel: &Channel,
        queue: Queue,
        passive: bool,
    ) -> Result<(), AmqpError> {
        let options = QueueDeclareOptions {
            passive,
            durable: true,
            ..Default::default()
        };
        let declared = channel.queue_declare(short(&queue.name)?, options, queue.arguments);
        let step = Step::Declare { name: &queue.name };
        declared.await.map_err(|error| self.refused(step, error))?;
        Ok(())
    }

    async fn bind(&self, channel: &Channel, binding: Binding) -> Result<(), AmqpError> {
        let destination = short(&binding.destination)?;
        let source = short(&binding.exchange)?;
        let routing_key = short(&binding.routing_key)?;
        let arguments = binding.arguments;
        let bound = match binding.kind {
            Destination::Queue => {
                let options = QueueBindOptions::default();
                let binding =
                    channel.queue_bind(destination, source, routing_key, options, arguments);
                binding.await
            }
            Destination::Exchange => {
                let options = ExchangeBindOptions::default();
                let binding =
                    channel.exchange_bind(destination, source, routing_key, options, arguments);
                binding.await
            }
        };
        let step = Step::Bind {
            destination: &binding.destination,
            exchange: &binding.exchange,
        };
        bound.map_err(|error| self.refused(step, error))
    }

    /// The error of a declaration or a binding.
    fn refused(&self, step: Step<'_>, error: lapin::Error) -> AmqpError {
        let lapin::ErrorKind::ProtocolError(protocol) = error.kind() else {
            return error.into();
        };
        let detail = protocol.get_message().as_str();
        let (Step::Declare { name }
        | Step::Bind {
            destination: name, ..
        }) = step;
        match protocol.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => AmqpError::Conflict {
                name: name.to_owned(),
                detail: detail.to_owned(),
            },
            // The name of a reserved prefix (`amq.`) is refused with the same code.
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)
                if detail.contains("refused for user") =>
            {
                AmqpError::NoPermission {
                    problem: self.missing_permission(step, detail),
                }
            }
            AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND)
            | AMQPErrorKind::Hard(AMQPHardError::INTERNALERROR) => AmqpError::Undeclared {
                name: name.to_owned(),
                detail: detail.to_owned(),
            },
            _ => error.into(),
        }
    }
}

/// A broker without a majority may not answer at all.
async fn in_time(
    name: &str,
    timeout: Duration,
    declaring: impl Future<Output = Result<(), AmqpError>>,
) -> Result<(), AmqpError> {
    let declared = tokio::time::timeout(timeout, declaring).await;
    declared.unwrap_or_else(|_| {
        Err(AmqpError::Undeclared {
            name: name.to_owned(),
            detail: format!("the broker does not answer within {timeout:?}"),
        })
    })
}

fn log_difference(name: &str, detail: &str) {
    tracing::warn!(
        queue = name,
        detail,
        "a queue exists with another argument than the configuration has, and is used as it is: how to change it is in \
         docs/RABBITMQ.md#what-cannot-change-after-the-first-start"
    );
}

/// The queue with the current values of the arguments that differ.
fn with_current(queue: Queue, differing: &Differing) -> Queue {
    let mut arguments = queue.arguments.inner().clone();
    for (&argument, current) in differing {
        match current {
            Some(value) => arguments.insert(argument.into(), value.clone()),
            None => arguments.remove(argument),
        };
    }
    Queue {
        name: queue.name,
        arguments: FieldTable::from(arguments),
    }
}

/// The broker names the first argument that differs. Returns that argument and its current value if the bridge accepts the difference,
/// else `None`. A retention is accepted, and a limit of a queue that dead-letters its messages. A queue that has no time to live is
/// not accepted in place of one that has: it would keep the messages that it must return.
fn acceptable_difference(queue: &Queue, detail: &str) -> Option<(&'static str, Option<AMQPValue>)> {
    let difference = Difference::parse(detail)?;
    let argument = MAY_DIFFER
        .into_iter()
        .find(|argument| *argument == difference.argument)?;
    let current = difference.current;
    let current = match argument {
        arguments::DELIVERY_LIMIT | arguments::MESSAGE_TTL => {
            let configured = queue.arguments.inner();
            let is_dead_lettered = configured.contains_key(arguments::DEAD_LETTER_EXCHANGE);
            let is_lost = current.is_none() && argument == arguments::MESSAGE_TTL;
            if !is_dead_lettered || is_lost {
                return None;
            }
            current.map(str::parse).transpose().ok()?.map(number)
        }
        arguments::STREAM_SEGMENT_BYTES => current.map(str::parse).transpose().ok()?.map(number),
        _ => current.map(text),
    };
    Some((argument, current))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(has_dead_letter_exchange: bool) -> Queue {
        let mut arguments = FieldTable::default();
        if has_dead_letter_exchange {
            arguments.insert(arguments::DEAD_LETTER_EXCHANGE.into(), text(""));
        }
        Queue {
            name: "q".into(),
            arguments,
        }
    }

    #[test]
    fn only_limits_and_retentions_may_differ() {
        let with = queue(true);
        let without = queue(false);
        let five = || Some(number(5));
        for (queue, argument, current, expected) in [
            (&without, "x-max-age", "'7200s'", Some(Some(text("7200s")))),
            (&without, "x-max-age", "none", Some(None)),
            (&with, "x-delivery-limit", "'5'", Some(five())),
            (
                &with,
                "x-delivery-limit",
                "the value '5' of type 'signedint'",
                Some(five()),
            ),
            (&with, "x-delivery-limit", "none", Some(None)),
            (&without, "x-delivery-limit", "'5'", None),
            (&with, "x-message-ttl", "'5'", Some(five())),
            (&with, "x-message-ttl", "none", None),
            (&without, "x-message-ttl", "'5'", None),
            (&with, "x-message-ttl", "'long'", None),
            (&with, "x-queue-type", "'classic'", None),
            (&with, "x-dead-letter-exchange", "none", None),
            (&with, "durable", "'false'", None),
        ] {
            let detail = format!(
                "PRECONDITION_FAILED - inequivalent arg '{argument}' for queue 'q' in vhost '/': received 'a' but current is {current}"
            );
            let found = acceptable_difference(queue, &detail);
            let expected = expected.map(|current| (argument, current));
            assert_eq!(found, expected, "{argument} {current}");
        }
        assert_eq!(acceptable_difference(&with, "PRECONDITION_FAILED"), None);
    }
}
