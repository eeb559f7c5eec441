//! Checks the topology that an operator owns: that each exchange and queue exists. Their arguments and bindings cannot be asked for by
//! AMQP: `smsbridge topology --declare` compares them.
//!
//! Invariant: nothing is declared, and no permission to configure is needed. Neighbour: `declare` opens sessions and calls this.

use lapin::types::FieldTable;

use super::{Exchange, Queue, Topology};
use crate::amqp::{AmqpError, Session};

/// How the broker's text begins if something does not exist.
const NOT_FOUND: &str = "NOT_FOUND";

impl Topology {
    /// # Errors
    /// [`AmqpError::Missing`] with all that does not exist; else as [`Topology::declare`].
    pub(super) async fn check(&self, session: &Session) -> Result<(), AmqpError> {
        let mut missing: Vec<String> = Vec::new();
        // A refused check closes its channel.
        let mut channel = session.consuming_channel(1).await?;
        for exchange in self.exchanges() {
            let named = format!("exchange `{}`", exchange.name);
            let exchange = Exchange {
                arguments: FieldTable::default(),
                ..exchange
            };
            match self.declare_exchange(&channel, exchange, true).await {
                Err(AmqpError::Undeclared { detail, .. }) if detail.starts_with(NOT_FOUND) => {
                    missing.push(named);
                    channel = session.consuming_channel(1).await?;
                }
                checked => checked?,
            }
        }
        for queue in self.queues() {
            let named = format!("queue `{}`", queue.name);
            let queue = Queue {
                arguments: FieldTable::default(),
                ..queue
            };
            match self.declare_queue(&channel, queue, true).await {
                Err(AmqpError::Undeclared { detail, .. }) if detail.starts_with(NOT_FOUND) => {
                    missing.push(named);
                    channel = session.consuming_channel(1).await?;
                }
                checked => checked?,
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let is_or_are = if missing.len() == 1 { "does" } else { "do" };
        Err(AmqpError::Missing {
            problem: format!(
                "the {} {is_or_are} not exist, and with amqp.topology = \"passive\" the bridge declares nothing. Declare all that it needs \
                 as a user who may configure them: smsbridge topology --declare --amqp-url URL \
                 (docs/RABBITMQ.md#a-topology-that-an-operator-owns)",
                missing.join(", ")
            ),
        })
    }
}
