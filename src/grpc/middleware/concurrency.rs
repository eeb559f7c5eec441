//! The limits of concurrent calls: `grpc.max_concurrent_calls`, and separate ones for the health service.
//!
//! The health service needs no credentials, so its calls must not use up the permits of other calls, and other calls must not
//! keep a probe from being answered. A health watch lasts as long as its client wants, so watches do not share permits with checks.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::grpc::services::health;

#[derive(Clone)]
pub(super) struct ConcurrencyLimits {
    calls: Arc<Semaphore>,
    health_checks: Arc<Semaphore>,
    health_watches: Arc<Semaphore>,
}

impl ConcurrencyLimits {
    pub(super) fn new(max_concurrent_calls: usize) -> Self {
        let calls = max_concurrent_calls.min(Semaphore::MAX_PERMITS);
        Self {
            calls: Arc::new(Semaphore::new(calls)),
            health_checks: Arc::new(Semaphore::new(health::MAX_CHECKS)),
            health_watches: Arc::new(Semaphore::new(health::MAX_WATCHES)),
        }
    }

    /// A permit for a call of `method` (`package.Service/Method`). `None` if all are taken.
    pub(super) fn try_acquire(&self, method: &str) -> Option<OwnedSemaphorePermit> {
        let semaphore = match method.strip_prefix(health::SERVICE) {
            None => &self.calls,
            Some("Watch") => &self.health_watches,
            Some(_) => &self.health_checks,
        };
        Arc::clone(semaphore).try_acquire_owned().ok()
    }
}
