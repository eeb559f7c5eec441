//! The consumer of one queue: starts a handler for each delivery, and stops at shutdown without losing a delivery.
//!
//! Invariants: at most `prefetch` deliveries of a queue have a handler, those of an ended session included. A consumer is
//! cancelled only when no delivery is on its way. Neighbours: `handle` handles a delivery.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicCancelOptions, BasicQosOptions},
};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::task::TaskTracker;

use super::{Context, command::Source, handle};
use crate::amqp::{AmqpError, Session};

/// At shutdown, a consumer is cancelled once no delivery has arrived for this long.
const IDLE_BEFORE_CANCEL: Duration = Duration::from_millis(50);
/// At shutdown, a consumer is cancelled after this time even if deliveries still arrive.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// A queue of commands.
pub(super) struct CommandQueue {
    pub(super) name: String,
    source: Source,
    pub(super) prefetch: u16,
    /// One permit for each handler.
    permits: Arc<Semaphore>,
}

impl CommandQueue {
    pub(super) fn new(name: String, source: Source, prefetch: u16) -> Self {
        Self {
            name,
            source,
            prefetch,
            permits: Arc::new(Semaphore::new(prefetch.into())),
        }
    }

    fn handlers(&self) -> usize {
        usize::from(self.prefetch).saturating_sub(self.permits.available_permits())
    }
}

/// A consumer that receives no more deliveries.
pub(super) struct StoppedConsumer {
    pub(super) queue: Arc<CommandQueue>,
    /// The deliveries without a handler.
    pub(super) unhandled: Vec<Delivery>,
    /// The channel closes when it is dropped.
    _channel: Channel,
}

/// Starts a handler for the delivery when a permit is free. `unchanged`: the handler only requeues the delivery.
pub(super) async fn spawn_handler(
    context: &Arc<Context>,
    queue: &CommandQueue,
    handlers: &TaskTracker,
    delivery: Delivery,
    unchanged: bool,
) {
    let Ok(permit) = queue.permits.clone().acquire_owned().await else {
        return;
    };
    let (context, source) = (context.clone(), queue.source);
    handlers.spawn(async move {
        if unchanged {
            handle::requeue_unchanged(&context, source, &delivery).await;
        } else {
            handle::handle(&context, source, delivery).await;
        }
        drop(permit);
    });
}

/// Consumes one queue until the session ends or the process shuts down.
pub(super) async fn consume_queue(
    context: Arc<Context>,
    queue: Arc<CommandQueue>,
    session: Arc<Session>,
    channel: Channel,
    mut consumer: Consumer,
    handlers: TaskTracker,
) -> StoppedConsumer {
    let mut stopped = StoppedConsumer {
        queue: queue.clone(),
        unhandled: Vec::new(),
        _channel: channel.clone(),
    };
    loop {
        let next = tokio::select! {
            biased;
            () = context.shutdown.cancelled() => break,
            () = session.ended() => return stopped,
            next = consumer.next() => next,
        };
        match next {
            Some(Ok(delivery)) => {
                spawn_handler(&context, &queue, &handlers, delivery, false).await;
            }
            Some(Err(error)) => {
                tracing::debug!(%error, queue = queue.name, "the consumer failed");
                return stopped;
            }
            None => return stopped,
        }
    }
    stopped.unhandled = receive_until_idle(&queue, &session, &mut consumer).await;
    match cancel(&channel, &consumer).await {
        Ok(()) => {
            while let Some(Ok(delivery)) = consumer.next().await {
                stopped.unhandled.push(delivery);
            }
        }
        Err(error) => {
            tracing::debug!(%error, queue = queue.name, "the consumer could not be cancelled");
        }
    }
    stopped
}

/// Cancels a consumer and waits until the broker has done so. A quorum queue confirms a cancel before it is carried out, but
/// it replies to the next request only afterwards.
async fn cancel(channel: &Channel, consumer: &Consumer) -> Result<(), AmqpError> {
    channel
        .basic_cancel(consumer.tag(), BasicCancelOptions::default())
        .await?;
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    Ok(())
}

/// Receives deliveries until none has arrived for [`IDLE_BEFORE_CANCEL`], or until the prefetch limit is reached.
///
/// A quorum queue may still deliver between the confirm of a cancel and its execution. lapin drops such a delivery, and the
/// broker delivers it again with the flag `redelivered`, which puts it in doubt although it was never attempted.
async fn receive_until_idle(
    queue: &CommandQueue,
    session: &Session,
    consumer: &mut Consumer,
) -> Vec<Delivery> {
    let mut received = Vec::new();
    let deadline = Instant::now() + IDLE_TIMEOUT;
    while queue.handlers() + received.len() < usize::from(queue.prefetch)
        && Instant::now() < deadline
    {
        tokio::select! {
            () = session.ended() => break,
            next = tokio::time::timeout(IDLE_BEFORE_CANCEL, consumer.next()) => match next {
                Ok(Some(Ok(delivery))) => received.push(delivery),
                _ => break,
            },
        }
    }
    received
}
