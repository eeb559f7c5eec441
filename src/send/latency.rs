//! The average latency of send requests, from which the batching wait follows (docs/DECISIONS.md#messages-wait-to-share-a-request).
//!
//! Neighbours: `dispatcher` records latencies and asks for the wait; `lanes` applies it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Tokio timers have millisecond resolution; a shorter wait would be rounded up.
const MIN_WAIT: Duration = Duration::from_millis(1);

/// A moving average, in microseconds.
#[derive(Default)]
pub(super) struct Latency(AtomicU64);

impl Latency {
    pub(super) fn record(&self, latency: Duration) {
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        // Two concurrent updates may lose one of them, which an average tolerates.
        let average_us = self.0.load(Ordering::Relaxed);
        let average_us = average_us - average_us / 8 + latency_us / 8;
        self.0.store(average_us, Ordering::Relaxed);
    }

    pub(super) fn average(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    /// How long a message may wait to share a request: a quarter of the average, or zero if that is less than [`MIN_WAIT`].
    pub(super) fn batching_wait(&self) -> Duration {
        let quarter = self.average() / 4;
        if quarter < MIN_WAIT {
            Duration::ZERO
        } else {
            quarter
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_batching_wait_is_a_quarter_of_the_average_or_zero() {
        let batching_wait = |us| Latency(AtomicU64::new(us)).batching_wait();
        assert_eq!(batching_wait(0), Duration::ZERO);
        assert_eq!(batching_wait(3_999), Duration::ZERO);
        assert_eq!(batching_wait(4_000), Duration::from_millis(1));
        assert_eq!(batching_wait(20_000), Duration::from_millis(5));
    }
}
