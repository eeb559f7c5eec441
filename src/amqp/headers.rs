//! The names of message headers and the conversions of their values.
//!
//! Invariant: publishers and consumers depend on these names, so they never change (`docs/ERRORS.md`, `docs/EVENTS.md`).
//! Neighbours: `codec` writes events, `topology` declares arguments, `events` quarantines bodies, `frame` bounds sizes.

use lapin::types::{AMQPValue, FieldTable, LongString};

use super::frame::bounded_text;

/// On quarantined bodies: the webhook endpoint that received the body.
pub const ENDPOINT: &str = "smsbridge-endpoint";
/// On quarantined bodies and dead letters: what is wrong, for people.
pub const DETAIL: &str = "smsbridge-detail";

/// The attributes of CloudEvents, in the binary mode of its AMQP binding.
pub mod cloud_events {
    pub const ID: &str = "cloudEvents_id";
    pub const SOURCE: &str = "cloudEvents_source";
    pub const SPEC_VERSION: &str = "cloudEvents_specversion";
    pub const TIME: &str = "cloudEvents_time";
    pub const TYPE: &str = "cloudEvents_type";
}

/// A string as the value of a header or of a queue argument.
#[must_use]
pub fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

/// A table of string headers, each cut to what a header may have.
#[must_use]
pub fn text_table<'a>(headers: impl IntoIterator<Item = (&'static str, &'a str)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert(name.into(), bounded_text(value));
    }
    table
}
