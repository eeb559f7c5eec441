//! The properties and headers of commands that the bridge republishes: copied from the original, as far as they fit into a
//! frame.
//!
//! Neighbours: `custody` publishes copies and dead letters, `envelope` reads the headers, `amqp::frame` knows sizes.

use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldTable},
};

use crate::{
    amqp::{
        codec,
        frame::{MAX_FOREIGN_BYTES, encoded_bytes},
        headers::{
            APPLICATION, ATTEMPT, CAUSE, DETAIL, DIED_AT, DROPPED, EXPIRES_AT, FIRST_SEEN,
            IN_DOUBT, LETTER_ID, MAY_HAVE_TWIN, PANICS, REASON, REFUSALS, REPLAYED, RETRY_DELAY,
            RETURNED, ROUTING_KEY, USER_ID, bounded_text, broker, number, number_header,
            text_value,
        },
    },
    message::traceparent::{TRACEPARENT, Traceparent},
    primitives::bounded_text::MAX_TEXT_BYTES,
};

/// The bridge's headers that every copy keeps, because the next delivery depends on them.
const KEPT: [&str; 12] = [
    ATTEMPT,
    PANICS,
    REFUSALS,
    FIRST_SEEN,
    EXPIRES_AT,
    IN_DOUBT,
    MAY_HAVE_TWIN,
    RETURNED,
    ROUTING_KEY,
    USER_ID,
    DROPPED,
    REPLAYED,
];
/// The bridge's headers that only dead letters have.
pub(super) const OF_DEAD_LETTERS: [&str; 6] =
    [REASON, CAUSE, DETAIL, APPLICATION, DIED_AT, LETTER_ID];
/// Maximum encoded size of one of the bridge's headers: a text and the name. A larger one was set by somebody else.
const MAX_OWN_BYTES: usize = MAX_TEXT_BYTES + 128;

/// The headers of a copy: those of the delivery, without those that the broker sets and those that would route the copy.
/// Publisher's headers that do not fit are left out and counted in [`DROPPED`].
pub(super) fn headers(delivery: &Delivery) -> FieldTable {
    let mut copied = FieldTable::default();
    let mut free_bytes = MAX_FOREIGN_BYTES;
    let mut dropped = 0;
    for (name, value) in delivery.properties.headers().iter().flatten() {
        if is_set_by_broker(name.as_str()) || routes(name.as_str()) {
            continue;
        }
        let size = encoded_bytes(name.as_str(), value);
        let is_kept = KEPT.contains(&name.as_str()) && size <= MAX_OWN_BYTES
            || is_trace(name.as_str(), value);
        if is_kept {
            copied.insert(name.clone(), value.clone());
        } else if size <= free_bytes {
            free_bytes -= size;
            copied.insert(name.clone(), value.clone());
        } else {
            dropped += 1;
        }
    }
    if dropped > 0 {
        copied.insert(DROPPED.into(), number(dropped));
    }
    copied
}

/// Whether it is the publisher's trace, which the events of the copy carry. It is kept however many other headers there are.
fn is_trace(name: &str, value: &AMQPValue) -> bool {
    let value = (name == TRACEPARENT).then(|| text_value(value));
    value
        .flatten()
        .is_some_and(|value| Traceparent::parse(&value).is_some())
}

fn is_set_by_broker(name: &str) -> bool {
    const PREFIXES: [&str; 5] = [
        broker::DEATH,
        broker::FIRST_DEATH_PREFIX,
        broker::LAST_DEATH_PREFIX,
        broker::DELIVERY_COUNT,
        broker::ACQUIRED_COUNT,
    ];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn routes(name: &str) -> bool {
    [broker::CC, broker::BCC, RETRY_DELAY].contains(&name)
}

/// The properties of a copy, without headers, `expiration` and `priority`: RabbitMQ 4 would deliver a copy before older ones, and a dead
/// letter too. The broker lets the bridge publish with its own `user_id` only:
/// that of the publisher moves to the header [`USER_ID`].
pub(super) fn properties(
    delivery: &Delivery,
    bridge_user: &str,
    headers: &mut FieldTable,
) -> BasicProperties {
    let original = &delivery.properties;
    let mut copied = codec::properties(
        original
            .content_type()
            .as_ref()
            .map_or(codec::JSON, |content_type| content_type.as_str()),
    );
    if let Some(user) = original.user_id() {
        if user.as_str() != bridge_user {
            headers.insert(USER_ID.into(), bounded_text(user.as_str()));
        }
        copied = copied.with_user_id(codec::lossy_short(bridge_user));
    }
    if let Some(value) = original.message_id() {
        copied = copied.with_message_id(value.clone());
    }
    if let Some(value) = original.correlation_id() {
        copied = copied.with_correlation_id(value.clone());
    }
    if let Some(value) = original.reply_to() {
        copied = copied.with_reply_to(value.clone());
    }
    if let Some(value) = original.app_id() {
        copied = copied.with_app_id(value.clone());
    }
    if let Some(value) = original.kind() {
        copied = copied.with_type(value.clone());
    }
    if let Some(value) = original.content_encoding() {
        copied = copied.with_content_encoding(value.clone());
    }
    if let Some(value) = original.timestamp() {
        copied = copied.with_timestamp(*value);
    }
    copied
}

/// Removes all headers but the bridge's and the trace, and counts the others in [`DROPPED`].
pub(super) fn drop_publisher_headers(properties: &mut BasicProperties) {
    let Some(headers) = properties.headers() else {
        return;
    };
    let mut own = FieldTable::default();
    let mut dropped = number_header(Some(headers), DROPPED).unwrap_or(0);
    for (name, value) in headers {
        if is_own(name.as_str(), value) {
            own.insert(name.clone(), value.clone());
        } else {
            dropped = dropped.saturating_add(1);
        }
    }
    own.insert(DROPPED.into(), number(dropped));
    *properties = std::mem::take(properties).with_headers(own);
}

fn is_own(name: &str, value: &AMQPValue) -> bool {
    let has_own_name =
        KEPT.contains(&name) || OF_DEAD_LETTERS.contains(&name) || name == RETRY_DELAY;
    has_own_name && encoded_bytes(name, value) <= MAX_OWN_BYTES || is_trace(name, value)
}
