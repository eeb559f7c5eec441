//! Bodies and properties: how events leave, and the names that commands come with.
//!
//! Bodies are the messages of the contract, as proto JSON or binary. Event properties are those of CloudEvents' binary mode
//! for AMQP beside the protocol's own.

use bytes::Bytes;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, LongString, ShortString},
};

use super::Message;
use crate::{message::time, proto::v1};

/// The routing key of commands for the normal lane.
pub const SEND: &str = "sms.send";
/// The routing key of commands for the urgent lane.
pub const SEND_URGENT: &str = "sms.send.urgent";
/// Proto JSON.
pub const JSON: &str = "application/json";
/// Binary protobuf.
pub const PROTOBUF: &str = "application/protobuf";
/// The delivery mode of messages that survive a restart of the broker.
const PERSISTENT: u8 = 2;

/// Properties that a message of the bridge always has.
#[must_use]
pub fn properties(content_type: &str) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type(lossy_short(content_type))
}

/// The body of an event, as proto JSON.
///
/// # Errors
/// Where it can't be written: a bug.
pub fn event_body(event: &v1::Event) -> Result<Bytes, serde_json::Error> {
    serde_json::to_vec(event).map(Bytes::from)
}

/// An event as a message: to the exchange `{type}.{application}`, or to any queue by the default exchange.
#[must_use]
pub fn event_message(
    event: &v1::Event,
    body: Bytes,
    exchange: String,
    routing_key: String,
) -> Message {
    let at = event.time.as_ref().and_then(time::from_proto);
    let mut headers = FieldTable::default();
    for (name, value) in [
        ("cloudEvents_id", event.id.as_str()),
        ("cloudEvents_source", "/smsbridge"),
        ("cloudEvents_type", event.r#type.as_str()),
        ("cloudEvents_specversion", "1.0"),
        (
            "cloudEvents_time",
            &at.map(|at| at.to_string()).unwrap_or_default(),
        ),
    ] {
        headers.insert(name.into(), AMQPValue::LongString(LongString::from(value)));
    }
    let mut properties = properties(JSON)
        .with_message_id(lossy_short(&event.id))
        .with_type(lossy_short(&event.r#type))
        .with_app_id(lossy_short(&event.application))
        .with_headers(headers);
    if let Some(seconds) = at.and_then(|at| u64::try_from(at.as_second()).ok()) {
        properties = properties.with_timestamp(seconds);
    }
    if !event.request_id.is_empty() {
        properties = properties.with_correlation_id(lossy_short(&event.request_id));
    }
    Message {
        exchange,
        routing_key,
        properties,
        body,
    }
}

/// The routing key of an event.
#[must_use]
pub fn event_routing_key(event: &v1::Event) -> String {
    format!("{}.{}", event.r#type, event.application)
}

/// A property of at most 255 octets: what is longer is cut.
#[must_use]
pub fn lossy_short(text: &str) -> ShortString {
    let mut end = text.len().min(255);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    ShortString::from(&text[..end])
}

/// A header's text.
#[must_use]
pub fn text_header(headers: Option<&FieldTable>, name: &str) -> Option<String> {
    match headers?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        _ => None,
    }
}

/// A header's number, whatever integer the publisher wrote it as.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_properties_of_the_contract() {
        let event = v1::Event {
            id: "e1".into(),
            r#type: "send.accepted".into(),
            application: "billing".into(),
            request_id: "r1".into(),
            time: Some(pbjson_types::Timestamp {
                seconds: 1_423_731_103,
                nanos: 123_000_000,
            }),
            ..Default::default()
        };
        let message = event_message(
            &event,
            event_body(&event).unwrap(),
            "x.events".into(),
            event_routing_key(&event),
        );
        assert_eq!(message.routing_key, "send.accepted.billing");
        let properties = message.properties;
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "e1");
        assert_eq!(properties.correlation_id().as_ref().unwrap().as_str(), "r1");
        assert_eq!(
            properties.kind().as_ref().unwrap().as_str(),
            "send.accepted"
        );
        assert_eq!(properties.app_id().as_ref().unwrap().as_str(), "billing");
        assert_eq!(properties.timestamp(), &Some(1_423_731_103));
        assert_eq!(properties.delivery_mode(), &Some(2));
        assert_eq!(
            text_header(properties.headers().as_ref(), "cloudEvents_time").as_deref(),
            Some("2015-02-12T08:51:43.123Z")
        );
        let read: v1::Event = serde_json::from_slice(&message.body).unwrap();
        assert_eq!(read, event);
    }

    #[test]
    fn long_properties_are_cut_between_characters() {
        assert_eq!(lossy_short(&"ä".repeat(200)).as_str(), "ä".repeat(127));
    }
}
