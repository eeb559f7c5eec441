//! What callers send, read leniently: unknown fields are ignored, one value stands for a list of one, and scalars may
//! come as text, because XML knows nothing else (docs/INFOBIP_API.md#tolerant-reading).

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{self, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// A text that may come as a number or a boolean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar(pub String);

/// `true`, `false`, or either as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag(pub bool);

/// A whole number, or one as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Integer(pub i64);

/// A list, or one bare element of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

/// `POST /sms/1/{text,binary}/single`, and one element of a `multi` request.
#[derive(Debug, Deserialize)]
pub struct SingleRequest {
    /// Sender.
    pub from: Option<Scalar>,
    /// Destinations; a text is accepted for a list and the reverse.
    pub to: Option<OneOrMany<Scalar>>,
    /// Text.
    pub text: Option<Scalar>,
    /// Content of the binary endpoints.
    pub binary: Option<BinaryRequest>,
}

/// `POST /sms/1/{text,binary}/multi`.
#[derive(Debug, Deserialize)]
pub struct MultiRequest {
    /// The messages.
    pub messages: Option<OneOrMany<SingleRequest>>,
}

/// `POST /sms/1/{text,binary}/advanced`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdvancedRequest {
    /// Id of the request, the caller's or generated.
    pub bulk_id: Option<Scalar>,
    /// The messages.
    pub messages: Option<OneOrMany<MessageRequest>>,
    /// Conversion and URL tracking.
    pub tracking: Option<TrackingRequest>,
}

/// One message with every feature.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageRequest {
    /// Sender.
    pub from: Option<Scalar>,
    /// Where to, each with its own id.
    pub destinations: Option<OneOrMany<DestinationRequest>>,
    /// Text.
    pub text: Option<Scalar>,
    /// Content of the binary endpoints.
    pub binary: Option<BinaryRequest>,
    /// Shows at once, is not stored.
    pub flash: Option<Flag>,
    /// National language tables.
    pub language: Option<LanguageRequest>,
    /// Script conversion.
    pub transliteration: Option<Scalar>,
    /// Pushes a report for each temporary error.
    pub intermediate_report: Option<Flag>,
    /// False: no report is pushed.
    pub notify: Option<Flag>,
    /// Where reports are pushed.
    pub notify_url: Option<Scalar>,
    /// `application/json` or `application/xml`.
    pub notify_content_type: Option<Scalar>,
    /// Comes back with the report; text or an object.
    pub callback_data: Option<Value>,
    /// Minutes.
    pub validity_period: Option<Integer>,
    /// When to send.
    pub send_at: Option<Scalar>,
    /// When delivery is allowed.
    pub delivery_time_window: Option<WindowRequest>,
}

/// A destination.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationRequest {
    /// Number.
    pub to: Option<Scalar>,
    /// The caller's id of the message.
    pub message_id: Option<Scalar>,
}

/// Octets of a binary message.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BinaryRequest {
    /// Hexadecimal octets, with or without spaces.
    pub hex: Option<Scalar>,
    /// GSM data coding scheme.
    pub data_coding: Option<Integer>,
    /// GSM ESM class; bit 6 says that the content begins with a user data header.
    pub esm_class: Option<Integer>,
}

/// National language tables.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LanguageRequest {
    /// TR, ES or PT.
    pub language_code: Option<Scalar>,
    /// Uses the national extension table.
    pub single_shift: Option<Flag>,
    /// Uses the national base table.
    pub locking_shift: Option<Flag>,
}

/// `tracking` of an advanced request.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrackingRequest {
    /// SMS or URL.
    pub track: Option<Scalar>,
    /// The caller's key of the tracking process.
    pub process_key: Option<Scalar>,
    /// The caller's name for the flow.
    #[serde(rename = "type")]
    pub kind: Option<Scalar>,
    /// What short links begin with.
    pub base_url: Option<Scalar>,
}

/// `deliveryTimeWindow`, in UTC.
#[derive(Debug, Deserialize)]
pub struct WindowRequest {
    /// Opens.
    pub from: Option<TimeRequest>,
    /// Closes.
    pub to: Option<TimeRequest>,
    /// `MONDAY` … `SUNDAY`.
    pub days: Option<OneOrMany<Scalar>>,
}

/// A time of day.
#[derive(Debug, Deserialize)]
pub struct TimeRequest {
    /// 0–23.
    pub hour: Option<Integer>,
    /// 0–59.
    pub minute: Option<Integer>,
}

/// `POST /sms/1/preview`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreviewRequest {
    /// Text.
    pub text: Option<Scalar>,
    /// TR, ES or PT.
    pub language_code: Option<Scalar>,
    /// Script conversion.
    pub transliteration: Option<Scalar>,
}

/// `POST /number/1/query` and `/number/1/notify`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LookupRequest {
    /// Numbers.
    pub to: Option<OneOrMany<Scalar>>,
    /// Where the answers of an asynchronous lookup are pushed.
    pub notify_url: Option<Scalar>,
    /// `application/json` or `application/xml`.
    pub notify_content_type: Option<Scalar>,
}

/// `PUT /sms/1/bulks`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RescheduleRequest {
    /// The new time.
    pub send_at: Option<Scalar>,
}

/// `PUT /sms/1/bulks/status`.
#[derive(Debug, Deserialize)]
pub struct BulkStatusRequest {
    /// PENDING, PAUSED, PROCESSING or CANCELED.
    pub status: Option<Scalar>,
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl Visitor<'_> for ScalarVisitor {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }
            fn visit_string<E: de::Error>(self, text: String) -> Result<Scalar, E> {
                Ok(Scalar(text))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlagVisitor;
        impl Visitor<'_> for FlagVisitor {
            type Value = Flag;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Flag, E> {
                Ok(Flag(value))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Flag, E> {
                match text.trim() {
                    t if t.eq_ignore_ascii_case("true") => Ok(Flag(true)),
                    t if t.eq_ignore_ascii_case("false") => Ok(Flag(false)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(FlagVisitor)
    }
}

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntegerVisitor;
        impl Visitor<'_> for IntegerVisitor {
            type Value = Integer;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Integer, E> {
                Ok(Integer(value))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Integer, E> {
                Ok(Integer(i64::try_from(value).unwrap_or(i64::MAX)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Integer, E> {
                text.trim()
                    .parse()
                    .map(Integer)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(IntegerVisitor)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ManyVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ManyVisitor<T> {
            type Value = OneOrMany<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany<T>, A::Error> {
                let mut many = Vec::with_capacity(list.size_hint().unwrap_or(0).min(1024));
                while let Some(one) = list.next_element()? {
                    many.push(one);
                }
                Ok(OneOrMany(many))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OneOrMany<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|one| OneOrMany(vec![one]))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMany<T>, E> {
                T::deserialize(StrDeserializer::new(text)).map(|one| OneOrMany(vec![one]))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<OneOrMany<T>, E> {
                T::deserialize(value.into_deserializer()).map(|one| OneOrMany(vec![one]))
            }
        }
        deserializer.deserialize_any(ManyVisitor(PhantomData))
    }
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
    fn what_xml_made_text_is_read_as_what_it_is() {
        let message: MessageRequest = serde_json::from_value(serde_json::json!({
            "flash": "true", "validityPeriod": "720", "destinations": {"to": "41793026727"}, "unknown": {"a": []}
        }))
        .unwrap();
        assert_eq!(message.flash, Some(Flag(true)));
        assert_eq!(message.validity_period, Some(Integer(720)));
        assert_eq!(message.destinations.unwrap().0.len(), 1);
    }
}
