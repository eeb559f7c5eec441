//! Routing keys whose events get no confirm from the events exchange, because a bound queue neither stores nor refuses them (a
//! quorum queue without a majority).
//!
//! Each event would wait for a confirm before it goes to the stream alone, so events with such a key go there at once. They are
//! kept, and published to the exchange when it confirms again: one of them at a time is the attempt. Invariants: the number and
//! the bytes of what is kept are bounded (the oldest are dropped: only the stream has them); a pending report is not published
//! after a final one.
//! Neighbours: `broker` asks where an event goes; [`Republisher::run`] is a task of it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::history::History;
use crate::{
    amqp::{AmqpError, Message, Publisher, Topology, codec, event_body::EventBody},
    events::NewEvent,
};

/// Routing keys that can be stuck at once.
const MAX_KEYS: usize = 256;
/// Events that are kept for the exchange.
const MAX_MISSED: usize = 10_000;
/// Their bodies.
const MAX_MISSED_BYTES: usize = 32 * 1024 * 1024;
/// Events that are published to the exchange at once when it confirms again.
const BATCH: usize = 256;

/// An event that only the stream has.
struct Missed {
    key: String,
    new: NewEvent,
    body: EventBody,
    /// It was published to the exchange again, without a confirm.
    has_timed_out: bool,
}

#[derive(Default)]
pub(super) struct StuckRoutes {
    /// When the next event with this key is tried.
    keys: HashMap<String, Instant>,
    /// Oldest first.
    missed: VecDeque<Missed>,
    missed_bytes: usize,
    dropped: u64,
}

impl StuckRoutes {
    pub(super) fn is_stuck(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// An event with this key got no confirm: it is tried again from `retry_at` on.
    pub(super) fn stuck(&mut self, key: String, retry_at: Instant) {
        if self.keys.len() >= MAX_KEYS && !self.keys.contains_key(&key) {
            return;
        }
        if self.keys.insert(key.clone(), retry_at).is_none() {
            tracing::warn!(
                routing_key = key,
                "events are published to the stream only until the exchange confirms again: a queue that is bound to it confirms \
                 nothing"
            );
        }
    }

    /// Keeps an event that went to the stream alone because its key is stuck.
    pub(super) fn missed(&mut self, key: String, new: NewEvent, body: EventBody) {
        self.missed_bytes += body.bytes.len();
        self.missed.push_back(Missed {
            key,
            new,
            body,
            has_timed_out: false,
        });
        while self.missed.len() > MAX_MISSED || self.missed_bytes > MAX_MISSED_BYTES {
            let Some(oldest) = self.missed.pop_front() else {
                return;
            };
            self.missed_bytes -= oldest.body.bytes.len();
            self.dropped += 1;
            if self.dropped.is_power_of_two() {
                tracing::warn!(
                    dropped = self.dropped,
                    "events are in the stream only and are never published to the exchange: too many wait for it"
                );
            }
        }
    }

    /// The keys to try now: stuck ones, and those of events that were under way to the stream when their key stopped to be stuck.
    fn due(&self, now: Instant) -> HashSet<String> {
        let stuck = self.keys.iter().filter(|(_, at)| **at <= now);
        let late = self.missed.iter().map(|missed| &missed.key);
        stuck
            .map(|(key, _)| key)
            .chain(late.filter(|key| !self.keys.contains_key(*key)))
            .cloned()
            .collect()
    }

    /// Takes the oldest events with this key, at most `limit`.
    fn take(&mut self, key: &str, limit: usize) -> Vec<Missed> {
        let (mut taken, mut others) = (Vec::new(), VecDeque::with_capacity(self.missed.len()));
        for missed in self.missed.drain(..) {
            if taken.len() < limit && missed.key == key {
                self.missed_bytes -= missed.body.bytes.len();
                taken.push(missed);
            } else {
                others.push_back(missed);
            }
        }
        self.missed = others;
        taken
    }

    /// Puts events back that were not published, before the others.
    fn put_back(&mut self, events: Vec<Missed>) {
        for missed in events.into_iter().rev() {
            self.missed_bytes += missed.body.bytes.len();
            self.missed.push_front(missed);
        }
    }
}

/// Publishes the kept events to the exchange as soon as it confirms again.
pub(super) struct Republisher {
    pub(super) publisher: Arc<Publisher>,
    pub(super) topology: Topology,
    pub(super) history: Arc<Mutex<History>>,
    pub(super) routes: Arc<Mutex<StuckRoutes>>,
    /// The pause before a key is tried again.
    pub(super) pause: Duration,
    pub(super) closed: CancellationToken,
}

impl Republisher {
    pub(super) async fn run(self) {
        let closed = self.closed.clone();
        let mut check = tokio::time::interval(self.pause / 4);
        let republish = async {
            loop {
                check.tick().await;
                let due = self.routes.lock().due(Instant::now());
                // One that is still stuck does not hold the others up.
                join_all(due.iter().map(|key| self.retry(key))).await;
            }
        };
        tokio::select! {
            () = republish => {}
            () = closed.cancelled() => {}
        }
        let missed = self.routes.lock().missed.len();
        if missed > 0 {
            tracing::warn!(
                events = missed,
                "events are in the stream only: the exchange did not confirm again before the end"
            );
        }
    }

    /// Tries one event with this key, and then all that are kept; new ones go to the exchange again meanwhile.
    async fn retry(&self, key: &str) {
        let mut limit = 1;
        loop {
            let events = self.routes.lock().take(key, limit);
            if events.is_empty() {
                // The next event with this key is the attempt.
                self.routes.lock().keys.remove(key);
                return;
            }
            let messages = events.iter().map(|missed| self.message(missed)).collect();
            let allows = |index| {
                let missed: Option<&Missed> = events.get(index);
                missed.is_none_or(|missed| self.history.lock().allows(&missed.new))
            };
            let outcomes = self.publisher.publish_allowed(messages, allows).await;
            let mut is_stuck = false;
            let mut unpublished = Vec::new();
            for (mut missed, outcome) in events.into_iter().zip(outcomes) {
                match outcome.unwrap_or(Ok(())) {
                    // What was refused is for the stream alone.
                    Ok(()) | Err(AmqpError::Nacked) => {}
                    // The second time, the other bound queues have it: a broker that vanished would have ended the session.
                    Err(AmqpError::TimedOut(_)) if missed.has_timed_out => is_stuck = true,
                    Err(AmqpError::TimedOut(_)) => {
                        is_stuck = true;
                        missed.has_timed_out = true;
                        unpublished.push(missed);
                    }
                    Err(_) => unpublished.push(missed),
                }
            }
            if is_stuck || !unpublished.is_empty() {
                let mut routes = self.routes.lock();
                routes.put_back(unpublished);
                let retry_at = Instant::now() + self.pause;
                routes.keys.insert(key.to_owned(), retry_at);
                return;
            }
            self.routes.lock().keys.remove(key);
            limit = BATCH;
        }
    }

    fn message(&self, missed: &Missed) -> Message {
        let (exchange, body) = (self.topology.events(), missed.body.clone());
        codec::event_message(&missed.new.event, body, exchange, missed.key.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::id::ApplicationName;

    fn missed(routes: &mut StuckRoutes, key: &str, bytes: usize) {
        let new = NewEvent::send_result(
            &ApplicationName::default_application(),
            "",
            None,
            Box::default(),
            jiff::Timestamp::now(),
        );
        let body = EventBody {
            content_type: codec::JSON,
            bytes: vec![0; bytes].into(),
        };
        routes.missed(key.to_owned(), new, body);
    }

    #[test]
    fn what_is_kept_is_bounded_by_number_and_by_bytes() {
        let mut routes = StuckRoutes::default();
        for _ in 0..MAX_MISSED + 5 {
            missed(&mut routes, "a", 10);
        }
        assert_eq!((routes.missed.len(), routes.dropped), (MAX_MISSED, 5));
        missed(&mut routes, "b", MAX_MISSED_BYTES);
        assert_eq!(routes.missed.len(), 1);
        assert_eq!(routes.missed_bytes, MAX_MISSED_BYTES);
        assert!(routes.take("a", 10).is_empty());
        let taken = routes.take("b", 10);
        assert_eq!((taken.len(), routes.missed_bytes), (1, 0));
        routes.put_back(taken);
        assert_eq!(routes.missed_bytes, MAX_MISSED_BYTES);
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let mut routes = StuckRoutes::default();
        let now = Instant::now();
        for n in 0..=MAX_KEYS {
            routes.stuck(n.to_string(), now);
        }
        assert!(!routes.is_stuck(&MAX_KEYS.to_string()));
        assert_eq!(routes.due(now).len(), MAX_KEYS);
    }
}
