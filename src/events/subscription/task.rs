//! The task of one subscription: who listens, what each holds, what comes again, and how far everything is done.
//!
//! Invariants: the position moves only over events that are done, so that one that is not acknowledged is read again after a
//! restart; a delivery is held by one listener, the one that held the fewest; every listener may see what the subscription
//! receives; each round of handing out fills a place or ends a listener, so that it ends. Neighbours: [`super`] starts it at a subscription's first listener and brings it their words; it ends with the last one.

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

use super::{Attached, Listener, VisibilityDiffers, Word, Words};
use crate::{
    events::{EventStream, Filter, SavedSubscription, SharedEventLog, SubscriptionKey, Visibility},
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
    held: HashMap<String, Held>,
}

/// The task of one subscription.
pub(super) struct Task {
    log: SharedEventLog,
    key: SubscriptionKey,
    visibility: Visibility,
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
        visibility: Visibility,
        events: EventStream,
        position: String,
        created: bool,
    ) -> Self {
        Self {
            log,
            filter: Filter::new(None, key.visible(visibility)),
            key,
            visibility,
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
        self.emptiest().is_some()
    }

    /// The listener that holds the fewest of those that have room.
    fn emptiest(&self) -> Option<u64> {
        self.listeners
            .iter()
            .filter(|(_, listener)| listener.held.len() < listener.max_outstanding)
            .min_by_key(|(_, listener)| listener.held.len())
            .map(|(id, _)| *id)
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
        reply: oneshot::Sender<Result<Attached, VisibilityDiffers>>,
        words: &mpsc::WeakSender<Word>,
    ) {
        let Some(words) = words.upgrade() else { return };
        let same = VisibilityDiffers::check(&self.key, self.visibility, listener.visibility);
        if let Err(differs) = same {
            // A caller that went away does not need the refusal.
            let _ = reply.send(Err(differs));
            return;
        }
        if listener.filter.is_some() || self.listeners.is_empty() {
            self.asked.clone_from(&listener.filter);
            self.filter = Filter::new(listener.filter.as_ref(), self.key.visible(self.visibility));
            self.unsaved = true;
        }
        let id = self.next_listener;
        self.next_listener += 1;
        let (deliveries, waiting) = mpsc::channel(listener.max_outstanding);
        let state = ListenerState {
            deliveries,
            max_outstanding: listener.max_outstanding,
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
        if reply.send(Ok(attached)).is_err() {
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

    /// Hands out what there is while a listener has room.
    fn deliver(&mut self) {
        while let Some(listener) = self.emptiest() {
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
            self.hand_out(listener, next);
        }
    }

    /// The next event that the subscription wants; others are done at once.
    fn next_new(&mut self) -> Option<v1::Event> {
        loop {
            let event = self.read.pop_front()?;
            let wanted = self.filter.wants(&event);
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

    /// To a listener that has room.
    fn hand_out(&mut self, id: u64, held: Held) {
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
            visibility: Some(self.visibility),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{events::embedded::EmbeddedLog, ops::metrics::Metrics};

    fn event(cursor: u64, application: &str) -> v1::Event {
        v1::Event {
            cursor: cursor.to_string(),
            application: application.into(),
            ..Default::default()
        }
    }

    /// A listener that can hold one delivery.
    fn attach(task: &mut Task, words: &mpsc::WeakSender<Word>) -> Attached {
        let listener = Listener {
            filter: None,
            visibility: task.visibility,
            max_outstanding: 1,
        };
        let (reply, attached) = oneshot::channel();
        task.attach(listener, reply, words);
        attached.now_or_never().unwrap().unwrap().unwrap()
    }

    #[tokio::test]
    async fn handing_out_ends_with_full_and_with_leaving_listeners() {
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(folder.path(), Duration::from_secs(60), Metrics::new());
        let key = SubscriptionKey {
            application: "ops".into(),
            name: "x".into(),
        };
        let visibility = Visibility::OwnApplication;
        let none = futures_util::stream::pending().boxed();
        let log = std::sync::Arc::new(log.unwrap());
        let mut task = Task::new(log, key, visibility, none, "0".into(), true);
        let (words, _said) = mpsc::channel(8);
        let words = words.downgrade();
        let kept = words.upgrade();

        let mut full = attach(&mut task, &words);
        let of_others = event(2, "shop");
        task.read
            .extend([event(1, "ops"), of_others, event(3, "ops"), event(4, "ops")]);
        task.deliver();
        let first = full.deliveries.try_recv().unwrap();
        assert_eq!((first.delivery_id.as_str(), first.attempt), ("1", 1));
        assert!(full.deliveries.try_recv().is_err(), "it is full");
        assert_eq!(task.read.len(), 3, "the rest waits");

        // One that is leaving gets none, and keeps none from the others.
        drop(attach(&mut task, &words).deliveries);
        task.deliver();
        assert_eq!(task.listeners.len(), 1);
        let mut next = attach(&mut task, &words);
        task.deliver();
        let third = next.deliveries.try_recv().unwrap();
        assert_eq!(third.delivery_id, "3", "not that of another application");
        assert!(next.deliveries.try_recv().is_err());
        drop(kept);
    }
}
