//! The AMQP edge: commands from the broker's queues become sends and look-ups of numbers.
//!
//! Invariant (P5): a command is acknowledged only after one of these is durable: its results, as events; its dead letter, with
//! a `command.invalid` event; its copy in a retry queue; at shutdown, its unchanged copy in its own queue. The number of
//! commands in flight is bounded by `amqp.prefetch` for each queue, and so are their bytes.
//! Neighbours: `send` sends, `query` looks numbers up, `events` stores `command.invalid` and the results of look-ups, `amqp` has
//! sessions and publishes.

mod attempts;
mod command;
mod consumer;
mod custody;
pub mod dead_letters;
mod decoded_size;
mod encoding;
mod envelope;
mod handle;
mod invalid;
mod lease;
mod ledger;
mod lookup;
mod message_ids;
mod panicked;
mod redelivered_without_id;
mod replicas;
mod reply;
mod republish;
mod returned;
mod waiting;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lapin::{Channel, Consumer, options::BasicConsumeOptions, types::FieldTable};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use self::{
    command::Source,
    consumer::{CommandQueue, consume_queue, requeue_unhandled},
    lease::SessionLease,
    ledger::Ledger,
    lookup::asked::Asked,
    waiting::Lines,
};
use crate::{
    amqp::{
        AmqpError, Endpoint, Publisher, Session, Topology, session::RECONNECT, status::Purpose,
    },
    config,
    events::SharedEventLog,
    message::applications::Applications,
    ops::metrics::{AmqpConnection, Metrics},
    primitives::retry::Backoff,
    query::Query,
    send::Sender,
};

/// Maximum number of unacknowledged commands of the queue `returned`: they are rare and not urgent.
const MAX_RETURNED_IN_FLIGHT: u16 = 100;
/// A session that ends earlier counts as a failure, so that the next one waits longer.
const STABLE_SESSION: Duration = Duration::from_secs(1);

/// The settings and dependencies of the edge.
pub struct Commands {
    pub endpoint: Endpoint,
    pub topology: Topology,
    /// Publishes replies, retries and dead letters. Its connection is not that of the consumers.
    pub publisher: Arc<Publisher>,
    pub sender: Arc<dyn Sender>,
    /// Looks numbers up.
    pub query: Arc<Query>,
    /// Stores `command.invalid` events, and the results of look-ups.
    pub log: SharedEventLog,
    pub applications: Applications,
    /// The property that names the application.
    pub application_from: config::ApplicationFrom,
    /// Commands in flight at most, for each queue.
    pub prefetch: u16,
    /// How long a command stays unacknowledged at most.
    pub hold_for: Duration,
    /// How many requests of a command alone the API may refuse while it takes others.
    pub max_attempts: u32,
    /// The age at which a command expires. 0: no limit.
    pub max_age: Duration,
    pub metrics: Metrics,
}

/// The state that all handlers share.
struct Context {
    commands: Commands,
    ledger: Ledger,
    lines: Lines,
    asked: Asked,
    shutdown: CancellationToken,
    /// Cancelled after `shutdown`, when all consumers have stopped. Only then commands are requeued unchanged, because this
    /// process would otherwise receive them again.
    consumers_stopped: CancellationToken,
    /// Whether a session has been open.
    has_consumed: AtomicBool,
}

impl Context {
    fn has_session(&self, session: &Session) {
        let Commands {
            endpoint, metrics, ..
        } = &self.commands;
        if !self.has_consumed.swap(true, Ordering::Relaxed) {
            tracing::info!("commands are consumed");
        }
        metrics.amqp_connected(AmqpConnection::Commands, true);
        endpoint
            .status()
            .opened(session.address(), Purpose::Commands);
    }

    fn has_no_session(&self, error: &AmqpError) {
        tracing::debug!(%error, "commands cannot be consumed");
        let endpoint = &self.commands.endpoint;
        endpoint
            .status()
            .failed(endpoint.address(), Purpose::Commands, error);
    }
}

/// Consumes commands until `shutdown`. Returns when all commands in flight have been handled.
pub async fn run(commands: Commands, shutdown: CancellationToken) {
    let prefetch = commands.prefetch.max(1);
    let queues = [
        (Source::Urgent, prefetch),
        (Source::Normal, prefetch),
        (Source::Returned, prefetch.min(MAX_RETURNED_IN_FLIGHT)),
        (Source::Lookup, prefetch.min(lookup::MAX_IN_FLIGHT)),
    ]
    .map(|(source, prefetch)| {
        Arc::new(CommandQueue::new(
            source.queue(&commands.topology),
            source,
            prefetch,
        ))
    });
    let context = Arc::new(Context {
        commands,
        ledger: Ledger::default(),
        lines: Lines::default(),
        asked: Asked::default(),
        shutdown: shutdown.clone(),
        consumers_stopped: CancellationToken::new(),
        has_consumed: AtomicBool::new(false),
    });
    let handlers = TaskTracker::new();
    let mut backoff = Backoff::new(RECONNECT);
    while !shutdown.is_cancelled() {
        match consume(&context, &queues, &handlers).await {
            Ok(lifetime) if lifetime >= STABLE_SESSION => backoff.reset(),
            Ok(_) => {}
            Err(error) => context.has_no_session(&error),
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(backoff.next_wait()) => {}
        }
    }
    context.consumers_stopped.cancel();
    handlers.close();
    handlers.wait().await;
}

/// Consumes on one session until it ends or the process shuts down. Returns how long the session was open. At shutdown it stays
/// open until all deliveries are acknowledged.
async fn consume(
    context: &Arc<Context>,
    queues: &[Arc<CommandQueue>],
    handlers: &TaskTracker,
) -> Result<Duration, AmqpError> {
    let shutdown = &context.shutdown;
    let Commands {
        endpoint, topology, ..
    } = &context.commands;
    let session = tokio::select! {
        () = shutdown.cancelled() => return Ok(Duration::ZERO),
        session = topology.open_session(endpoint, "commands") => session?,
    };
    let opened = Instant::now();
    // Until then the event log may not take results, and each command would be moved to a retry queue.
    tokio::select! {
        () = shutdown.cancelled() => return Ok(Duration::ZERO),
        () = session.ended() => return Err(session.end()),
        () = context.commands.publisher.opened() => {}
    }
    let session = Arc::new(session);
    let lease = Arc::new(SessionLease::new(&session, endpoint.heartbeat()));
    let hold = Hold {
        context,
        session: session.clone(),
        lease: lease.clone(),
    };
    // The clock is looked at meanwhile: a broker that opens channels slowly is not taken for a stop of this process, and a stop is noticed.
    let opened_consumers = tokio::select! {
        opened = open_consumers(&session, queues) => opened?,
        () = lease.watch(&[]) => return Err(session.end()),
    };
    let mut consumers = JoinSet::new();
    // Kept because deliveries can only be acknowledged on the channel that received them, while it is open.
    let mut channels = Vec::new();
    for (queue, channel, consumer) in opened_consumers {
        channels.push(channel.clone());
        consumers.spawn(consume_queue(
            context.clone(),
            queue.clone(),
            session.clone(),
            lease.clone(),
            channel,
            consumer,
            handlers.clone(),
        ));
    }
    context.has_session(&session);
    let counting = tokio::spawn(replicas::count(context.clone(), session.clone()));
    let _counting = AbortOnDropHandle::new(counting);
    let using = async {
        let mut stopped = Vec::new();
        while let Some(ended) = consumers.join_next().await {
            if !shutdown.is_cancelled() {
                // The session ended or a queue was deleted. All consumers start again on a new session.
                hold.lose();
            }
            match ended {
                Ok(consumer) => stopped.push(consumer),
                Err(error) => tracing::error!(%error, "a consumer's task failed"),
            }
        }
        if shutdown.is_cancelled() {
            context.consumers_stopped.cancel();
            for consumer in &mut stopped {
                requeue_unhandled(context, consumer, handlers);
            }
            handlers.close();
            handlers.wait().await;
        }
    };
    let watching = async {
        lease.watch(&channels).await;
        hold.lose();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = using => {}
        () = watching => {}
    }
    if !shutdown.is_cancelled() {
        context.has_no_session(&session.end());
    }
    let lifetime = opened.elapsed();
    let metrics = &context.commands.metrics;
    metrics.amqp_connected(AmqpConnection::Commands, false);
    drop(hold);
    session.close().await;
    Ok(lifetime)
}

/// Opens a channel for each queue and begins to consume.
async fn open_consumers(
    session: &Session,
    queues: &[Arc<CommandQueue>],
) -> Result<Vec<(Arc<CommandQueue>, Channel, Consumer)>, AmqpError> {
    let mut opened = Vec::with_capacity(queues.len());
    for queue in queues {
        let channel = session.consuming_channel(queue.prefetch).await?;
        let consumer = channel
            .basic_consume(
                queue.name.as_str().into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        opened.push((queue.clone(), channel, consumer));
    }
    Ok(opened)
}

/// The hold on the deliveries of a session, until it is dropped.
struct Hold<'a> {
    context: &'a Context,
    session: Arc<Session>,
    lease: Arc<SessionLease>,
}

impl Hold<'_> {
    /// Gives the session up. The broker may give its deliveries to others, so what was not begun of them is withdrawn.
    fn lose(&self) {
        self.lease.end();
        self.session.give_up();
        self.context.commands.sender.withdraw_lost();
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.lose();
    }
}
