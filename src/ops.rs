//! What operators see of a running process: logs, metrics, probes, and how it ends.
//!
//! Invariants: phone numbers, texts and credentials are in no log line and in no label; the admin endpoint answers whatever
//! the rest of the process is doing. Neighbours: every room counts and logs here; `app` wires it.

pub mod admin;
pub mod metrics;
pub mod open_files;
pub mod readiness;
pub mod reload;
pub mod shutdown;
pub mod telemetry;
