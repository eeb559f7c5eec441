//! Rates that a token's or an application's calls may not exceed.
//!
//! A call beyond its quota is refused (`auth`); a message on a stream waits, as reading the stream is what paces its sender.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};

/// A rate and what is left of it.
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

    /// Takes one.
    ///
    /// # Errors
    /// Where there is none: how long until there is.
    pub(in crate::grpc) fn take(&self) -> Result<(), Duration> {
        self.limiter
            .check()
            .map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()))
    }
}

/// The limits that a caller is under: its token's and its application's, where they have any.
#[derive(Clone, Default)]
pub struct Quotas(Vec<Arc<Limit>>);

impl Quotas {
    pub(in crate::grpc) fn add(&mut self, limit: &Arc<Limit>) {
        self.0.push(Arc::clone(limit));
    }

    /// Takes one of each, and waits where there is none.
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
