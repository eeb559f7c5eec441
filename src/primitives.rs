//! Small building blocks that know nothing of SMS: retries with backoff and a bounded map.
//!
//! Neighbours: every module may use these; they use no other module.

pub mod recent_map;
pub mod retry;
