//! The copy of a dead letter that is published as a command again.
//!
//! Invariants: nothing that may have been sent is sent again without a look-up, unless the operator says so (P2, docs/RELIABILITY.md);
//! two copies of one letter have the same ids and the mark of a twin, so that the second one is found and not sent. A command without
//! ids gets a request id that derives from the letter. The copy keeps its deadline. A look-up has no such mark, which would report its
//! numbers as unknown: it is replayed only if the operator allows that they are paid twice.
//! Neighbours: `replay` publishes it, `republish` copies properties and headers, `envelope` reads them when the copy is delivered.

use bytes::Bytes;
use lapin::{message::Delivery, types::AMQPValue};

use crate::{
    amqp::{
        Message, Topology, codec,
        headers::{
            ATTEMPT, DIED_AT, FIRST_SEEN, IN_DOUBT, MAY_HAVE_TWIN, PANICS, REFUSALS, REPLAYED,
            RETURNED, ROUTING_KEY, bounded_text, number, number_header, property,
        },
    },
    commands::{command::decoded, message_ids, republish},
    proto::v1,
};

/// What the copy starts anew.
const LEFT_OUT: [&str; 5] = [ATTEMPT, PANICS, REFUSALS, RETURNED, ROUTING_KEY];

/// AMQP's limit of a routing key.
const MAX_SHORT_BYTES: usize = 255;

const NOT_OURS: &str = "no bridge published it here (it has no header smsbridge-routing-key): publish it yourself, or discard it";
const NO_ID: &str = "it may have been sent, and has neither a request id nor message ids to look it up by: read the events of its numbers, \
                     then discard it, or replay it with allow_repeat, which may send it a second time";

const LONG_KEY: &str = "its routing key is longer than 255 bytes, so no publisher can use it: publish it yourself, or discard it";
const LOOKS_UP: &str = "each look-up of a number costs, and nothing tells whether one was asked: discard it, or replay it with allow_repeat, \
                        which may ask its numbers a second time";

/// The copy; an error, in words for the operator, if the letter must stay.
pub(super) fn copy(
    delivery: &Delivery,
    letter: &v1::DeadLetter,
    topology: &Topology,
    bridge_user: &str,
    allow_repeat: bool,
) -> Result<Message, &'static str> {
    if letter.routing_key.is_empty() {
        return Err(NOT_OURS);
    }
    if letter.routing_key.len() > MAX_SHORT_BYTES {
        return Err(LONG_KEY);
    }
    let looks_up = letter.routing_key == codec::LOOKUP;
    if looks_up && !allow_repeat {
        return Err(LOOKS_UP);
    }
    let has_ids = has_ids(delivery);
    if letter.may_be_sent && !has_ids && !allow_repeat {
        return Err(NO_ID);
    }
    let mut copied = republish::headers(delivery);
    let mut properties = republish::properties(delivery, bridge_user, &mut copied);
    let mut headers = copied.inner().clone();
    for name in LEFT_OUT.iter().chain(&republish::OF_DEAD_LETTERS) {
        headers.remove(*name);
    }
    let died_at = number_header(delivery.properties.headers().as_ref(), DIED_AT);
    if let Some(at) = died_at {
        // The limits of time count from then, not from the replay.
        headers.entry(FIRST_SEEN.into()).or_insert(number(at));
    }
    headers.insert(REPLAYED.into(), bounded_text(&letter.id));
    if looks_up {
        headers.remove(MAY_HAVE_TWIN);
    } else {
        headers.insert(MAY_HAVE_TWIN.into(), AMQPValue::Boolean(true));
    }
    if letter.may_be_sent && has_ids && !looks_up {
        headers.insert(IN_DOUBT.into(), AMQPValue::Boolean(true));
    } else {
        headers.remove(IN_DOUBT);
    }
    if !has_ids && !looks_up {
        let request_id = format!("dead-{}", letter.id);
        properties = properties.with_message_id(codec::lossy_short(&request_id));
    }
    Ok(Message {
        exchange: topology.commands(),
        routing_key: letter.routing_key.clone(),
        properties: properties.with_headers(headers.into()),
        body: Bytes::copy_from_slice(&delivery.data),
    })
}

/// Whether what it sends can be looked up: by a request id, or by a message id of each destination.
fn has_ids(delivery: &Delivery) -> bool {
    if !property(delivery.properties.message_id()).is_empty() {
        return true;
    }
    decoded(delivery).is_some_and(|request| {
        !request.bulk.request_id.is_empty()
            || !request.bulk.messages.is_empty() && message_ids::has_all(&request.bulk)
    })
}
