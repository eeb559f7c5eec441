//! The lanes: two queues of items that wait to be sent, urgent before normal, and the policy that decides when a batch leaves.
//!
//! An item waits for at most `send.max_batching_wait` so that several items can share a REST request. A caller that just received its
//! result usually sends its next message at once, so a batch waits until as many destinations have arrived as results were
//! delivered, or will be delivered before the wait is over. If no such message is expected, it waits while requests are in
//! flight. If no request is in flight, and for urgent items, there is no wait.
//!
//! Invariant: the semaphore permits of the calls bound the number of waiting items.
//! Neighbours: `core` and `resolver` push items, `dispatcher` takes batches.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};

use super::batch_item::BatchItem;
use crate::ops::metrics::{Lane, Metrics};

/// A batch that was taken and whose results have not been delivered yet.
struct BatchInFlight {
    id: u64,
    results_due: Instant,
}

#[derive(Default)]
struct State {
    urgent: VecDeque<BatchItem>,
    normal: VecDeque<BatchItem>,
    /// Number of destinations in both lanes.
    destinations: usize,
    in_flight: Vec<BatchInFlight>,
    last_id: u64,
    /// Number of destinations whose results were delivered recently. The same number of new destinations is expected to follow.
    expected_followups: usize,
    /// Until when a batch waits for the expected destinations.
    followups_until: Option<Instant>,
    /// Whether some of the expected destinations are among the waiting items.
    some_followed_up: bool,
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
    /// Maximum number of destinations in one REST request that several calls share. An exclusive request is not split.
    max_batch: usize,
    metrics: Metrics,
}

impl Lanes {
    pub(super) fn new(max_batch: usize, metrics: Metrics) -> Self {
        Self {
            state: Mutex::default(),
            changed: Notify::new(),
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
        let mut wakes_dispatcher = state.destinations == 0;
        for item in items {
            wakes_dispatcher |= item.is_urgent();
            wakes_dispatcher |= state.count_followup(&item);
            self.count_in(&mut state, &item);
            state.lane(item.is_urgent()).push_back(item);
        }
        wakes_dispatcher |= state.destinations >= self.max_batch;
        drop(state);
        if wakes_dispatcher {
            self.changed.notify_one();
        }
    }

    /// Returns items that were not sent to the front of their lanes, in their order.
    pub(super) fn put_back(&self, items: Vec<BatchItem>) {
        let mut state = self.state();
        for item in items.into_iter().rev() {
            self.count_in(&mut state, &item);
            state.lane(item.is_urgent()).push_front(item);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Resolves when a batch may be due earlier than [`Self::next_batch_at`] last returned: an item arrived, or a request ended.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// When the next batch should be taken, if no item waits longer than `batching_wait`.
    pub(super) fn next_batch_at(&self, batching_wait: Duration) -> NextBatch {
        let state = self.state();
        if !state.urgent.is_empty() || state.destinations >= self.max_batch {
            return NextBatch::Now;
        }
        let Some(first) = state.normal.front() else {
            return NextBatch::Never;
        };
        let now = Instant::now();
        let latest = first.since + batching_wait;
        // An exclusive item shares its request with no other call, so it has nothing to wait for.
        if first.exclusive.is_some() || latest <= now {
            return NextBatch::Now;
        }
        let due_soon = |request: &BatchInFlight| request.results_due <= latest;
        if let Some(until) = state.followups_until.filter(|until| *until > now)
            && state.expected_followups > 0
        {
            NextBatch::At(latest.min(until))
        } else if state.in_flight.iter().any(due_soon) {
            NextBatch::At(latest)
        } else if state.in_flight.is_empty() || state.some_followed_up {
            NextBatch::Now
        } else {
            NextBatch::At(latest)
        }
    }

    /// Takes the items of the next request: at most `max_batch` destinations, or all items of one exclusive request. Their
    /// results are expected after `expected_latency`.
    pub(super) fn take(
        self: &Arc<Self>,
        expected_latency: Duration,
    ) -> Option<(Vec<BatchItem>, RequestGuard)> {
        let mut state = self.state();
        let batch = state.take(self.max_batch);
        self.count_out(&mut state, &batch);
        state.some_followed_up = false;
        drop(state);
        (!batch.is_empty()).then(|| (batch, self.begin(expected_latency)))
    }

    /// Takes the items of a probe: the first one that is not in doubt, because one in doubt may be the cause of the failures. An
    /// exclusive request is not split.
    pub(super) fn take_probe(
        self: &Arc<Self>,
        expected_latency: Duration,
    ) -> Option<(Vec<BatchItem>, RequestGuard)> {
        let mut state = self.state();
        let one = state.take_one(|item| item.in_doubt_since.is_none());
        let mut items = vec![one.or_else(|| state.take_one(|_| true))?];
        if let Some(exclusive) = items[0].exclusive.clone() {
            let shares = |item: &BatchItem| {
                let its = item.exclusive.as_ref();
                its.is_some_and(|its| Arc::ptr_eq(its, &exclusive))
            };
            items.extend(state.remove(shares));
        }
        self.count_out(&mut state, &items);
        drop(state);
        Some((items, self.begin(expected_latency)))
    }

    /// Removes and returns the messages of callers that are not in doubt. If nothing but sends in doubt waits beside them, the first
    /// one stays, as the next probe.
    pub(super) fn remove_callers(&self) -> Vec<BatchItem> {
        let is_caller = |item: &BatchItem| !item.call.is_command && item.in_doubt_since.is_none();
        let state = self.state();
        let others = || {
            state
                .urgent
                .iter()
                .chain(&state.normal)
                .filter(|item| !is_caller(item))
        };
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

    /// Counts a request as in flight until the returned guard is dropped.
    pub(super) fn begin(self: &Arc<Self>, expected_latency: Duration) -> RequestGuard {
        let mut state = self.state();
        state.last_id += 1;
        let id = state.last_id;
        state.in_flight.push(BatchInFlight {
            id,
            results_due: Instant::now() + expected_latency,
        });
        RequestGuard {
            lanes: Arc::clone(self),
            id,
        }
    }

    /// Whether an item is selected.
    pub(super) fn any(&self, is_selected: impl FnMut(&BatchItem) -> bool) -> bool {
        let state = self.state();
        state.urgent.iter().chain(&state.normal).any(is_selected)
    }

    /// Removes and returns the items that `unwanted` selects.
    pub(super) fn remove(&self, unwanted: impl Fn(&BatchItem) -> bool) -> Vec<BatchItem> {
        let mut state = self.state();
        let removed = state.remove(unwanted);
        self.count_out(&mut state, &removed);
        removed
    }

    fn count_in(&self, state: &mut State, item: &BatchItem) {
        state.destinations += item.slots.len();
        self.metrics.queued(lane(item), item.slots.len());
    }

    fn count_out(&self, state: &mut State, items: &[BatchItem]) {
        for item in items {
            state.destinations -= item.slots.len();
            self.metrics.unqueued(lane(item), item.slots.len());
        }
    }
}

impl State {
    /// Counts an item as an expected return if it is one. True if it was the last expected one.
    fn count_followup(&mut self, item: &BatchItem) -> bool {
        let is_expected = self.followups_until.is_some_and(|until| item.since < until);
        if self.expected_followups == 0 || !is_expected {
            return false;
        }
        self.expected_followups = self.expected_followups.saturating_sub(item.slots.len());
        self.some_followed_up = true;
        self.expected_followups == 0
    }

    fn lane(&mut self, urgent: bool) -> &mut VecDeque<BatchItem> {
        if urgent {
            &mut self.urgent
        } else {
            &mut self.normal
        }
    }

    fn remove(&mut self, unwanted: impl Fn(&BatchItem) -> bool) -> Vec<BatchItem> {
        let mut removed = Vec::new();
        for urgent in [true, false] {
            let lane = std::mem::take(self.lane(urgent));
            let (out, stay): (Vec<_>, Vec<_>) = lane.into_iter().partition(&unwanted);
            *self.lane(urgent) = stay.into();
            removed.extend(out);
        }
        removed
    }

    fn take_one(&mut self, is_wanted: impl Fn(&BatchItem) -> bool) -> Option<BatchItem> {
        [true, false].into_iter().find_map(|urgent| {
            let lane = self.lane(urgent);
            let at = lane.iter().position(&is_wanted)?;
            lane.remove(at)
        })
    }

    fn take(&mut self, max: usize) -> Vec<BatchItem> {
        let waiting = self.urgent.len() + self.normal.len();
        let mut batch: Vec<BatchItem> = Vec::with_capacity(waiting.min(max));
        let mut room = max;
        for urgent in [true, false] {
            let lane = self.lane(urgent);
            while let Some(item) = lane.front() {
                if !batch
                    .first()
                    .is_none_or(|first| may_share_request(first, item, room))
                {
                    break;
                }
                let Some(item) = lane.pop_front() else { break };
                room = room.saturating_sub(item.slots.len());
                batch.push(item);
            }
        }
        batch
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
        let now = Instant::now();
        if state.followups_until.is_none_or(|until| until <= now) {
            state.expected_followups = 0;
        }
        state.expected_followups = state.expected_followups.saturating_add(destinations);
        state.followups_until = Some(now + return_time);
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let mut state = self.lanes.state();
        state.in_flight.retain(|request| request.id != self.id);
        drop(state);
        self.lanes.changed.notify_one();
    }
}

fn lane(item: &BatchItem) -> Lane {
    if item.is_urgent() {
        Lane::Urgent
    } else {
        Lane::Normal
    }
}

/// Whether an item may share the request that begins with `first` and has room for `room` more destinations.
fn may_share_request(first: &BatchItem, item: &BatchItem, room: usize) -> bool {
    first.kind() == item.kind()
        && match (&first.exclusive, &item.exclusive) {
            (None, None) => item.slots.len() <= room,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        proto::v1,
        send::{batch_item::ExclusiveRequest, call::ReplyTo},
    };

    fn item_for(urgent: bool, reply_to: ReplyTo) -> BatchItem {
        let mut message = v1::OutboundMessage::default();
        if urgent {
            message.set_priority(v1::Priority::Urgent);
        }
        BatchItem::alone(message, Instant::now(), reply_to)
    }

    fn item(urgent: bool) -> BatchItem {
        item_for(urgent, ReplyTo::Callback(Box::new(|_| {})))
    }

    fn in_doubt(urgent: bool) -> BatchItem {
        BatchItem {
            in_doubt_since: Some(Instant::now()),
            ..item(urgent)
        }
    }

    const LONG: Duration = Duration::from_secs(3600);

    fn lanes(max_batch: usize) -> Arc<Lanes> {
        Arc::new(Lanes::new(max_batch, Metrics::new()))
    }

    fn is_woken(lanes: &Lanes) -> bool {
        lanes.changed().now_or_never().is_some()
    }

    fn is_held(lanes: &Lanes) -> bool {
        matches!(lanes.next_batch_at(LONG), NextBatch::At(_))
    }

    /// Takes a batch of `destinations`, whose results are due in `due_in`.
    fn request(lanes: &Arc<Lanes>, destinations: usize, due_in: Duration) -> RequestGuard {
        lanes.push((0..destinations).map(|_| item(false)));
        let (items, request) = lanes.take(due_in).unwrap();
        assert_eq!(items.len(), destinations);
        assert!(is_woken(lanes));
        request
    }

    #[tokio::test]
    async fn only_an_earlier_due_time_wakes_the_dispatcher() {
        let lanes = lanes(4);
        assert_eq!(lanes.next_batch_at(LONG), NextBatch::Never);
        let other = request(&lanes, 1, 2 * LONG);
        let first = item(false);
        let at = first.since + LONG;
        lanes.push([first]);
        assert!(is_woken(&lanes), "the first");
        assert_eq!(lanes.next_batch_at(LONG), NextBatch::At(at));
        lanes.push([item(false)]);
        assert!(!is_woken(&lanes), "it joins the first");
        assert_eq!(lanes.next_batch_at(LONG), NextBatch::At(at));
        lanes.push([item(true)]);
        assert!(is_woken(&lanes), "urgent");
        assert_eq!(lanes.next_batch_at(LONG), NextBatch::Now);
        assert_eq!(lanes.take(LONG).unwrap().0.len(), 3);

        lanes.push([item(false), item(false), item(false)]);
        assert!(is_woken(&lanes), "the first again");
        assert!(is_held(&lanes));
        lanes.push([item(false)]);
        assert!(is_woken(&lanes), "a request is full");
        assert_eq!(lanes.next_batch_at(LONG), NextBatch::Now);
        assert_eq!(lanes.take(LONG).unwrap().0.len(), 4);
        drop(other);
        assert!(is_woken(&lanes), "the request ended");
    }

    #[tokio::test]
    async fn an_item_does_not_wait_if_no_request_is_in_flight() {
        let lanes = lanes(100);
        lanes.push([item(false)]);
        assert_eq!(lanes.next_batch_at(LONG), NextBatch::Now);
        let request = lanes.take(2 * LONG).unwrap().1;
        lanes.push([item(false)]);
        assert!(is_held(&lanes));
        assert_eq!(
            lanes.next_batch_at(Duration::ZERO),
            NextBatch::Now,
            "batching is off"
        );
        drop(request);
        assert_eq!(
            lanes.next_batch_at(LONG),
            NextBatch::Now,
            "the request failed"
        );
    }

    #[tokio::test]
    async fn a_batch_waits_for_callers_that_just_received_results() {
        let lanes = lanes(100);
        let requests = [2, 1].map(|n| (n, request(&lanes, n, 2 * LONG)));
        let far = request(&lanes, 1, 2 * LONG);
        for (delivered, request) in requests {
            request.results_delivered(delivered, LONG);
        }
        lanes.push([item(false)]);
        assert!(is_woken(&lanes) && is_held(&lanes), "two more may come");
        lanes.push([item(false)]);
        assert!(!is_woken(&lanes) && is_held(&lanes), "one more may come");
        lanes.push([item(false)]);
        assert!(is_woken(&lanes), "all have returned");
        assert_eq!(lanes.next_batch_at(LONG), NextBatch::Now);
        let (items, request) = lanes.take(2 * LONG).unwrap();
        assert_eq!(items.len(), 3);

        lanes.push([item(false)]);
        assert!(
            is_held(&lanes),
            "no return is expected, but a request is in flight"
        );
        lanes.take(2 * LONG).unwrap();

        drop(far);
        request.results_delivered(3, Duration::ZERO);
        lanes.state().in_flight.clear();
        lanes.push([item(false)]);
        assert_eq!(
            lanes.next_batch_at(LONG),
            NextBatch::Now,
            "they did not return in time"
        );
    }

    #[tokio::test]
    async fn a_batch_waits_for_results_that_are_due_before_its_own_deadline() {
        let lanes = lanes(100);
        let one = request(&lanes, 1, 2 * LONG);
        let close = request(&lanes, 2, Duration::ZERO);
        let far = request(&lanes, 5, 2 * LONG);
        one.results_delivered(1, LONG);
        lanes.push([item(false)]);
        assert!(is_held(&lanes), "callers of the close request may return");
        close.results_delivered(2, LONG);
        assert!(is_held(&lanes), "they have received their results");
        lanes.push([item(false), item(false)]);
        assert_eq!(
            lanes.next_batch_at(LONG),
            NextBatch::Now,
            "they have returned"
        );
        drop(far);
    }

    /// One in doubt may be the cause of the failures.
    #[tokio::test]
    async fn a_probe_is_not_in_doubt_while_others_wait() {
        let lanes = lanes(4);
        lanes.push([in_doubt(true), item(false)]);
        let is_in_doubt = || {
            lanes.take_probe(LONG).unwrap().0[0]
                .in_doubt_since
                .is_some()
        };
        assert!(!is_in_doubt());
        assert!(is_in_doubt());
        assert!(lanes.take_probe(LONG).is_none());
    }

    #[tokio::test]
    async fn a_probe_does_not_split_an_exclusive_request() {
        let lanes = lanes(4);
        let exclusive = Arc::new(ExclusiveRequest {
            wire_bulk_id: None,
            tracking: None,
        });
        let of_one = |urgent| BatchItem {
            exclusive: Some(Arc::clone(&exclusive)),
            ..item(urgent)
        };
        lanes.push([of_one(false), item(false), of_one(false), of_one(true)]);
        assert_eq!(lanes.take_probe(LONG).unwrap().0.len(), 3);
        assert_eq!(lanes.take_probe(LONG).unwrap().0.len(), 1);
    }

    #[tokio::test]
    async fn a_caller_stays_if_only_sends_in_doubt_wait_beside_it() {
        let lanes = lanes(4);
        lanes.push([item(false), item(true)]);
        assert_eq!(lanes.remove_callers().len(), 2, "nothing else waits");
        lanes.push([in_doubt(true), item(false), item(false)]);
        assert_eq!(lanes.remove_callers().len(), 1);
        assert_eq!(lanes.remove_callers().len(), 0, "it is the next probe");
        lanes.push([item_for(false, ReplyTo::Command(oneshot::channel().0))]);
        assert_eq!(lanes.remove_callers().len(), 1, "the command is");
    }
}
