//! Named points at which a test kills the process, between two steps that must not depend on each other's memory; and panics of named
//! tasks.
//!
//! Without the Cargo feature `kill-points`, which is off by default and which no image has, nothing here does anything. With it,
//! the process aborts at the point that the variable `SMSBRIDGE_KILL_AT` names as `name` or `name:count`: when the point is
//! reached for the `count`th time. The task that `SMSBRIDGE_PANIC_IN` names panics as soon as it runs.
//! Neighbours: `send`, `commands`, `intake` and `pull` mark the points, `task_watch` names the tasks; `tests/it/crash.rs` and `tests/it/panics.rs` use
//! them.

/// A point between two durable steps of a command, a push or a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillPoint {
    /// The REST request has ended, and its results are not in the event log.
    RequestEnded,
    /// The results are in the event log, and the command is not acknowledged.
    ResultsStored,
    /// A copy of the command is confirmed, in a retry queue or as a dead letter, and the command is not acknowledged.
    CopyConfirmed,
    /// The copy of a dead letter is confirmed, and the letter is not acknowledged.
    ReplayConfirmed,
    /// The response of a pull is in the raw store, and none of its events is in the event log.
    RawStored,
    /// The events of a push or a pull are in the event log, and it is not answered; or those of a quarantined body, and it is still there.
    EventsStored,
    /// The unreadable rows of a replayed body are in the queue of the quarantine, and it is still there.
    PartsStored,
}

impl KillPoint {
    /// The name in `SMSBRIDGE_KILL_AT`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestEnded => "request-ended",
            Self::ResultsStored => "results-stored",
            Self::CopyConfirmed => "copy-confirmed",
            Self::ReplayConfirmed => "replay-confirmed",
            Self::RawStored => "raw-stored",
            Self::EventsStored => "events-stored",
            Self::PartsStored => "parts-stored",
        }
    }
}

/// Does nothing: the feature `kill-points` is off.
#[cfg(not(feature = "kill-points"))]
#[inline]
pub fn reached(_point: KillPoint) {}

/// Aborts the process if `SMSBRIDGE_KILL_AT` names this point and its count is reached.
#[cfg(feature = "kill-points")]
pub fn reached(point: KillPoint) {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };

    static CHOSEN: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let chosen = std::env::var("SMSBRIDGE_KILL_AT").ok()?;
        let (name, count) = chosen.split_once(':').unwrap_or((&chosen, "1"));
        let count = count.parse().unwrap_or(1);
        Some((name.to_owned(), AtomicU64::new(count)))
    });
    if let Some((name, left)) = chosen
        && name == point.name()
        && left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}

/// The same task: the feature `kill-points` is off.
#[cfg(not(feature = "kill-points"))]
pub fn may_panic<F: Future>(_task: &'static str, work: F) -> F {
    work
}

/// The same task, unless `SMSBRIDGE_PANIC_IN` names it.
#[cfg(feature = "kill-points")]
pub async fn may_panic<F: Future>(task: &'static str, work: F) -> F::Output {
    panic_if_named(task);
    work.await
}

/// Does nothing: the feature `kill-points` is off.
#[cfg(not(feature = "kill-points"))]
#[inline]
pub fn panic_if_named(_task: &'static str) {}

/// Panics if `SMSBRIDGE_PANIC_IN` names this task.
#[cfg(feature = "kill-points")]
#[expect(clippy::panic, reason = "it is what a test asks for")]
pub fn panic_if_named(task: &'static str) {
    if std::env::var("SMSBRIDGE_PANIC_IN").is_ok_and(|named| named == task) {
        panic!("a test asked for it");
    }
}
