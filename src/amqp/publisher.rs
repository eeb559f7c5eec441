//! Publishes messages with confirms. Publications are pipelined; each confirm is awaited with a deadline.
//!
//! Invariants: `Ok` means that the broker confirmed this very message. The number of publications in flight is bounded.
//! Neighbours: `publishing_session` has the channels of one connection and the rules for sharing them.

mod publishing_session;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use lapin::{BasicProperties, Confirmation, options::BasicPublishOptions};
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::publishing_session::{InFlight, Publication, PublishingSession};
use super::{AmqpError, Endpoint, Topology, status::Purpose, topology::short};
use crate::ops::metrics::Metrics;

/// Maximum number of pipelined publications in flight.
const MAX_IN_FLIGHT: usize = 4096;
/// Maximum number of messages that one caller publishes at once.
const MAX_CHUNK: usize = 512;
/// Channels for mandatory publications; each has one of them in flight.
const MANDATORY_CHANNELS: usize = 16;

/// A message to publish.
#[derive(Debug, Clone)]
pub struct Message {
    /// The exchange; empty for the default one.
    pub exchange: String,
    pub routing_key: String,
    pub properties: BasicProperties,
    pub body: Bytes,
}

/// Publishes on a connection of its own, which it opens again whenever it ends.
pub struct Publisher {
    endpoint: Endpoint,
    current: watch::Receiver<Option<Arc<PublishingSession>>>,
    in_flight: Semaphore,
    confirm_timeout: Duration,
    shutdown: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Publisher {
    /// Starts a task that connects and declares the topology. Returns at once; [`Publisher::is_ready`] tells whether the broker
    /// can be reached.
    #[must_use]
    pub fn start(
        endpoint: Endpoint,
        topology: Topology,
        confirm_timeout: Duration,
        metrics: Metrics,
    ) -> Self {
        let (sessions, current) = watch::channel(None);
        let shutdown = CancellationToken::new();
        let watch = metrics.tasks().clone();
        let connecting = publishing_session::keep_connected(
            endpoint.clone(),
            topology,
            confirm_timeout,
            sessions,
            metrics,
            shutdown.clone(),
        );
        let task = tokio::spawn(watch.watch("publisher", connecting));
        Self {
            endpoint,
            current,
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            confirm_timeout,
            shutdown,
            task: Mutex::new(Some(task)),
        }
    }

    /// Whether the session is open and the broker accepts messages.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.current
            .borrow()
            .as_ref()
            .is_some_and(|current| current.session.accepts_messages())
    }

    /// Waits until a session is open.
    pub async fn opened(&self) {
        // Fails after `close`.
        let _ = self.current.clone().wait_for(Option::is_some).await;
    }

    /// Why it is not ready, with the broker's address; `None` if it is.
    #[must_use]
    pub fn outage(&self) -> Option<String> {
        if self.is_ready() {
            return None;
        }
        let current = self.current.borrow();
        Some(match current.as_ref() {
            Some(current) if current.session.is_open() || current.session.is_blocked() => {
                format!(
                    "cannot publish: the broker at {} blocks publishers: it is low on memory or disk space",
                    current.session.address()
                )
            }
            Some(current) => current.session.end().to_string(),
            None => match self.endpoint.status().cause(Purpose::Publisher) {
                Some(error) => error.to_string(),
                None => format!("connecting to the broker at {}", self.endpoint.address()),
            },
        })
    }

    /// Publishes messages in order and pipelined. Returns one outcome for each message, in their order. The broker confirms a
    /// message also if no queue is bound for it: use [`Publisher::publish_mandatory`] where that matters.
    pub async fn publish_all(&self, messages: Vec<Message>) -> Vec<Result<(), AmqpError>> {
        let outcomes = self.publish_allowed(messages, |_| true).await;
        // Each message is allowed, so each has an outcome.
        outcomes.into_iter().flatten().collect()
    }

    /// As [`Publisher::publish_all`], without the messages whose index `allows` refuses: their outcome is `None`.
    ///
    /// `allows` is asked directly before the frames of a message are queued, and no other publication of the session begins in
    /// between: it is asked in the order in which the broker gets the messages, those of concurrent callers included. It must not
    /// block.
    pub async fn publish_allowed(
        &self,
        messages: Vec<Message>,
        allows: impl Fn(usize) -> bool,
    ) -> Vec<Option<Result<(), AmqpError>>> {
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut messages = messages.into_iter();
        while messages.len() > 0 {
            let first = outcomes.len();
            let chunk: Vec<Message> = messages.by_ref().take(MAX_CHUNK).collect();
            let count = chunk.len();
            match self.publish_chunk(chunk, first, &allows).await {
                Ok(of_chunk) => outcomes.extend(of_chunk),
                Err(error) => {
                    // There is no session, so the remaining chunks would fail in the same way.
                    let failed = count + messages.len();
                    outcomes.extend(std::iter::repeat_n(Some(Err(error)), failed));
                    break;
                }
            }
        }
        outcomes
    }

    /// Publishes one message with the flag `mandatory`: it fails if no queue is bound for the message.
    ///
    /// # Errors
    /// [`AmqpError`]. The message may be stored nevertheless, unless the error is [`AmqpError::Unroutable`] or
    /// [`AmqpError::Nacked`].
    pub async fn publish_mandatory(&self, message: Message) -> Result<(), AmqpError> {
        // Names that do not fit into a frame fail this message, not the session.
        let exchange = short(&message.exchange)?;
        let routing_key = short(&message.routing_key)?;
        let deadline = Instant::now() + self.confirm_timeout;
        let current = self.session(deadline).await?;
        let index = current.next_mandatory.fetch_add(1, Ordering::Relaxed) % MANDATORY_CHANNELS;
        let channel = current.mandatory[index].lock();
        let channel =
            tokio::time::timeout_at(deadline, channel)
                .await
                .map_err(|_| match current.was_blocked() {
                    true => AmqpError::Blocked,
                    false => AmqpError::Lost("no channel was free in time".into()),
                })?;
        // The message waits for its confirm from here on, however long it waited for a channel.
        let deadline = Instant::now() + self.confirm_timeout;
        // Until then the message cannot be the cause of an ended session or of a missing confirm.
        let awaits_confirm = AtomicBool::new(false);
        let publishing = async {
            let mut in_flight = InFlight {
                session: &current,
                channel,
                awaits_confirm: false,
            };
            if !current.session.is_open() {
                return Err(AmqpError::Lost("the session with the broker ended".into()));
            }
            if current.session.is_blocked() {
                return Err(AmqpError::Blocked);
            }
            let channel = match &*in_flight.channel {
                Some(channel) => channel.clone(),
                None => {
                    let opened = current.session.publishing_channel().await?;
                    in_flight.channel.insert(opened).clone()
                }
            };
            in_flight.awaits_confirm = true;
            let options = BasicPublishOptions {
                mandatory: true,
                ..Default::default()
            };
            let confirm = channel
                .basic_publish(
                    exchange,
                    routing_key,
                    options,
                    &message.body,
                    message.properties,
                )
                .await?;
            awaits_confirm.store(true, Ordering::Relaxed);
            let confirmation = confirm
                .await
                .map_err(|error| AmqpError::EndedInFlight(error.to_string()))?;
            in_flight.awaits_confirm = false;
            match confirmation {
                Confirmation::Ack(None) => Ok(()),
                Confirmation::Ack(Some(_)) => Err(AmqpError::Unroutable {
                    exchange: message.exchange,
                    routing_key: message.routing_key,
                }),
                Confirmation::Nack(_) => Err(AmqpError::Nacked),
                Confirmation::NotRequested => Err(not_in_confirm_mode()),
            }
        };
        match tokio::time::timeout_at(deadline, publishing).await {
            Ok(published) => published,
            Err(_) if current.was_blocked() => Err(AmqpError::Blocked),
            Err(_) if awaits_confirm.load(Ordering::Relaxed) => {
                Err(AmqpError::TimedOut(self.confirm_timeout))
            }
            Err(_) => Err(AmqpError::Lost("no channel was opened in time".into())),
        }
    }

    /// Closes the session and ends its task. Publications in flight fail, so callers finish them first.
    pub async fn close(&self) {
        self.shutdown.cancel();
        let task = self.task.lock().take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the publisher's task failed");
        }
    }

    /// The open session; waits for one until the deadline.
    async fn session(&self, deadline: Instant) -> Result<Arc<PublishingSession>, AmqpError> {
        let mut current = self.current.clone();
        let opened = current.wait_for(|current| {
            current
                .as_ref()
                .is_some_and(|current| current.session.is_open() || current.session.is_blocked())
        });
        let opened = tokio::select! {
            () = self.shutdown.cancelled() => return Err(AmqpError::Closed),
            opened = tokio::time::timeout_at(deadline, opened) => opened,
        };
        let opened = opened
            .map_err(|_| AmqpError::Lost("there is no connection to the broker".into()))?
            .map_err(|_| AmqpError::Closed)?
            .clone()
            .ok_or(AmqpError::Closed)?;
        if opened.session.is_blocked() {
            return Err(AmqpError::Blocked);
        }
        Ok(opened)
    }

    /// The index of the first message is `first`.
    async fn publish_chunk(
        &self,
        messages: Vec<Message>,
        first: usize,
        allows: &impl Fn(usize) -> bool,
    ) -> Result<Vec<Option<Result<(), AmqpError>>>, AmqpError> {
        let deadline = Instant::now() + self.confirm_timeout;
        // All permits at once: two callers that each hold some of them could wait for each other.
        let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        let _permits = tokio::time::timeout_at(deadline, self.in_flight.acquire_many(count))
            .await
            .map_err(|_| AmqpError::Lost("too many messages wait for their confirms".into()))?
            .map_err(|_| AmqpError::Closed)?;
        let current = self.session(deadline).await?;
        // A message waits for its confirm from here on, however long it waited for its turn.
        let deadline = Instant::now() + self.confirm_timeout;
        let begun: Vec<_> = messages
            .into_iter()
            .zip(first..)
            .map(|(message, index)| current.begin(message, || allows(index)))
            .collect();
        let confirmed = begun.into_iter().map(|begun| async {
            match begun {
                Ok(Some(begun)) => Some(self.confirmed(&current, begun, deadline).await),
                Ok(None) => None,
                Err(error) => Some(Err(error)),
            }
        });
        Ok(join_all(confirmed).await)
    }

    /// Waits for the confirm of a publication.
    async fn confirmed(
        &self,
        current: &PublishingSession,
        begun: Publication<'_>,
        deadline: Instant,
    ) -> Result<(), AmqpError> {
        let outcome = match begun {
            Publication::Finished(outcome) => *outcome,
            Publication::Unconfirmed(publishing) => tokio::time::timeout_at(deadline, publishing)
                .await
                .map_err(|_| match current.was_blocked() {
                    true => AmqpError::Blocked,
                    false => AmqpError::TimedOut(self.confirm_timeout),
                })?,
        };
        match outcome {
            Ok(Confirmation::Ack(_)) => Ok(()),
            Ok(Confirmation::Nack(_)) => Err(AmqpError::Nacked),
            Ok(Confirmation::NotRequested) => Err(not_in_confirm_mode()),
            Err(error) => {
                current.session.give_up();
                Err(error.into())
            }
        }
    }
}

fn not_in_confirm_mode() -> AmqpError {
    AmqpError::Lost("the channel is not in confirm mode".into())
}
