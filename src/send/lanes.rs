//! The lanes: two queues of items that wait to be sent, urgent before normal.
//!
//! An item waits for at most `send.max_batching_wait` so that several items can share a REST request; urgent items do not wait.
//!
//! Invariant: the places of the calls (`send.queue_capacity`) bound the number of waiting items.
//! Neighbours: `core` and `resolver` push items, `dispatcher` takes batches; [`queue`] has the items, [`batching`] the policy.

mod batching;
mod queue;

use std::{sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};

pub(super) use self::queue::Room;
use self::{batching::Batching, queue::Queue};
use super::batch_item::BatchItem;
use crate::ops::metrics::{Lane, Metrics};

#[derive(Default)]
struct State {
    queue: Queue,
    batching: Batching,
}

/// When the next batch should be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextBatch {
    Now,
    /// At this time, or earlier if [`Lanes::changed`] resolves.
    At(Instant),
    /// No item waits.
    Never,
}

/// The two lanes and the batching policy.
pub(super) struct Lanes {
    state: Mutex<State>,
    changed: Notify,
    urgent_arrived: Notify,
    /// Of one REST request. One that a caller named is not split.
    max_batch: Room,
    metrics: Metrics,
}

impl Lanes {
    pub(super) fn new(max_batch: Room, metrics: Metrics) -> Self {
        Self {
            state: Mutex::default(),
            changed: Notify::new(),
            urgent_arrived: Notify::new(),
            max_batch,
            metrics,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Appends items to their lanes.
    pub(super) fn push(&self, items: impl IntoIterator<Item = BatchItem>) {
        let mut state = self.state();
        // An item that joins waiting ones does not change when they are due, so the dispatcher is not woken.
        let mut wakes_dispatcher = state.queue.destinations() == 0;
        let mut some_are_urgent = false;
        for item in items {
            some_are_urgent |= item.is_urgent();
            wakes_dispatcher |= state.batching.count_followup(&item);
            self.count_in(&item);
            state.queue.push(item);
        }
        wakes_dispatcher |= state.queue.destinations() >= self.max_batch.destinations;
        drop(state);
        if some_are_urgent {
            self.urgent_arrived.notify_one();
        }
        if wakes_dispatcher || some_are_urgent {
            self.changed.notify_one();
        }
    }

    /// Returns items that were not sent to the front of their lanes, in their order.
    pub(super) fn put_back(&self, items: Vec<BatchItem>) {
        let mut state = self.state();
        for item in items.into_iter().rev() {
            self.count_in(&item);
            state.queue.put_back(item);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Resolves when a batch may be due earlier than [`Self::next_batch_at`] last returned: an item arrived, or a request ended.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Resolves when an urgent item has arrived.
    pub(super) async fn urgent_arrived(&self) {
        self.urgent_arrived.notified().await;
    }

    /// When the next batch should be taken, if no item waits longer than `batching_wait`.
    pub(super) fn next_batch_at(&self, batching_wait: Duration) -> NextBatch {
        let state = self.state();
        if state.queue.has_urgent() || state.queue.destinations() >= self.max_batch.destinations {
            return NextBatch::Now;
        }
        match state.queue.first_normal() {
            Some(first) => state.batching.next_batch_at(first, batching_wait),
            None => NextBatch::Never,
        }
    }

    /// The lanes with items, the one first whose turn it is: urgent ones come first, but not always, so that normal ones never wait
    /// for ever.
    pub(super) fn turns(&self) -> impl Iterator<Item = Lane> + use<> {
        self.state().queue.turns()
    }

    /// Takes the items of the next request, which begins with an item of `first`, and has items of the other lane only if
    /// `others_too`. It has at most `max` destinations. Their results are expected after `expected_latency`.
    pub(super) fn take(
        self: &Arc<Self>,
        first: Lane,
        others_too: bool,
        max: usize,
        expected_latency: Duration,
    ) -> Option<(Vec<BatchItem>, RequestGuard)> {
        let room = Room {
            destinations: max.min(self.max_batch.destinations),
            ..self.max_batch
        };
        let items = self.state().queue.take(first, others_too, room);
        self.count_out(&items);
        (!items.is_empty()).then(|| (items, self.begin(expected_latency)))
    }

    /// Takes the items of a probe.
    pub(super) fn take_probe(
        self: &Arc<Self>,
        expected_latency: Duration,
    ) -> Option<(Vec<BatchItem>, RequestGuard)> {
        let items = self.state().queue.take_probe();
        self.count_out(&items);
        (!items.is_empty()).then(|| (items, self.begin(expected_latency)))
    }

    /// Counts a request as in flight until the returned guard is dropped.
    fn begin(self: &Arc<Self>, expected_latency: Duration) -> RequestGuard {
        RequestGuard {
            lanes: Arc::clone(self),
            id: self.state().batching.begin(expected_latency),
        }
    }

    /// Removes and returns the messages of callers that are not in doubt. If nothing but sends in doubt waits beside them, the first
    /// one stays, as the next probe.
    pub(super) fn remove_callers(&self) -> Vec<BatchItem> {
        let is_caller = |item: &BatchItem| !item.call.is_command && item.in_doubt_since.is_none();
        let state = self.state();
        let others = || state.queue.iter().filter(|item| !is_caller(item));
        let only_doubts =
            others().next().is_some() && others().all(|item| item.in_doubt_since.is_some());
        drop(state);
        let removed = self.remove(is_caller);
        if !only_doubts || removed.is_empty() {
            return removed;
        }
        let mut removed = removed.into_iter();
        self.put_back(removed.next().into_iter().collect());
        removed.collect()
    }

    /// Whether an item is selected.
    pub(super) fn any(&self, is_selected: impl FnMut(&BatchItem) -> bool) -> bool {
        self.state().queue.iter().any(is_selected)
    }

    /// Removes and returns the items that `unwanted` selects.
    pub(super) fn remove(&self, unwanted: impl Fn(&BatchItem) -> bool) -> Vec<BatchItem> {
        let removed = self.state().queue.remove(unwanted);
        self.count_out(&removed);
        removed
    }

    fn count_in(&self, item: &BatchItem) {
        self.metrics.queued(item.lane(), item.slots.len());
    }

    fn count_out(&self, items: &[BatchItem]) {
        for item in items {
            self.metrics.unqueued(item.lane(), item.slots.len());
        }
    }
}

/// A request in flight. Dropping it ends the request for the batching policy.
pub(super) struct RequestGuard {
    lanes: Arc<Lanes>,
    id: u64,
}

impl RequestGuard {
    /// The results of `destinations` were delivered: as many new ones are expected within `return_time`.
    pub(super) fn results_delivered(self, destinations: usize, return_time: Duration) {
        let mut state = self.lanes.state();
        state.batching.results_delivered(destinations, return_time);
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.lanes.state().batching.end(self.id);
        self.lanes.changed.notify_one();
    }
}

#[cfg(test)]
mod tests;
