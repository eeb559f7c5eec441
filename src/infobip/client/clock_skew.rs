//! How far this machine's clock is from the API's, by the `Date` of its responses. Two clocks that differ do not tell which one is wrong, so
//! nothing is decided by it: it is told, because `expires_at` and `expiration` are compared with this machine's clock.
//!
//! Neighbours: [`super::Client`] notes each response; `/ready` shows what is found.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use jiff::Timestamp;

/// Smaller differences are the time of the request and the seconds of `Date`.
const MIN_SECONDS: i64 = 60;

#[derive(Default)]
pub(super) struct ClockSkew {
    /// Of the last response. 0: none that counts.
    ahead_s: AtomicI64,
    is_logged: AtomicBool,
}

impl ClockSkew {
    /// Notes the time of a response that was received at `now`.
    pub(super) fn note(&self, base_url: &str, server_time: Timestamp, now: Timestamp) {
        let ahead_s = now.duration_since(server_time).as_secs();
        if ahead_s.abs() < MIN_SECONDS {
            self.ahead_s.store(0, Ordering::Relaxed);
            return;
        }
        self.ahead_s.store(ahead_s, Ordering::Relaxed);
        if !self.is_logged.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                base_url,
                ahead_s,
                "the clock of this machine differs from that of the API: messages may expire too early or too late"
            );
        }
    }

    /// By how many seconds this machine's clock is ahead (negative: behind), if that is much.
    pub(super) fn ahead_s(&self) -> Option<i64> {
        let ahead_s = self.ahead_s.load(Ordering::Relaxed);
        (ahead_s != 0).then_some(ahead_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_counts_while_it_lasts() {
        let skew = ClockSkew::default();
        let at = |s| Timestamp::from_second(s).unwrap();
        let found = |api, now| {
            skew.note("http://api", at(api), at(now));
            skew.ahead_s()
        };
        assert_eq!(found(1_000, 1_059), None);
        assert_eq!(found(1_000, 4_600), Some(3_600));
        assert_eq!(found(4_600, 1_000), Some(-3_600));
        assert_eq!(found(1_059, 1_000), None);
    }
}
