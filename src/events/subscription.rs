//! Named durable subscriptions on the embedded engine. Each event is delivered to one of the attached subscribers, and again
//! until it is acknowledged (at least once). Without subscribers, events wait in the log.
//!
//! Invariants: a subscription has the visibility of the caller that created it, and subscribers with another one are refused,
//! because they would take events from the others or see events that they must not; the saved position never passes an
//! unacknowledged event; a subscriber has at most `max_outstanding` unacknowledged deliveries.
//! Neighbours: `task` holds the state of one subscription, `grpc` attaches subscribers, the log stores positions.

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

/// Length of the queue of commands to the task of a subscription. Subscribers wait while it is full.
const MAX_QUEUED_COMMANDS: usize = 256;

/// The subscriptions that have subscribers. Cheap to clone.
#[derive(Clone)]
pub struct Subscriptions {
    log: SharedEventLog,
    tasks: TaskTracker,
    closing: CancellationToken,
    running: Arc<Mutex<HashMap<SubscriptionKey, mpsc::Sender<Command>>>>,
}

/// A subscriber that wants to attach.
#[derive(Clone)]
pub struct Subscriber {
    /// Replaces the filter of the subscription. `None` keeps it while other subscribers are attached, and removes it otherwise.
    pub filter: Option<v1::EventFilter>,
    /// The events that the subscriber may see. Must equal the visibility of the subscription.
    pub visibility: Visibility,
    /// Maximum number of unacknowledged deliveries.
    pub max_outstanding: usize,
}

/// Why a subscriber could not attach.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AttachError {
    /// The log cannot be read or written, or its engine has no subscriptions.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The subscriber may see other events than the subscription receives.
    #[error(transparent)]
    VisibilityDiffers(#[from] VisibilityDiffers),
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

/// Settles deliveries and detaches. If it is dropped without [`SubscriberHandle::detach`], deliveries stay outstanding until
/// the next delivery to the subscriber fails or the task ends.
pub struct SubscriberHandle {
    subscriber: u64,
    commands: mpsc::Sender<Command>,
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
    pub async fn ended(&self) {
        self.commands.closed().await;
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
    /// Subscriptions on `log`, whose tasks are spawned on `tasks` and end when `closing` is cancelled.
    #[must_use]
    pub fn new(log: SharedEventLog, tasks: TaskTracker, closing: CancellationToken) -> Self {
        Self {
            log,
            tasks,
            closing,
            running: Arc::default(),
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
            let commands = match running {
                Some(commands) => commands,
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
            // The last subscriber detached meanwhile: try again until the task has ended.
            tokio::task::yield_now().await;
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<SubscriptionKey, mpsc::Sender<Command>>> {
        self.running.lock()
    }

    /// Starts the task of a subscription, unless a concurrent call has started it.
    async fn open(
        &self,
        key: SubscriptionKey,
        subscriber: &Subscriber,
    ) -> Result<mpsc::Sender<Command>, AttachError> {
        let saved = self.log.find_subscription(key.clone()).await?;
        let created = saved.is_none();
        let saved = match saved {
            Some(saved) => {
                if let Some(visibility) = saved.visibility {
                    VisibilityDiffers::check(&key, visibility, subscriber.visibility)?;
                }
                saved
            }
            None => {
                let new = SavedSubscription {
                    key: key.clone(),
                    visibility: Some(subscriber.visibility),
                    filter: subscriber.filter.clone(),
                    cursor: self.log.head_cursor()?,
                };
                self.save(new.clone()).await?;
                new
            }
        };
        let position = saved.cursor.clone();
        let events = self.events_after(saved).await?;
        let (commands, received) = mpsc::channel(MAX_QUEUED_COMMANDS);
        let mut running = self.running();
        if let Some(existing) = running.get(&key).filter(|commands| !commands.is_closed()) {
            return Ok(existing.clone());
        }
        running.insert(key.clone(), commands.clone());
        drop(running);
        let log = Arc::clone(&self.log);
        let task = Task::new(
            log,
            key.clone(),
            subscriber.visibility,
            events,
            position,
            created,
        );
        let subscriptions = self.clone();
        // The task holds no sender, so that it ends when every handle is dropped.
        let weak = commands.downgrade();
        self.tasks.spawn(async move {
            task.run(received, weak, &subscriptions.closing).await;
            // A task that was started since this one closed its queue stays: two tasks would deliver each event twice.
            let mut running = subscriptions.running();
            if running.get(&key).is_some_and(mpsc::Sender::is_closed) {
                running.remove(&key);
            }
        });
        Ok(commands)
    }

    /// The events that the subscription has not passed. If the log no longer has all of them, this fails once: the next subscriber
    /// gets those that are left, so that none is skipped without an error.
    async fn events_after(&self, saved: SavedSubscription) -> Result<EventStream, ReadError> {
        let start = Start::After(saved.cursor.clone());
        let read = self.log.read(start, false).await;
        if let Err(ReadError::OutOfRange { oldest_cursor, .. }) = &read {
            tracing::warn!(
                oldest_cursor,
                "the log no longer has the events after the position of a subscription: its next subscriber gets the oldest event"
            );
            let cursor = oldest_cursor.clone();
            self.save(SavedSubscription { cursor, ..saved }).await?;
        }
        read
    }

    async fn save(&self, subscription: SavedSubscription) -> Result<(), ReadError> {
        let stored = self.log.save_subscription(subscription).await;
        stored.map_err(|error| ReadError::Unavailable(error.to_string()))
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
        let subscriptions = Subscriptions::new(
            Arc::new(log.unwrap()),
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
        while queue().is_some_and(|commands| !commands.is_closed()) {
            tokio::task::yield_now().await;
        }
        let successor = subscriptions.open(key.clone(), &subscriber).await.unwrap();
        // Both tasks have had their turns when the first one has ended.
        while subscriptions.tasks.len() > 1 {
            tokio::task::yield_now().await;
        }
        assert!(queue().is_some_and(|commands| commands.same_channel(&successor)));
    }
}
