//! Named durable subscriptions on the embedded engine. Each event is delivered to one of the attached subscribers, and again
//! until it is acknowledged (at least once). Without subscribers, events wait in the log.
//!
//! Invariants: a subscription has the visibility of the caller that created it, and subscribers with another one are refused,
//! because they would take events from the others or see events that they must not; the saved position never passes an
//! unacknowledged event; a subscriber has at most `max_outstanding` unacknowledged deliveries, and those of an application take no
//! more memory than `memory` allows.
//! Neighbours: `task` holds the state of one subscription, `grpc` attaches subscribers, the log stores positions.

mod memory;
pub(super) mod store;
mod task;

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{memory::Memories, task::Task};
use super::{
    EventStream, ReadError, SavedSubscription, SharedEventLog, Start, SubscriptionKey,
    SubscriptionStore, Visibility,
};
use crate::proto::v1;

/// Length of the queue of commands to the task of a subscription. Subscribers wait while it is full.
const MAX_QUEUED_COMMANDS: usize = 256;

/// Maximum number of subscriptions of an application, because each one is kept, with its filter.
pub const MAX_SUBSCRIPTIONS: usize = 100;
/// At the limit, subscriptions that nobody has used for so long are deleted.
const UNUSED_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The subscriptions that have subscribers. Cheap to clone.
#[derive(Clone)]
pub struct Subscriptions {
    log: SharedEventLog,
    store: Arc<dyn SubscriptionStore>,
    tasks: TaskTracker,
    closing: CancellationToken,
    running: Arc<Mutex<HashMap<SubscriptionKey, RunningTask>>>,
    memories: Arc<Memories>,
}

/// The task of a subscription.
#[derive(Clone)]
struct RunningTask {
    commands: mpsc::Sender<Command>,
    /// Cancelled when it has saved its position and ended.
    ended: CancellationToken,
}

/// A subscriber that wants to attach.
#[derive(Clone)]
pub struct Subscriber {
    /// Replaces the filter of the subscription, for all of its subscribers. `None` keeps it.
    pub filter: Option<v1::EventFilter>,
    /// The events that the subscriber may see. Must equal the visibility of the subscription.
    pub visibility: Visibility,
    /// Maximum number of unacknowledged deliveries.
    pub max_outstanding: usize,
}

/// Why a subscriber could not attach.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AttachError {
    /// The log or the store cannot be read or written.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The subscriber may see other events than the subscription receives.
    #[error(transparent)]
    VisibilityDiffers(#[from] VisibilityDiffers),
    /// A new subscription would be one too many.
    #[error(
        "the application has {MAX_SUBSCRIPTIONS} subscriptions, and each was used within the last {} days: use one of them",
        UNUSED_FOR.as_hours() / 24
    )]
    TooMany,
}

/// The subscriber may see more or fewer applications than the subscription.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "the subscription `{name}` was made by a caller that sees {}, and this caller sees {}: use credentials with the same \
     grants, or another name",
    in_words(*.of_subscription),
    in_words(*.of_subscriber)
)]
pub struct VisibilityDiffers {
    pub name: String,
    pub of_subscription: Visibility,
    pub of_subscriber: Visibility,
}

impl VisibilityDiffers {
    fn check(
        key: &SubscriptionKey,
        of_subscription: Visibility,
        of_subscriber: Visibility,
    ) -> Result<(), Self> {
        if of_subscription == of_subscriber {
            return Ok(());
        }
        Err(Self {
            name: key.name.clone(),
            of_subscription,
            of_subscriber,
        })
    }
}

fn in_words(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::AllApplications => "the events of all applications",
        Visibility::OwnApplication => "its own application's events only",
    }
}

/// An attached subscriber.
pub struct Attached {
    /// Whether attaching created the subscription.
    pub created: bool,
    /// The position of the subscription: events after it are delivered.
    pub cursor: String,
    pub deliveries: mpsc::Receiver<v1::Delivery>,
    pub handle: SubscriberHandle,
}

/// Why the task of a subscription ended, if it could not go on.
pub(super) type TaskFailure = Arc<OnceLock<ReadError>>;

/// Settles deliveries and detaches. If it is dropped without [`SubscriberHandle::detach`], deliveries stay outstanding until
/// the next delivery to the subscriber fails or the task ends.
pub struct SubscriberHandle {
    subscriber: u64,
    commands: mpsc::Sender<Command>,
    failure: TaskFailure,
}

impl SubscriberHandle {
    /// Acknowledges deliveries.
    pub async fn acknowledge(&self, delivery_ids: Vec<String>) {
        let _ = self
            .commands
            .send(Command::Settle {
                subscriber: self.subscriber,
                delivery_ids,
                done: true,
            })
            .await;
    }

    /// Requeues deliveries, for any subscriber.
    pub async fn reject(&self, delivery_ids: Vec<String>) {
        let _ = self
            .commands
            .send(Command::Settle {
                subscriber: self.subscriber,
                delivery_ids,
                done: false,
            })
            .await;
    }

    /// Waits until the task of the subscription has ended.
    ///
    /// # Errors
    /// Why it could not go on.
    pub async fn ended(&self) -> Result<(), ReadError> {
        self.commands.closed().await;
        self.failure.get().cloned().map_or(Ok(()), Err)
    }

    /// Detaches the subscriber and requeues its unacknowledged deliveries.
    pub async fn detach(self) {
        let _ = self
            .commands
            .send(Command::Detach {
                subscriber: self.subscriber,
            })
            .await;
    }
}

/// A command to the task of a subscription.
enum Command {
    Attach {
        subscriber: Subscriber,
        reply: oneshot::Sender<Result<Attached, VisibilityDiffers>>,
    },
    Settle {
        subscriber: u64,
        delivery_ids: Vec<String>,
        done: bool,
    },
    Detach {
        subscriber: u64,
    },
}

impl Subscriptions {
    /// Subscriptions to `log`, kept in `store`, whose tasks are spawned on `tasks` and end when `closing` is cancelled.
    #[must_use]
    pub fn new(
        log: SharedEventLog,
        store: Arc<dyn SubscriptionStore>,
        tasks: TaskTracker,
        closing: CancellationToken,
    ) -> Self {
        Self {
            log,
            store,
            tasks,
            closing,
            running: Arc::default(),
            memories: Arc::default(),
        }
    }

    /// Attaches a subscriber. The first one creates the subscription, which starts at the current end of the log.
    ///
    /// # Errors
    /// [`AttachError`].
    pub async fn attach(
        &self,
        key: SubscriptionKey,
        subscriber: Subscriber,
    ) -> Result<Attached, AttachError> {
        loop {
            let running = self.running().get(&key).cloned();
            // A task that panicked has left its entry.
            let running = running.filter(|task| !task.ended.is_cancelled());
            let RunningTask { commands, ended } = match running {
                Some(running) => running,
                None => self.open(key.clone(), &subscriber).await?,
            };
            let (reply, attached) = oneshot::channel();
            let subscriber = subscriber.clone();
            if commands
                .send(Command::Attach { subscriber, reply })
                .await
                .is_ok()
                && let Ok(attached) = attached.await
            {
                return Ok(attached?);
            }
            if self.closing.is_cancelled() {
                let ending = "the process is shutting down".to_owned();
                return Err(ReadError::Unavailable(ending).into());
            }
            // The last subscriber detached meanwhile: the next task begins where this one ends.
            ended.cancelled().await;
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<SubscriptionKey, RunningTask>> {
        self.running.lock()
    }

    /// Starts the task of a subscription, unless a concurrent call has started it.
    async fn open(
        &self,
        key: SubscriptionKey,
        subscriber: &Subscriber,
    ) -> Result<RunningTask, AttachError> {
        let saved = self.store.find(key.clone()).await?;
        let created = saved.is_none();
        let saved = match saved {
            Some(saved) => {
                if let Some(visibility) = saved.visibility {
                    VisibilityDiffers::check(&key, visibility, subscriber.visibility)?;
                }
                saved
            }
            None => {
                self.check_room(&key.application).await?;
                let new = SavedSubscription {
                    key: key.clone(),
                    visibility: Some(subscriber.visibility),
                    filter: subscriber.filter.clone(),
                    cursor: self.store.head_cursor(),
                };
                let stored = self.store.save(new.clone()).await;
                stored.map_err(|error| ReadError::Unavailable(error.to_string()))?;
                new
            }
        };
        let events = self.events_after(&key, saved.cursor.clone()).await?;
        let (commands, received) = mpsc::channel(MAX_QUEUED_COMMANDS);
        let mut running = self.running();
        if let Some(existing) = running.get(&key).filter(|task| !task.commands.is_closed()) {
            return Ok(existing.clone());
        }
        let started = RunningTask {
            commands,
            ended: CancellationToken::new(),
        };
        running.insert(key.clone(), started.clone());
        drop(running);
        let saved = SavedSubscription {
            visibility: Some(subscriber.visibility),
            ..saved
        };
        let memory = self.memories.of(&key.application);
        let task = Task::new(Arc::clone(&self.store), memory, saved, events, created);
        let subscriptions = self.clone();
        // The task holds no sender, so that it ends when every handle is dropped.
        let weak = started.commands.downgrade();
        let ended = started.ended.clone().drop_guard();
        self.tasks.spawn(async move {
            task.run(received, weak, &subscriptions.closing).await;
            // A task that was started since this one closed its queue stays: two tasks would deliver each event twice.
            let mut running = subscriptions.running();
            if running
                .get(&key)
                .is_some_and(|task| task.commands.is_closed())
            {
                running.remove(&key);
            }
            drop(running);
            // Also if the task panics.
            drop(ended);
        });
        Ok(started)
    }

    /// Whether the application may have one more subscription.
    async fn check_room(&self, application: &str) -> Result<(), AttachError> {
        let count = async || self.store.count(application.to_owned()).await;
        if count().await? < MAX_SUBSCRIPTIONS {
            return Ok(());
        }
        let unused_since = Timestamp::now()
            .checked_sub(UNUSED_FOR)
            .unwrap_or(Timestamp::UNIX_EPOCH);
        let forgotten = self
            .store
            .forget_unused(application.to_owned(), unused_since)
            .await;
        forgotten.map_err(|error| ReadError::Unavailable(error.to_string()))?;
        if count().await? < MAX_SUBSCRIPTIONS {
            Ok(())
        } else {
            Err(AttachError::TooMany)
        }
    }

    /// The events that the subscription has not passed. If the log no longer has all of them, this fails once: the next subscriber
    /// gets those that are left, so that none is skipped without an error.
    async fn events_after(
        &self,
        key: &SubscriptionKey,
        position: String,
    ) -> Result<EventStream, ReadError> {
        let read = self.log.read(Start::After(position), false).await;
        if let Err(ReadError::OutOfRange { oldest_cursor, .. }) = &read {
            tracing::warn!(
                oldest_cursor,
                "the log no longer has the events after the position of a subscription: its next subscriber gets the oldest event"
            );
            let (key, oldest) = (key.clone(), oldest_cursor.clone());
            let moved = self.store.save_position(key, oldest).await;
            moved.map_err(|error| ReadError::Unavailable(error.to_string()))?;
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{events::embedded::EmbeddedLog, ops::metrics::Metrics};

    /// A subscriber attaches while the task of the subscription ends: a new task takes over, and the end of the old one must not
    /// make a third subscriber start another task.
    #[tokio::test]
    async fn the_end_of_a_task_does_not_remove_its_successor() {
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(folder.path(), Duration::from_secs(60), Metrics::new());
        let log = Arc::new(log.unwrap());
        let subscriptions = Subscriptions::new(
            Arc::clone(&log) as _,
            log,
            TaskTracker::new(),
            CancellationToken::new(),
        );
        let key = SubscriptionKey {
            application: "ops".into(),
            name: "x".into(),
        };
        let subscriber = Subscriber {
            filter: None,
            visibility: Visibility::OwnApplication,
            max_outstanding: 1,
        };
        let first = subscriptions.attach(key.clone(), subscriber.clone());
        first.await.unwrap().handle.detach().await;
        // The first task has closed its queue of commands, and is saving or has ended.
        let queue = || subscriptions.running().get(&key).cloned();
        while queue().is_some_and(|task| !task.commands.is_closed()) {
            tokio::task::yield_now().await;
        }
        let successor = subscriptions.open(key.clone(), &subscriber).await.unwrap();
        // Both tasks have had their turns when the first one has ended.
        while subscriptions.tasks.len() > 1 {
            tokio::task::yield_now().await;
        }
        assert!(queue().is_some_and(|task| task.commands.same_channel(&successor.commands)));
    }

    #[tokio::test]
    async fn at_the_limit_subscriptions_that_nobody_used_for_long_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(folder.path(), Duration::from_secs(60), Metrics::new());
        let log = Arc::new(log.unwrap());
        let of = |application: &str, number: usize| SavedSubscription {
            key: SubscriptionKey {
                application: application.into(),
                name: format!("s-{number}"),
            },
            visibility: Some(Visibility::OwnApplication),
            filter: None,
            cursor: log.head_cursor(),
        };
        for number in 0..MAX_SUBSCRIPTIONS {
            log.save(of("ops", number)).await.unwrap();
        }
        log.save(of("shop", 0)).await.unwrap();
        let subscriptions = Subscriptions::new(
            Arc::clone(&log) as _,
            Arc::clone(&log) as _,
            TaskTracker::new(),
            CancellationToken::new(),
        );
        let attach = async || {
            let subscriber = Subscriber {
                filter: None,
                visibility: Visibility::OwnApplication,
                max_outstanding: 1,
            };
            let key = SubscriptionKey {
                application: "ops".into(),
                name: "new".into(),
            };
            subscriptions.attach(key, subscriber).await
        };
        assert!(matches!(attach().await, Err(AttachError::TooMany)));
        let file = rusqlite::Connection::open(folder.path().join("events.sqlite")).unwrap();
        let long_ago = "UPDATE subscription SET used_at_ms = 1 WHERE name IN ('s-0', 's-7')";
        assert_eq!(file.execute(long_ago, []).unwrap(), 3);
        attach().await.unwrap().handle.detach().await;
        let left = |application: &str| log.count(application.into());
        assert_eq!(left("ops").await.unwrap(), MAX_SUBSCRIPTIONS - 1);
        assert_eq!(left("shop").await.unwrap(), 1, "of another application");
    }
}
