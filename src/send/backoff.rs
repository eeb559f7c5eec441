//! How long to wait before the next attempt.

use std::time::Duration;

/// Doubles from `first` to `longest`, with a quarter of jitter so that many don't come at once.
pub(super) fn backoff(attempt: u32, first: Duration, longest: Duration) -> Duration {
    let doubled = first.saturating_mul(2_u32.saturating_pow(attempt.min(20)));
    doubled.min(longest).mul_f64(rand::random_range(0.75..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_and_stays_bounded() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(5));
        assert!(backoff(0, first, longest) <= first);
        assert!(backoff(3, first, longest) >= first * 6);
        assert!(backoff(u32::MAX, first, longest) <= longest);
    }
}
