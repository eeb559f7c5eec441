//! Operations: logs, metrics, probes, and signals that end the process.
//!
//! Invariants: no log line and no label contains a phone number, a text or a credential; the admin endpoint depends on no other
//! module. Neighbours: every module counts and logs here; `app` wires it.

pub mod admin;
pub mod http_server;
pub mod kill_point;
pub mod listen;
pub mod metrics;
pub mod open_files;
pub mod outage;
pub mod readiness;
pub mod reload;
pub mod signals;
pub mod task_watch;
pub mod telemetry;
pub mod terminal;

/// Whole milliseconds, for a field of a log line.
#[must_use]
pub fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
