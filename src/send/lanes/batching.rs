//! The policy of batching: when the next batch leaves (docs/DECISIONS.md#messages-wait-to-share-a-request).
//!
//! A caller that just received its result usually sends its next message at once, so a batch waits until as many destinations have
//! arrived as results were delivered, or will be delivered before the wait is over. If no such message is expected, it waits while
//! requests are in flight. If no request is in flight there is no wait.
//!
//! Invariant: pure. Neighbours: [`Lanes`](super::Lanes) tells it what arrives, begins and ends.

use std::time::Duration;

use tokio::time::Instant;

use super::NextBatch;
use crate::send::batch_item::BatchItem;

/// A batch that was taken and whose results have not been delivered yet.
struct BatchInFlight {
    id: u64,
    results_due: Instant,
}

#[derive(Default)]
pub(super) struct Batching {
    in_flight: Vec<BatchInFlight>,
    last_id: u64,
    /// Number of destinations whose results were delivered recently. The same number of new destinations is expected to follow.
    expected_followups: usize,
    /// Until when a batch waits for the expected destinations.
    followups_until: Option<Instant>,
    /// Whether some of the expected destinations are among the waiting items.
    some_followed_up: bool,
}

impl Batching {
    /// When the batch leaves whose first item is `first`, if no item waits longer than `batching_wait`.
    pub(super) fn next_batch_at(&self, first: &BatchItem, batching_wait: Duration) -> NextBatch {
        let now = Instant::now();
        let latest = first.since + batching_wait;
        // An exclusive item shares its request with no other call, so it has nothing to wait for.
        if first.exclusive.is_some() || latest <= now {
            return NextBatch::Now;
        }
        let due_soon = |request: &BatchInFlight| request.results_due <= latest;
        if let Some(until) = self.followups_until.filter(|until| *until > now)
            && self.expected_followups > 0
        {
            NextBatch::At(latest.min(until))
        } else if self.in_flight.iter().any(due_soon) {
            NextBatch::At(latest)
        } else if self.in_flight.is_empty() || self.some_followed_up {
            NextBatch::Now
        } else {
            NextBatch::At(latest)
        }
    }

    /// Counts an item as an expected return if it is one. True if it was the last expected one.
    pub(super) fn count_followup(&mut self, item: &BatchItem) -> bool {
        let is_expected = self.followups_until.is_some_and(|until| item.since < until);
        if self.expected_followups == 0 || !is_expected {
            return false;
        }
        self.expected_followups = self.expected_followups.saturating_sub(item.slots.len());
        self.some_followed_up = true;
        self.expected_followups == 0
    }

    /// A request begins, whose results are expected after `expected_latency`. Returns its id.
    pub(super) fn begin(&mut self, expected_latency: Duration) -> u64 {
        self.some_followed_up = false;
        self.last_id += 1;
        self.in_flight.push(BatchInFlight {
            id: self.last_id,
            results_due: Instant::now() + expected_latency,
        });
        self.last_id
    }

    pub(super) fn end(&mut self, id: u64) {
        self.in_flight.retain(|request| request.id != id);
    }

    /// The results of `destinations` were delivered: as many new ones are expected within `return_time`.
    pub(super) fn results_delivered(&mut self, destinations: usize, return_time: Duration) {
        let now = Instant::now();
        if self.followups_until.is_none_or(|until| until <= now) {
            self.expected_followups = 0;
        }
        self.expected_followups = self.expected_followups.saturating_add(destinations);
        self.followups_until = Some(now + return_time);
    }
}
