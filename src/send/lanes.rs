//! The lanes: what waits to be put into a request, urgent before normal.
//!
//! Parts gather here, for `send.gather_for` at most, while others may come to share their request: those who just got their
//! results may be back with their next message, and so may those whose results are due before a part has waited long enough. Once
//! all are back the request leaves. Where nobody is expected back, anyone may come while requests are under way; with none under
//! way nobody waits, and what is urgent never does. What waits is bounded by the permits of its calls.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};

use super::plan::Part;
use crate::ops::metrics::{Lane, Metrics};

/// What `Lanes` gave out and whose results were not given yet.
struct Request {
    id: u64,
    results_due: Instant,
}

#[derive(Default)]
struct State {
    urgent: VecDeque<Part>,
    normal: VecDeque<Part>,
    /// Destinations in both.
    destinations: usize,
    under_way: Vec<Request>,
    last_id: u64,
    /// Destinations that had their results lately: as many may come back.
    away: usize,
    /// Until when they are waited for.
    away_until: Option<Instant>,
    /// Whether some of them are among what waits.
    some_are_back: bool,
}

/// When a request should take what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Now.
    Now,
    /// Then, or when something changes.
    At(Instant),
    /// Nothing waits.
    Never,
}

/// The two lanes.
pub(super) struct Lanes {
    state: Mutex<State>,
    changed: Notify,
    /// Destinations of a request at most.
    max_batch: usize,
    metrics: Metrics,
}

impl Lanes {
    /// Lanes for requests of at most so many destinations.
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

    /// Puts parts at the end of their lanes.
    pub(super) fn push(&self, parts: impl IntoIterator<Item = Part>) {
        let mut state = self.state();
        // What only joins others that gather does not change when they are due.
        let mut is_news = state.destinations == 0;
        for part in parts {
            is_news |= part.is_urgent();
            is_news |= state.last_is_back(&part);
            self.count_in(&mut state, &part);
            state.lane(part.is_urgent()).push_back(part);
        }
        is_news |= state.destinations >= self.max_batch;
        drop(state);
        if is_news {
            self.changed.notify_one();
        }
    }

    /// Puts parts back where they came from, in their order.
    pub(super) fn put_back(&self, parts: Vec<Part>) {
        let mut state = self.state();
        for part in parts.into_iter().rev() {
            self.count_in(&mut state, &part);
            state.lane(part.is_urgent()).push_front(part);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Resolves when something came in that may be due earlier than what was there, or a request ended, since the last time.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// When a request should take what waits, where nobody waits longer than `gather_for`.
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
        // What is alone shares its request with nobody.
        if first.alone.is_some() || latest <= now {
            return Due::Now;
        }
        let due_soon = |request: &Request| request.results_due <= latest;
        if let Some(until) = state.away_until.filter(|until| *until > now)
            && state.away > 0
        {
            Due::At(latest.min(until))
        } else if state.under_way.iter().any(due_soon) {
            Due::At(latest)
        } else if state.under_way.is_empty() || state.some_are_back {
            Due::Now
        } else {
            Due::At(latest)
        }
    }

    /// Takes as many parts as belong in one request: at most `max_batch` destinations, or all of one request of its own. Their
    /// results should be there after `usual_latency`.
    pub(super) fn take(self: &Arc<Self>, usual_latency: Duration) -> Option<(Vec<Part>, UnderWay)> {
        let mut state = self.state();
        let batch = state.take(self.max_batch);
        self.count_out(&mut state, &batch);
        state.some_are_back = false;
        drop(state);
        (!batch.is_empty()).then(|| (batch, self.begin(usual_latency)))
    }

    /// A request is under way until what this gives is dropped.
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

    /// Takes out what `unwanted` says.
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
    /// Notes who is back with this part; says whether nobody is away any more.
    fn last_is_back(&mut self, part: &Part) -> bool {
        let waited_for = self.away_until.is_some_and(|until| part.since < until);
        if self.away == 0 || !waited_for {
            return false;
        }
        self.away = self.away.saturating_sub(part.slots.len());
        self.some_are_back = true;
        self.away == 0
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
                    .is_none_or(|first| belong_together(first, part, room))
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

/// A request whose results are not given yet.
pub(super) struct UnderWay {
    lanes: Arc<Lanes>,
    id: u64,
}

impl UnderWay {
    /// The results of so many destinations were given: as many may be back within a while.
    pub(super) fn results_given(self, destinations: usize, a_while: Duration) {
        let mut state = self.lanes.state();
        let now = Instant::now();
        if state.away_until.is_none_or(|until| until <= now) {
            state.away = 0;
        }
        state.away = state.away.saturating_add(destinations);
        state.away_until = Some(now + a_while);
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

/// The lane that a part waits in.
fn lane(part: &Part) -> Lane {
    if part.is_urgent() {
        Lane::Urgent
    } else {
        Lane::Normal
    }
}

/// Whether a part may stand in the request that begins with `first` and has room for so many destinations.
fn belong_together(first: &Part, part: &Part, room: usize) -> bool {
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

    /// A request of so many destinations, with its results due in some time.
    fn request(lanes: &Arc<Lanes>, destinations: usize, due_in: Duration) -> UnderWay {
        lanes.push((0..destinations).map(|_| part(false)));
        let (parts, request) = lanes.take(due_in).unwrap();
        assert_eq!(parts.len(), destinations);
        assert!(woken(lanes));
        request
    }

    /// What joins others wakes nobody; what is due earlier than they are does, whatever else waits.
    #[tokio::test]
    async fn only_news_wakes_the_dispatcher() {
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
    async fn nobody_waits_with_nothing_under_way() {
        let lanes = lanes(100);
        lanes.push([part(false)]);
        assert_eq!(lanes.due(LONG), Due::Now);
        let request = lanes.take(2 * LONG).unwrap().1;
        lanes.push([part(false)]);
        assert!(gathers(&lanes));
        assert_eq!(lanes.due(Duration::ZERO), Due::Now, "gathers never");
        drop(request);
        assert_eq!(lanes.due(LONG), Due::Now, "the request failed");
    }

    /// Who just got results is waited for, until as many are back and no longer than a while.
    #[tokio::test]
    async fn those_who_just_got_results_share_a_request() {
        let lanes = lanes(100);
        let requests = [2, 1].map(|n| (n, request(&lanes, n, 2 * LONG)));
        let far = request(&lanes, 1, 2 * LONG);
        for (given, request) in requests {
            request.results_given(given, LONG);
        }
        lanes.push([part(false)]);
        assert!(woken(&lanes) && gathers(&lanes), "two more may come");
        lanes.push([part(false)]);
        assert!(!woken(&lanes) && gathers(&lanes), "one more may come");
        lanes.push([part(false)]);
        assert!(woken(&lanes), "all are back");
        assert_eq!(lanes.due(LONG), Due::Now);
        let (parts, request) = lanes.take(2 * LONG).unwrap();
        assert_eq!(parts.len(), 3);

        lanes.push([part(false)]);
        assert!(gathers(&lanes), "nobody was expected, so anyone may come");
        lanes.take(2 * LONG).unwrap();

        drop(far);
        request.results_given(3, Duration::ZERO);
        lanes.state().under_way.clear();
        lanes.push([part(false)]);
        assert_eq!(lanes.due(LONG), Due::Now, "they stayed away");
    }

    /// Whose results are due before a part has waited long enough is waited for; who has to wait longer is not.
    #[tokio::test]
    async fn requests_that_follow_each_other_closely_become_one() {
        let lanes = lanes(100);
        let one = request(&lanes, 1, 2 * LONG);
        let close = request(&lanes, 2, Duration::ZERO);
        let far = request(&lanes, 5, 2 * LONG);
        one.results_given(1, LONG);
        lanes.push([part(false)]);
        assert!(gathers(&lanes), "those of the close request may come");
        close.results_given(2, LONG);
        assert!(gathers(&lanes), "they have their results");
        lanes.push([part(false), part(false)]);
        assert_eq!(lanes.due(LONG), Due::Now, "they are back");
        drop(far);
    }
}
