//! Counts the replicas: each consumes the queue of urgent commands once.
//!
//! Neighbours: the sender divides the rates of the account by the count.

use std::{sync::Arc, time::Duration};

use lapin::{options::QueueDeclareOptions, types::FieldTable};
use tokio::time::{MissedTickBehavior, interval};

use super::Context;
use crate::amqp::{AmqpError, Session};

/// How often the replicas are counted. Until then a new one uses the rates as if it were not there.
const INTERVAL: Duration = Duration::from_secs(5);

/// Counts until the session ends or its future is dropped.
pub(super) async fn count(context: Arc<Context>, session: Arc<Session>) {
    if let Err(error) = try_count(&context, &session).await {
        tracing::debug!(%error, "the replicas are not counted any more on this session");
    }
}

async fn try_count(context: &Context, session: &Session) -> Result<(), AmqpError> {
    let queue = context.commands.topology.send_urgent();
    let channel = session.consuming_channel(1).await?;
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let mut times = interval(INTERVAL);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        times.tick().await;
        let declared = channel
            .queue_declare(queue.as_str().into(), options, FieldTable::default())
            .await?;
        // The broker says 0 if the queue's leader does not answer it. Then the last count holds.
        match declared.consumer_count() {
            0 => tracing::debug!(queue, "the broker does not know the number of consumers"),
            replicas => context.commands.sender.counted_replicas(replicas),
        }
    }
}
