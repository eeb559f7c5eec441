//! Named durable subscriptions on the embedded engine: events wait while nobody listens, each goes to one listener, and
//! comes again until it is acknowledged.
//!
//! Invariants: what was not acknowledged is delivered again (at least once); the position that is saved never passes an
//! event that is not acknowledged; a listener has at most `max_outstanding` deliveries. One task for each subscription with
//! listeners holds all of its state: `task`. Neighbours: `grpc` attaches listeners, the log keeps positions.

mod task;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::task::Task;
use super::{EventStream, ReadError, SavedSubscription, SharedEventLog, Start, SubscriptionKey};
use crate::proto::v1;

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
        let log = Arc::clone(&self.log);
        let task = Task::new(log, key.clone(), events, position, created);
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
