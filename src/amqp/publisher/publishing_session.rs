//! The channels of one publishing session, and the task that opens a session again whenever one ends.
//!
//! lapin assigns the number of a publication and queues its frames in two steps, and it pairs a returned message with the next
//! confirm. Invariants: publications on one channel begin one after the other; a channel for mandatory publications has one of
//! them in flight; a session with too many publications without a confirm is replaced.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use lapin::{Channel, Confirmation, options::BasicPublishOptions};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{MANDATORY_CHANNELS, Message};
use crate::{
    amqp::{
        AmqpError, Endpoint, Session, Topology, session::RECONNECT, status::Purpose,
        topology::short,
    },
    ops::metrics::{AmqpConnection, Metrics},
    primitives::retry::Backoff,
};

/// Publications of one session that may stay without a confirm before the session is replaced.
const MAX_UNCONFIRMED: usize = 256;

/// A session and its channels.
pub(super) struct PublishingSession {
    pub(super) session: Session,
    pipelined: Channel,
    /// Held while a pipelined publication gets its number and its frames are queued.
    beginning: Mutex<()>,
    pub(super) mandatory: Vec<tokio::sync::Mutex<Channel>>,
    /// Selects the channel of the next mandatory publication, round robin.
    pub(super) next_mandatory: AtomicUsize,
    unconfirmed: AtomicUsize,
}

type Publishing = Pin<Box<dyn Future<Output = Result<Confirmation, lapin::Error>> + Send>>;

/// A publication that has begun: its frames are queued, unless it failed at once.
pub(super) enum Publication {
    Finished(Box<Result<Confirmation, lapin::Error>>),
    /// Resolves with the confirm.
    Unconfirmed(Publishing),
}

impl PublishingSession {
    async fn open(endpoint: &Endpoint, topology: &Topology) -> Result<Self, AmqpError> {
        let session = topology.open_session(endpoint, "publisher").await?;
        let pipelined = session.publishing_channel().await?;
        let mut mandatory = Vec::with_capacity(MANDATORY_CHANNELS);
        for _ in 0..MANDATORY_CHANNELS {
            mandatory.push(tokio::sync::Mutex::new(session.publishing_channel().await?));
        }
        Ok(Self {
            session,
            pipelined,
            beginning: Mutex::new(()),
            mandatory,
            next_mandatory: AtomicUsize::new(0),
            unconfirmed: AtomicUsize::new(0),
        })
    }

    /// Begins a pipelined publication: assigns its number and queues its frames.
    pub(super) fn begin(&self, message: Message) -> Result<Publication, AmqpError> {
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
        let _beginning = self.beginning.lock();
        // lapin does both steps in the first poll. The caller polls again, with a waker, for the confirm.
        let mut context = Context::from_waker(Waker::noop());
        Ok(match publishing.as_mut().poll(&mut context) {
            Poll::Ready(outcome) => Publication::Finished(Box::new(outcome)),
            Poll::Pending => Publication::Unconfirmed(publishing),
        })
    }

    /// Counts a publication without a confirm. lapin remembers it until the session ends, even if nothing waits for it.
    pub(super) fn count_unconfirmed(&self) {
        if self.unconfirmed.fetch_add(1, Ordering::Relaxed) >= MAX_UNCONFIRMED {
            self.session.give_up();
        }
    }
}

/// A guard that gives up the session when the guard is dropped. `std::mem::forget` disarms the guard.
pub(super) struct GiveUpOnDrop<'a>(pub(super) &'a Session);

impl Drop for GiveUpOnDrop<'_> {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

/// Keeps one session open until `shutdown` and publishes it in `sessions`.
pub(super) async fn keep_connected(
    endpoint: Endpoint,
    topology: Topology,
    sessions: watch::Sender<Option<Arc<PublishingSession>>>,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let mut backoff = Backoff::new(RECONNECT);
    let mut is_first = true;
    loop {
        let opened = tokio::select! {
            () = shutdown.cancelled() => return,
            opened = PublishingSession::open(&endpoint, &topology) => opened,
        };
        match opened {
            Ok(opened) => {
                if std::mem::take(&mut is_first) {
                    tracing::info!(address = endpoint.address(), "connected to the broker");
                } else {
                    metrics.amqp_reconnected();
                }
                backoff.reset();
                let current = Arc::new(opened);
                sessions.send_replace(Some(current.clone()));
                metrics.amqp_connected(AmqpConnection::Publisher, true);
                endpoint
                    .status()
                    .opened(endpoint.address(), Purpose::Publisher);
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = current.session.ended() => failed(&endpoint, &current.session.end()),
                }
                metrics.amqp_connected(AmqpConnection::Publisher, false);
                sessions.send_replace(None);
                current.session.close().await;
            }
            Err(error) => failed(&endpoint, &error),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(backoff.next_wait()) => {}
        }
    }
}

fn failed(endpoint: &Endpoint, error: &AmqpError) {
    tracing::debug!(%error, "the publisher has no session with the broker");
    endpoint
        .status()
        .failed(endpoint.address(), Purpose::Publisher, error);
}
