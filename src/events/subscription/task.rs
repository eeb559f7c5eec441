//! The task of one subscription: who listens, what each holds, what comes again, and how far everything is done.
//!
//! Invariants: the position moves only over events that are done, so that one that is not acknowledged is read again after a
//! restart; a delivery is held by one listener; whoever has room and may see an event gets it, the emptiest first. Neighbours:
//! [`super`] starts it at a subscription's first listener and brings it their words; it ends with the last one.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Attached, Listener, Word, Words};
use crate::{
    events::{EventStream, Filter, SavedSubscription, SharedEventLog, SubscriptionKey},
    proto::v1,
};

/// How often the position is saved at most.
const SAVE_INTERVAL: Duration = Duration::from_millis(200);
/// Events after the first that is not acknowledged at most: what is acknowledged behind it must be remembered. A listener
/// that keeps one delivery for ever stops its subscription there, as the position that is saved stands still too.
const MAX_UNSETTLED: usize = 100_000;
/// One event that is not settled.
struct Unsettled {
    cursor: String,
    done: bool,
}

struct Held {
    event: v1::Event,
    attempt: i32,
}

struct ListenerState {
    deliveries: mpsc::Sender<v1::Delivery>,
    max_outstanding: usize,
    visible: Option<String>,
    held: HashMap<String, Held>,
}

/// The task of one subscription.
pub(super) struct Task {
    log: SharedEventLog,
    key: SubscriptionKey,
    filter: Filter,
    asked: Option<v1::EventFilter>,
    events: EventStream,
    /// Read from the log, not looked at yet.
    read: VecDeque<v1::Event>,
    /// To be delivered again.
    due: VecDeque<Held>,
    listeners: BTreeMap<u64, ListenerState>,
    /// In the log's order, from the first that is not done.
    unsettled: VecDeque<Unsettled>,
    position: String,
    saved_at: Instant,
    unsaved: bool,
    created: bool,
    next_listener: u64,
}

impl Task {
    /// A subscription without listeners, that has been `created` now or before. `events` are those after `position`.
    pub(super) fn new(
        log: SharedEventLog,
        key: SubscriptionKey,
        events: EventStream,
        position: String,
        created: bool,
    ) -> Self {
        Self {
            log,
            key,
            filter: Filter::default(),
            asked: None,
            events,
            read: VecDeque::new(),
            due: VecDeque::new(),
            listeners: BTreeMap::new(),
            unsettled: VecDeque::new(),
            position,
            saved_at: Instant::now(),
            unsaved: false,
            created,
            next_listener: 0,
        }
    }

    /// Serves the listeners until the last one left, the log can't be read on, or `closing`.
    pub(super) async fn run(
        mut self,
        mut said: mpsc::Receiver<Word>,
        words: mpsc::WeakSender<Word>,
        closing: &CancellationToken,
    ) {
        loop {
            self.deliver();
            let wants_more = self.read.is_empty()
                && self.due.is_empty()
                && self.unsettled.len() < MAX_UNSETTLED
                && self.has_room();
            tokio::select! {
                () = closing.cancelled() => break,
                word = said.recv() => match word {
                    Some(word) => self.hear(word, &words),
                    None => break,
                },
                batch = self.events.next(), if wants_more => match batch {
                    Some(Ok(events)) => self.read.extend(events),
                    Some(Err(error)) => {
                        tracing::warn!(%error, "a subscription can't read on: its listeners must come again");
                        break;
                    }
                    None => break,
                },
                () = tokio::time::sleep_until(self.saved_at + SAVE_INTERVAL), if self.unsaved => self.save().await,
            }
            if self.listeners.is_empty() && self.next_listener > 0 {
                break;
            }
        }
        said.close();
        while let Some(word) = said.recv().now_or_never().flatten() {
            if let Word::Settle { .. } = word {
                self.hear(word, &words);
            }
        }
        self.save().await;
    }

    fn has_room(&self) -> bool {
        self.listeners
            .values()
            .any(|listener| listener.held.len() < listener.max_outstanding)
    }

    fn hear(&mut self, word: Word, words: &mpsc::WeakSender<Word>) {
        match word {
            Word::Attach { listener, reply } => self.attach(listener, reply, words),
            Word::Settle {
                listener,
                delivery_ids,
                done,
            } => {
                for id in delivery_ids {
                    let held = self
                        .listeners
                        .get_mut(&listener)
                        .and_then(|state| state.held.remove(&id));
                    match held {
                        Some(held) if done => self.settle(&held.event.cursor),
                        Some(held) => self.due.push_back(held),
                        None => {}
                    }
                }
            }
            Word::Detach { listener } => self.detach(listener),
        }
    }

    fn attach(
        &mut self,
        listener: Listener,
        reply: oneshot::Sender<Attached>,
        words: &mpsc::WeakSender<Word>,
    ) {
        let Some(words) = words.upgrade() else { return };
        if listener.filter.is_some() || self.listeners.is_empty() {
            self.asked.clone_from(&listener.filter);
            self.filter = Filter::new(listener.filter.as_ref(), None);
            self.unsaved = true;
        }
        let id = self.next_listener;
        self.next_listener += 1;
        let (deliveries, waiting) = mpsc::channel(listener.max_outstanding);
        let state = ListenerState {
            deliveries,
            max_outstanding: listener.max_outstanding,
            visible: listener.visible,
            held: HashMap::new(),
        };
        self.listeners.insert(id, state);
        let created = std::mem::take(&mut self.created);
        let cursor = self.position.clone();
        let attached = Attached {
            created,
            cursor,
            deliveries: waiting,
            words: Words {
                listener: id,
                words,
            },
        };
        if reply.send(attached).is_err() {
            self.listeners.remove(&id);
        }
    }

    fn detach(&mut self, listener: u64) {
        if let Some(state) = self.listeners.remove(&listener) {
            let mut held: Vec<Held> = state.held.into_values().collect();
            held.sort_by(|one, other| {
                one.event
                    .cursor
                    .len()
                    .cmp(&other.event.cursor.len())
                    .then_with(|| one.event.cursor.cmp(&other.event.cursor))
            });
            self.due.extend(held);
        }
    }

    /// Hands out what there is to whoever has room.
    fn deliver(&mut self) {
        while self.has_room() {
            let next = match self.due.pop_front() {
                Some(held) => Held {
                    attempt: held.attempt + 1,
                    ..held
                },
                None => match self.next_new() {
                    Some(event) => Held { event, attempt: 1 },
                    None => return,
                },
            };
            self.hand_out(next);
        }
    }

    /// The next event that the subscription wants; others are done at once.
    fn next_new(&mut self) -> Option<v1::Event> {
        loop {
            let event = self.read.pop_front()?;
            let wanted = self.filter.wants(&event)
                && self
                    .listeners
                    .values()
                    .any(|listener| may_see(listener, &event));
            self.unsettled.push_back(Unsettled {
                cursor: event.cursor.clone(),
                done: !wanted,
            });
            if wanted {
                return Some(event);
            }
            self.advance();
        }
    }

    /// To the listener that holds the fewest.
    fn hand_out(&mut self, held: Held) {
        let fewest = self
            .listeners
            .iter_mut()
            .filter(|(_, listener)| {
                listener.held.len() < listener.max_outstanding && may_see(listener, &held.event)
            })
            .min_by_key(|(_, listener)| listener.held.len())
            .map(|(id, _)| *id);
        let Some(id) = fewest else {
            // Whoever may see it is full: it waits, and with it what comes after.
            self.due.push_front(Held {
                attempt: held.attempt - 1,
                ..held
            });
            return;
        };
        let Some(listener) = self.listeners.get_mut(&id) else {
            return;
        };
        let delivery = v1::Delivery {
            delivery_id: held.event.cursor.clone(),
            attempt: held.attempt,
            event: Some(held.event.clone()),
        };
        listener.held.insert(held.event.cursor.clone(), held);
        // There is room for as many as it may hold; a closed channel means that it is leaving.
        if listener.deliveries.try_send(delivery).is_err() {
            self.detach(id);
        }
    }

    fn settle(&mut self, cursor: &str) {
        if let Some(unsettled) = self
            .unsettled
            .iter_mut()
            .find(|unsettled| unsettled.cursor == cursor)
        {
            unsettled.done = true;
        }
        self.advance();
    }

    /// Moves the position over what is done.
    fn advance(&mut self) {
        while let Some(first) = self.unsettled.pop_front_if(|first| first.done) {
            self.position = first.cursor;
            self.unsaved = true;
        }
    }

    async fn save(&mut self) {
        if !self.unsaved {
            return;
        }
        self.saved_at = Instant::now();
        let saved = SavedSubscription {
            key: self.key.clone(),
            filter: self.asked.clone(),
            cursor: self.position.clone(),
        };
        match self.log.save_subscription(saved).await {
            Ok(()) => self.unsaved = false,
            Err(error) => {
                tracing::warn!(%error, "a subscription's position can't be saved: trying again");
            }
        }
    }
}

fn may_see(listener: &ListenerState, event: &v1::Event) -> bool {
    listener
        .visible
        .as_ref()
        .is_none_or(|visible| *visible == event.application)
}
