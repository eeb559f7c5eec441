//! Declares the topology. RabbitMQ never changes the arguments of what exists, and refuses a declaration with other ones.
//!
//! Invariant: the bridge uses what exists with another retention or limit, and never what would break a promise
//! (docs/RELIABILITY.md): a queue of another type, or without its dead-letter exchange.
//! Neighbours: the publisher, the consumers of commands and the readers declare in each new session.

use lapin::{
    Channel,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
};

use super::{Binding, Exchange, Queue, Topology, short};
use crate::amqp::{AmqpError, Endpoint, Session, headers::arguments};

/// The arguments that may differ: how much is kept, how long, and how often it is delivered.
const MAY_DIFFER: [&str; 4] = [
    arguments::MAX_AGE,
    arguments::STREAM_SEGMENT_BYTES,
    arguments::DELIVERY_LIMIT,
    arguments::MESSAGE_TTL,
];

impl Topology {
    /// Declares everything. An exchange or queue that exists with the same arguments stays as it is.
    ///
    /// # Errors
    /// [`AmqpError::Conflict`] if one exists with different arguments, else [`AmqpError::Lost`].
    pub async fn declare(&self, channel: &Channel) -> Result<(), AmqpError> {
        for exchange in self.exchanges() {
            declare_exchange(channel, exchange).await?;
        }
        for queue in self.queues() {
            // Passively: the broker only checks that it exists.
            let passive = self.differing.lock().contains(&queue.name);
            let name = queue.name.clone();
            if let Err(error) = declare_queue(channel, queue, passive).await {
                if passive {
                    // It may have been deleted, and is declared next time.
                    self.differing.lock().remove(&name);
                }
                return Err(error);
            }
        }
        for binding in self.bindings() {
            bind(channel, binding).await?;
        }
        Ok(())
    }

    /// Opens a session and declares everything, but uses a queue that exists with another retention or limit, and logs the difference
    /// once. A refused declaration ends its session, so another one is opened then.
    ///
    /// # Errors
    /// As [`Session::open`] and [`Topology::declare`], for other differences.
    pub async fn open_session(
        &self,
        endpoint: &Endpoint,
        purpose: &str,
    ) -> Result<Session, AmqpError> {
        loop {
            let session = Session::open(endpoint, purpose).await?;
            let channel = session.consuming_channel(1).await?;
            match self.declare(&channel).await {
                Ok(()) => return Ok(session),
                Err(AmqpError::Conflict { name, detail }) if may_differ(&detail) => {
                    let is_new = self.differing.lock().insert(name.clone());
                    if is_new {
                        log_difference(&name, &detail);
                    }
                    session.close().await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn log_difference(name: &str, detail: &str) {
    tracing::warn!(
        queue = name,
        detail,
        "a queue exists with another argument than the configuration has, and is used as it is: how to change it is in \
         docs/RABBITMQ.md#what-cannot-change-after-the-first-start"
    );
}

async fn declare_exchange(channel: &Channel, exchange: Exchange) -> Result<(), AmqpError> {
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
        .map_err(|error| declare_error(&exchange.name, error))
}

async fn declare_queue(channel: &Channel, queue: Queue, passive: bool) -> Result<(), AmqpError> {
    let options = QueueDeclareOptions {
        passive,
        durable: true,
        ..Default::default()
    };
    channel
        .queue_declare(short(&queue.name)?, options, queue.arguments)
        .await
        .map_err(|error| declare_error(&queue.name, error))?;
    Ok(())
}

async fn bind(channel: &Channel, binding: Binding) -> Result<(), AmqpError> {
    channel
        .queue_bind(
            short(&binding.queue)?,
            short(&binding.exchange)?,
            short(&binding.routing_key)?,
            QueueBindOptions::default(),
            binding.arguments,
        )
        .await
        .map_err(|error| declare_error(&binding.queue, error))
}

/// Whether the only difference that the broker names, the first one, is an argument that may differ.
fn may_differ(detail: &str) -> bool {
    let argument = detail
        .split_once("inequivalent arg '")
        .and_then(|(_, rest)| rest.split_once('\''));
    argument.is_some_and(|(argument, _)| MAY_DIFFER.contains(&argument))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_limits_and_retentions_may_differ() {
        for (argument, expected) in [
            ("x-max-age", true),
            ("x-delivery-limit", true),
            ("x-queue-type", false),
            ("x-dead-letter-exchange", false),
            ("durable", false),
        ] {
            let detail = format!(
                "PRECONDITION_FAILED - inequivalent arg '{argument}' for queue 'q' in vhost '/': received 'a' but current is 'b'"
            );
            assert_eq!(may_differ(&detail), expected, "{argument}");
        }
        assert!(!may_differ("PRECONDITION_FAILED"));
    }
}
