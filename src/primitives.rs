//! Small building blocks that know nothing of SMS: retries with backoff, a bounded map, bounded and masked texts, ids in log lines.
//!
//! Neighbours: every module may use these; they use no other module.

pub mod bounded_text;
pub mod joined;
pub mod json_error;
pub mod masked_text;
pub mod recent_map;
pub mod retry;
