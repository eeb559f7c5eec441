//! Outages of something outside the process, so that each is logged once when it begins and once when it ends.
//!
//! Invariants: [`Outage::failed`] returns true once for each cause of an outage, [`Outage::succeeded`] returns the end of an outage
//! once. Neighbours: `infobip::client` and `amqp` log by it, each with its own texts.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Whether something is out of service, and since when.
#[derive(Debug, Default)]
pub struct Outage {
    /// Read without the lock, because almost all operations succeed while there is no outage.
    is_ongoing: AtomicBool,
    ongoing: Mutex<Option<Ongoing>>,
}

#[derive(Debug)]
struct Ongoing {
    /// The causes so far, the latest one last. Bounded, because causes are constants.
    causes: Vec<&'static str>,
    began: Instant,
    last_failure: Instant,
    failures: u64,
    /// A success ends the outage only this long after the last failure.
    quiet: Duration,
}

/// An outage that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The latest one.
    pub cause: &'static str,
    pub after: Duration,
    /// Failed operations.
    pub failures: u64,
}

impl Ended {
    /// The duration in seconds, with tenths, as log lines show it.
    #[must_use]
    pub fn after_s(&self) -> f64 {
        (self.after.as_secs_f64() * 10.0).round() / 10.0
    }
}

impl Outage {
    /// Counts a failure. True if the caller must log it: it begins an outage, or its cause is new. `quiet` keeps sporadic
    /// failures one outage: a success ends the outage only if the operation began at least that long after the last failure.
    pub fn failed(&self, cause: &'static str, quiet: Duration) -> bool {
        let now = Instant::now();
        let mut ongoing = self.ongoing.lock();
        let state = ongoing.get_or_insert(Ongoing {
            causes: Vec::new(),
            began: now,
            last_failure: now,
            failures: 0,
            quiet,
        });
        state.last_failure = now;
        state.failures += 1;
        state.quiet = quiet;
        self.is_ongoing.store(true, Ordering::Relaxed);
        let known = state.causes.iter().position(|known| *known == cause);
        if let Some(known) = known {
            state.causes.remove(known);
        }
        state.causes.push(cause);
        known.is_none()
    }

    /// Notes that an operation that began at `began` succeeded. If that ends an outage, returns it for the caller to log.
    pub fn succeeded(&self, began: Instant) -> Option<Ended> {
        if !self.is_ongoing.load(Ordering::Relaxed) {
            return None;
        }
        let mut ongoing = self.ongoing.lock();
        // What began before the last failure does not show that the outage is over.
        let state = ongoing.take_if(|state| began >= state.last_failure + state.quiet)?;
        self.is_ongoing.store(false, Ordering::Relaxed);
        Some(Ended {
            cause: state.causes.last().copied().unwrap_or_default(),
            after: state.began.elapsed(),
            failures: state.failures,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outage_begins_and_ends_once() {
        let outage = Outage::default();
        let before = Instant::now();
        assert_eq!(outage.succeeded(before), None);
        assert!(outage.failed("refused", Duration::ZERO));
        assert!(!outage.failed("refused", Duration::ZERO));
        assert!(outage.failed("unknown host", Duration::ZERO), "a new cause");
        assert_eq!(outage.succeeded(before), None, "it began before");
        let ended = outage.succeeded(Instant::now()).unwrap();
        assert_eq!((ended.cause, ended.failures), ("unknown host", 3));
        assert_eq!(outage.succeeded(Instant::now()), None);
        assert!(outage.failed("refused", Duration::ZERO));
    }

    #[test]
    fn alternating_causes_of_an_outage_are_new_once() {
        let outage = Outage::default();
        let failed = |cause| outage.failed(cause, Duration::ZERO);
        assert_eq!(["a", "b", "a", "b"].map(failed), [true, true, false, false]);
        let ended = outage.succeeded(Instant::now()).unwrap();
        assert_eq!((ended.cause, ended.failures), ("b", 4));
        assert!(outage.failed("a", Duration::ZERO), "another outage");
    }

    #[test]
    fn sporadic_failures_are_one_outage() {
        let outage = Outage::default();
        let quiet = Duration::from_secs(60);
        assert!(outage.failed("HTTP 503", quiet));
        assert_eq!(outage.succeeded(Instant::now()), None);
        assert!(!outage.failed("HTTP 503", quiet));
        let later = Instant::now() + quiet;
        assert_eq!(outage.succeeded(later).unwrap().failures, 2);
    }
}
