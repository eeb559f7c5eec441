//! Serializes the request of a send: `/sms/1/text/advanced` and `/sms/1/binary/advanced` (docs/INFOBIP_API.md#sending).
//!
//! Invariants: the body borrows from the contract's messages, because this is the hottest path of the bridge; unset fields
//! are omitted, so that the API's defaults apply.
//! Neighbours: `send` puts batches together, the client sends them, [`message`] serializes a single message.

mod message;

use std::fmt;

use serde::{Serialize, Serializer};

use self::message::WireMessage;
use crate::{
    message::traceparent::Traceparent,
    proto::v1::{self, outbound_message::Content},
};

/// The endpoint of a batch: texts and binary messages cannot share a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BatchKind {
    /// `/sms/1/text/advanced`
    Text,
    /// `/sms/1/binary/advanced`
    Binary,
}

/// The messages of one request.
#[derive(Clone)]
pub struct OutboundBatch<'a> {
    /// All messages must have content of this kind; the API rejects one of the other kind.
    pub kind: BatchKind,
    /// API: `bulkId`, a wire id. `None`: the API creates one.
    pub bulk_id: Option<&'a str>,
    /// API: `tracking`, applies to all messages.
    pub tracking: Option<&'a v1::Tracking>,
    /// Sent as a header only with `infobip.send_traceparent`.
    pub traceparent: Option<Traceparent>,
    pub messages: Vec<OutboundRow<'a>>,
}

/// One message of a request. `destinations` replaces those of `message`: some may already be sent.
#[derive(Clone)]
pub struct OutboundRow<'a> {
    pub message: &'a v1::OutboundMessage,
    pub destinations: &'a [WireDestination<'a>],
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
pub struct WireDestination<'a> {
    /// Phone number, digits only.
    pub to: &'a str,
    /// API: `messageId`: `{application}.{message_id}`.
    #[serde(rename = "messageId")]
    pub wire_id: &'a str,
}

impl fmt::Debug for WireDestination<'_> {
    /// Omits the phone number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireDestination")
            .field("wire_id", &self.wire_id)
            .finish_non_exhaustive()
    }
}

/// Number of bytes of a message in a request, about. Only what is usually long is measured.
#[must_use]
pub fn estimated_bytes(message: &v1::OutboundMessage, destinations: usize) -> usize {
    let content = match &message.content {
        Some(Content::Text(text)) => text.len(),
        Some(Content::Binary(binary)) => binary.data.len() * 3,
        None => 0,
    };
    content + message.callback_data.len() + message.notify_url.len() + 192 + destinations * 96
}

impl OutboundBatch<'_> {
    #[must_use]
    pub fn destination_count(&self) -> usize {
        self.messages.iter().map(|row| row.destinations.len()).sum()
    }

    /// In the order of the body.
    pub(in crate::infobip) fn destinations(
        &self,
    ) -> impl Iterator<Item = &WireDestination<'_>> + Clone {
        self.messages.iter().flat_map(|row| row.destinations)
    }

    pub(in crate::infobip) fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let rows = self.messages.iter();
        let estimate: usize = rows
            .map(|row| estimated_bytes(row.message, row.destinations.len()))
            .sum();
        let mut body = Vec::with_capacity(128 + estimate);
        serde_json::to_writer(&mut body, &WireBatch::new(self))?;
        Ok(body)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireBatch<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bulk_id: Option<&'a str>,
    messages: Messages<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracking: Option<WireTracking<'a>>,
}

struct Messages<'a>(&'a [OutboundRow<'a>]);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireTracking<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    track: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    process_key: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    r#type: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    base_url: &'a str,
}

impl<'a> WireBatch<'a> {
    fn new(batch: &'a OutboundBatch<'a>) -> Self {
        Self {
            bulk_id: batch.bulk_id,
            messages: Messages(&batch.messages),
            tracking: batch.tracking.map(WireTracking::new),
        }
    }
}

impl<'a> WireTracking<'a> {
    fn new(tracking: &'a v1::Tracking) -> Self {
        let v1::Tracking {
            track,
            process_key,
            r#type,
            base_url,
        } = tracking;
        Self {
            track,
            process_key,
            r#type,
            base_url,
        }
    }
}

impl Serialize for Messages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(WireMessage::new))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::message::time;

    fn written(batch: &OutboundBatch<'_>) -> Value {
        serde_json::from_slice(&batch.to_json().unwrap()).unwrap()
    }

    fn destinations<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<WireDestination<'a>> {
        let pairs = pairs.iter();
        pairs
            .map(|(to, wire_id)| WireDestination { to, wire_id })
            .collect()
    }

    /// The manual's example of a fully featured message.
    #[test]
    fn a_batch_with_every_field_matches_the_manuals_example() {
        let first_to = destinations(&[
            ("41793026727", "default.MESSAGE-ID-123-xyz"),
            ("41793026731", "default.r~1"),
        ]);
        let first = v1::OutboundMessage {
            from: "InfoSMS".into(),
            content: Some(Content::Text("Artık \"Ulusal\" Dil".into())),
            language: Some(Box::new(v1::Language {
                language_code: "TR".into(),
                single_shift: true,
                locking_shift: false,
            })),
            intermediate_report: true,
            notify_url: "http://www.example.com/sms/advanced".into(),
            notify_content_type: "application/json".into(),
            callback_data: "DLR callback data".into(),
            validity_period: Some(pbjson_types::Duration {
                seconds: 720 * 60,
                nanos: 0,
            }),
            ..Default::default()
        };
        let second_to = destinations(&[("41793026785", "default.x")]);
        let second = v1::OutboundMessage {
            from: "41793026700".into(),
            content: Some(Content::Text("A long time ago".into())),
            send_at: Some(time::to_proto("2015-07-07T16:00:00Z".parse().unwrap())),
            flash: true,
            notify: Some(false),
            transliteration: "TURKISH".into(),
            campaign_id: "spring".into(),
            operator_client_id: "op".into(),
            delivery_time_window: Some(Box::new(v1::DeliveryTimeWindow {
                days: vec![1, 7, 99],
                from: Some(v1::TimeOfDay { hour: 6, minute: 0 }),
                to: Some(v1::TimeOfDay {
                    hour: 15,
                    minute: 30,
                }),
            })),
            regional: Some(Box::new(v1::Regional {
                india_dlt: Some(v1::IndiaDlt {
                    content_template_id: "t".into(),
                    principal_entity_id: "p".into(),
                }),
            })),
            ..Default::default()
        };
        let tracking = v1::Tracking {
            track: "SMS".into(),
            r#type: "MY_CAMPAIGN".into(),
            ..Default::default()
        };
        let batch = OutboundBatch {
            kind: BatchKind::Text,
            bulk_id: Some("BULK-ID-123-xyz"),
            tracking: Some(&tracking),
            traceparent: None,
            messages: vec![
                OutboundRow {
                    message: &first,
                    destinations: &first_to,
                },
                OutboundRow {
                    message: &second,
                    destinations: &second_to,
                },
            ],
        };
        assert_eq!(batch.destination_count(), 3);
        assert_eq!(
            written(&batch),
            json!({
                "bulkId": "BULK-ID-123-xyz",
                "messages": [
                    {
                        "from": "InfoSMS",
                        "destinations": [
                            {"to": "41793026727", "messageId": "default.MESSAGE-ID-123-xyz"},
                            {"to": "41793026731", "messageId": "default.r~1"},
                        ],
                        "text": "Artık \"Ulusal\" Dil",
                        "language": {"languageCode": "TR", "singleShift": true, "lockingShift": false},
                        "intermediateReport": true,
                        "notifyUrl": "http://www.example.com/sms/advanced",
                        "notifyContentType": "application/json",
                        "callbackData": "DLR callback data",
                        "validityPeriod": 720,
                    },
                    {
                        "from": "41793026700",
                        "destinations": [{"to": "41793026785", "messageId": "default.x"}],
                        "text": "A long time ago",
                        "flash": true,
                        "transliteration": "TURKISH",
                        "notify": false,
                        "sendAt": "2015-07-07T16:00:00.000+00:00",
                        "deliveryTimeWindow": {
                            "from": {"hour": 6, "minute": 0},
                            "to": {"hour": 15, "minute": 30},
                            "days": ["MONDAY", "SUNDAY"],
                        },
                        "campaignId": "spring",
                        "operatorClientId": "op",
                        "regional": {"indiaDlt": {"contentTemplateId": "t", "principalEntityId": "p"}},
                    },
                ],
                "tracking": {"track": "SMS", "type": "MY_CAMPAIGN"},
            })
        );
    }

    #[test]
    fn binary_content_is_written_as_spaced_hex() {
        let to = destinations(&[("41793026727", "default.b")]);
        let message = v1::OutboundMessage {
            content: Some(Content::Binary(v1::BinaryContent {
                data: bytes::Bytes::from_static(b"Test\x00\xff"),
                data_coding: 0,
                esm_class: 64,
            })),
            ..Default::default()
        };
        let batch = OutboundBatch {
            kind: BatchKind::Binary,
            bulk_id: None,
            tracking: None,
            traceparent: None,
            messages: vec![OutboundRow {
                message: &message,
                destinations: &to,
            }],
        };
        assert_eq!(
            written(&batch),
            json!({"messages": [{
                "destinations": [{"to": "41793026727", "messageId": "default.b"}],
                "binary": {"hex": "54 65 73 74 00 ff", "dataCoding": 0, "esmClass": 64},
            }]})
        );
    }

    #[test]
    fn debug_output_has_no_phone_number() {
        let to = destinations(&[("41793026727", "default.b")]);
        assert!(!format!("{to:?}").contains("41793026727"));
    }
}
