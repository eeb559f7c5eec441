//! Whether the last write succeeded. Logs an outage of the log once when it begins and once when it ends.
//!
//! Neighbours: the writer reports each commit; a probe is written while writes fail, because nothing else may be.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::ops::outage::Outage;

pub(super) struct Health {
    path: PathBuf,
    is_ok: AtomicBool,
    outage: Outage,
    cause: Mutex<String>,
}

impl Health {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            is_ok: AtomicBool::new(true),
            outage: Outage::default(),
            cause: Mutex::default(),
        }
    }

    pub(super) fn is_ok(&self) -> bool {
        self.is_ok.load(Ordering::Relaxed)
    }

    /// Why the log cannot be written; `None` if it can.
    pub(super) fn outage(&self) -> Option<String> {
        (!self.is_ok()).then(|| format!("{}: {}", self.path.display(), self.cause.lock()))
    }

    pub(super) fn succeeded(&self, began: Instant) {
        self.is_ok.store(true, Ordering::Relaxed);
        if let Some(ended) = self.outage.succeeded(began) {
            tracing::info!(
                path = %self.path.display(),
                after_s = ended.after_s(),
                "the event log is written again"
            );
        }
    }

    pub(super) fn failed(&self, cause: &str) {
        cause.clone_into(&mut self.cause.lock());
        self.is_ok.store(false, Ordering::Relaxed);
        if self.outage.failed("write", Duration::ZERO) {
            tracing::error!(
                path = %self.path.display(),
                cause,
                "the event log cannot be written: calls and pushes are refused until it can"
            );
        }
    }
}
