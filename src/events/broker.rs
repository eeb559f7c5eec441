//! The broker engine of the event log: publishes every event to the exchange `{prefix}.events`, to which the stream
//! `{prefix}.events.log` is bound.
//!
//! Invariants: an event is durable once the broker has confirmed it; a subscriber's full queue never keeps an event out of
//! the stream, and one that confirms nothing delays only the first of them (`stuck_routes`); a pending report never follows a
//! final one of the same message that this process published (P6). Duplicates have the same id. Only sends of this process are
//! found again (`history`).
//! Neighbours: `amqp` publishes; `reader` reads; `unrouted` keeps the stream bound.

mod confirms;
mod continuity;
mod cursor;
mod history;
mod probe;
mod quarantine;
mod raw_store;
mod reader;
mod stream_ends;
mod stream_filter;
mod stream_reader;
mod stuck_routes;
mod unrouted;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::{sync::Semaphore, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

pub use self::raw_store::BrokerRawStore;
use self::{
    confirms::Confirms,
    history::History,
    reader::Readers,
    stuck_routes::{Republisher, StuckRoutes},
    unrouted::UnroutedEvents,
};
use super::{
    AppendError, Batch, BeginSends, ContentDigest, EarlierSends, EventLog, EventStream,
    MessageEvents, MessageKey, NewEvent, ReadError, SendJournal, Start, message_events,
};
use crate::{
    amqp::{AmqpError, Endpoint, Message, Publisher, Topology, codec, event_body::EventBody},
    config::EventEncoding,
    ops::metrics::Metrics,
};

/// Attempts to publish one event: enough for a lost session, two nacks from the exchange, and the stream alone.
const MAX_ATTEMPTS: usize = 5;
/// Nacks from the exchange after which an event is published to the stream only.
const MAX_NACKS: u8 = 2;
/// Searches for the events of a message under way at once.
const MAX_SEARCHES: usize = 4;
/// The largest event. The broker ends the session on a message above its own limit (RabbitMQ 4: 16 MiB unless configured).
const MAX_EVENT_BYTES: usize = 8 * 1024 * 1024;

pub struct BrokerLog {
    publisher: Arc<Publisher>,
    topology: Topology,
    readers: Readers,
    history: Arc<Mutex<History>>,
    stuck: Arc<Mutex<StuckRoutes>>,
    /// The republisher, and the task that keeps the stream bound.
    tasks: Mutex<Vec<(&'static str, JoinHandle<()>)>>,
    encoding: EventEncoding,
    confirms: Confirms,
    /// Searches for the events of a message: each reads the stream for some seconds.
    searches: Semaphore,
    closed: CancellationToken,
    /// No attempt starts later than this after the first one.
    append_timeout: Duration,
    metrics: Metrics,
}

impl BrokerLog {
    /// Makes a log that publishes with `publisher` and reads on a connection of its own. Must be called on a tokio runtime.
    #[must_use]
    pub fn new(
        publisher: Arc<Publisher>,
        endpoint: Endpoint,
        topology: Topology,
        confirm_timeout: Duration,
        metrics: Metrics,
    ) -> Self {
        let append_timeout = confirm_timeout * 3;
        let history = Arc::new(Mutex::new(History::default()));
        let stuck = Arc::new(Mutex::new(StuckRoutes::default()));
        let closed = CancellationToken::new();
        let republisher = Republisher {
            publisher: publisher.clone(),
            topology: topology.clone(),
            history: history.clone(),
            routes: stuck.clone(),
            pause: append_timeout,
            closed: closed.clone(),
        };
        let unrouted = UnroutedEvents {
            endpoint: endpoint.clone(),
            topology: topology.clone(),
            publisher: publisher.clone(),
            history: history.clone(),
            metrics: metrics.clone(),
            closed: closed.clone(),
        };
        let republishing = metrics.tasks().watch("republisher", republisher.run());
        let keeping_bound = metrics.tasks().watch("unrouted", unrouted.run());
        Self {
            publisher,
            readers: Readers::new(endpoint, topology.clone()),
            topology,
            history,
            stuck,
            tasks: Mutex::new(vec![
                ("republisher", tokio::spawn(republishing)),
                ("unrouted", tokio::spawn(keeping_bound)),
            ]),
            encoding: EventEncoding::default(),
            confirms: Confirms::default(),
            searches: Semaphore::new(MAX_SEARCHES),
            closed,
            append_timeout,
            metrics,
        }
    }

    /// Publishes events with another encoding than JSON.
    #[must_use]
    pub fn encoded_as(self, encoding: EventEncoding) -> Self {
        Self { encoding, ..self }
    }

    /// The number of events that were published to the stream only, because a subscriber's queue refused them or no confirm
    /// came.
    #[must_use]
    pub fn stream_only_total(&self) -> u64 {
        self.metrics.events_stream_only_total()
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock()
    }

    /// Publishes the events in their order, without the pending reports that would follow a final one.
    async fn publish(&self, events: &[NewEvent]) -> Result<(), AppendError> {
        let mut refusal = None;
        let published = self.try_publish(events, &mut refusal).await;
        match (&published, refusal) {
            (Ok(true), _) => self.confirms.succeeded(),
            (Err(AppendError::Unavailable(_)), Some(refusal)) => self.confirms.failed(&refusal),
            _ => {}
        }
        published.map(drop)
    }

    /// Returns whether the broker stored any of them. `refusal` becomes why it did not store an event although the session was open.
    async fn try_publish(
        &self,
        events: &[NewEvent],
        refusal: &mut Option<AmqpError>,
    ) -> Result<bool, AppendError> {
        let mut unconfirmed = Vec::with_capacity(events.len());
        for new in events {
            let body = EventBody::encode(&new.event, self.encoding).map_err(|error| {
                AppendError::Unavailable(format!("an event cannot be encoded as JSON: {error}"))
            })?;
            if body.bytes.len() > MAX_EVENT_BYTES {
                return Err(AppendError::TooLarge {
                    bytes: body.bytes.len(),
                    max: MAX_EVENT_BYTES,
                });
            }
            let routing_key = codec::event_routing_key(&new.event);
            let is_stuck = self.stuck.lock().is_stuck(&routing_key);
            unconfirmed.push(Unconfirmed {
                new,
                body,
                routing_key,
                nacks: 0,
                route: if is_stuck {
                    Route::StreamFirst
                } else {
                    Route::Exchange
                },
            });
        }
        let mut is_any_stored = false;
        let deadline = Instant::now() + self.append_timeout;
        for _ in 0..MAX_ATTEMPTS {
            let messages = unconfirmed
                .iter()
                .map(|event| event.message(&self.topology))
                .collect();
            let allows = |index| {
                let event: Option<&Unconfirmed<'_>> = unconfirmed.get(index);
                event.is_none_or(|event| self.history().allows(event.new))
            };
            let confirms = self.publisher.publish_allowed(messages, allows).await;
            let mut retries = Vec::new();
            for (mut event, confirm) in unconfirmed.into_iter().zip(confirms) {
                match confirm {
                    None => self.metrics.late_pending_dropped(),
                    Some(Ok(())) => {
                        is_any_stored = true;
                        self.metrics.events_appended(event.new.event_type, 1);
                        match event.route {
                            Route::Exchange => {}
                            Route::StreamOnly => self.count_stream_only(),
                            Route::StreamFirst => {
                                self.count_stream_only();
                                let mut stuck = self.stuck.lock();
                                stuck.missed(event.routing_key, event.new.clone(), event.body);
                            }
                        }
                    }
                    Some(Err(error)) => {
                        if is_refusal(&error) {
                            *refusal = Some(error.clone());
                        }
                        if let (AmqpError::TimedOut(_), Route::Exchange) = (&error, event.route) {
                            let retry_at = Instant::now() + self.append_timeout;
                            self.stuck.lock().stuck(event.routing_key.clone(), retry_at);
                        }
                        event.reroute(error)?;
                        retries.push(event);
                    }
                }
            }
            if retries.is_empty() {
                return Ok(is_any_stored);
            }
            if Instant::now() >= deadline {
                break;
            }
            unconfirmed = retries;
        }
        Err(AppendError::Unavailable(format!(
            "the broker did not confirm the event after {MAX_ATTEMPTS} attempts or {:?}",
            self.append_timeout
        )))
    }

    fn count_stream_only(&self) {
        if self.metrics.event_to_stream_only() == 0 {
            tracing::warn!(
                exchange = self.topology.events(),
                "events are published to the stream only: a queue that is bound to the exchange refuses them (full with reject-publish, or not \
                 ready yet after a restart of the broker) or does not confirm them"
            );
        }
    }
}

/// Whether the broker did not store a message although the session was open and not blocked. A refused permission ends its channel.
fn is_refusal(error: &AmqpError) -> bool {
    match error {
        AmqpError::Nacked | AmqpError::TimedOut(_) => true,
        AmqpError::Lost(text) | AmqpError::EndedInFlight(text) => text.contains("ACCESS_REFUSED"),
        _ => false,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    /// The events exchange: to every bound queue.
    Exchange,
    /// The exchange in front of the stream: to the stream only, or to the queue of unrouted events while it is not bound.
    StreamOnly,
    /// To the stream now, and to the exchange when it confirms again.
    StreamFirst,
}

/// An event that is not confirmed yet.
struct Unconfirmed<'a> {
    new: &'a NewEvent,
    body: EventBody,
    routing_key: String,
    nacks: u8,
    route: Route,
}

impl Unconfirmed<'_> {
    fn message(&self, topology: &Topology) -> Message {
        let event = &self.new.event;
        let (exchange, routing_key) = match self.route {
            Route::Exchange => (topology.events(), self.routing_key.clone()),
            Route::StreamOnly | Route::StreamFirst => {
                (topology.events_log(), self.routing_key.clone())
            }
        };
        codec::event_message(event, self.body.clone(), exchange, routing_key)
    }

    /// Chooses the route of the next attempt. Fails if another attempt cannot help.
    fn reroute(&mut self, error: AmqpError) -> Result<(), AppendError> {
        match (error, self.route) {
            // The next attempt uses a new session.
            (AmqpError::Lost(_), _) => Ok(()),
            (AmqpError::Nacked, Route::Exchange) => {
                self.nacks += 1;
                if self.nacks >= MAX_NACKS {
                    self.route = Route::StreamOnly;
                }
                Ok(())
            }
            // The exchange may never have got it: the broker, or a bound queue, was not there.
            (AmqpError::TimedOut(_), Route::Exchange) => {
                self.route = Route::StreamFirst;
                Ok(())
            }
            (AmqpError::Closed, _) => Err(AppendError::Closed),
            (error, _) => Err(AppendError::Unavailable(error.to_string())),
        }
    }
}

impl EventLog for BrokerLog {
    fn append(&self, events: Batch) -> BoxFuture<'_, Result<(), AppendError>> {
        Box::pin(async move {
            self.publish(&events).await?;
            let mut history = self.history();
            events.iter().for_each(|new| history.note_send(new));
            Ok(())
        })
    }

    fn read_applications(
        &self,
        start: Start,
        end_at_head: bool,
        applications: Vec<String>,
    ) -> BoxFuture<'_, Result<EventStream, ReadError>> {
        Box::pin(self.readers.read(start, end_at_head, applications))
    }

    /// Reads the stream, which takes a while. Waits while other searches read it.
    fn find_message(
        &self,
        message: MessageKey,
        since: Option<Timestamp>,
    ) -> BoxFuture<'_, Result<MessageEvents, ReadError>> {
        Box::pin(async move {
            let _place = self.searches.acquire().await;
            message_events::read(self, &message, since).await
        })
    }

    fn is_ready(&self) -> bool {
        self.publisher.is_ready()
    }

    fn outage(&self) -> Option<String> {
        let refusal = self.confirms.refusal();
        let outage = || self.publisher.outage();
        refusal.or_else(outage).or_else(|| self.confirms.problem())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.closed.cancel();
            let tasks = std::mem::take(&mut *self.tasks.lock());
            for (name, task) in tasks {
                if let Err(error) = task.await {
                    tracing::error!(%error, task = name, "a task of the event log failed");
                }
            }
            self.readers.close().await;
            self.publisher.close().await;
        })
    }
}

impl SendJournal for BrokerLog {
    fn begin(&self, begin: BeginSends) -> BoxFuture<'_, Result<EarlierSends, ReadError>> {
        let found = self.history().begin_sends(&begin, Timestamp::now());
        Box::pin(std::future::ready(Ok(found)))
    }

    fn end(&self, sends: &[(String, ContentDigest)]) {
        let mut history = self.history();
        for (wire_id, digest) in sends {
            history.end_send(wire_id, *digest);
        }
    }
}
