//! The limits of concurrent calls: `grpc.max_concurrent_calls`, and separate ones for the health service.
//!
//! The health service needs no credentials, so its calls must not use up the permits of other calls, and other calls must not
//! keep a probe from being answered. A health watch lasts as long as its client wants, so watches do not share permits with
//! checks. Each connection has a limit of its own for both, so that one client cannot use up the permits of all.
//!
//! Invariant: a check holds its permits until its response begins, every other call until its response has ended. The rest of
//! the response of a check is a few bytes, which a client that does not read must not turn into a permit held forever.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::grpc::services::health;

/// The limits of the server and of one connection.
#[derive(Clone)]
pub(super) struct ConcurrencyLimits {
    calls: Arc<Semaphore>,
    health_checks: Arc<Semaphore>,
    health_watches: Arc<Semaphore>,
    checks_of_connection: Arc<Semaphore>,
    watches_of_connection: Arc<Semaphore>,
}

/// The permits of a call, released when dropped.
pub(super) struct CallPermits {
    _of_server: OwnedSemaphorePermit,
    /// Of health calls only.
    _of_connection: Option<OwnedSemaphorePermit>,
    /// Whether they are released when the response begins.
    pub(super) end_with_head: bool,
}

impl ConcurrencyLimits {
    pub(super) fn new(max_concurrent_calls: usize) -> Self {
        let limit = |permits| Arc::new(Semaphore::new(permits));
        Self {
            calls: limit(max_concurrent_calls.min(Semaphore::MAX_PERMITS)),
            health_checks: limit(health::MAX_CHECKS),
            health_watches: limit(health::MAX_WATCHES),
            checks_of_connection: limit(health::MAX_CALLS_OF_CONNECTION),
            watches_of_connection: limit(health::MAX_CALLS_OF_CONNECTION),
        }
    }

    /// The same limits of the server, and those of a new connection.
    pub(super) fn for_connection(self) -> Self {
        let limit = || Arc::new(Semaphore::new(health::MAX_CALLS_OF_CONNECTION));
        Self {
            checks_of_connection: limit(),
            watches_of_connection: limit(),
            ..self
        }
    }

    /// The permits for a call of `method` (`package.Service/Method`). `None` if all are taken.
    pub(super) fn try_acquire(&self, method: &str) -> Option<CallPermits> {
        let (of_server, of_connection) = match method.strip_prefix(health::SERVICE) {
            None => (&self.calls, None),
            Some("Watch") => (&self.health_watches, Some(&self.watches_of_connection)),
            Some(_) => (&self.health_checks, Some(&self.checks_of_connection)),
        };
        let acquire = |limit| Semaphore::try_acquire_owned(Arc::clone(limit)).ok();
        let end_with_head = Arc::ptr_eq(of_server, &self.health_checks);
        let of_connection = match of_connection {
            None => None,
            Some(limit) => Some(acquire(limit)?),
        };
        Some(CallPermits {
            _of_server: acquire(of_server)?,
            _of_connection: of_connection,
            end_with_head,
        })
    }
}
