//! Counts requests by the second, in real time.

use std::time::Instant;

/// The full seconds that are kept.
pub(crate) const RATE_SECONDS: usize = 60;
/// Those, and the current one.
const SLOTS: u64 = RATE_SECONDS as u64 + 1;

/// Requests in each of the last seconds.
#[derive(Debug)]
pub(crate) struct RequestRate {
    began: Instant,
    second: u64,
    counts: [u32; SLOTS as usize],
}

impl Default for RequestRate {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            second: 0,
            counts: [0; SLOTS as usize],
        }
    }
}

impl RequestRate {
    pub(super) fn count(&mut self) {
        self.go_to(self.began.elapsed().as_secs());
        self.counts[slot(self.second)] += 1;
    }

    /// The requests in each of the last full seconds, oldest first.
    pub(crate) fn per_second(&mut self) -> Vec<u32> {
        self.go_to(self.began.elapsed().as_secs());
        (1..SLOTS)
            .map(|step| self.counts[slot(self.second + step)])
            .collect()
    }

    fn go_to(&mut self, second: u64) {
        for passed in (self.second + 1..=second).rev().take(SLOTS as usize) {
            self.counts[slot(passed)] = 0;
        }
        self.second = second;
    }
}

fn slot(second: u64) -> usize {
    usize::try_from(second % SLOTS).expect("a remainder below 61 fits in a usize")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_pass_and_are_forgotten() {
        let mut rate = RequestRate::default();
        rate.count();
        rate.count();
        rate.go_to(1);
        let counts = |rate: &RequestRate| -> Vec<u32> {
            (1..SLOTS)
                .map(|step| rate.counts[slot(rate.second + step)])
                .collect()
        };
        assert_eq!(counts(&rate).last(), Some(&2));
        rate.go_to(60);
        assert_eq!(counts(&rate).first(), Some(&2));
        rate.go_to(61);
        assert_eq!(counts(&rate).iter().sum::<u32>(), 0);
        rate.go_to(1_000_000);
        assert_eq!(counts(&rate).len(), RATE_SECONDS);
    }
}
