//! Quotas: the maximum call rates of tokens and applications.
//!
//! A call beyond the quota is refused (`auth`). A message on a stream waits instead, because not reading the stream slows its
//! sender down.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};

/// A rate limit and its state.
pub(in crate::grpc) struct Limit {
    pub(in crate::grpc) calls_per_second: NonZeroU32,
    limiter: DefaultDirectRateLimiter,
}

impl Limit {
    pub(in crate::grpc) fn new(calls_per_second: NonZeroU32) -> Arc<Self> {
        Arc::new(Self {
            calls_per_second,
            limiter: RateLimiter::direct(Quota::per_second(calls_per_second)),
        })
    }

    /// Counts one call.
    ///
    /// # Errors
    /// The time until the next call is allowed, if the rate is used up.
    pub(in crate::grpc) fn take(&self) -> Result<(), Duration> {
        self.limiter
            .check()
            .map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()))
    }
}

/// The limits of a caller: those of its token and its application, if any.
#[derive(Clone, Default)]
pub struct Quotas(Vec<Arc<Limit>>);

impl Quotas {
    pub(in crate::grpc) fn add(&mut self, limit: &Arc<Limit>) {
        self.0.push(Arc::clone(limit));
    }

    /// Counts one message against each limit, and waits until it is allowed.
    pub async fn wait(&self) {
        for limit in &self.0 {
            while let Err(wait) = limit.take() {
                tokio::time::sleep(wait).await;
            }
        }
    }
}

impl fmt::Debug for Quotas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rates = self.0.iter().map(|limit| limit.calls_per_second);
        f.debug_list().entries(rates).finish()
    }
}
