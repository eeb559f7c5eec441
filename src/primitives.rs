//! Small building blocks that know nothing of SMS: retries with backoff, a bounded map, bounded texts.
//!
//! Neighbours: every module may use these; they use no other module.

pub mod bounded_text;
pub mod recent_map;
pub mod retry;
