//! The event log on the broker: every event is published to the exchange `{prefix}.events`, and the stream
//! `{prefix}.events.log` behind it keeps them all.
//!
//! Invariants: an event is durable when the broker confirmed it; a subscriber's full queue never keeps an event out of the
//! stream; a pending report never follows a final one of the same message that this process published. Duplicates have the
//! same id. The log's memory of earlier sends is that of this process (`memory`). Neighbours: `amqp` below; `reader` reads.

mod memory;
mod reader;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use lapin::types::{AMQPValue, FieldTable, LongString};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;
use uuid::Uuid;

use self::{memory::Memory, reader::Readers};
use super::{
    AppendError, Batch, BeginSends, EarlierSend, EarlierSends, EventLog, EventStream, NewEvent,
    Quarantined, ReadError, Start,
};
use crate::{
    amqp::{AmqpError, Endpoint, Message, Publisher, Topology, codec},
    ops::metrics::Metrics,
};

/// Attempts for one event: a lost session, two refusals by the exchange, the stream alone.
const MAX_ATTEMPTS: usize = 5;
/// Refusals by the exchange after which an event goes to the stream alone.
const MAX_NACKS: u8 = 2;

/// The event log on the broker.
pub struct BrokerLog {
    publisher: Arc<Publisher>,
    topology: Topology,
    readers: Readers,
    memory: Mutex<Memory>,
    /// No event is tried longer than this before the caller hears of it.
    append_timeout: Duration,
    stream_only: AtomicU64,
    metrics: Metrics,
}

impl BrokerLog {
    /// A log that publishes by `publisher` and reads on connections of its own.
    #[must_use]
    pub fn new(
        publisher: Arc<Publisher>,
        endpoint: Endpoint,
        topology: Topology,
        confirm_timeout: Duration,
        metrics: Metrics,
    ) -> Self {
        Self {
            publisher,
            readers: Readers::new(endpoint, topology.clone()),
            topology,
            memory: Mutex::new(Memory::default()),
            append_timeout: confirm_timeout * 3,
            stream_only: AtomicU64::new(0),
            metrics,
        }
    }

    /// How many events went to the stream alone, because a subscriber's queue refused them or no confirm came.
    #[must_use]
    pub fn stream_only_total(&self) -> u64 {
        self.stream_only.load(Ordering::Relaxed)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock()
    }

    async fn publish(&self, events: &[&NewEvent]) -> Result<(), AppendError> {
        let mut waiting = Vec::with_capacity(events.len());
        for &new in events {
            let body = codec::event_body(&new.event).map_err(|error| {
                AppendError::Unavailable(format!("an event can't be written as JSON: {error}"))
            })?;
            waiting.push(Waiting {
                new,
                body,
                nacks: 0,
                route: Route::Exchange,
            });
        }
        let deadline = Instant::now() + self.append_timeout;
        for _ in 0..MAX_ATTEMPTS {
            let messages = waiting
                .iter()
                .map(|waiting| waiting.message(&self.topology))
                .collect();
            let answers = self.publisher.publish_all(messages).await;
            let mut again = Vec::new();
            for (mut waiting, answer) in waiting.into_iter().zip(answers) {
                match answer {
                    Ok(()) => {
                        self.metrics.events_appended(waiting.new.event_type, 1);
                        if waiting.route == Route::StreamAlone {
                            self.count_stream_only();
                        }
                    }
                    Err(error) => {
                        waiting.reroute(error)?;
                        again.push(waiting);
                    }
                }
            }
            if again.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                break;
            }
            // A final report of the same message may have gone by meanwhile.
            let memory = self.memory();
            again.retain(|waiting| self.allows(&memory, waiting.new));
            drop(memory);
            waiting = again;
        }
        Err(AppendError::Unavailable(
            "the broker did not confirm, however it was asked".into(),
        ))
    }

    /// Whether an event may be published; counts what may not.
    fn allows(&self, memory: &Memory, new: &NewEvent) -> bool {
        let allowed = memory.allows(new);
        if !allowed {
            self.metrics.late_pending_dropped();
        }
        allowed
    }

    fn count_stream_only(&self) {
        if self.stream_only.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(
                exchange = self.topology.events(),
                "events go to the stream alone: a queue bound to the exchange refuses them (full, reject-publish)"
            );
        }
    }
}

/// How an event gets into the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    /// By the exchange, to all that are bound.
    Exchange,
    /// By the default exchange, to the stream and nothing else.
    StreamAlone,
}

/// An event that is not confirmed yet.
struct Waiting<'a> {
    new: &'a NewEvent,
    body: Bytes,
    nacks: u8,
    route: Route,
}

impl Waiting<'_> {
    fn message(&self, topology: &Topology) -> Message {
        let event = &self.new.event;
        let (exchange, routing_key) = match self.route {
            Route::Exchange => (topology.events(), codec::event_routing_key(event)),
            Route::StreamAlone => (String::new(), topology.events_log()),
        };
        codec::event_message(event, self.body.clone(), exchange, routing_key)
    }

    /// What to do after a failure; an error where nothing helps.
    fn reroute(&mut self, error: AmqpError) -> Result<(), AppendError> {
        match (error, self.route) {
            // The session was replaced.
            (AmqpError::Lost(_), _) => Ok(()),
            (AmqpError::Nacked, Route::Exchange) => {
                self.nacks += 1;
                if self.nacks >= MAX_NACKS {
                    self.route = Route::StreamAlone;
                }
                Ok(())
            }
            (AmqpError::TimedOut(_), Route::Exchange) => {
                self.route = Route::StreamAlone;
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
            let allowed: Vec<&NewEvent> = {
                let mut memory = self.memory();
                // Before they are published: a pending report that comes meanwhile must not overtake.
                events.iter().for_each(|new| memory.note_final(new));
                let allowed = |new: &&NewEvent| self.allows(&memory, new);
                events.iter().filter(allowed).collect()
            };
            self.publish(&allowed).await?;
            let mut memory = self.memory();
            allowed.iter().for_each(|new| memory.note_send(new));
            Ok(())
        })
    }

    fn read(
        &self,
        start: Start,
        end_at_head: bool,
    ) -> BoxFuture<'_, Result<EventStream, ReadError>> {
        Box::pin(self.readers.read(start, end_at_head))
    }

    fn begin_sends(&self, begin: BeginSends) -> BoxFuture<'_, Result<EarlierSends, ReadError>> {
        Box::pin(async move {
            let memory = self.memory();
            let done = |(id, _): &(String, _)| Some(EarlierSend::Done(Box::new(memory.send(id)?)));
            Ok(EarlierSends {
                sends: begin.sends.iter().map(done).collect(),
                conflicting_id: begin
                    .conflicting_ids
                    .iter()
                    .any(|id| memory.send(id).is_some()),
            })
        })
    }

    fn quarantine(&self, body: Quarantined) -> BoxFuture<'_, Result<(), AppendError>> {
        Box::pin(async move {
            let mut headers = FieldTable::default();
            for (name, value) in [
                ("smsbridge-endpoint", body.endpoint),
                ("smsbridge-detail", body.detail.as_str()),
            ] {
                headers.insert(name.into(), AMQPValue::LongString(LongString::from(value)));
            }
            let now = jiff::Timestamp::now().as_second();
            let message = Message {
                exchange: String::new(),
                routing_key: self.topology.quarantine(),
                properties: codec::properties(&body.content_type)
                    .with_message_id(codec::lossy_short(&Uuid::now_v7().to_string()))
                    .with_timestamp(u64::try_from(now).unwrap_or_default())
                    .with_headers(headers),
                body: body.body,
            };
            self.publisher
                .publish_mandatory(message)
                .await
                .map_err(|error| match error {
                    AmqpError::Closed => AppendError::Closed,
                    error => AppendError::Unavailable(error.to_string()),
                })
        })
    }

    fn is_ready(&self) -> bool {
        self.publisher.is_ready()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.readers.close().await;
            self.publisher.close().await;
        })
    }
}
