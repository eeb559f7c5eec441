//! The state of the broker as the bridge's sessions show it: logs each outage once when it begins and once when it ends.
//!
//! Invariant: an outage begins with the first session that is missing and ends when none is; it is logged again only if its cause
//! changes. Neighbours: the publisher and the consumers of commands report here; `/ready` shows the cause.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::AmqpError;
use crate::ops::outage::Outage;

/// A session that a running bridge keeps open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Publisher,
    Commands,
}

/// Cheap to clone; clones share the state.
#[derive(Debug, Clone, Default)]
pub struct BrokerStatus(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    outage: Outage,
    /// The sessions that are missing, and why.
    missing: Mutex<Vec<(Purpose, AmqpError)>>,
}

impl BrokerStatus {
    /// A session ended, or could not be opened.
    pub(crate) fn failed(&self, address: &str, purpose: Purpose, error: &AmqpError) {
        let mut missing = self.0.missing.lock();
        missing.retain(|(other, _)| *other != purpose);
        missing.push((purpose, error.clone()));
        if self.0.outage.failed(error.cause(), Duration::ZERO) {
            tracing::warn!(
                address,
                cause = %error,
                "the broker is unavailable: trying again until it is back"
            );
        }
    }

    /// A session is open.
    pub(crate) fn opened(&self, address: &str, purpose: Purpose) {
        let mut missing = self.0.missing.lock();
        missing.retain(|(other, _)| *other != purpose);
        if missing.is_empty()
            && let Some(ended) = self.0.outage.succeeded(Instant::now())
        {
            tracing::info!(
                address,
                after_s = ended.after_s(),
                "the broker is available again"
            );
        }
    }

    /// Why a session is missing. `None` if it is open or has not been opened yet.
    pub(crate) fn cause(&self, purpose: Purpose) -> Option<AmqpError> {
        let missing = self.0.missing.lock();
        let found = missing.iter().find(|(other, _)| *other == purpose);
        found.map(|(_, error)| error.clone())
    }
}
