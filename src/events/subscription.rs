//! Named durable subscriptions on the embedded engine: events wait while nobody listens, each goes to one listener, and
//! comes again until it is acknowledged.
//!
//! Invariants: a subscription has one visibility, that of the caller that made it, and a listener of another one is refused:
//! it would take events from the others, or see what it may not; what was not acknowledged is delivered again (at least once); the position that is saved never passes an
//! event that is not acknowledged; a listener has at most `max_outstanding` deliveries. One task for each subscription with
//! listeners holds all of its state: `task`. Neighbours: `grpc` attaches listeners, the log keeps positions.

mod task;

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::task::Task;
use super::{
    EventStream, ReadError, SavedSubscription, SharedEventLog, Start, SubscriptionKey, Visibility,
};
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
    /// Whose events it may see: those that the subscription receives, no more and no fewer.
    pub visibility: Visibility,
    /// Deliveries that it may hold unacknowledged.
    pub max_outstanding: usize,
}

/// Why a listener can't take part.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AttachError {
    /// The log can't be read or written, or its engine has no subscriptions.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The subscription receives other events than the listener may see.
    #[error(transparent)]
    VisibilityDiffers(#[from] VisibilityDiffers),
}

/// A listener may see more or fewer applications than its subscription.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "the subscription `{name}` was made by a caller that sees {}, and this caller sees {}: use credentials with the same \
     grants, or another name",
    in_words(*.of_subscription),
    in_words(*.of_listener)
)]
pub struct VisibilityDiffers {
    /// The subscription.
    pub name: String,
    /// Whose events it receives.
    pub of_subscription: Visibility,
    /// Whose events the listener may see.
    pub of_listener: Visibility,
}

impl VisibilityDiffers {
    fn check(
        key: &SubscriptionKey,
        of_subscription: Visibility,
        of_listener: Visibility,
    ) -> Result<(), Self> {
        if of_subscription == of_listener {
            return Ok(());
        }
        Err(Self {
            name: key.name.clone(),
            of_subscription,
            of_listener,
        })
    }
}

fn in_words(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::AllApplications => "the events of all applications",
        Visibility::OwnApplication => "its own application's events only",
    }
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
        reply: oneshot::Sender<Result<Attached, VisibilityDiffers>>,
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
    /// [`AttachError`].
    pub async fn attach(
        &self,
        key: SubscriptionKey,
        listener: Listener,
    ) -> Result<Attached, AttachError> {
        loop {
            let running = self.running().get(&key).cloned();
            let words = match running {
                Some(words) => words,
                None => self.open(key.clone(), &listener).await?,
            };
            let (reply, attached) = oneshot::channel();
            let listener = listener.clone();
            if words.send(Word::Attach { listener, reply }).await.is_ok()
                && let Ok(attached) = attached.await
            {
                return Ok(attached?);
            }
            if self.closing.is_cancelled() {
                let ending = "the process is shutting down".to_owned();
                return Err(ReadError::Unavailable(ending).into());
            }
            // Its last listener left meanwhile: begin anew, when its task is gone.
            tokio::task::yield_now().await;
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<SubscriptionKey, mpsc::Sender<Word>>> {
        self.running.lock()
    }

    /// Starts the task of a subscription, unless another call was faster.
    async fn open(
        &self,
        key: SubscriptionKey,
        listener: &Listener,
    ) -> Result<mpsc::Sender<Word>, AttachError> {
        let saved = self.log.find_subscription(key.clone()).await?;
        let created = saved.is_none();
        let position = match saved {
            Some(saved) => {
                if let Some(visibility) = saved.visibility {
                    VisibilityDiffers::check(&key, visibility, listener.visibility)?;
                }
                saved.cursor
            }
            None => {
                let cursor = self.log.head_cursor()?;
                let new = SavedSubscription {
                    key: key.clone(),
                    visibility: Some(listener.visibility),
                    filter: listener.filter.clone(),
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
        let task = Task::new(
            log,
            key.clone(),
            listener.visibility,
            events,
            position,
            created,
        );
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
