//! The limits of the Infobip API, each with its unit. Source: docs/INFOBIP_API.md#limits.
//!
//! Limits of ids and phone numbers are in `message::id` and `message::address`, and that of `notifyUrl` is in `message`, which
//! must not depend on this module.

use std::time::Duration;

use jiff::SignedDuration;

/// Maximum number of rows in one response of reports, logs and received messages: the largest `limit`.
pub const MAX_ROWS: u32 = 1_000;
/// Rows in a response if the request has no `limit`.
pub const DEFAULT_ROWS: u32 = 50;
/// Maximum length of the id filter of a log request: the ids joined by commas.
pub const MAX_ID_FILTER_CHARACTERS: usize = 2_048;
/// The API counts log requests per this window.
pub const LOG_QUOTA_WINDOW: Duration = Duration::from_secs(60);
/// Maximum number of phone numbers in one look-up request.
pub const MAX_LOOKUP_NUMBERS: usize = 1_000;

/// Maximum length of a text: the API takes at most 25 segments, and a segment has at most 160 characters in any alphabet.
pub const MAX_TEXT_CHARACTERS: usize = 4_000;
/// Maximum length of binary content: 25 segments of 140 bytes.
pub const MAX_BINARY_BYTES: usize = 3_500;
pub const MAX_CALLBACK_DATA_CHARACTERS: usize = 4_000;
/// Maximum validity period. The API shortens a longer one to this.
pub const MAX_VALIDITY_MINUTES: u64 = 2_880;
/// Latest `sendAt`, counted from now: 180 days.
pub const MAX_SCHEDULE_AHEAD: SignedDuration = SignedDuration::from_hours(180 * 24);
