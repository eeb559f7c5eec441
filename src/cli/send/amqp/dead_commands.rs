//! The events of commands that become dead letters while `smsbridge send --amqp-url` waits for the reply: a dead letter has none.
//!
//! Invariant: a user without the permissions for it can send all the same.

use futures_util::StreamExt as _;
use lapin::Consumer;

use super::short;
use crate::{
    amqp::Session,
    cli::event_queue::consume_events,
    proto::v1::{Event, InvalidCommand, event::Payload},
};

/// The events of commands that became dead letters while this command waits.
pub(super) struct DeadCommands {
    events: Consumer,
}

impl DeadCommands {
    /// Binds a queue of its own to the events. `None` if that fails: a publisher may have no permission for it, and what else is the
    /// matter shows when the command is published.
    pub(super) async fn watch(session: &Session, prefix: &str) -> Option<Self> {
        // A refusal closes the channel.
        let channel = session.consuming_channel(1).await.ok()?;
        let exchange = short(&format!("{prefix}.events"), "--amqp-prefix").ok()?;
        let events = consume_events(&channel, exchange, &["command.invalid.*"])
            .await
            .ok()?;
        Some(Self { events })
    }

    /// Resolves with the event of the command with this request id.
    pub(super) async fn of(&mut self, request_id: &str) -> InvalidCommand {
        while let Some(Ok(delivery)) = self.events.next().await {
            if let Ok(event) = serde_json::from_slice::<Event>(&delivery.data)
                && event.request_id == request_id
                && let Some(Payload::InvalidCommand(invalid)) = event.payload
            {
                return *invalid;
            }
        }
        // The consumer has ended; the one of replies reports why.
        std::future::pending().await
    }
}
