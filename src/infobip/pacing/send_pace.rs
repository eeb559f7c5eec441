//! The rate of send requests that the account allows.

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// Limits send requests to `infobip.send_requests_per_second`. Shared by all lanes.
#[derive(Debug)]
pub struct SendPace {
    limiter: Option<DefaultDirectRateLimiter>,
}

impl SendPace {
    /// 0: no limit. Requests are spread: the burst is a tenth of the requests per second.
    #[must_use]
    pub fn new(requests_per_second: u32) -> Self {
        let limiter = NonZeroU32::new(requests_per_second).map(|rate| {
            let burst = NonZeroU32::new(requests_per_second / 10).unwrap_or(NonZeroU32::MIN);
            RateLimiter::direct(Quota::per_second(rate).allow_burst(burst))
        });
        Self { limiter }
    }

    /// Waits until a request may start.
    pub async fn acquire(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.until_ready().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_rate_of_zero_is_unlimited() {
        let pace = SendPace::new(0);
        for _ in 0..10_000 {
            pace.acquire().await;
        }
    }

    #[test]
    fn requests_are_spread_over_the_second() {
        let pace = SendPace::new(50);
        let limiter = pace.limiter.as_ref().unwrap();
        let burst = (0..100).take_while(|_| limiter.check().is_ok()).count();
        assert_eq!(burst, 5);
    }
}
