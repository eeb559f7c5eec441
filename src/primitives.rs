//! Small building blocks that know nothing of SMS: retries with backoff, a bounded map, ids in log lines.
//!
//! Neighbours: every module may use these; they use no other module.

pub mod joined;
pub mod recent_map;
pub mod retry;
