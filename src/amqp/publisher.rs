//! Publishing with confirms: pipelined, each confirm awaited with a deadline.
//!
//! Invariants: `Ok` means that the broker confirmed this very message. lapin numbers a publication and queues its frames
//! in two steps, and pairs a returned message with the next confirm; so publications of one channel begin one after the
//! other, and mandatory ones have channels of their own with one of them at a time. What is in flight is bounded.
//! A publication that no confirm came for leaves the session in doubt: after a few of them it is replaced.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use lapin::{BasicProperties, Channel, Confirmation, options::BasicPublishOptions};
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{AmqpError, Endpoint, Session, Topology, session::RECONNECT, topology::short};
use crate::{ops::metrics::Metrics, primitives::retry::Backoff};

/// Pipelined publications that wait for their confirm at once at most.
const MAX_IN_FLIGHT: usize = 4096;
/// How many of them one caller begins at once.
const MAX_CHUNK: usize = 512;
/// Channels for mandatory publications: so many are under way at once.
const MANDATORY_CHANNELS: usize = 16;
/// Publications of one session that may go without a confirm before the session is replaced.
const MAX_UNCONFIRMED: usize = 256;

/// One message to be published.
#[derive(Debug, Clone)]
pub struct Message {
    /// The exchange; empty for the default one.
    pub exchange: String,
    pub routing_key: String,
    pub properties: BasicProperties,
    pub body: Bytes,
}

/// Publishes on a connection of its own, which it keeps up.
pub struct Publisher {
    link: watch::Receiver<Option<Arc<Link>>>,
    in_flight: Semaphore,
    confirm_timeout: Duration,
    shutdown: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// The channels of one session.
struct Link {
    session: Session,
    pipelined: Channel,
    /// Held while a publication gets its number and its frames are queued.
    order: Mutex<()>,
    mandatory: Vec<tokio::sync::Mutex<Channel>>,
    next_mandatory: AtomicUsize,
    unconfirmed: AtomicUsize,
}

impl Publisher {
    /// Begins to connect, and to declare the topology. Does not wait: a broker that is down is a matter of
    /// [`Publisher::is_ready`].
    #[must_use]
    pub fn start(
        endpoint: Endpoint,
        topology: Topology,
        confirm_timeout: Duration,
        metrics: Metrics,
    ) -> Self {
        let (announce, link) = watch::channel(None);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(keep_up(
            endpoint,
            topology,
            announce,
            metrics,
            shutdown.clone(),
        ));
        Self {
            link,
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            confirm_timeout,
            shutdown,
            task: Mutex::new(Some(task)),
        }
    }

    /// Whether the broker takes messages now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.link
            .borrow()
            .as_ref()
            .is_some_and(|link| link.session.accepts_messages())
    }

    /// Publishes in order and pipelined; one answer for each message. An unroutable message is confirmed too: publish to
    /// what is bound.
    pub async fn publish_all(&self, messages: Vec<Message>) -> Vec<Result<(), AmqpError>> {
        let mut answers = Vec::with_capacity(messages.len());
        let mut messages = messages.into_iter();
        while messages.len() > 0 {
            let chunk: Vec<Message> = messages.by_ref().take(MAX_CHUNK).collect();
            let count = chunk.len();
            match self.publish_chunk(chunk).await {
                Ok(of_chunk) => answers.extend(of_chunk),
                Err(error) => {
                    answers.extend(std::iter::repeat_n(Err(error.clone()), count));
                    // The rest would fare no better.
                    answers.extend(std::iter::repeat_n(Err(error), messages.len()));
                    break;
                }
            }
        }
        answers
    }

    /// Publishes one message to where it must arrive: that no queue takes it is an error.
    ///
    /// # Errors
    /// [`AmqpError`]; then the message may be stored all the same, unless it is unroutable or was refused.
    pub async fn publish_mandatory(&self, message: Message) -> Result<(), AmqpError> {
        let deadline = Instant::now() + self.confirm_timeout;
        let link = self.link(deadline).await?;
        let turn = link.next_mandatory.fetch_add(1, Ordering::Relaxed) % MANDATORY_CHANNELS;
        let publishing = async {
            let channel = link.mandatory[turn].lock().await;
            // Until its confirm has come, the channel's next confirm would be this one's.
            let unfinished = GiveUpOnDrop(&link.session);
            let options = BasicPublishOptions {
                mandatory: true,
                ..Default::default()
            };
            let confirm = channel
                .basic_publish(
                    short(&message.exchange)?,
                    short(&message.routing_key)?,
                    options,
                    &message.body,
                    message.properties,
                )
                .await
                .map_err(ended_in_flight)?;
            let confirmation = confirm.await.map_err(ended_in_flight)?;
            std::mem::forget(unfinished);
            match confirmation {
                Confirmation::Ack(None) => Ok(()),
                Confirmation::Ack(Some(_)) => Err(AmqpError::Unroutable {
                    exchange: message.exchange,
                    routing_key: message.routing_key,
                }),
                Confirmation::Nack(_) => Err(AmqpError::Nacked),
                Confirmation::NotRequested => Err(AmqpError::Lost("confirms are off".into())),
            }
        };
        tokio::time::timeout_at(deadline, publishing)
            .await
            .unwrap_or(Err(AmqpError::TimedOut(self.confirm_timeout)))
    }

    /// Ends the session and its task. What is in flight then fails: finish first.
    pub async fn close(&self) {
        self.shutdown.cancel();
        let task = self.task.lock().take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the publisher's task failed");
        }
    }

    /// The session of now, or the next one.
    async fn link(&self, deadline: Instant) -> Result<Arc<Link>, AmqpError> {
        let mut links = self.link.clone();
        let waiting =
            links.wait_for(|link| link.as_ref().is_some_and(|link| link.session.is_open()));
        let link = tokio::select! {
            () = self.shutdown.cancelled() => return Err(AmqpError::Closed),
            link = tokio::time::timeout_at(deadline, waiting) => link,
        };
        let link = link
            .map_err(|_| AmqpError::Lost("there is no connection to the broker".into()))?
            .map_err(|_| AmqpError::Closed)?
            .clone()
            .ok_or(AmqpError::Closed)?;
        if link.session.is_blocked() {
            return Err(AmqpError::Blocked);
        }
        Ok(link)
    }

    async fn publish_chunk(
        &self,
        messages: Vec<Message>,
    ) -> Result<Vec<Result<(), AmqpError>>, AmqpError> {
        let deadline = Instant::now() + self.confirm_timeout;
        // All permits at once: nobody holds some while waiting for others.
        let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        let _permits = tokio::time::timeout_at(deadline, self.in_flight.acquire_many(count))
            .await
            .map_err(|_| AmqpError::TimedOut(self.confirm_timeout))?
            .map_err(|_| AmqpError::Closed)?;
        let link = self.link(deadline).await?;
        let begun: Vec<_> = messages
            .into_iter()
            .map(|message| link.begin(message))
            .collect();
        let confirmed = begun.into_iter().map(|begun| async {
            let outcome = match begun? {
                Begun::Done(outcome) => *outcome,
                Begun::Waits(publishing) => tokio::time::timeout_at(deadline, publishing)
                    .await
                    .map_err(|_| {
                        link.count_unconfirmed();
                        AmqpError::TimedOut(self.confirm_timeout)
                    })?,
            };
            match outcome {
                Ok(Confirmation::Ack(_)) => Ok(()),
                Ok(Confirmation::Nack(_)) => Err(AmqpError::Nacked),
                Ok(Confirmation::NotRequested) => Err(AmqpError::Lost("confirms are off".into())),
                Err(error) => {
                    link.session.give_up();
                    Err(error.into())
                }
            }
        });
        Ok(join_all(confirmed).await)
    }
}

type Publishing = Pin<Box<dyn Future<Output = Result<Confirmation, lapin::Error>> + Send>>;

/// A publication that has its number.
enum Begun {
    /// It failed at once.
    Done(Box<Result<Confirmation, lapin::Error>>),
    /// It waits for its confirm.
    Waits(Publishing),
}

impl Link {
    /// Numbers a publication and queues its frames.
    fn begin(&self, message: Message) -> Result<Begun, AmqpError> {
        let exchange = short(&message.exchange)?;
        let routing_key = short(&message.routing_key)?;
        let channel = self.pipelined.clone();
        let mut publishing: Publishing = Box::pin(async move {
            let confirm = channel
                .basic_publish(
                    exchange,
                    routing_key,
                    BasicPublishOptions::default(),
                    &message.body,
                    message.properties,
                )
                .await?;
            confirm.await
        });
        let _order = self.order.lock();
        // All of that happens in the first poll; it is polled again for the confirm.
        let mut context = Context::from_waker(Waker::noop());
        Ok(match publishing.as_mut().poll(&mut context) {
            Poll::Ready(outcome) => Begun::Done(Box::new(outcome)),
            Poll::Pending => Begun::Waits(publishing),
        })
    }

    /// lapin remembers a publication that nobody waits for any more until the session ends.
    fn count_unconfirmed(&self) {
        if self.unconfirmed.fetch_add(1, Ordering::Relaxed) >= MAX_UNCONFIRMED {
            self.session.give_up();
        }
    }
}

fn ended_in_flight(error: lapin::Error) -> AmqpError {
    AmqpError::EndedInFlight(error.to_string())
}

/// Gives a session up unless forgotten.
struct GiveUpOnDrop<'a>(&'a Session);

impl Drop for GiveUpOnDrop<'_> {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

/// Keeps a session up until `shutdown`.
async fn keep_up(
    endpoint: Endpoint,
    topology: Topology,
    announce: watch::Sender<Option<Arc<Link>>>,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let mut backoff = Backoff::new(RECONNECT);
    let mut is_first = true;
    loop {
        let connected = tokio::select! {
            () = shutdown.cancelled() => return,
            connected = connect(&endpoint, &topology) => connected,
        };
        match connected {
            Ok(link) => {
                tracing::info!(address = endpoint.address(), "publishing to the broker");
                backoff.reset();
                if !std::mem::take(&mut is_first) {
                    metrics.amqp_reconnected();
                }
                let link = Arc::new(link);
                announce.send_replace(Some(link.clone()));
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = link.session.ended() => {
                        tracing::warn!(address = endpoint.address(), "the broker's publishing session ended");
                    }
                }
                announce.send_replace(None);
                link.session.close().await;
            }
            Err(error) if backoff.is_fresh() => {
                tracing::warn!(%error, "no publishing session with the broker, trying again");
            }
            Err(error) => tracing::debug!(%error, "no publishing session with the broker"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(backoff.next_wait()) => {}
        }
    }
}

async fn connect(endpoint: &Endpoint, topology: &Topology) -> Result<Link, AmqpError> {
    let session = Session::open(endpoint, "publisher").await?;
    let pipelined = session.publishing_channel().await?;
    topology.declare(&pipelined).await?;
    let mut mandatory = Vec::with_capacity(MANDATORY_CHANNELS);
    for _ in 0..MANDATORY_CHANNELS {
        mandatory.push(tokio::sync::Mutex::new(session.publishing_channel().await?));
    }
    Ok(Link {
        session,
        pipelined,
        order: Mutex::new(()),
        mandatory,
        next_mandatory: AtomicUsize::new(0),
        unconfirmed: AtomicUsize::new(0),
    })
}
