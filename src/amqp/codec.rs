//! Bodies and properties of messages: encodes events, and names what commands and events have in common.
//!
//! A body is a message of the contract, as proto JSON or binary protobuf. An event also carries the attributes of CloudEvents
//! as headers (binary mode), beside the properties of AMQP itself, and the trace of the command that caused it.
//! Neighbour: `event_body` encodes events.

use lapin::{BasicProperties, types::ShortString};

use super::{
    Message,
    event_body::{EventBody, SOURCE, SPEC_VERSION},
    headers::{self, broker, cloud_events},
};
use crate::{
    message::{time, traceparent::TRACEPARENT},
    proto::v1,
};

/// The property `type` that RabbitMQ sets where the body of an AMQP 1.0 message is a value or a sequence.
pub const AMQP_1_0: &str = "amqp-1.0";
/// The routing key of commands that are sent with normal priority.
pub const SEND: &str = "sms.send";
/// The routing key of commands that are sent before normal ones.
pub const SEND_URGENT: &str = "sms.send.urgent";
/// The routing key of commands that look numbers up.
pub const LOOKUP: &str = "number.lookup";
/// The content type of proto JSON.
pub const JSON: &str = "application/json";
/// The content type of binary protobuf.
pub const PROTOBUF: &str = "application/protobuf";
/// The delivery mode of messages that survive a restart of the broker.
const PERSISTENT: u8 = 2;

/// The properties that every message of the bridge has: persistent, with a content type.
#[must_use]
pub fn properties(content_type: &str) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type(lossy_short(content_type))
}

/// Makes the message for an event, with the given route.
#[must_use]
pub fn event_message(
    event: &v1::Event,
    body: EventBody,
    exchange: String,
    routing_key: String,
) -> Message {
    let at = event.time.as_ref().and_then(time::from_proto);
    let time = at.map_or_else(String::new, |at| at.to_string());
    let trace = (!event.traceparent.is_empty()).then_some((TRACEPARENT, &*event.traceparent));
    let attributes = [
        (cloud_events::ID, event.id.as_str()),
        (cloud_events::SOURCE, SOURCE),
        (cloud_events::TYPE, &event.r#type),
        (cloud_events::SPEC_VERSION, SPEC_VERSION),
        (cloud_events::TIME, &time),
        (broker::STREAM_FILTER_VALUE, &event.application),
    ];
    let headers = headers::text_table(attributes.into_iter().chain(trace));
    let mut properties = properties(body.content_type)
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
        body: body.bytes,
    }
}

/// The routing key of an event on the events exchange: `{type}.{application}`.
#[must_use]
pub fn event_routing_key(event: &v1::Event) -> String {
    format!("{}.{}", event.r#type, event.application)
}

/// A string of at most 255 bytes, as AMQP properties need it; a longer one is truncated.
#[must_use]
pub fn lossy_short(text: &str) -> ShortString {
    let mut end = text.len().min(255);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    ShortString::from(&text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{amqp::headers::text_header, config::EventEncoding};

    #[test]
    fn event_messages_have_the_documented_properties() {
        let event = v1::Event {
            id: "e1".into(),
            r#type: "send.accepted".into(),
            application: "billing".into(),
            request_id: "r1".into(),
            time: Some(crate::proto::Timestamp {
                seconds: 1_423_731_103,
                nanos: 123_000_000,
            }),
            ..Default::default()
        };
        let message = event_message(
            &event,
            EventBody::encode(&event, EventEncoding::Json).unwrap(),
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
            text_header(properties.headers().as_ref(), cloud_events::TIME).as_deref(),
            Some("2015-02-12T08:51:43.123Z")
        );
        let read: v1::Event = serde_json::from_slice(&message.body).unwrap();
        assert_eq!(read, event);
    }

    #[test]
    fn long_properties_are_truncated_between_characters() {
        assert_eq!(lossy_short(&"ä".repeat(200)).as_str(), "ä".repeat(127));
    }
}
