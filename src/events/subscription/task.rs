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
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::delivery::{Outstanding, Unsettled};
use super::{
    Attached, Command, Subscriber, SubscriberHandle, TaskFailure, VisibilityDiffers,
    memory::DeliveryMemory,
};
use crate::{
    events::{
        EventStream, Filter, SavedSubscription, SubscriptionKey, SubscriptionStore, Visibility,
    },
    proto::v1,
};

/// Minimum time between two saves of the position.
const SAVE_INTERVAL: Duration = Duration::from_millis(200);
/// How often a subscription asks for memory that the others of its application hold, or for room at a subscriber that reads slowly.
const ROOM_WAIT: Duration = Duration::from_millis(50);
/// How long a task waits for its first subscriber, which attaches at once.
const FIRST_ATTACH_WAIT: Duration = Duration::from_secs(30);
/// Maximum number of events from the first unacknowledged one on, because acknowledgements after it must be kept in memory. So a subscriber
/// that never acknowledges a delivery stops its subscription after this many events.
const MAX_UNSETTLED: usize = 100_000;

struct SubscriberState {
    deliveries: mpsc::Sender<v1::Delivery>,
    max_outstanding: usize,
    /// By delivery id.
    outstanding: HashMap<String, Outstanding>,
}

impl SubscriberState {
    /// Whether its channel takes a delivery, or tells that the subscriber has gone away. A subscriber may acknowledge deliveries that
    /// it has not read: they are in the channel still.
    fn can_take(&self) -> bool {
        self.deliveries.capacity() > 0 || self.deliveries.is_closed()
    }
}

/// The state of one subscription.
pub(super) struct Task {
    store: Arc<dyn SubscriptionStore>,
    memory: DeliveryMemory,
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
    /// Whether the position has moved since it was saved.
    unsaved: bool,
    /// Whether more than the position is to be saved.
    is_changed: bool,
    created: bool,
    next_subscriber: u64,
    /// The number of deliveries that are not acknowledged, wherever they are.
    open: usize,
    /// Whether the next event waits for memory, or for a subscriber to read what it has acknowledged already.
    waits: bool,
    failure: TaskFailure,
}

impl Task {
    /// A subscription without subscribers. `events` are those after its cursor; `created` tells whether it is a new one.
    pub(super) fn new(
        store: Arc<dyn SubscriptionStore>,
        memory: DeliveryMemory,
        saved: SavedSubscription,
        events: EventStream,
        created: bool,
    ) -> Self {
        let SavedSubscription {
            key,
            visibility,
            filter: requested_filter,
            cursor: position,
        } = saved;
        let visibility = visibility.unwrap_or(Visibility::OwnApplication);
        Self {
            store,
            memory,
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
            is_changed: false,
            created,
            next_subscriber: 0,
            open: 0,
            waits: false,
            failure: TaskFailure::default(),
        }
    }

    /// Serves the subscribers until the last one detaches, reading the log fails, or `closing` is cancelled.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        sender: mpsc::WeakSender<Command>,
        closing: &CancellationToken,
    ) {
        let first_attach_by = Instant::now() + FIRST_ATTACH_WAIT;
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
                        // Set before the queue of commands is closed, which tells the subscribers.
                        let _ = self.failure.set(error);
                        break;
                    }
                    None => break,
                },
                () = tokio::time::sleep_until(due), if next_due.is_some() => {}
                () = tokio::time::sleep(ROOM_WAIT), if self.waits => {}
                // The caller that opened it has gone away.
                () = tokio::time::sleep_until(first_attach_by), if self.next_subscriber == 0 => break,
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
                        Some(outstanding) if done => self.settle(outstanding),
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
        }
        // Also without another filter: the log notes when the subscription was used.
        (self.unsaved, self.is_changed) = (true, true);
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
                failure: TaskFailure::clone(&self.failure),
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
        let (key, cursor) = (self.key.clone(), self.position.clone());
        let saved = if self.is_changed {
            let subscription = SavedSubscription {
                key,
                visibility: Some(self.visibility),
                filter: self.requested_filter.clone(),
                cursor,
            };
            self.store.save(subscription).await
        } else {
            // Without the filter, which may be long, several times a second.
            self.store.save_position(key, cursor).await
        };
        match saved {
            Ok(()) => (self.unsaved, self.is_changed) = (false, false),
            Err(error) => {
                tracing::warn!(%error, "saving the position of a subscription failed, trying again");
            }
        }
    }
}

#[cfg(test)]
mod tests;
