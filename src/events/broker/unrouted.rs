//! Keeps the stream bound, and moves events into it that it did not get.
//!
//! While the stream is not bound to the exchange in front of it, because somebody deleted the stream or a binding, the broker confirms
//! events and stores them in the queue behind that exchange's alternate exchange (`amqp::topology::definitions`). This task binds the
//! stream again, which declares it if it is gone, and moves what is in the queue through the same exchange.
//! Invariants: an event is acknowledged in the queue only after the broker has confirmed its copy, which comes back into the queue if the
//! stream is not bound even now; a pending report is not moved after a final one that this process published (P6).
//! Neighbours: `history` knows the final reports, `amqp::Topology` binds.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lapin::{
    BasicProperties, Channel,
    message::Delivery,
    options::{BasicAckOptions, QueueDeclareOptions},
    types::FieldTable,
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    history::History,
    stream_ends::{consume, delivery_within, message_count},
};
use crate::{
    amqp::{
        AmqpError, Endpoint, Message, Publisher, Session, Topology, codec, event_body::read_event,
        headers::property,
    },
    events::ReadError,
    ops::metrics::Metrics,
};

/// How often the stream is bound again and the queue is looked at.
const INTERVAL: Duration = Duration::from_secs(5);
/// The longest pause after rounds that moved nothing out of the queue.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// How long the broker may take for one step.
const STEP: Duration = Duration::from_secs(10);
/// Events that are moved at once.
const BATCH: u16 = 128;

pub(super) struct UnroutedEvents {
    pub(super) endpoint: Endpoint,
    pub(super) topology: Topology,
    pub(super) publisher: Arc<Publisher>,
    pub(super) history: Arc<Mutex<History>>,
    pub(super) metrics: Metrics,
    pub(super) closed: CancellationToken,
}

impl UnroutedEvents {
    pub(super) async fn run(self) {
        let closed = self.closed.clone();
        let mut session = None;
        tokio::select! {
            () = self.keep_bound(&mut session) => {}
            () = closed.cancelled() => {}
        }
        if let Some(session) = session {
            session.close().await;
        }
    }

    async fn keep_bound(&self, session: &mut Option<Session>) {
        let mut pause = INTERVAL;
        loop {
            let longer = (pause * 2).min(LONGEST_PAUSE);
            // A connection of its own: the broker ends a channel, and so its session, on a binding that it refuses.
            match self.round(session).await {
                Ok(is_emptied) => pause = if is_emptied { INTERVAL } else { longer },
                // The publisher says what the broker refuses. Each refused publication ends its session.
                Err(error) => {
                    pause = longer;
                    tracing::debug!(%error, "cannot look after the bindings of the event stream");
                    if let Some(session) = session.take() {
                        session.close().await;
                    }
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Returns whether the queue is empty, or has become shorter.
    async fn round(&self, session: &mut Option<Session>) -> Result<bool, ReadError> {
        if !self.publisher.is_ready() {
            return Ok(true);
        }
        if session.as_ref().is_none_or(|session| !session.is_open()) {
            *session = Some(self.open().await?);
        }
        let Some(session) = session else {
            return Ok(true);
        };
        let queue = self.topology.events_unrouted();
        let channel = in_time(session.consuming_channel(BATCH)).await?;
        in_time(self.topology.bind_events(&channel)).await?;
        let waiting = message_count(&channel, &queue);
        let waiting = tokio::time::timeout(STEP, waiting).await.map_err(late)??;
        self.metrics.events_unrouted(waiting);
        self.count_quarantine(session).await;
        if waiting == 0 {
            close(channel);
            return Ok(true);
        }
        let moved = self.drain(&channel, &queue, waiting).await;
        // What is not acknowledged returns to the queue when the channel closes.
        close(channel);
        let moved = moved?;
        let channel = in_time(session.consuming_channel(1)).await?;
        let left = message_count(&channel, &queue);
        let left = tokio::time::timeout(STEP, left).await.map_err(late)??;
        close(channel);
        self.metrics.events_unrouted(left);
        if left >= waiting {
            tracing::warn!(
                queue,
                events = left,
                "events wait outside of the stream, and come back when they are moved: bind the stream to the exchange of its name \
                 (docs/RABBITMQ.md#events-that-the-stream-did-not-get)"
            );
            return Ok(false);
        }
        tracing::warn!(
            events = moved,
            "moved events into the stream that were published while it was deleted or not bound"
        );
        Ok(true)
    }

    /// Counts what is in quarantine, for the metrics. Whoever may not look at the queue has no such series.
    async fn count_quarantine(&self, session: &Session) {
        let counting = async {
            // A refused declaration ends its channel.
            let channel = session.consuming_channel(1).await?;
            let queue = self.topology.quarantine();
            let options = QueueDeclareOptions {
                passive: true,
                ..Default::default()
            };
            let declared =
                channel.queue_declare(codec::lossy_short(&queue), options, FieldTable::default());
            Ok::<_, AmqpError>(declared.await?.message_count())
        };
        if let Ok(Ok(bodies)) = tokio::time::timeout(STEP, counting).await {
            self.metrics.quarantine_bodies(bodies.into());
        }
    }

    /// A session that has declared the stream. Where that is refused, the stream may still be there.
    async fn open(&self) -> Result<Session, ReadError> {
        match self.topology.open_session(&self.endpoint, "bindings").await {
            Err(AmqpError::Conflict { .. }) => {
                let opened = Session::open(&self.endpoint, "bindings").await;
                opened.map_err(unavailable)
            }
            opened => opened.map_err(unavailable),
        }
    }

    /// Moves as many events as were in the queue, and returns how many.
    async fn drain(&self, channel: &Channel, queue: &str, count: u32) -> Result<u32, ReadError> {
        let mut consumer = consume(channel, queue, FieldTable::default()).await?;
        let mut moved = 0;
        while moved < count {
            let started = Instant::now();
            let mut batch = Vec::new();
            while batch.len() < usize::from(BATCH) && started.elapsed() < STEP {
                match delivery_within(&mut consumer, Duration::from_millis(200)).await? {
                    Some(delivery) => batch.push(delivery),
                    None => break,
                }
            }
            if batch.is_empty() {
                break;
            }
            moved += u32::try_from(batch.len()).unwrap_or(u32::MAX);
            self.move_batch(batch).await?;
        }
        Ok(moved)
    }

    async fn move_batch(&self, batch: Vec<Delivery>) -> Result<(), ReadError> {
        let messages = batch.iter().map(|one| Message {
            // Not the exchange of events: its subscribers have had the event.
            exchange: self.topology.events_log(),
            routing_key: one.routing_key.to_string(),
            properties: properties(one),
            body: one.data.clone().into(),
        });
        let allows = |index: usize| {
            let event = batch.get(index).and_then(|one| read_event(one).ok());
            event.is_none_or(|event| !self.history.lock().is_late_pending(&event))
        };
        let outcomes = self.publisher.publish_allowed(messages.collect(), allows);
        let mut failed = None;
        for (delivery, outcome) in batch.iter().zip(outcomes.await) {
            match outcome {
                None => self.metrics.late_pending_dropped(),
                Some(Ok(())) => {}
                // The others may be confirmed: those must not come again.
                Some(Err(error)) => {
                    failed.get_or_insert(error);
                    continue;
                }
            }
            let acknowledged = delivery.acker.ack(BasicAckOptions::default());
            acknowledged.await.map_err(unavailable)?;
        }
        failed.map_or(Ok(()), |error| Err(unavailable(error)))
    }
}

/// The properties of the copy. The broker refuses those of another program that names its user, and ends the session.
fn properties(delivery: &Delivery) -> BasicProperties {
    let original = &delivery.properties;
    if original.user_id().is_none() {
        return original.clone();
    }
    let properties = codec::properties(property(original.content_type()));
    properties.with_headers(original.headers().clone().unwrap_or_default())
}

/// Closes a channel without waiting for it.
fn close(channel: Channel) {
    drop(channel);
}

fn unavailable(error: impl Into<AmqpError>) -> ReadError {
    ReadError::Unavailable(error.into().to_string())
}

fn late(_: tokio::time::error::Elapsed) -> ReadError {
    ReadError::Unavailable(format!("the broker does not answer within {STEP:?}"))
}

async fn in_time<T>(step: impl Future<Output = Result<T, AmqpError>>) -> Result<T, ReadError> {
    let done = tokio::time::timeout(STEP, step).await.map_err(late)?;
    done.map_err(unavailable)
}
