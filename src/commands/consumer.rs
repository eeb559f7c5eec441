//! The consumer of one queue: starts a handler for each delivery, and stops at shutdown without losing a delivery.
//!
//! Invariants: at most `prefetch` deliveries of a queue, with at most [`BUDGET_KIB`] in their bodies, have a handler, those of an ended
//! session included (P9); a consumer that waits for room stops at once with its session; where the broker ends one consumer, the session
//! is given up. A consumer is cancelled only when no delivery is on its way. Neighbours: `handle` handles a delivery, `custody` holds acknowledgements back while consumers are cancelled.

use std::{collections::VecDeque, pin::pin, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    Channel, Consumer, ErrorKind,
    message::Delivery,
    options::{BasicCancelOptions, BasicQosOptions},
    protocol::AMQPErrorKind,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use super::{
    Context,
    command::Source,
    handle,
    lease::{HeldDelivery, SessionLease},
};
use crate::amqp::{AmqpError, Session};

/// At shutdown, a consumer is cancelled once no delivery has arrived for this long.
const IDLE_BEFORE_CANCEL: Duration = Duration::from_millis(50);
/// At shutdown, a consumer is cancelled after this time even if deliveries still arrive.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// The commands that the handlers of one queue may hold, in KiB of body and decoded command (`decoded_size`). A handler holds copies too.
const BUDGET_KIB: u32 = 16 * 1024;

/// A queue of commands.
pub(super) struct CommandQueue {
    pub(super) name: String,
    source: Source,
    pub(super) prefetch: u16,
    /// One permit for each handler.
    permits: Arc<Semaphore>,
    /// One permit for each KiB of the handlers' bodies.
    kib: Arc<Semaphore>,
}

/// The room of one handler, until it is dropped.
struct Room {
    _handler: OwnedSemaphorePermit,
    _kib: OwnedSemaphorePermit,
}

impl CommandQueue {
    pub(super) fn new(name: String, source: Source, prefetch: u16) -> Self {
        Self {
            name,
            source,
            prefetch,
            permits: Arc::new(Semaphore::new(prefetch.into())),
            kib: Arc::new(Semaphore::new(BUDGET_KIB as usize)),
        }
    }

    /// Waits for room for a handler. `None` never comes: the semaphores are not closed.
    async fn room(&self, kib: u32) -> Option<Room> {
        let handler = self.permits.clone().acquire_owned().await.ok()?;
        let kib = self.kib.clone().acquire_many_owned(kib);
        Some(Room {
            _handler: handler,
            _kib: kib.await.ok()?,
        })
    }

    /// Room for a handler, if there is some now.
    fn room_now(&self, kib: u32) -> Option<Room> {
        let handler = self.permits.clone().try_acquire_owned().ok()?;
        let kib = self.kib.clone().try_acquire_many_owned(kib);
        Some(Room {
            _handler: handler,
            _kib: kib.ok()?,
        })
    }
}

/// The permits for a command: what it takes in memory. One that is too large becomes a dead letter without being decoded, so it waits
/// for no room.
fn kib(delivery: &HeldDelivery) -> u32 {
    let bytes = *delivery.decoded_bytes.as_ref().unwrap_or(&0);
    // More than all of it would never be free.
    u32::try_from(bytes.div_ceil(1024)).map_or(BUDGET_KIB, |kib| kib.min(BUDGET_KIB))
}

/// A consumer that receives no more deliveries.
pub(super) struct StoppedConsumer {
    pub(super) queue: Arc<CommandQueue>,
    /// The deliveries without a handler.
    pub(super) unhandled: Vec<HeldDelivery>,
}

/// Requeues the deliveries without a handler. They need no room: their number is bounded by the prefetch limit.
pub(super) fn requeue_unhandled(
    context: &Arc<Context>,
    stopped: &mut StoppedConsumer,
    handlers: &TaskTracker,
) {
    let source = stopped.queue.source;
    for delivery in std::mem::take(&mut stopped.unhandled) {
        let context = context.clone();
        let tasks = context.commands.metrics.tasks().clone();
        handlers.spawn(tasks.watch("handler", async move {
            handle::requeue_unchanged(&context, source, &delivery).await;
        }));
    }
}

/// Consumes one queue until the session ends or the process shuts down.
pub(super) async fn consume_queue(
    context: Arc<Context>,
    queue: Arc<CommandQueue>,
    session: Arc<Session>,
    lease: Arc<SessionLease>,
    channel: Channel,
    mut consumer: Consumer,
    handlers: TaskTracker,
) -> StoppedConsumer {
    let mut stopped = StoppedConsumer {
        queue: queue.clone(),
        unhandled: Vec::new(),
    };
    let hold = |delivery| HeldDelivery::new(delivery, &lease);
    // What arrived while another delivery waited for room. The prefetch limit bounds it.
    let mut arrived = VecDeque::new();
    'deliveries: loop {
        if context.shutdown.is_cancelled() {
            break;
        }
        let delivery = match arrived.pop_front() {
            Some(delivery) => delivery,
            None => tokio::select! {
                biased;
                () = context.shutdown.cancelled() => break,
                () = session.ended() => return stopped,
                next = consumer.next() => match received(next, &session, &queue) {
                    Some(delivery) => hold(delivery),
                    None => return stopped,
                },
            },
        };
        let kib = kib(&delivery);
        let mut room = queue.room_now(kib);
        if room.is_none() {
            let mut waiting = pin!(queue.room(kib));
            // The consumer is read meanwhile, because RabbitMQ 4.3 ends one that keeps a delivery for too long without closing its channel.
            room = loop {
                tokio::select! {
                    biased;
                    room = &mut waiting => break room,
                    () = context.shutdown.cancelled() => {
                        arrived.push_front(delivery);
                        break 'deliveries;
                    }
                    () = session.ended() => return stopped,
                    next = consumer.next() => match received(next, &session, &queue) {
                        Some(delivery) => arrived.push_back(hold(delivery)),
                        None => return stopped,
                    },
                }
            };
        }
        let (context, source) = (context.clone(), queue.source);
        let tasks = context.commands.metrics.tasks().clone();
        // Panics while a command is carried out are caught in it. What is not would happen again with each delivery.
        handlers.spawn(tasks.watch("handler", async move {
            handle::handle(&context, source, delivery).await;
            drop(room);
        }));
    }
    stopped.unhandled.extend(arrived);
    let received = receive_until_idle(&session, &mut consumer).await;
    stopped.unhandled.extend(received.into_iter().map(hold));
    match cancel(&channel, &consumer).await {
        Ok(()) => {
            while let Some(Ok(delivery)) = consumer.next().await {
                stopped.unhandled.push(hold(delivery));
            }
        }
        Err(error) => {
            tracing::debug!(%error, queue = queue.name, "the consumer could not be cancelled");
        }
    }
    stopped
}

/// Up to RabbitMQ 4.2 the broker closes the channel of a consumer that keeps a delivery for too long.
fn note_closed_channel(session: &Session, queue: &CommandQueue, error: &lapin::Error) {
    if let ErrorKind::ProtocolError(protocol) = error.kind()
        && let AMQPErrorKind::Soft(_) = protocol.kind()
    {
        take_for_lost(session, queue, protocol.get_message().as_str());
    }
}

/// From RabbitMQ 4.3 on the broker cancels such a consumer instead, and gives its deliveries to others. It also cancels the consumers of
/// a deleted queue. The channel stays open, so nothing else tells that the deliveries are lost.
fn note_cancelled(session: &Session, queue: &CommandQueue) {
    if session.is_open() {
        let why = "the queue was deleted, or a command was unacknowledged for longer than the consumer timeout";
        take_for_lost(session, queue, why);
    }
}

fn take_for_lost(session: &Session, queue: &CommandQueue, why: &str) {
    tracing::warn!(
        queue = queue.name,
        why,
        "the broker ended the consumer of a queue: its commands are taken for lost, and what may have been sent is looked up when it is \
         delivered again. Keep the consumer timeout of the broker longer than amqp.hold_for"
    );
    let name = &queue.name;
    session.give_up_because(format!("the broker ended the consumer of `{name}`: {why}"));
}

/// The next delivery. `None`: the broker ended the consumer, or its channel.
fn received(
    next: Option<lapin::Result<Delivery>>,
    session: &Session,
    queue: &CommandQueue,
) -> Option<Delivery> {
    match next {
        Some(Ok(delivery)) => return Some(delivery),
        Some(Err(error)) => {
            tracing::debug!(%error, queue = queue.name, "the consumer failed");
            note_closed_channel(session, queue, &error);
        }
        None => note_cancelled(session, queue),
    }
    None
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

/// Receives deliveries until none has arrived for [`IDLE_BEFORE_CANCEL`].
///
/// A quorum queue may still deliver between the confirm of a cancel and its execution. lapin drops such a delivery, and the
/// broker delivers it again with the flag `redelivered`, which puts it in doubt although it was never attempted. Meanwhile no
/// delivery is acknowledged (`custody`), so the prefetch limit ends the deliveries; an acknowledgement that is on its way when the
/// shutdown begins still brings another one.
async fn receive_until_idle(session: &Session, consumer: &mut Consumer) -> Vec<Delivery> {
    let mut received = Vec::new();
    let deadline = Instant::now() + IDLE_TIMEOUT;
    while Instant::now() < deadline {
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
