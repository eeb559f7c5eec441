//! The task of one subscription: its subscribers, their outstanding deliveries, the redeliveries and the position.
//!
//! Invariants: the position passes only events that are done (acknowledged, or not wanted), so that an unacknowledged event
//! is read again after a restart; a delivery is outstanding at one subscriber; every subscriber may see all events that the
//! subscription receives.
//! Neighbours: [`delivery`] chooses the subscriber of each event and moves the position; [`super`] starts the task for the
//! first subscriber; the task ends when the last one detaches.

mod delivery;

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

use self::delivery::{Outstanding, Unsettled};
use super::{Attached, Command, Subscriber, SubscriberHandle, VisibilityDiffers};
use crate::{
    events::{EventStream, Filter, SavedSubscription, SharedEventLog, SubscriptionKey, Visibility},
    proto::v1,
};

/// Minimum time between two saves of the position.
const SAVE_INTERVAL: Duration = Duration::from_millis(200);
/// Maximum number of events from the first unacknowledged one on, because acknowledgements after it must be kept in memory. So a subscriber
/// that never acknowledges a delivery stops its subscription after this many events.
const MAX_UNSETTLED: usize = 100_000;

struct SubscriberState {
    deliveries: mpsc::Sender<v1::Delivery>,
    max_outstanding: usize,
    /// By delivery id.
    outstanding: HashMap<String, Outstanding>,
}

/// The state of one subscription.
pub(super) struct Task {
    log: SharedEventLog,
    key: SubscriptionKey,
    visibility: Visibility,
    filter: Filter,
    /// `filter` as a subscriber sent it, to be saved.
    requested_filter: Option<v1::EventFilter>,
    events: EventStream,
    /// Read from the log, but not filtered yet.
    read: VecDeque<v1::Event>,
    /// Deliveries whose subscribers have detached, and rejected ones after their wait.
    redeliveries: VecDeque<Outstanding>,
    /// Rejected deliveries that wait, by the end of the wait.
    rejected: BTreeMap<(Instant, u64), Outstanding>,
    subscribers: BTreeMap<u64, SubscriberState>,
    unsettled: Unsettled,
    position: String,
    saved_at: Instant,
    unsaved: bool,
    created: bool,
    next_subscriber: u64,
}

impl Task {
    /// A subscription without subscribers, with the filter that was saved. `events` are those after `position`; `created` tells whether
    /// it is a new one.
    pub(super) fn new(
        log: SharedEventLog,
        key: SubscriptionKey,
        visibility: Visibility,
        requested_filter: Option<v1::EventFilter>,
        events: EventStream,
        position: String,
        created: bool,
    ) -> Self {
        Self {
            log,
            filter: Filter::new(requested_filter.as_ref(), key.visible(visibility)),
            key,
            visibility,
            requested_filter,
            events,
            read: VecDeque::new(),
            redeliveries: VecDeque::new(),
            rejected: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            unsettled: Unsettled::default(),
            position,
            saved_at: Instant::now(),
            unsaved: false,
            created,
            next_subscriber: 0,
        }
    }

    /// Serves the subscribers until the last one detaches, reading the log fails, or `closing` is cancelled.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        sender: mpsc::WeakSender<Command>,
        closing: &CancellationToken,
    ) {
        loop {
            self.deliver();
            let wants_more = self.read.is_empty()
                && self.redeliveries.is_empty()
                && self.unsettled.len() < MAX_UNSETTLED
                && self.has_room();
            let next_due = self.next_due().filter(|_| self.has_room());
            let due = next_due.unwrap_or_else(Instant::now);
            tokio::select! {
                () = closing.cancelled() => break,
                command = commands.recv() => match command {
                    Some(command) => self.handle(command, &sender),
                    None => break,
                },
                batch = self.events.next(), if wants_more => match batch {
                    Some(Ok(events)) => self.read.extend(events),
                    Some(Err(error)) => {
                        tracing::warn!(%error, "reading the log for a subscription failed: its subscribers must attach again");
                        break;
                    }
                    None => break,
                },
                () = tokio::time::sleep_until(due), if next_due.is_some() => {}
                () = tokio::time::sleep_until(self.saved_at + SAVE_INTERVAL), if self.unsaved => self.save().await,
            }
            if self.subscribers.is_empty() && self.next_subscriber > 0 {
                break;
            }
        }
        commands.close();
        while let Some(command) = commands.recv().now_or_never().flatten() {
            if let Command::Settle { .. } = command {
                self.handle(command, &sender);
            }
        }
        self.save().await;
    }

    fn handle(&mut self, command: Command, sender: &mpsc::WeakSender<Command>) {
        match command {
            Command::Attach { subscriber, reply } => self.attach(subscriber, reply, sender),
            Command::Settle {
                subscriber,
                delivery_ids,
                done,
            } => {
                for id in delivery_ids {
                    let outstanding = self
                        .subscribers
                        .get_mut(&subscriber)
                        .and_then(|state| state.outstanding.remove(&id));
                    match outstanding {
                        Some(outstanding) if done => self.settle(&outstanding),
                        Some(outstanding) => self.reject(outstanding),
                        None => {}
                    }
                }
            }
            Command::Detach { subscriber } => self.detach(subscriber),
        }
    }

    fn attach(
        &mut self,
        subscriber: Subscriber,
        reply: oneshot::Sender<Result<Attached, VisibilityDiffers>>,
        sender: &mpsc::WeakSender<Command>,
    ) {
        let Some(commands) = sender.upgrade() else {
            return;
        };
        let same = VisibilityDiffers::check(&self.key, self.visibility, subscriber.visibility);
        if let Err(differs) = same {
            // If the caller has gone away, sending its reply fails harmlessly.
            let _ = reply.send(Err(differs));
            return;
        }
        if let Some(filter) = subscriber.filter {
            self.filter = Filter::new(Some(&filter), self.key.visible(self.visibility));
            self.requested_filter = Some(filter);
            self.unsaved = true;
        }
        let id = self.next_subscriber;
        self.next_subscriber += 1;
        let (deliveries, waiting) = mpsc::channel(subscriber.max_outstanding);
        let state = SubscriberState {
            deliveries,
            max_outstanding: subscriber.max_outstanding,
            outstanding: HashMap::new(),
        };
        self.subscribers.insert(id, state);
        let created = std::mem::take(&mut self.created);
        let cursor = self.position.clone();
        let attached = Attached {
            created,
            cursor,
            deliveries: waiting,
            handle: SubscriberHandle {
                subscriber: id,
                commands,
            },
        };
        if reply.send(Ok(attached)).is_err() {
            self.subscribers.remove(&id);
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
            filter: self.requested_filter.clone(),
            cursor: self.position.clone(),
        };
        match self.log.save_subscription(saved).await {
            Ok(()) => self.unsaved = false,
            Err(error) => {
                tracing::warn!(%error, "saving the position of a subscription failed, trying again");
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

    /// Attaches a subscriber with room for one delivery.
    fn attach(task: &mut Task, commands: &mpsc::WeakSender<Command>) -> Attached {
        let subscriber = Subscriber {
            filter: None,
            visibility: task.visibility,
            max_outstanding: 1,
        };
        let (reply, attached) = oneshot::channel();
        task.attach(subscriber, reply, commands);
        attached.now_or_never().unwrap().unwrap().unwrap()
    }

    #[tokio::test]
    async fn delivering_ends_when_subscribers_are_full_or_gone() {
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(folder.path(), Duration::from_secs(60), Metrics::new());
        let key = SubscriptionKey {
            application: "ops".into(),
            name: "x".into(),
        };
        let visibility = Visibility::OwnApplication;
        let none = futures_util::stream::pending().boxed();
        let log = std::sync::Arc::new(log.unwrap());
        let mut task = Task::new(log, key, visibility, None, none, "0".into(), true);
        let (commands, _received) = mpsc::channel(8);
        let commands = commands.downgrade();
        let kept = commands.upgrade();

        let mut full = attach(&mut task, &commands);
        let of_others = event(2, "shop");
        task.read
            .extend([event(1, "ops"), of_others, event(3, "ops"), event(4, "ops")]);
        task.deliver();
        let first = full.deliveries.try_recv().unwrap();
        assert_eq!((first.delivery_id.as_str(), first.attempt), ("1", 1));
        assert!(full.deliveries.try_recv().is_err(), "it is full");
        assert_eq!(task.read.len(), 3, "the rest waits");

        // A subscriber that has gone away gets no delivery, and keeps none from the others.
        drop(attach(&mut task, &commands).deliveries);
        task.deliver();
        assert_eq!(task.subscribers.len(), 1);
        let mut next = attach(&mut task, &commands);
        task.deliver();
        let third = next.deliveries.try_recv().unwrap();
        assert_eq!(
            third.delivery_id, "3",
            "not the event of another application"
        );
        assert!(next.deliveries.try_recv().is_err());
        drop(kept);
    }
}
