//! The headers of commands that the bridge publishes again: its own, and the publisher's as far as they fit into a frame.
//!
//! Neighbours: `custody` publishes copies and dead letters, `command` reads what they carry, `amqp::frame` knows sizes.

use lapin::{
    message::Delivery,
    types::{AMQPValue, FieldTable},
};

use crate::amqp::{
    frame::{MAX_FOREIGN_BYTES, MAX_TEXT_BYTES, encoded_bytes},
    topology::RETRY_DELAY_HEADER,
};

/// How often it was put into a retry queue.
pub(super) const ATTEMPT: &str = "smsbridge-attempt";
/// When the bridge first saw it, in milliseconds since 1970.
pub(super) const FIRST_SEEN: &str = "smsbridge-first-seen";
/// When it lapses, in milliseconds since 1970.
pub(super) const EXPIRES_AT: &str = "smsbridge-expires-at";
/// It may have been sent already.
pub(super) const IN_DOUBT: &str = "smsbridge-in-doubt";
/// The routing key that its publisher used.
pub(super) const ROUTING_KEY: &str = "smsbridge-routing-key";
/// The user who published it: the bridge may publish as itself only.
pub(super) const USER_ID: &str = "smsbridge-user-id";
/// How many headers of its publisher did not fit.
pub(super) const DROPPED: &str = "smsbridge-headers-dropped";
/// On dead letters: the stable reason.
pub(super) const REASON: &str = "smsbridge-reason";
/// On dead letters: what happened, for people.
pub(super) const DETAIL: &str = "smsbridge-detail";
/// On dead letters: whose it is.
pub(super) const APPLICATION: &str = "smsbridge-application";
/// On dead letters: when, in milliseconds since 1970.
pub(super) const DIED_AT: &str = "smsbridge-died-at";

/// What a copy must carry to be handled as the original.
const CARRIED: [&str; 7] = [
    ATTEMPT,
    FIRST_SEEN,
    EXPIRES_AT,
    IN_DOUBT,
    ROUTING_KEY,
    USER_ID,
    DROPPED,
];
/// What dead letters have besides.
const OF_DEAD_LETTERS: [&str; 4] = [REASON, DETAIL, APPLICATION, DIED_AT];
/// The longest header of the bridge's own, encoded: a text and its name. A longer one was forged.
const MAX_OWN_BYTES: usize = MAX_TEXT_BYTES + 128;

/// The headers of the publisher and of the bridge, without those of the broker and those that would route copies. Those of
/// the publisher that do not fit are left out, and counted.
pub(super) fn copied(delivery: &Delivery) -> FieldTable {
    let mut copied = FieldTable::default();
    let mut room = MAX_FOREIGN_BYTES;
    let mut dropped = 0;
    for (name, value) in delivery.properties.headers().iter().flatten() {
        if is_brokers(name.as_str()) {
            continue;
        }
        let size = encoded_bytes(name.as_str(), value);
        if CARRIED.contains(&name.as_str()) && size <= MAX_OWN_BYTES {
            copied.insert(name.clone(), value.clone());
        } else if size <= room {
            room -= size;
            copied.insert(name.clone(), value.clone());
        } else {
            dropped += 1;
        }
    }
    if dropped > 0 {
        copied.insert(DROPPED.into(), AMQPValue::LongLongInt(dropped));
    }
    copied
}

fn is_brokers(name: &str) -> bool {
    const STARTS: [&str; 5] = [
        "x-death",
        "x-first-death-",
        "x-last-death-",
        "x-delivery-count",
        "x-acquired-count",
    ];
    ["CC", "BCC", RETRY_DELAY_HEADER].contains(&name)
        || STARTS.iter().any(|start| name.starts_with(start))
}

/// The bridge's own headers alone.
pub(super) fn without_foreign(headers: &FieldTable) -> FieldTable {
    let mut own = FieldTable::default();
    let mut dropped = crate::amqp::codec::number_header(Some(headers), DROPPED).unwrap_or(0);
    for (name, value) in headers {
        let text = name.as_str();
        let is_own = CARRIED.contains(&text)
            || OF_DEAD_LETTERS.contains(&text)
            || text == RETRY_DELAY_HEADER;
        if is_own && encoded_bytes(text, value) <= MAX_OWN_BYTES {
            own.insert(name.clone(), value.clone());
        } else {
            dropped = dropped.saturating_add(1);
        }
    }
    own.insert(DROPPED.into(), AMQPValue::LongLongInt(dropped));
    own
}
