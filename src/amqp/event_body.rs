//! The three encodings of an event on the broker: proto JSON, binary protobuf, structured CloudEvents.
//!
//! Invariant: an event is read whatever the configured encoding is, because the stream has older ones too: its content type tells.
//! Neighbours: `codec` makes the message, `events::broker` reads the stream.

use bytes::Bytes;
use lapin::message::Delivery;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::{codec, headers::property};
use crate::{config::EventEncoding, message::time, primitives::json_error, proto::v1};

/// The content type of structured CloudEvents in JSON.
pub const CLOUD_EVENTS: &str = "application/cloudevents+json";
/// The attribute `source` of every event.
pub const SOURCE: &str = "/smsbridge";
/// The version of CloudEvents.
pub const SPEC_VERSION: &str = "1.0";

impl EventEncoding {
    /// All, the default first.
    pub const ALL: [Self; 3] = [Self::Json, Self::Protobuf, Self::CloudEvents];

    /// The content type of events with this encoding.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => codec::JSON,
            Self::Protobuf => codec::PROTOBUF,
            Self::CloudEvents => CLOUD_EVENTS,
        }
    }

    /// The encoding of a message that has this content type. Messages of other programs are read as JSON.
    fn of(content_type: &str) -> Self {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let is = |encoding: &&Self| essence.eq_ignore_ascii_case(encoding.content_type());
        Self::ALL.iter().find(is).copied().unwrap_or(Self::Json)
    }
}

/// An event as it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventBody {
    pub content_type: &'static str,
    pub bytes: Bytes,
}

impl EventBody {
    /// # Errors
    /// Only a defect of the encoder makes this fail.
    pub fn encode(event: &v1::Event, encoding: EventEncoding) -> Result<Self, serde_json::Error> {
        let bytes = match encoding {
            EventEncoding::Json => serde_json::to_vec(event)?,
            EventEncoding::Protobuf => event.encode_to_vec(),
            EventEncoding::CloudEvents => serde_json::to_vec(&CloudEvent::of(event))?,
        };
        Ok(Self {
            content_type: encoding.content_type(),
            bytes: bytes.into(),
        })
    }
}

/// Why a message is not an event.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableEvent {
    /// Without serde's own words, which may quote the message.
    #[error("{}", json_error::describe(.0))]
    Json(#[from] serde_json::Error),
    /// It names fields, and no values.
    #[error(transparent)]
    Protobuf(#[from] prost::DecodeError),
}

/// Reads the event of a message in any of the encodings.
///
/// # Errors
/// [`UnreadableEvent`] if the message is not an event.
pub fn read_event(message: &Delivery) -> Result<v1::Event, UnreadableEvent> {
    decode(property(message.properties.content_type()), &message.data)
}

fn decode(content_type: &str, body: &[u8]) -> Result<v1::Event, UnreadableEvent> {
    Ok(match EventEncoding::of(content_type) {
        EventEncoding::Json => serde_json::from_slice(body)?,
        EventEncoding::Protobuf => v1::Event::decode(body)?,
        EventEncoding::CloudEvents => serde_json::from_slice::<Data>(body)?.data,
    })
}

/// A CloudEvent in the JSON event format. The data is the whole event, so that it is the same in all encodings.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'static str,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    datacontenttype: &'static str,
    /// The extension `traceparent` of distributed tracing.
    #[serde(skip_serializing_if = "str::is_empty")]
    traceparent: &'a str,
    data: &'a v1::Event,
}

/// What is read of it.
#[derive(Deserialize)]
struct Data {
    data: v1::Event,
}

impl<'a> CloudEvent<'a> {
    fn of(event: &'a v1::Event) -> Self {
        let at = event.time.as_ref().and_then(time::from_proto);
        Self {
            specversion: SPEC_VERSION,
            id: &event.id,
            source: SOURCE,
            kind: &event.r#type,
            time: at.map(|at| at.to_string()),
            datacontenttype: codec::JSON,
            traceparent: &event.traceparent,
            data: event,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> v1::Event {
        v1::Event {
            id: "e1".into(),
            r#type: "send.accepted".into(),
            application: "billing".into(),
            time: Some(crate::proto::Timestamp {
                seconds: 1_423_731_103,
                nanos: 123_000_000,
            }),
            payload: Some(v1::event::Payload::Result(Box::new(v1::SendResult {
                to: "41793026727".into(),
                message_id: "m1".into(),
                ..Default::default()
            }))),
            ..Default::default()
        }
    }

    #[test]
    fn an_event_is_read_from_each_encoding_by_its_content_type() {
        for encoding in EventEncoding::ALL {
            let body = EventBody::encode(&event(), encoding).unwrap();
            for content_type in [
                body.content_type.to_owned(),
                format!("{}; charset=UTF-8", body.content_type.to_uppercase()),
            ] {
                let read = decode(&content_type, &body.bytes).unwrap();
                assert_eq!(read, event(), "{content_type}");
            }
        }
        let body = EventBody::encode(&event(), EventEncoding::Json).unwrap();
        assert_eq!(decode("", &body.bytes).unwrap(), event());
        let others: [&[u8]; 3] = [b"\x08", b"{}", b"null"];
        assert!(decode(codec::PROTOBUF, others[0]).is_err());
        assert!(decode(CLOUD_EVENTS, others[1]).is_err());
        assert!(decode(codec::JSON, others[2]).is_err());
    }

    #[test]
    fn an_error_does_not_quote_the_message() {
        let secret = "41793026727 has the code 4711";
        for (content_type, body) in [
            (codec::JSON, format!("\"{secret}\"")),
            (codec::JSON, format!("{{\"time\": \"{secret}\"}}")),
            (codec::JSON, format!("{{\"{secret}\": 1}}")),
            (CLOUD_EVENTS, format!("{{\"data\": \"{secret}\"}}")),
            (codec::PROTOBUF, secret.to_owned()),
        ] {
            let error = decode(content_type, body.as_bytes()).unwrap_err();
            let shown = error.to_string();
            assert!(!shown.contains("4711"), "{shown}");
            assert!(
                content_type == codec::PROTOBUF || shown.contains("line 1 column"),
                "{shown}"
            );
        }
    }

    #[test]
    fn a_structured_cloud_event_has_its_attributes_beside_the_data() {
        let event = v1::Event {
            traceparent: "00-1-2-01".into(),
            ..event()
        };
        let body = EventBody::encode(&event, EventEncoding::CloudEvents).unwrap();
        let mut read: serde_json::Value = serde_json::from_slice(&body.bytes).unwrap();
        let data = read.as_object_mut().unwrap().remove("data").unwrap();
        assert_eq!(data, serde_json::to_value(&event).unwrap());
        let attributes = serde_json::json!({
            "specversion": "1.0", "id": "e1", "source": "/smsbridge", "type": "send.accepted",
            "time": "2015-02-12T08:51:43.123Z", "datacontenttype": "application/json", "traceparent": "00-1-2-01",
        });
        assert_eq!(read, attributes);
    }
}
