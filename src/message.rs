//! The vocabulary of messages: ids, phone numbers and senders, status and error codes, reasons, violations, timestamps, traces.
//!
//! Invariant: pure functions and plain values, except `applications`, whose set follows the tokens file; depends only on the generated
//! contract (`proto`).

pub mod address;
pub mod applications;
pub mod cause;
pub mod codes;
pub mod event_type;
pub mod id;
pub mod reason;
pub mod time;
pub mod traceparent;
pub mod violations;

/// Longest `notifyUrl` that the API takes (docs/INFOBIP_API.md#limits).
pub const MAX_NOTIFY_URL_CHARACTERS: usize = 2_048;
