//! The names of message headers and of arguments, and the conversions of their values.
//!
//! Invariant: publishers and consumers depend on these names, so they never change (`docs/ERRORS.md`, `docs/EVENTS.md`).
//! Neighbours: `codec` writes events, `topology` declares arguments, `commands` republishes commands, `events` quarantines
//! bodies, `frame` and `primitives::bounded_text` bound sizes.

use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use crate::primitives::bounded_text::{MAX_TEXT_BYTES, cut};

/// On republished commands: how many times the command was published to a retry queue.
pub const ATTEMPT: &str = "smsbridge-attempt";
/// On republished commands: how many requests of its own the API refused while it took other messages. Set to 0 by a refusal together
/// with other commands: then it is sent alone.
pub const REFUSALS: &str = "smsbridge-refusals";
/// On republished commands: how many times their handler panicked.
pub const PANICS: &str = "smsbridge-panics";
/// On republished commands: the time of the first delivery, in milliseconds since 1970.
pub const FIRST_SEEN: &str = "smsbridge-first-seen";
/// On republished commands and dead letters: the time at which the command expires, in milliseconds since 1970.
pub const EXPIRES_AT: &str = "smsbridge-expires-at";
/// On republished commands: set if an SMS may have been sent already.
pub const IN_DOUBT: &str = "smsbridge-in-doubt";
/// On republished commands: set because the same command may be in a queue a second time, if the acknowledgement of its earlier
/// delivery failed.
pub const MAY_HAVE_TWIN: &str = "smsbridge-may-have-twin";
/// On republished commands and dead letters: the routing key with which the client published the command.
pub const ROUTING_KEY: &str = "smsbridge-routing-key";
/// On republished commands of the queue `returned`: why the broker returned the command.
pub const RETURNED: &str = "smsbridge-returned";
/// On republished commands: the `user_id` of the publisher. The broker lets the bridge publish with its own `user_id` only.
pub const USER_ID: &str = "smsbridge-user-id";
/// On republished commands and dead letters: the number of the publisher's headers that were left out.
pub const DROPPED: &str = "smsbridge-headers-dropped";
/// On commands in a retry queue: the delay by which the retry exchange selects the queue.
pub const RETRY_DELAY: &str = "smsbridge-delay";
/// On dead letters: the stable reason.
pub const REASON: &str = "smsbridge-reason";
/// On dead letters: the application of the command. On quarantined bodies of look-ups: that which the URL names.
pub const APPLICATION: &str = "smsbridge-application";
/// On dead letters: the time of dead-lettering, in milliseconds since 1970.
pub const DIED_AT: &str = "smsbridge-died-at";
/// On dead letters and quarantined bodies: the mistake or error, for people.
pub const DETAIL: &str = "smsbridge-detail";
/// On dead letters: who has to act, `caller` or `given_up`.
pub const CAUSE: &str = "smsbridge-cause";
/// On dead letters: the id of the letter.
pub const LETTER_ID: &str = "smsbridge-letter-id";
/// On replayed commands: the id of the dead letter that they were.
pub const REPLAYED: &str = "smsbridge-replayed";
/// On quarantined bodies: the webhook endpoint that received the body. On pulled responses: whose rows they have.
pub const ENDPOINT: &str = "smsbridge-endpoint";
/// On pulled responses and quarantined bodies: how the bridge came to read them.
pub const SOURCE: &str = "smsbridge-source";
/// On quarantined bodies: `row`, if it is one row of a body.
pub const PART: &str = "smsbridge-part";
/// On quarantined bodies of look-ups: what identifies the request.
pub const REQUEST: &str = "smsbridge-request";

/// The attributes of CloudEvents, in the binary mode of its AMQP binding.
pub mod cloud_events {
    pub const ID: &str = "cloudEvents_id";
    pub const SOURCE: &str = "cloudEvents_source";
    pub const SPEC_VERSION: &str = "cloudEvents_specversion";
    pub const TIME: &str = "cloudEvents_time";
    pub const TYPE: &str = "cloudEvents_type";
}

/// Headers that the broker sets or interprets.
pub mod broker {
    /// The routing keys of copies of the message, which the broker delivers too.
    pub const CC: &str = "CC";
    /// As [`CC`], but the broker removes the header before delivery.
    pub const BCC: &str = "BCC";
    /// The dead-letterings of the message, the newest first: an array of tables with the keys of [`super::death`].
    pub const DEATH: &str = "x-death";
    pub const FIRST_DEATH_PREFIX: &str = "x-first-death-";
    pub const LAST_DEATH_PREFIX: &str = "x-last-death-";
    /// Quorum queues: the number of unsuccessful deliveries.
    pub const DELIVERY_COUNT: &str = "x-delivery-count";
    /// Quorum queues: the number of all earlier deliveries.
    pub const ACQUIRED_COUNT: &str = "x-acquired-count";
    /// On deliveries of a stream: the offset. As an argument of a consumer: the offset to start at.
    pub const STREAM_OFFSET: &str = "x-stream-offset";
    /// On messages of a stream: what consumers can filter by (RabbitMQ 3.13).
    pub const STREAM_FILTER_VALUE: &str = "x-stream-filter-value";
    /// As an argument of a consumer: the filter values it wants. Earlier versions ignore it.
    pub const STREAM_FILTER: &str = "x-stream-filter";
    /// As an argument of a consumer with a filter: whether it wants messages without a filter value too.
    pub const STREAM_MATCH_UNFILTERED: &str = "x-stream-match-unfiltered";
}

/// The keys of one dead-lettering in `x-death`.
pub mod death {
    /// The queue that the message was in.
    pub const QUEUE: &str = "queue";
    /// `expired`, `delivery_limit`, `rejected` or `maxlen`.
    pub const REASON: &str = "reason";
    /// The `expiration` that the broker removed.
    pub const ORIGINAL_EXPIRATION: &str = "original-expiration";
    /// When it was dead-lettered.
    pub const TIME: &str = "time";
    /// The routing keys of the message before it was dead-lettered.
    pub const ROUTING_KEYS: &str = "routing-keys";
}

/// The arguments of exchanges, queues and bindings.
pub mod arguments {
    pub const ALTERNATE_EXCHANGE: &str = "alternate-exchange";
    pub const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";
    pub const DEAD_LETTER_ROUTING_KEY: &str = "x-dead-letter-routing-key";
    pub const DEAD_LETTER_STRATEGY: &str = "x-dead-letter-strategy";
    pub const DELIVERY_LIMIT: &str = "x-delivery-limit";
    /// Of a binding to a headers exchange: whether `all` or `any` headers must match.
    pub const MATCH: &str = "x-match";
    pub const MAX_AGE: &str = "x-max-age";
    pub const MESSAGE_TTL: &str = "x-message-ttl";
    pub const OVERFLOW: &str = "x-overflow";
    pub const QUEUE_TYPE: &str = "x-queue-type";
    pub const STREAM_SEGMENT_BYTES: &str = "x-stream-max-segment-size-bytes";
}

/// A string as the value of a header or of an argument.
#[must_use]
pub fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

/// A string as the value of a header, cut to [`MAX_TEXT_BYTES`].
#[must_use]
pub fn bounded_text(value: &str) -> AMQPValue {
    text(&cut(value, MAX_TEXT_BYTES))
}

/// An integer as the value of a header or of an argument.
#[must_use]
pub fn number(value: i64) -> AMQPValue {
    AMQPValue::LongLongInt(value)
}

/// A table of string headers, each cut to what a header may have.
#[must_use]
pub fn text_table<'a>(headers: impl IntoIterator<Item = (&'static str, &'a str)>) -> FieldTable {
    table(
        headers
            .into_iter()
            .map(|(name, value)| (name, bounded_text(value))),
    )
}

/// Builds an AMQP field table, for the headers of a message or the arguments of a declaration.
#[must_use]
pub fn table(entries: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}

/// The string that a value holds.
#[must_use]
pub fn text_value(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        _ => None,
    }
}

/// The value of a header that holds a string.
#[must_use]
pub fn text_header(headers: Option<&FieldTable>, name: &str) -> Option<String> {
    text_value(headers?.inner().get(name)?)
}

/// The value of a header that holds an integer of any size.
#[must_use]
pub fn number_header(headers: Option<&FieldTable>, name: &str) -> Option<i64> {
    match headers?.inner().get(name)? {
        AMQPValue::ShortShortInt(number) => Some((*number).into()),
        AMQPValue::ShortShortUInt(number) => Some((*number).into()),
        AMQPValue::ShortInt(number) => Some((*number).into()),
        AMQPValue::ShortUInt(number) => Some((*number).into()),
        AMQPValue::LongInt(number) => Some((*number).into()),
        AMQPValue::LongUInt(number) => Some((*number).into()),
        AMQPValue::LongLongInt(number) => Some(*number),
        AMQPValue::Timestamp(number) => i64::try_from(*number).ok(),
        _ => None,
    }
}

/// The value of a property of a message, empty if it has none.
#[must_use]
pub fn property(value: &Option<ShortString>) -> &str {
    value.as_ref().map_or("", ShortString::as_str)
}
