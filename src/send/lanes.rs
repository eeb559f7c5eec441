//! The lanes: two queues of items that wait to be sent, urgent before normal, and the policy that decides when a batch leaves.
//!
//! An item waits for at most `send.gather_for` so that several items can share a REST request. A caller that just received its
//! result usually sends its next message at once, so a batch waits until as many destinations have arrived as results were
//! delivered, or will be delivered before the wait is over. Without such expected returns, it waits while requests are in
//! flight. If no request is in flight, and for urgent items, there is no wait.
//!
//! Invariant: the semaphore permits of the calls bound what waits here.
//! Neighbours: `core` pushes items, `dispatcher` takes batches.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};

use super::plan::Part;
use crate::ops::metrics::{Lane, Metrics};

/// A batch that was taken and whose results have not been delivered yet.
struct Request {
    id: u64,
    results_due: Instant,
}

#[derive(Default)]
struct State {
    urgent: VecDeque<Part>,
    normal: VecDeque<Part>,
    /// Number of destinations in both lanes.
    destinations: usize,
    under_way: Vec<Request>,
    last_id: u64,
    /// Number of destinations whose results were delivered recently: as many new ones are expected.
    expected_returns: usize,
    /// How long the expected returns are waited for.
    returns_until: Option<Instant>,
    /// Whether some expected returns are among the waiting items.
    some_returned: bool,
}

/// When the next batch should be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
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
    /// Maximum number of destinations in one request.
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
    pub(super) fn push(&self, parts: impl IntoIterator<Item = Part>) {
        let mut state = self.state();
        // An item that joins waiting ones does not change when they are due, so the dispatcher is not woken.
        let mut is_news = state.destinations == 0;
        for part in parts {
            is_news |= part.is_urgent();
            is_news |= state.count_return(&part);
            self.count_in(&mut state, &part);
            state.lane(part.is_urgent()).push_back(part);
        }
        is_news |= state.destinations >= self.max_batch;
        drop(state);
        if is_news {
            self.changed.notify_one();
        }
    }

    /// Returns items to the front of their lanes, in their order.
    pub(super) fn put_back(&self, parts: Vec<Part>) {
        let mut state = self.state();
        for part in parts.into_iter().rev() {
            self.count_in(&mut state, &part);
            state.lane(part.is_urgent()).push_front(part);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Resolves when a batch may be due earlier than [`Self::due`] last said: an item arrived, or a request ended.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// When the next batch should be taken, if no item waits longer than `gather_for`.
    pub(super) fn due(&self, gather_for: Duration) -> Due {
        let state = self.state();
        if !state.urgent.is_empty() || state.destinations >= self.max_batch {
            return Due::Now;
        }
        let Some(first) = state.normal.front() else {
            return Due::Never;
        };
        let now = Instant::now();
        let latest = first.since + gather_for;
        // An exclusive item shares its request with no other call, so it has nothing to wait for.
        if first.alone.is_some() || latest <= now {
            return Due::Now;
        }
        let due_soon = |request: &Request| request.results_due <= latest;
        if let Some(until) = state.returns_until.filter(|until| *until > now)
            && state.expected_returns > 0
        {
            Due::At(latest.min(until))
        } else if state.under_way.iter().any(due_soon) {
            Due::At(latest)
        } else if state.under_way.is_empty() || state.some_returned {
            Due::Now
        } else {
            Due::At(latest)
        }
    }

    /// Takes the items of the next request: at most `max_batch` destinations, or all items of one exclusive request. Their
    /// results are expected after `usual_latency`.
    pub(super) fn take(self: &Arc<Self>, usual_latency: Duration) -> Option<(Vec<Part>, UnderWay)> {
        let mut state = self.state();
        let batch = state.take(self.max_batch);
        self.count_out(&mut state, &batch);
        state.some_returned = false;
        drop(state);
        (!batch.is_empty()).then(|| (batch, self.begin(usual_latency)))
    }

    /// Counts a request as in flight until the returned guard is dropped.
    pub(super) fn begin(self: &Arc<Self>, usual_latency: Duration) -> UnderWay {
        let mut state = self.state();
        state.last_id += 1;
        let id = state.last_id;
        state.under_way.push(Request {
            id,
            results_due: Instant::now() + usual_latency,
        });
        UnderWay {
            lanes: Arc::clone(self),
            id,
        }
    }

    /// Removes and returns the items that `unwanted` selects.
    pub(super) fn remove(&self, unwanted: impl Fn(&Part) -> bool) -> Vec<Part> {
        let mut state = self.state();
        let mut removed = Vec::new();
        for urgent in [true, false] {
            let lane = std::mem::take(state.lane(urgent));
            let (out, stay): (Vec<_>, Vec<_>) = lane.into_iter().partition(&unwanted);
            *state.lane(urgent) = stay.into();
            removed.extend(out);
        }
        self.count_out(&mut state, &removed);
        removed
    }

    fn count_in(&self, state: &mut State, part: &Part) {
        state.destinations += part.slots.len();
        self.metrics.queued(lane(part), part.slots.len());
    }

    fn count_out(&self, state: &mut State, parts: &[Part]) {
        for part in parts {
            state.destinations -= part.slots.len();
            self.metrics.unqueued(lane(part), part.slots.len());
        }
    }
}

impl State {
    /// Counts an item as an expected return if it is one. True if it was the last expected one.
    fn count_return(&mut self, part: &Part) -> bool {
        let is_expected = self.returns_until.is_some_and(|until| part.since < until);
        if self.expected_returns == 0 || !is_expected {
            return false;
        }
        self.expected_returns = self.expected_returns.saturating_sub(part.slots.len());
        self.some_returned = true;
        self.expected_returns == 0
    }

    fn lane(&mut self, urgent: bool) -> &mut VecDeque<Part> {
        if urgent {
            &mut self.urgent
        } else {
            &mut self.normal
        }
    }

    fn take(&mut self, max: usize) -> Vec<Part> {
        let waiting = self.urgent.len() + self.normal.len();
        let mut batch: Vec<Part> = Vec::with_capacity(waiting.min(max));
        let mut room = max;
        for urgent in [true, false] {
            let lane = self.lane(urgent);
            while let Some(part) = lane.front() {
                if !batch
                    .first()
                    .is_none_or(|first| may_share_request(first, part, room))
                {
                    break;
                }
                let Some(part) = lane.pop_front() else { break };
                room = room.saturating_sub(part.slots.len());
                batch.push(part);
            }
        }
        batch
    }
}

/// A request in flight. Dropping it ends the request for the batching policy.
pub(super) struct UnderWay {
    lanes: Arc<Lanes>,
    id: u64,
}

impl UnderWay {
    /// The results of `destinations` were delivered: as many new ones are expected within `return_time`.
    pub(super) fn results_delivered(self, destinations: usize, return_time: Duration) {
        let mut state = self.lanes.state();
        let now = Instant::now();
        if state.returns_until.is_none_or(|until| until <= now) {
            state.expected_returns = 0;
        }
        state.expected_returns = state.expected_returns.saturating_add(destinations);
        state.returns_until = Some(now + return_time);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.lanes.state();
        state.under_way.retain(|request| request.id != self.id);
        drop(state);
        self.lanes.changed.notify_one();
    }
}

fn lane(part: &Part) -> Lane {
    if part.is_urgent() {
        Lane::Urgent
    } else {
        Lane::Normal
    }
}

/// Whether an item may share the request that begins with `first` and has room for `room` more destinations.
fn may_share_request(first: &Part, part: &Part, room: usize) -> bool {
    first.kind() == part.kind()
        && match (&first.alone, &part.alone) {
            (None, None) => part.slots.len() <= room,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::{
        message::id::ApplicationName,
        proto::v1,
        send::{
            call::{Answer, Call, Slots},
            plan::PartSlots,
        },
    };

    fn part(urgent: bool) -> Part {
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let application = ApplicationName::default_application();
        let answer = Answer::Then(Box::new(|_| {}));
        let mut message = v1::OutboundMessage::default();
        if urgent {
            message.set_priority(v1::Priority::Urgent);
        }
        Part {
            call: Call::new(
                application,
                String::new(),
                String::new(),
                Slots::new(),
                vec![message],
                place,
                answer,
            ),
            message: 0,
            slots: PartSlots::from_elem(0, 1),
            since: Instant::now(),
            in_doubt_since: None,
            alone: None,
        }
    }

    const LONG: Duration = Duration::from_secs(3600);

    fn lanes(max_batch: usize) -> Arc<Lanes> {
        Arc::new(Lanes::new(max_batch, Metrics::new()))
    }

    fn woken(lanes: &Lanes) -> bool {
        lanes.changed().now_or_never().is_some()
    }

    fn gathers(lanes: &Lanes) -> bool {
        matches!(lanes.due(LONG), Due::At(_))
    }

    /// Takes a batch of `destinations`, whose results are due in `due_in`.
    fn request(lanes: &Arc<Lanes>, destinations: usize, due_in: Duration) -> UnderWay {
        lanes.push((0..destinations).map(|_| part(false)));
        let (parts, request) = lanes.take(due_in).unwrap();
        assert_eq!(parts.len(), destinations);
        assert!(woken(lanes));
        request
    }

    #[tokio::test]
    async fn only_an_earlier_due_time_wakes_the_dispatcher() {
        let lanes = lanes(4);
        assert_eq!(lanes.due(LONG), Due::Never);
        let other = request(&lanes, 1, 2 * LONG);
        let first = part(false);
        let at = first.since + LONG;
        lanes.push([first]);
        assert!(woken(&lanes), "the first");
        assert_eq!(lanes.due(LONG), Due::At(at));
        lanes.push([part(false)]);
        assert!(!woken(&lanes), "it joins the first");
        assert_eq!(lanes.due(LONG), Due::At(at));
        lanes.push([part(true)]);
        assert!(woken(&lanes), "urgent");
        assert_eq!(lanes.due(LONG), Due::Now);
        assert_eq!(lanes.take(LONG).unwrap().0.len(), 3);

        lanes.push([part(false), part(false), part(false)]);
        assert!(woken(&lanes), "the first again");
        assert!(gathers(&lanes));
        lanes.push([part(false)]);
        assert!(woken(&lanes), "a request is full");
        assert_eq!(lanes.due(LONG), Due::Now);
        assert_eq!(lanes.take(LONG).unwrap().0.len(), 4);
        drop(other);
        assert!(woken(&lanes), "an answer");
    }

    #[tokio::test]
    async fn an_item_does_not_wait_if_no_request_is_in_flight() {
        let lanes = lanes(100);
        lanes.push([part(false)]);
        assert_eq!(lanes.due(LONG), Due::Now);
        let request = lanes.take(2 * LONG).unwrap().1;
        lanes.push([part(false)]);
        assert!(gathers(&lanes));
        assert_eq!(lanes.due(Duration::ZERO), Due::Now, "batching is off");
        drop(request);
        assert_eq!(lanes.due(LONG), Due::Now, "the request failed");
    }

    #[tokio::test]
    async fn a_batch_waits_for_callers_that_just_received_results() {
        let lanes = lanes(100);
        let requests = [2, 1].map(|n| (n, request(&lanes, n, 2 * LONG)));
        let far = request(&lanes, 1, 2 * LONG);
        for (given, request) in requests {
            request.results_delivered(given, LONG);
        }
        lanes.push([part(false)]);
        assert!(woken(&lanes) && gathers(&lanes), "two more may come");
        lanes.push([part(false)]);
        assert!(!woken(&lanes) && gathers(&lanes), "one more may come");
        lanes.push([part(false)]);
        assert!(woken(&lanes), "all have returned");
        assert_eq!(lanes.due(LONG), Due::Now);
        let (parts, request) = lanes.take(2 * LONG).unwrap();
        assert_eq!(parts.len(), 3);

        lanes.push([part(false)]);
        assert!(
            gathers(&lanes),
            "no return is expected, but a request is in flight"
        );
        lanes.take(2 * LONG).unwrap();

        drop(far);
        request.results_delivered(3, Duration::ZERO);
        lanes.state().under_way.clear();
        lanes.push([part(false)]);
        assert_eq!(lanes.due(LONG), Due::Now, "they did not return in time");
    }

    #[tokio::test]
    async fn a_batch_waits_for_results_that_are_due_before_its_own_deadline() {
        let lanes = lanes(100);
        let one = request(&lanes, 1, 2 * LONG);
        let close = request(&lanes, 2, Duration::ZERO);
        let far = request(&lanes, 5, 2 * LONG);
        one.results_delivered(1, LONG);
        lanes.push([part(false)]);
        assert!(gathers(&lanes), "callers of the close request may return");
        close.results_delivered(2, LONG);
        assert!(gathers(&lanes), "they have received their results");
        lanes.push([part(false), part(false)]);
        assert_eq!(lanes.due(LONG), Due::Now, "they have returned");
        drop(far);
    }
}
