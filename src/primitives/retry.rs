//! Retries with exponential backoff and jitter.
//!
//! Invariants: a wait never exceeds the policy's longest one; [`RetryPolicy::retry`] starts no attempt after its deadline.

use std::time::Duration;

use tokio::time::Instant;

/// Waits are shortened at random by up to a quarter, so that processes which failed together do not retry together.
const SHORTEST_SHARE: f64 = 0.75;
/// Doublings after which the wait no longer grows.
const MAX_DOUBLINGS: u32 = 20;

/// How long to wait between attempts.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    first: Duration,
    longest: Duration,
}

impl RetryPolicy {
    /// Waits `first` after the first failure, and twice as long after each further one, up to `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The wait before the next attempt. `failures` counts the failed attempts before the latest one.
    #[must_use]
    pub fn wait(self, failures: u32) -> Duration {
        let doubled = self
            .first
            .saturating_mul(2_u32.pow(failures.min(MAX_DOUBLINGS)));
        doubled
            .min(self.longest)
            .mul_f64(rand::random_range(SHORTEST_SHARE..=1.0))
    }

    /// Runs `attempt` until it succeeds, fails with an error that is not transient, or fails at or after `deadline`. The
    /// last attempt starts at the deadline at the latest; it is not cancelled there.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub async fn retry<T, E, F>(
        self,
        deadline: Instant,
        is_transient: impl Fn(&E) -> bool,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        let mut backoff = Backoff::new(self);
        loop {
            match attempt().await {
                Err(error) if is_transient(&error) && Instant::now() < deadline => {
                    let next = Instant::now() + backoff.next_wait();
                    tokio::time::sleep_until(next.min(deadline)).await;
                }
                outcome => return outcome,
            }
        }
    }
}

/// Counts the failures of one operation since its last success.
#[derive(Debug)]
pub struct Backoff {
    policy: RetryPolicy,
    failures: u32,
}

impl Backoff {
    #[must_use]
    pub const fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            failures: 0,
        }
    }

    /// Counts a failure and returns the wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.policy.wait(self.failures);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// Whether no failure was counted since the last success.
    #[must_use]
    pub const fn is_fresh(&self) -> bool {
        self.failures == 0
    }

    /// Starts again with the first wait, after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy =
        RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(5));

    #[test]
    fn waits_grow_and_stay_bounded() {
        let mut backoff = Backoff::new(POLICY);
        assert!(backoff.is_fresh());
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] >= Duration::from_millis(75) && waits[0] <= Duration::from_millis(100));
        assert!(waits[3] >= Duration::from_millis(600), "{waits:?}");
        assert!(waits[39] >= Duration::from_millis(3_750), "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(5)));
        assert!(POLICY.wait(u32::MAX) <= Duration::from_secs(5));
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }

    /// Retries an operation that fails with `error` until its attempt number `successful`; returns its outcome and the number
    /// of attempts.
    async fn retried(
        error: &'static str,
        successful: u32,
        deadline: Instant,
    ) -> (Result<u32, &'static str>, u32) {
        let policy = RetryPolicy::new(Duration::from_millis(1), Duration::from_millis(20));
        let mut attempts = 0;
        let attempt = || {
            attempts += 1;
            std::future::ready(if attempts == successful {
                Ok(attempts)
            } else {
                Err(error)
            })
        };
        let outcome = policy
            .retry(deadline, |error| *error == "transient", attempt)
            .await;
        (outcome, attempts)
    }

    #[tokio::test]
    async fn retries_end_with_success_a_permanent_error_or_the_deadline() {
        let far = Instant::now() + Duration::from_secs(3600);
        assert_eq!(retried("transient", 4, far).await, (Ok(4), 4));
        assert_eq!(retried("permanent", 4, far).await, (Err("permanent"), 1));
        let near = Instant::now() + Duration::from_millis(100);
        let (outcome, attempts) = retried("transient", u32::MAX, near).await;
        assert_eq!(outcome, Err("transient"));
        assert!(attempts >= 2, "{attempts}");
        assert!(
            Instant::now() >= near,
            "the last attempt starts at the deadline"
        );
    }
}
