//! The lanes: what waits to be put into a request, urgent before normal.
//!
//! Nobody waits for a batch to fill: while all requests are under way parts gather here, and the next request takes as
//! many as fit. What waits is bounded by the permits of its calls.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::plan::Part;
use crate::ops::metrics::{Lane, Metrics};

#[derive(Default)]
struct State {
    urgent: VecDeque<Part>,
    normal: VecDeque<Part>,
}

/// The two lanes.
pub(super) struct Lanes {
    state: Mutex<State>,
    filled: Notify,
    metrics: Metrics,
}

impl Lanes {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            state: Mutex::default(),
            filled: Notify::new(),
            metrics,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts parts at the end of their lanes.
    pub(super) fn push(&self, parts: impl IntoIterator<Item = Part>) {
        let mut state = self.state();
        for part in parts {
            self.metrics.queued(lane(&part), part.destinations.len());
            state.lane(part.urgent).push_back(part);
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Puts parts back where they came from, in their order.
    pub(super) fn put_back(&self, parts: Vec<Part>) {
        let mut state = self.state();
        for part in parts.into_iter().rev() {
            self.metrics.queued(lane(&part), part.destinations.len());
            state.lane(part.urgent).push_front(part);
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Waits for parts and takes as many as belong in one request: at most `max` destinations, or all of one request of its
    /// own.
    pub(super) async fn take(&self, max: usize) -> Vec<Part> {
        loop {
            let filled = self.filled.notified();
            let batch = self.state().take(max);
            if !batch.is_empty() {
                self.count_out(&batch);
                // Another request may take what is left.
                self.filled.notify_one();
                return batch;
            }
            filled.await;
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
        self.count_out(&removed);
        removed
    }

    fn count_out(&self, parts: &[Part]) {
        for part in parts {
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
        let mut batch: Vec<Part> = Vec::new();
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
