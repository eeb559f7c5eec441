//! The AMQP edge: commands from the queues become sends, and nothing is acknowledged before it is somewhere else.
//!
//! A command ends in one of four ways, each durable before the acknowledgement: its results are events; it lies in
//! `dead` with a `command.invalid` event; it waits in a `retry` queue; or, at shutdown, it is back in its queue as if it
//! had never been taken. What is under way is bounded by `amqp.prefetch` for each queue. Neighbours: `send` above which it
//! knows only [`Sender`]; `amqp` below; `events` beside it.

mod command;
mod custody;
mod handle;
mod headers;
mod ledger;
mod returned;

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{command::Source, ledger::Ledger};
use crate::{
    amqp::{AmqpError, Endpoint, Publisher, Session, Topology, session::RECONNECT},
    config,
    events::SharedEventLog,
    primitives::retry::Backoff,
    send::Sender,
};

/// At shutdown: how long no delivery comes before the consumer is cancelled.
const QUIET: Duration = Duration::from_millis(50);
/// At shutdown: how long deliveries are waited for at most.
const LONGEST_COLLECTION: Duration = Duration::from_secs(1);

/// What the edge stands on.
pub struct Commands {
    /// Where the broker is.
    pub endpoint: Endpoint,
    /// The names there.
    pub topology: Topology,
    /// Publishes replies, retries and dead letters, on a connection apart from the consumers'.
    pub publisher: Arc<Publisher>,
    /// Sends.
    pub sender: Arc<dyn Sender>,
    /// Takes `command.invalid` events.
    pub log: SharedEventLog,
    /// Which property names the application.
    pub application_from: config::ApplicationFrom,
    /// Commands under way at once, for each queue.
    pub prefetch: u16,
}

/// What all handlers share.
struct Context {
    commands: Commands,
    ledger: Ledger,
    shutdown: CancellationToken,
    /// After `shutdown`, when no delivery can come any more: only then commands go back to their queues.
    intake_ended: CancellationToken,
}

/// A queue that is consumed, and the room for its deliveries.
struct Lane {
    queue: String,
    source: Source,
    prefetch: u16,
    room: Arc<Semaphore>,
}

/// Consumes commands until `shutdown`, then lets what is under way finish. Resolves when everything has been answered for.
pub async fn run(commands: Commands, shutdown: CancellationToken) {
    let lane = |queue, source, prefetch: u16| {
        Arc::new(Lane {
            queue,
            source,
            prefetch,
            room: Arc::new(Semaphore::new(prefetch.into())),
        })
    };
    let prefetch = commands.prefetch.max(1);
    let lanes = [
        lane(commands.topology.send_urgent(), Source::Urgent, prefetch),
        lane(commands.topology.send_normal(), Source::Normal, prefetch),
        lane(
            commands.topology.returned(),
            Source::Returned,
            prefetch.min(100),
        ),
    ];
    let context = Arc::new(Context {
        commands,
        ledger: Ledger::default(),
        shutdown: shutdown.clone(),
        intake_ended: CancellationToken::new(),
    });
    let handlers = TaskTracker::new();
    let mut backoff = Backoff::new(RECONNECT);
    while !shutdown.is_cancelled() {
        match consume(&context, &lanes, &handlers).await {
            Ok(()) => backoff.reset(),
            Err(error) if backoff.is_fresh() => {
                tracing::warn!(%error, "commands are not consumed, trying again");
            }
            Err(error) => tracing::debug!(%error, "commands are not consumed"),
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(backoff.next_wait()) => {}
        }
    }
    context.intake_ended.cancel();
    handlers.close();
    handlers.wait().await;
}

/// Consumes on one session until it ends or the process does. On shutdown the session stays until all deliveries are
/// acknowledged.
async fn consume(
    context: &Arc<Context>,
    lanes: &[Arc<Lane>],
    handlers: &TaskTracker,
) -> Result<(), AmqpError> {
    let shutdown = &context.shutdown;
    let session = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        session = Session::open(&context.commands.endpoint, "commands") => session?,
    };
    let declaring = session.consuming_channel(1).await?;
    context.commands.topology.declare(&declaring).await?;
    let session = Arc::new(session);
    let mut consumers = JoinSet::new();
    for lane in lanes {
        let channel = session.consuming_channel(lane.prefetch).await?;
        let consumer = channel
            .basic_consume(
                lane.queue.as_str().into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        consumers.spawn(consume_queue(
            context.clone(),
            lane.clone(),
            session.clone(),
            channel,
            consumer,
            handlers.clone(),
        ));
    }
    tracing::info!(
        address = context.commands.endpoint.address(),
        "consuming commands"
    );
    // With them their channels stay open, or nothing could be acknowledged.
    let mut ended_lanes = Vec::new();
    while let Some(ended) = consumers.join_next().await {
        if !shutdown.is_cancelled() {
            // One queue was deleted, or the session is gone: all or nothing.
            session.give_up();
        }
        match ended {
            Ok(ended) => ended_lanes.push(ended),
            Err(error) => tracing::error!(%error, "a consumer's task failed"),
        }
    }
    if shutdown.is_cancelled() {
        context.intake_ended.cancel();
        for lane in &mut ended_lanes {
            for delivery in std::mem::take(&mut lane.untouched) {
                hand_out(context, &lane.lane, handlers, delivery, true).await;
            }
        }
        handlers.close();
        handlers.wait().await;
    } else {
        tracing::warn!(
            address = context.commands.endpoint.address(),
            "the broker's consuming session ended"
        );
    }
    session.close().await;
    Ok(())
}

/// Gives a delivery to a task of its own, once there is room: deliveries of a lost session count until they are done.
async fn hand_out(
    context: &Arc<Context>,
    lane: &Lane,
    handlers: &TaskTracker,
    delivery: Delivery,
    untouched: bool,
) {
    let Ok(room) = lane.room.clone().acquire_owned().await else {
        return;
    };
    let (context, source) = (context.clone(), lane.source);
    handlers.spawn(async move {
        handle::handle(&context, source, delivery, untouched).await;
        drop(room);
    });
}

/// A queue that is not consumed any more.
struct EndedLane {
    lane: Arc<Lane>,
    /// What was delivered and not handed out.
    untouched: Vec<Delivery>,
    /// Closes when it is dropped.
    _channel: Channel,
}

/// Hands the deliveries of one queue out until the session or the process ends.
async fn consume_queue(
    context: Arc<Context>,
    lane: Arc<Lane>,
    session: Arc<Session>,
    channel: Channel,
    mut consumer: Consumer,
    handlers: TaskTracker,
) -> EndedLane {
    let mut ended = EndedLane {
        lane: lane.clone(),
        untouched: Vec::new(),
        _channel: channel.clone(),
    };
    loop {
        let next = tokio::select! {
            biased;
            () = context.shutdown.cancelled() => break,
            () = session.ended() => return ended,
            next = consumer.next() => next,
        };
        match next {
            Some(Ok(delivery)) => hand_out(&context, &lane, &handlers, delivery, false).await,
            Some(Err(error)) => {
                tracing::debug!(%error, queue = lane.queue, "the consumer failed");
                return ended;
            }
            None => return ended,
        }
    }
    ended.untouched = collect_late(&lane, &session, &mut consumer).await;
    match cancel(&channel, &consumer).await {
        Ok(()) => {
            while let Some(Ok(delivery)) = consumer.next().await {
                ended.untouched.push(delivery);
            }
        }
        Err(error) => {
            tracing::debug!(%error, queue = lane.queue, "the consumer could not be cancelled");
        }
    }
    ended
}

/// Cancels a consumer. A quorum queue confirms that before it has carried it out, but answers nothing else meanwhile.
async fn cancel(channel: &Channel, consumer: &Consumer) -> Result<(), AmqpError> {
    channel
        .basic_cancel(consumer.tag(), BasicCancelOptions::default())
        .await?;
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    Ok(())
}

/// Takes deliveries until none came for a moment, or the broker may send no more.
///
/// What a quorum queue delivers between confirming a cancel and carrying it out is dropped by lapin: the broker would
/// deliver that again, marked as if it had been tried. So the cancel waits for a moment in which nothing is on its way.
async fn collect_late(lane: &Lane, session: &Session, consumer: &mut Consumer) -> Vec<Delivery> {
    let mut late = Vec::new();
    let deadline = Instant::now() + LONGEST_COLLECTION;
    let outstanding = |late: usize| {
        usize::from(lane.prefetch).saturating_sub(lane.room.available_permits()) + late
    };
    while outstanding(late.len()) < usize::from(lane.prefetch) && Instant::now() < deadline {
        tokio::select! {
            () = session.ended() => break,
            next = tokio::time::timeout(QUIET, consumer.next()) => match next {
                Ok(Some(Ok(delivery))) => late.push(delivery),
                _ => break,
            },
        }
    }
    late
}
