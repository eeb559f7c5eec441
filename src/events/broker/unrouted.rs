//! Keeps the stream bound, and moves events into it that it did not get.
//!
//! While the stream is not bound to the exchange in front of it, because somebody deleted the stream or a binding, the broker confirms
//! events and stores them in the queue behind that exchange's alternate exchange (`amqp::topology::definitions`). This task binds the
//! stream again, which declares it if it is gone, and moves what is in the queue through the same exchange.
//! Invariants: an event is acknowledged in the queue only after the broker has confirmed its copy, which comes back into the queue if the
//! stream is not bound even now; a pending report is not moved after a final one that this process published (P6); a move that the broker
//! refuses ends no other publication; what is in memory is bounded by number and by bytes.
//! Neighbours: `history` knows the final reports, `amqp::Topology` binds, `moves` publishes.

mod moves;

use std::{sync::Arc, time::Duration};

use lapin::{
    Channel,
    message::Delivery,
    options::{BasicAckOptions, BasicGetOptions},
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use self::moves::Moves;
use super::{history::History, stream_ends::message_count};
use crate::{
    amqp::{AmqpError, Endpoint, Publisher, Session, Topology, topology::short},
    ops::metrics::Metrics,
};

/// How often the stream is bound again and the queue is looked at.
const INTERVAL: Duration = Duration::from_secs(5);
/// The longest pause after rounds that failed or moved nothing out of the queue.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// How long the broker may take for one step.
const STEP: Duration = Duration::from_secs(10);
/// Events that are moved at once.
const BATCH: usize = 128;
/// No more are taken when those taken have this size. An event may have 8 MiB.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

pub(super) struct UnroutedEvents {
    pub(super) endpoint: Endpoint,
    pub(super) topology: Topology,
    pub(super) publisher: Arc<Publisher>,
    pub(super) history: Arc<Mutex<History>>,
    pub(super) metrics: Metrics,
    pub(super) closed: CancellationToken,
}

/// What the task keeps between its rounds.
#[derive(Default)]
struct Bound {
    session: Option<Session>,
    /// The broker refused to bind in an earlier session. Events may be moved nevertheless.
    is_refused: bool,
}

impl UnroutedEvents {
    pub(super) async fn run(self) {
        let closed = self.closed.clone();
        let mut bound = Bound::default();
        tokio::select! {
            () = self.keep_bound(&mut bound) => {}
            () = closed.cancelled() => {}
        }
        if let Some(session) = bound.session {
            session.close().await;
        }
    }

    async fn keep_bound(&self, bound: &mut Bound) {
        let mut pause = INTERVAL;
        let mut is_failing = false;
        loop {
            let longer = (pause * 2).min(LONGEST_PAUSE);
            match self.round(bound).await {
                Ok(is_emptied) => {
                    is_failing = false;
                    pause = if is_emptied { INTERVAL } else { longer };
                }
                Err(error) => {
                    pause = longer;
                    // The publisher reports an outage of the broker.
                    if self.publisher.is_ready() && !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(
                            cause = %error,
                            queue = self.topology.events_unrouted(),
                            "cannot look after events outside of the stream: trying again"
                        );
                    }
                    if let Some(session) = bound.session.take() {
                        session.close().await;
                    }
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Returns whether the queue is empty, or has become shorter.
    async fn round(&self, bound: &mut Bound) -> Result<bool, AmqpError> {
        if !self.publisher.is_ready() {
            return Ok(true);
        }
        let session = match bound.session.take() {
            Some(session) if session.is_open() => session,
            _ => self.open().await?,
        };
        let session = match bound.is_refused {
            true => session,
            false => self.bind(session, &mut bound.is_refused).await?,
        };
        let session = bound.session.insert(session);
        let queue = self.topology.events_unrouted();
        let waiting = self.count(session, &queue).await?;
        if waiting == 0 {
            return Ok(true);
        }
        // A connection of its own: the broker ends the session of a publication that it refuses, and blocks those that publish.
        let opened = Session::open(&self.endpoint, "moves").await?;
        let is_bound = !bound.is_refused && self.topology.is_declared();
        let moves = Moves::new(self, opened, is_bound);
        let moved = self.drain(session, &moves, &queue, waiting).await;
        moves.close().await;
        let moved = moved?;
        let left = self.count(session, &queue).await?;
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

    /// Binds the stream. A refusal ends its session: then another one, without bindings.
    async fn bind(&self, session: Session, is_refused: &mut bool) -> Result<Session, AmqpError> {
        let binding = async {
            let channel = session.consuming_channel(1).await?;
            self.topology.bind_events(&channel).await
        };
        let Err(error) = in_time(binding).await else {
            return Ok(session);
        };
        session.close().await;
        if !matches!(error, AmqpError::NoPermission { .. }) {
            return Err(error);
        }
        *is_refused = true;
        tracing::warn!(cause = %error, "the stream of events is not bound again where its bindings are deleted");
        self.open().await
    }

    /// A session that has declared the stream. Where that is refused, the stream may still be there.
    async fn open(&self) -> Result<Session, AmqpError> {
        match self.topology.open_session(&self.endpoint, "bindings").await {
            Err(AmqpError::Closed) => Err(AmqpError::Closed),
            // The publisher says what the broker refuses.
            Err(_) => Session::open(&self.endpoint, "bindings").await,
            opened => opened,
        }
    }

    async fn count(&self, session: &Session, queue: &str) -> Result<u32, AmqpError> {
        let counting = async {
            let channel = session.consuming_channel(1).await?;
            let counted = message_count(&channel, queue).await;
            counted.map_err(|error| AmqpError::Lost(error.cause()))
        };
        let waiting = in_time(counting).await?;
        self.metrics.events_unrouted(waiting);
        Ok(waiting)
    }

    /// Moves as many events as were in the queue, and returns how many. What is not acknowledged returns to the queue with the end of
    /// the channel.
    async fn drain(
        &self,
        session: &Session,
        moves: &Moves<'_>,
        queue: &str,
        count: u32,
    ) -> Result<u32, AmqpError> {
        let channel = in_time(session.consuming_channel(1)).await?;
        let mut moved = 0;
        while moved < count {
            let batch = take_batch(&channel, queue).await?;
            if batch.is_empty() {
                break;
            }
            moved += u32::try_from(batch.len()).unwrap_or(u32::MAX);
            moves.batch(batch).await?;
        }
        Ok(moved)
    }
}

/// Takes events one by one, because a prefetch limit has no bound in bytes.
async fn take_batch(channel: &Channel, queue: &str) -> Result<Vec<Delivery>, AmqpError> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH && bytes < BATCH_BYTES {
        let getting = async {
            let options = BasicGetOptions::default();
            Ok(channel.basic_get(short(queue)?, options).await?)
        };
        let Some(got) = in_time(getting).await? else {
            break;
        };
        bytes += got.delivery.data.len();
        batch.push(got.delivery);
    }
    Ok(batch)
}

async fn acknowledge(delivery: &Delivery) -> Result<(), AmqpError> {
    let acknowledging = delivery.acker.ack(BasicAckOptions::default());
    let is_sent = in_time(async { Ok(acknowledging.await?) }).await?;
    match is_sent {
        true => Ok(()),
        false => Err(AmqpError::Lost("the channel ended".into())),
    }
}

async fn in_time<T>(step: impl Future<Output = Result<T, AmqpError>>) -> Result<T, AmqpError> {
    let done = tokio::time::timeout(STEP, step).await;
    done.unwrap_or_else(|_| {
        let late = format!("the broker does not answer within {STEP:?}");
        Err(AmqpError::Lost(late))
    })
}
