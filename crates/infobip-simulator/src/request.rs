//! Request bodies, parsed leniently: unknown fields are ignored, a single value is accepted for a list, and scalars may be
//! strings, because XML has no other type (docs/INFOBIP_API.md#tolerant-reading).
//!
//! Invariant: parsing checks types only. Neighbour: `validate` checks the values.

mod lenient;

use serde::Deserialize;
use serde_json::Value;

pub(crate) use self::lenient::{LenientBool, LenientInteger, LenientString, OneOrMany};

/// `POST /sms/1/{text,binary}/single`, and one element of a `multi` request.
#[derive(Debug, Deserialize)]
pub(crate) struct SingleRequest {
    pub(crate) from: Option<LenientString>,
    /// One destination or a list of them.
    pub(crate) to: Option<OneOrMany<LenientString>>,
    pub(crate) text: Option<LenientString>,
    /// Content of the binary endpoints.
    pub(crate) binary: Option<BinaryRequest>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct MultiRequest {
    pub(crate) messages: Option<OneOrMany<SingleRequest>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AdvancedRequest {
    /// Id of the request, the caller's or generated.
    pub(crate) bulk_id: Option<LenientString>,
    pub(crate) messages: Option<OneOrMany<MessageRequest>>,
    /// Conversion and URL tracking.
    pub(crate) tracking: Option<TrackingRequest>,
}

/// One message with every feature.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageRequest {
    pub(crate) from: Option<LenientString>,
    /// Each has a message id of its own.
    pub(crate) destinations: Option<OneOrMany<DestinationRequest>>,
    pub(crate) text: Option<LenientString>,
    /// Content of the binary endpoints.
    pub(crate) binary: Option<BinaryRequest>,
    /// Flash message: shown immediately, not stored on the handset.
    pub(crate) flash: Option<LenientBool>,
    pub(crate) language: Option<LanguageRequest>,
    pub(crate) transliteration: Option<LenientString>,
    /// True: a report is pushed for each temporary error.
    pub(crate) intermediate_report: Option<LenientBool>,
    /// False: no report is pushed.
    pub(crate) notify: Option<LenientBool>,
    /// Where reports are pushed.
    pub(crate) notify_url: Option<LenientString>,
    pub(crate) notify_content_type: Option<LenientString>,
    /// Returned with the report; a string or an object.
    pub(crate) callback_data: Option<Value>,
    pub(crate) validity_period: Option<LenientInteger>,
    pub(crate) send_at: Option<LenientString>,
    /// When delivery is allowed.
    pub(crate) delivery_time_window: Option<WindowRequest>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DestinationRequest {
    pub(crate) to: Option<LenientString>,
    /// The caller's id of the message.
    pub(crate) message_id: Option<LenientString>,
}

/// Octets of a binary message.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BinaryRequest {
    /// Hexadecimal octets, with or without spaces.
    pub(crate) hex: Option<LenientString>,
    /// GSM data coding scheme.
    pub(crate) data_coding: Option<LenientInteger>,
    /// GSM ESM class; bit 6 (UDHI): the content begins with a user data header.
    pub(crate) esm_class: Option<LenientInteger>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LanguageRequest {
    /// TR, ES or PT.
    pub(crate) language_code: Option<LenientString>,
    /// Uses the national extension table.
    pub(crate) single_shift: Option<LenientBool>,
    /// Uses the national base table.
    pub(crate) locking_shift: Option<LenientBool>,
}

/// `tracking` of an advanced request.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TrackingRequest {
    pub(crate) track: Option<LenientString>,
    /// The caller's key of the tracking process.
    pub(crate) process_key: Option<LenientString>,
    /// The caller's name for the flow.
    #[serde(rename = "type")]
    pub(crate) kind: Option<LenientString>,
    /// Base URL of short links.
    pub(crate) base_url: Option<LenientString>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct WindowRequest {
    pub(crate) from: Option<TimeRequest>,
    pub(crate) to: Option<TimeRequest>,
    pub(crate) days: Option<OneOrMany<LenientString>>,
}

/// A time of day.
#[derive(Debug, Deserialize)]
pub(crate) struct TimeRequest {
    pub(crate) hour: Option<LenientInteger>,
    pub(crate) minute: Option<LenientInteger>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PreviewRequest {
    pub(crate) text: Option<LenientString>,
    /// TR, ES or PT.
    pub(crate) language_code: Option<LenientString>,
    pub(crate) transliteration: Option<LenientString>,
}

/// `POST /number/1/query` and `/number/1/notify`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LookupRequest {
    pub(crate) to: Option<OneOrMany<LenientString>>,
    /// Where the results of an asynchronous look-up are pushed.
    pub(crate) notify_url: Option<LenientString>,
    pub(crate) notify_content_type: Option<LenientString>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RescheduleRequest {
    pub(crate) send_at: Option<LenientString>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct BulkStatusRequest {
    /// PENDING, PAUSED, PROCESSING or CANCELED.
    pub(crate) status: Option<LenientString>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_list_of_texts_are_both_destinations() {
        for (json, wanted) in [
            (r#"{"to":"41793026727"}"#, vec!["41793026727"]),
            (r#"{"to":41793026727}"#, vec!["41793026727"]),
            (
                r#"{"to":["41793026727",41793026834]}"#,
                vec!["41793026727", "41793026834"],
            ),
        ] {
            let request: SingleRequest = serde_json::from_str(json).unwrap();
            let to: Vec<_> = request.to.unwrap().0.into_iter().map(|to| to.0).collect();
            assert_eq!(to, wanted);
        }
    }

    #[test]
    fn text_values_from_xml_are_read_as_flags_and_numbers() {
        let message: MessageRequest = serde_json::from_value(serde_json::json!({
            "flash": "true", "validityPeriod": "720", "destinations": {"to": "41793026727"}, "unknown": {"a": []}
        }))
        .unwrap();
        assert_eq!(message.flash, Some(LenientBool(true)));
        assert_eq!(message.validity_period, Some(LenientInteger(720)));
        assert_eq!(message.destinations.unwrap().0.len(), 1);
    }
}
