//! The channels of one publishing session, and the task that opens a session again whenever one ends.
//!
//! lapin assigns the number of a publication and queues its frames in two steps, and it pairs a returned message with the next
//! confirm. Invariants: publications on one channel begin one after the other; a channel for mandatory publications has one of
//! them in flight; a session with too many publications without a confirm is replaced. A session that the broker blocks is
//! neither: a confirm that is missing then says nothing about the session, a new one would be blocked as soon as it publishes,
//! and the old one could not be closed.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::AtomicUsize},
    task::{Context, Poll, Waker},
    time::Duration,
};

use lapin::{Channel, Confirmation, options::BasicPublishOptions};
use parking_lot::Mutex;
use tokio::{
    sync::{MutexGuard, watch},
    time::Instant,
};
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

/// A session that lasted this long worked. One that ends sooner, each time because the broker refuses a publication, say, is no success.
const WORKED_FOR: Duration = Duration::from_secs(2);
/// Publications of one session that may stay without a confirm before the session is replaced.
const MAX_UNCONFIRMED: usize = 256;

/// A session and its channels.
pub(super) struct PublishingSession {
    pub(super) session: Session,
    pipelined: Channel,
    /// Held while a pipelined publication gets its number and its frames are queued.
    beginning: Mutex<()>,
    /// `None`: its last publication got no confirm while the session was blocked; the next publication opens a new channel.
    pub(super) mandatory: Vec<tokio::sync::Mutex<Option<Channel>>>,
    /// Selects the channel of the next mandatory publication, round robin.
    pub(super) next_mandatory: AtomicUsize,
    abandoned: Mutex<Abandoned>,
    confirm_timeout: Duration,
}

/// Pipelined publications that nobody waits for any more and that had no confirm when they were last looked at.
struct Abandoned {
    publications: Vec<Publishing>,
    /// At this number those are removed that have a confirm now.
    look_at: usize,
}

type Publishing = Pin<Box<dyn Future<Output = Result<Confirmation, lapin::Error>> + Send>>;

/// A publication that has begun: its frames are queued, unless it failed at once.
pub(super) enum Publication<'a> {
    Finished(Box<Result<Confirmation, lapin::Error>>),
    Unconfirmed(Unconfirmed<'a>),
}

/// Resolves with the confirm. If it is dropped before, the session counts the publication until its confirm has come: lapin
/// remembers it that long.
pub(super) struct Unconfirmed<'a> {
    session: &'a PublishingSession,
    publishing: Option<Publishing>,
}

impl Future for Unconfirmed<'_> {
    type Output = Result<Confirmation, lapin::Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(publishing) = self.publishing.as_mut() else {
            return Poll::Pending;
        };
        let outcome = std::task::ready!(publishing.as_mut().poll(context));
        self.publishing = None;
        Poll::Ready(outcome)
    }
}

impl Drop for Unconfirmed<'_> {
    fn drop(&mut self) {
        if let Some(publishing) = self.publishing.take() {
            self.session.abandon(publishing);
        }
    }
}

impl PublishingSession {
    async fn open(
        endpoint: &Endpoint,
        topology: &Topology,
        confirm_timeout: Duration,
    ) -> Result<Self, AmqpError> {
        let session = topology.open_session(endpoint, "publisher").await?;
        let pipelined = session.publishing_channel().await?;
        let mut mandatory = Vec::with_capacity(MANDATORY_CHANNELS);
        for _ in 0..MANDATORY_CHANNELS {
            let channel = session.publishing_channel().await?;
            mandatory.push(tokio::sync::Mutex::new(Some(channel)));
        }
        Ok(Self {
            session,
            pipelined,
            beginning: Mutex::new(()),
            mandatory,
            next_mandatory: AtomicUsize::new(0),
            abandoned: Mutex::new(Abandoned {
                publications: Vec::new(),
                look_at: MAX_UNCONFIRMED,
            }),
            confirm_timeout,
        })
    }

    /// Begins a pipelined publication: assigns its number and queues its frames. `None` if `is_allowed` refuses it, which is asked
    /// while no other publication begins.
    pub(super) fn begin(
        &self,
        message: Message,
        is_allowed: impl FnOnce() -> bool,
    ) -> Result<Option<Publication<'_>>, AmqpError> {
        let exchange = short(&message.exchange)?;
        let routing_key = short(&message.routing_key)?;
        let channel = self.pipelined.clone();
        let mut publishing: Publishing = Box::pin(async move {
            // Not kept while the confirm is awaited.
            let Message {
                body, properties, ..
            } = message;
            let options = BasicPublishOptions::default();
            let confirm = channel
                .basic_publish(exchange, routing_key, options, &body, properties)
                .await?;
            drop(body);
            confirm.await
        });
        let _beginning = self.beginning.lock();
        if !is_allowed() {
            return Ok(None);
        }
        // lapin does both steps in the first poll. The caller polls again, with a waker, for the confirm.
        let mut context = Context::from_waker(Waker::noop());
        Ok(Some(match publishing.as_mut().poll(&mut context) {
            Poll::Ready(outcome) => Publication::Finished(Box::new(outcome)),
            Poll::Pending => Publication::Unconfirmed(Unconfirmed {
                session: self,
                publishing: Some(publishing),
            }),
        }))
    }

    /// Whether a confirm may be missing because the broker blocks the connection or did so while it was awaited.
    pub(super) fn was_blocked(&self) -> bool {
        self.session.was_blocked_within(self.confirm_timeout)
    }

    /// Counts a publication whose caller no longer waits, and gives up the session if too many have no confirm.
    fn abandon(&self, publishing: Publishing) {
        let mut abandoned = self.abandoned.lock();
        abandoned.publications.push(publishing);
        if abandoned.publications.len() <= abandoned.look_at {
            return;
        }
        let mut context = Context::from_waker(Waker::noop());
        abandoned
            .publications
            .retain_mut(|publishing| publishing.as_mut().poll(&mut context).is_pending());
        let unconfirmed = abandoned.publications.len();
        // Looking at all of them costs as much as there are.
        abandoned.look_at = MAX_UNCONFIRMED.max(2 * unconfirmed);
        if unconfirmed > MAX_UNCONFIRMED && !self.was_blocked() {
            self.session.give_up();
        }
    }
}

/// The only mandatory publication of its channel. If it is dropped in flight, the channel's next confirm would be taken for that of
/// the next message: the session is given up, or only the channel if the session was blocked.
pub(super) struct InFlight<'a> {
    pub(super) session: &'a PublishingSession,
    pub(super) channel: MutexGuard<'a, Option<Channel>>,
    pub(super) awaits_confirm: bool,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if !self.awaits_confirm {
            return;
        }
        if self.session.was_blocked() {
            *self.channel = None;
        } else {
            self.session.session.give_up();
        }
    }
}

/// Keeps one session open until `shutdown` and publishes it in `sessions`.
pub(super) async fn keep_connected(
    endpoint: Endpoint,
    topology: Topology,
    confirm_timeout: Duration,
    sessions: watch::Sender<Option<Arc<PublishingSession>>>,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let mut backoff = Backoff::new(RECONNECT);
    let mut is_first = true;
    loop {
        let opened = tokio::select! {
            () = shutdown.cancelled() => return,
            opened = PublishingSession::open(&endpoint, &topology, confirm_timeout) => opened,
        };
        match opened {
            Ok(opened) => {
                let address = opened.session.address().to_owned();
                if std::mem::take(&mut is_first) {
                    tracing::info!(address, "connected to the broker");
                } else {
                    metrics.amqp_reconnected();
                }
                let opened_at = Instant::now();
                let current = Arc::new(opened);
                sessions.send_replace(Some(current.clone()));
                metrics.amqp_connected(AmqpConnection::Publisher, true);
                endpoint.status().opened(&address, Purpose::Publisher);
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = current.session.ended() => failed(&endpoint, &current.session.end()),
                }
                metrics.amqp_connected(AmqpConnection::Publisher, false);
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = current.session.unblocked() => {}
                }
                sessions.send_replace(None);
                current.session.close().await;
                if opened_at.elapsed() >= WORKED_FOR {
                    backoff.reset();
                }
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
