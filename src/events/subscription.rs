//! Named durable subscriptions on the embedded engine: events wait while nobody listens, each goes to one listener, and
//! comes again until it is acknowledged.
//!
//! Invariants: what was not acknowledged is delivered again (at least once); the position that is saved never passes an
//! event that is not acknowledged; a listener has at most `max_outstanding` deliveries. One task for each subscription with
//! listeners holds all of its state. Neighbours: `grpc` attaches listeners, the log keeps positions.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    EventStream, Filter, ReadError, SavedSubscription, SharedEventLog, Start, SubscriptionKey,
};
use crate::proto::v1;

/// How often the position is saved at most.
const SAVE_INTERVAL: Duration = Duration::from_millis(200);
/// Events after the first that is not acknowledged at most: what is acknowledged behind it must be remembered. A listener
/// that keeps one delivery for ever stops its subscription there, as the position that is saved stands still too.
const MAX_UNSETTLED: usize = 100_000;
/// Words of listeners that wait for the task at most.
const WAITING_WORDS: usize = 256;

/// All subscriptions of the process that have listeners. Cheap to clone.
#[derive(Clone)]
pub struct Subscriptions {
    log: SharedEventLog,
    tasks: TaskTracker,
    closing: CancellationToken,
    running: Arc<Mutex<HashMap<SubscriptionKey, mpsc::Sender<Word>>>>,
}

/// What a listener brings.
#[derive(Clone)]
pub struct Listener {
    /// Which events: replaces what the subscription had.
    pub filter: Option<v1::EventFilter>,
    /// The only application whose events it may see; `None`: all.
    pub visible: Option<String>,
    /// Deliveries that it may hold unacknowledged.
    pub max_outstanding: usize,
}

/// A listener that takes part.
pub struct Attached {
    /// Whether the subscription was made by this.
    pub created: bool,
    /// Where it continues.
    pub cursor: String,
    /// What comes for it.
    pub deliveries: mpsc::Receiver<v1::Delivery>,
    /// What it says.
    pub words: Words,
}

/// How a listener speaks to its subscription. Dropping it ends the listening: what it holds goes to others.
pub struct Words {
    listener: u64,
    words: mpsc::Sender<Word>,
}

impl Words {
    /// These deliveries are done.
    pub async fn acknowledge(&self, delivery_ids: Vec<String>) {
        let _ = self
            .words
            .send(Word::Settle {
                listener: self.listener,
                delivery_ids,
                done: true,
            })
            .await;
    }

    /// These deliveries are to come again, to any listener.
    pub async fn reject(&self, delivery_ids: Vec<String>) {
        let _ = self
            .words
            .send(Word::Settle {
                listener: self.listener,
                delivery_ids,
                done: false,
            })
            .await;
    }

    /// Waits until the subscription ended by itself.
    pub async fn ended(&self) {
        self.words.closed().await;
    }

    /// Ends the listening.
    pub async fn detach(self) {
        let _ = self
            .words
            .send(Word::Detach {
                listener: self.listener,
            })
            .await;
    }
}

enum Word {
    Attach {
        listener: Listener,
        reply: oneshot::Sender<Attached>,
    },
    Settle {
        listener: u64,
        delivery_ids: Vec<String>,
        done: bool,
    },
    Detach {
        listener: u64,
    },
}

impl Subscriptions {
    /// Subscriptions on a log; their tasks are in `tasks` and end with `closing`.
    #[must_use]
    pub fn new(log: SharedEventLog, tasks: TaskTracker, closing: CancellationToken) -> Self {
        Self {
            log,
            tasks,
            closing,
            running: Arc::default(),
        }
    }

    /// Takes part in a subscription, which is made at its first use and begins at now.
    ///
    /// # Errors
    /// [`ReadError`], also where the log's engine has no subscriptions.
    pub async fn attach(
        &self,
        key: SubscriptionKey,
        listener: Listener,
    ) -> Result<Attached, ReadError> {
        loop {
            let running = self.running().get(&key).cloned();
            let words = match running {
                Some(words) => words,
                None => self.open(key.clone(), listener.filter.clone()).await?,
            };
            let (reply, attached) = oneshot::channel();
            let listener = listener.clone();
            if words.send(Word::Attach { listener, reply }).await.is_ok()
                && let Ok(attached) = attached.await
            {
                return Ok(attached);
            }
            if self.closing.is_cancelled() {
                return Err(ReadError::Unavailable(
                    "the process is shutting down".to_owned(),
                ));
            }
            // Its last listener left meanwhile: begin anew, when its task is gone.
            tokio::task::yield_now().await;
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<SubscriptionKey, mpsc::Sender<Word>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the task of a subscription, unless another call was faster.
    async fn open(
        &self,
        key: SubscriptionKey,
        filter: Option<v1::EventFilter>,
    ) -> Result<mpsc::Sender<Word>, ReadError> {
        let saved = self.log.find_subscription(key.clone()).await?;
        let created = saved.is_none();
        let position = match saved {
            Some(saved) => saved.cursor,
            None => {
                let cursor = self.log.head_cursor()?;
                let new = SavedSubscription {
                    key: key.clone(),
                    filter,
                    cursor: cursor.clone(),
                };
                let kept = self.log.save_subscription(new).await;
                kept.map_err(|error| ReadError::Unavailable(error.to_string()))?;
                cursor
            }
        };
        let (events, position) = self.events_after(position).await?;
        let (words, said) = mpsc::channel(WAITING_WORDS);
        let mut running = self.running();
        if let Some(faster) = running.get(&key).filter(|words| !words.is_closed()) {
            return Ok(faster.clone());
        }
        running.insert(key.clone(), words.clone());
        drop(running);
        let task = Task {
            log: Arc::clone(&self.log),
            key: key.clone(),
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
        };
        let subscriptions = self.clone();
        // The task itself holds no sender: it ends when nobody listens.
        let weak = words.downgrade();
        self.tasks.spawn(async move {
            task.run(said, weak, &subscriptions.closing).await;
            subscriptions.running().remove(&key);
        });
        Ok(words)
    }

    async fn events_after(&self, position: String) -> Result<(EventStream, String), ReadError> {
        match self.log.read(Start::After(position.clone()), false).await {
            Err(ReadError::OutOfRange { oldest_cursor, .. }) => {
                tracing::warn!(
                    oldest_cursor,
                    "a subscription was away longer than the log keeps events: it goes on with the oldest"
                );
                let events = self
                    .log
                    .read(Start::After(oldest_cursor.clone()), false)
                    .await?;
                Ok((events, oldest_cursor))
            }
            read => Ok((read?, position)),
        }
    }
}

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
struct Task {
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
    async fn run(
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
