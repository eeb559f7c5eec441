//! What a dead letter says: its id, and the fields of the contract, from its headers and properties.
//!
//! Invariant: an id names one letter as long as it is in the queue: the header that the bridge gives each letter, and for those of an
//! earlier version, or of another publisher, a digest of all that does not change while it is there.
//! Neighbours: `custody` writes the headers, `select` and `replay` read the result.

use jiff::Timestamp;
use lapin::message::Delivery;
use sha2::{Digest as _, Sha256};

use crate::{
    amqp::headers::{
        APPLICATION, ATTEMPT, CAUSE, DETAIL, DIED_AT, FIRST_SEEN, IN_DOUBT, LETTER_ID, REASON,
        REFUSALS, REPLAYED, ROUTING_KEY, number_header, property, text_header,
    },
    commands::command::decoded,
    message::{cause::Cause, id::derive_message_id, reason::Reason, time},
    proto::v1::{self, DeadLetterCause},
};

/// The longest id that is taken from a header: another publisher may have written it.
const MAX_ID_BYTES: usize = 64;

/// The letter without its body.
pub(super) fn letter(delivery: &Delivery) -> v1::DeadLetter {
    let properties = &delivery.properties;
    let headers = properties.headers().as_ref();
    let text = |name| text_header(headers, name).unwrap_or_default();
    let count = |name| {
        let number = number_header(headers, name).unwrap_or(0).max(0);
        i32::try_from(number).unwrap_or(i32::MAX)
    };
    let time = |name| {
        let at = Timestamp::from_millisecond(number_header(headers, name)?).ok()?;
        Some(time::to_proto(at))
    };
    let reason = text(REASON);
    v1::DeadLetter {
        id: id(delivery),
        time: time(DIED_AT),
        detail: text(DETAIL),
        application: text(APPLICATION),
        routing_key: text(ROUTING_KEY),
        content_type: property(properties.content_type()).to_owned(),
        cause: cause(&text(CAUSE), &reason).into(),
        request_id: property(properties.message_id()).to_owned(),
        command_type: property(properties.kind()).to_owned(),
        body_bytes: i64::try_from(delivery.data.len()).unwrap_or(i64::MAX),
        first_seen: time(FIRST_SEEN),
        retries: count(ATTEMPT),
        refusals: count(REFUSALS),
        may_be_sent: may_be_sent(delivery, &reason),
        replayed_from: text(REPLAYED),
        reason,
        ..Default::default()
    }
}

/// The letter with its body and the ids in it.
pub(super) fn whole_letter(delivery: &Delivery) -> v1::DeadLetter {
    let mut letter = letter(delivery);
    letter.body = delivery.data.clone().into();
    let Some(request) = decoded(delivery) else {
        return letter;
    };
    if letter.request_id.is_empty() {
        letter.request_id = request.bulk.request_id;
    }
    let messages = request.bulk.messages.iter();
    let destinations: Vec<_> = messages.flat_map(|one| &one.destinations).collect();
    for (index, destination) in destinations.iter().enumerate() {
        let own = &destination.message_id;
        if !own.is_empty() {
            letter.message_ids.push(own.clone());
        } else if !letter.request_id.is_empty() {
            let derived = derive_message_id(&letter.request_id, index, destinations.len());
            letter.message_ids.push(derived);
        }
    }
    letter
}

fn cause(header: &str, reason: &str) -> DeadLetterCause {
    match Cause::parse(header).or_else(|| Cause::of_text(reason)) {
        Some(Cause::Caller) => DeadLetterCause::Caller,
        Some(Cause::GivenUp) => DeadLetterCause::GivenUp,
        None => DeadLetterCause::Unspecified,
    }
}

/// Whether an SMS of it may have been sent. What the broker returned may have been delivered before, which it does not tell.
fn may_be_sent(delivery: &Delivery, reason: &str) -> bool {
    let headers = delivery.properties.headers().as_ref();
    let is_in_doubt = headers.is_some_and(|headers| headers.contains_key(IN_DOUBT));
    let returned = [Reason::DeliveryLimit, Reason::Returned];
    is_in_doubt || returned.iter().any(|one| one.as_str() == reason)
}

pub(super) fn id(delivery: &Delivery) -> String {
    let properties = &delivery.properties;
    let headers = properties.headers().as_ref();
    let given = text_header(headers, LETTER_ID).filter(|id| {
        let is_id_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(is_id_byte)
    });
    if let Some(given) = given {
        return given;
    }
    let mut digest = Sha256::new();
    let timestamp = properties.timestamp().map(|at| at.to_string());
    let died_at = number_header(headers, DIED_AT).map(|at| at.to_string());
    let said = [REASON, APPLICATION, ROUTING_KEY].map(|name| text_header(headers, name));
    let told = [
        property(properties.message_id()),
        property(properties.correlation_id()),
        property(properties.reply_to()),
        property(properties.app_id()),
        property(properties.kind()),
        timestamp.as_deref().unwrap_or_default(),
        died_at.as_deref().unwrap_or_default(),
    ];
    let said = said.iter().map(|text| text.as_deref().unwrap_or_default());
    for text in told.into_iter().chain(said) {
        digest.update(text.len().to_be_bytes());
        digest.update(text);
    }
    digest.update(&delivery.data);
    hex::encode(&digest.finalize()[..16])
}
