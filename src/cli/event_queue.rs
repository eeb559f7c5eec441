//! A queue of a client command on the broker, bound to the events. The broker deletes it with its connection.
//!
//! Neighbours: `demo` shows the events of its command; `send --amqp-url` consumes its reply.

use lapin::{
    Channel, Consumer,
    options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};

/// Consumes the events of the exchange with these binding keys. They need no acknowledgement.
///
/// # Errors
/// Those of the broker, such as a missing permission, which closes the channel.
pub(super) async fn consume_events(
    channel: &Channel,
    exchange: ShortString,
    keys: &[&str],
) -> Result<Consumer, lapin::Error> {
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel
        .queue_declare("".into(), exclusive, FieldTable::default())
        .await?;
    for key in keys {
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        channel
            .queue_bind(
                queue.name().clone(),
                exchange.clone(),
                (*key).into(),
                options,
                arguments,
            )
            .await?;
    }
    consume(channel, queue.name().clone()).await
}

/// Consumes a queue without acknowledgements.
///
/// # Errors
/// Those of the broker.
pub(super) async fn consume(
    channel: &Channel,
    queue: ShortString,
) -> Result<Consumer, lapin::Error> {
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    channel
        .basic_consume(queue, "".into(), options, FieldTable::default())
        .await
}
