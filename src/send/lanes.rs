//! The lanes: what waits to be put into a request, urgent before normal.
//!
//! While requests are unanswered parts gather here, for `send.gather_for` at most, and the next request takes as many as fit;
//! while none is, nobody waits, and what is urgent never does. What waits is bounded by the permits of its calls.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};

use super::plan::Part;
use crate::ops::metrics::{Lane, Metrics};

#[derive(Default)]
struct State {
    urgent: VecDeque<Part>,
    normal: VecDeque<Part>,
    /// Destinations in both.
    destinations: usize,
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts parts at the end of their lanes.
    pub(super) fn push(&self, parts: impl IntoIterator<Item = Part>) {
        let mut state = self.state();
        // What only joins others that gather does not change when they are due.
        let mut is_news = state.destinations == 0;
        for part in parts {
            is_news |= part.urgent;
            self.count_in(&mut state, &part);
            state.lane(part.urgent).push_back(part);
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
            state.lane(part.urgent).push_front(part);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Resolves when something came in that may be due earlier than what was there, or a request was answered, since the last time.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// A request was answered: the next one may take what waits.
    pub(super) fn request_answered(&self) {
        self.changed.notify_one();
    }

    /// When a request should take what waits, where nobody waits longer than `gather_for`.
    pub(super) fn due(&self, gather_for: Duration) -> Due {
        let state = self.state();
        if !state.urgent.is_empty() || state.destinations >= self.max_batch {
            return Due::Now;
        }
        match state.normal.front() {
            None => Due::Never,
            // It shares its request with nobody.
            Some(first) if first.alone.is_some() => Due::Now,
            Some(first) if first.since.elapsed() >= gather_for => Due::Now,
            Some(first) => Due::At(first.since + gather_for),
        }
    }

    /// Takes as many parts as belong in one request: at most `max_batch` destinations, or all of one request of its own.
    pub(super) fn take(&self) -> Vec<Part> {
        let mut state = self.state();
        let batch = state.take(self.max_batch);
        self.count_out(&mut state, &batch);
        batch
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
        state.destinations += part.destinations.len();
        self.metrics.queued(lane(part), part.destinations.len());
    }

    fn count_out(&self, state: &mut State, parts: &[Part]) {
        for part in parts {
            state.destinations -= part.destinations.len();
            self.metrics.unqueued(lane(part), part.destinations.len());
        }
    }
}

impl State {
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
                room = room.saturating_sub(part.destinations.len());
                batch.push(part);
            }
        }
        batch
    }
}

/// The lane that a part waits in.
fn lane(part: &Part) -> Lane {
    if part.urgent {
        Lane::Urgent
    } else {
        Lane::Normal
    }
}

/// Whether a part may stand in the request that begins with `first` and has room for so many destinations.
fn belong_together(first: &Part, part: &Part, room: usize) -> bool {
    first.kind() == part.kind()
        && match (&first.alone, &part.alone) {
            (None, None) => part.destinations.len() <= room,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::{infobip::WireDestination, message::id::ApplicationName, send::call::Call};

    fn part(urgent: bool) -> Part {
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let application = ApplicationName::default_application();
        let answer = Box::new(|_| {});
        let destination = WireDestination {
            to: "41793026727".into(),
            wire_id: "default.m".into(),
        };
        Part {
            call: Call::new(
                application,
                String::new(),
                String::new(),
                Vec::new(),
                place,
                answer,
            ),
            message: Arc::default(),
            destinations: vec![destination],
            slots: vec![0],
            expires_at: None,
            urgent,
            since: Instant::now(),
            in_doubt_since: None,
            alone: None,
        }
    }

    /// What joins others wakes nobody; what is due earlier than they are does, whatever else waits.
    #[tokio::test]
    async fn only_news_wakes_the_dispatcher() {
        let lanes = Lanes::new(4, Metrics::new());
        let gather_for = Duration::from_secs(3600);
        let woken = || lanes.changed().now_or_never().is_some();

        assert_eq!(lanes.due(gather_for), Due::Never);
        let first = part(false);
        let at = first.since + gather_for;
        lanes.push([first]);
        assert!(woken(), "the first");
        assert_eq!(lanes.due(gather_for), Due::At(at));
        lanes.push([part(false)]);
        assert!(!woken(), "it joins the first");
        assert_eq!(lanes.due(gather_for), Due::At(at));
        lanes.push([part(true)]);
        assert!(woken(), "urgent");
        assert_eq!(lanes.due(gather_for), Due::Now);

        assert_eq!(lanes.take().len(), 3);
        lanes.push([part(false), part(false), part(false)]);
        assert!(woken(), "the first again");
        lanes.push([part(false)]);
        assert!(woken(), "a request is full");
        assert_eq!(lanes.due(gather_for), Due::Now);
        assert_eq!(lanes.take().len(), 4);
        lanes.request_answered();
        assert!(woken(), "an answer");
    }
}
