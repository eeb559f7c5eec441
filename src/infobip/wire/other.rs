//! The bodies of the small operations: previews, scheduled bulks, conversions, the balance, look-up requests.

use serde::{Deserialize, Serialize};

use super::{
    rows::UnreadableBody,
    scalar::{Object, Scalar},
};
use crate::{
    infobip::convert::{self, Raw},
    proto::v1,
};

/// API: the request of `POST /sms/1/preview`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::infobip) struct PreviewRequest<'a> {
    pub(in crate::infobip) text: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(in crate::infobip) language_code: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(in crate::infobip) transliteration: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePreviews<'a> {
    #[serde(borrow, default)]
    original_text: Scalar<'a>,
    #[serde(borrow)]
    previews: Vec<Object<WirePreview<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct WirePreview<'a> {
    #[serde(borrow)]
    text_preview: Scalar<'a>,
    #[serde(borrow)]
    message_count: Scalar<'a>,
    #[serde(borrow)]
    characters_remaining: Scalar<'a>,
    #[serde(borrow)]
    configuration: Object<WireConfiguration<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct WireConfiguration<'a> {
    #[serde(borrow)]
    language: Object<WireLanguage<'a>>,
    #[serde(borrow)]
    transliteration: Scalar<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct WireLanguage<'a> {
    #[serde(borrow)]
    language_code: Scalar<'a>,
}

pub(in crate::infobip) fn read_previews(
    body: &[u8],
) -> Result<v1::PreviewSmsResponse, UnreadableBody> {
    let wire: WirePreviews<'_> = parse(body)?;
    let previews = wire.previews.into_iter().filter_map(|preview| {
        let preview = preview.0?;
        let configuration = preview.configuration.0.unwrap_or_default();
        let language = configuration.language.0.unwrap_or_default();
        Some(v1::SmsPreview {
            text_preview: preview.text_preview.into_text(),
            message_count: preview.message_count.integer().unwrap_or_default(),
            characters_remaining: preview.characters_remaining.integer().unwrap_or_default(),
            language_code: language.language_code.into_text(),
            transliteration: configuration.transliteration.into_text(),
        })
    });
    Ok(v1::PreviewSmsResponse {
        previews: previews.collect(),
        original_text: wire.original_text.into_text(),
    })
}

/// API: the body of `PUT /sms/1/bulks`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::infobip) struct Reschedule {
    pub(in crate::infobip) send_at: super::timestamp::WireTimestamp,
}

/// API: the body of `PUT /sms/1/bulks/status`.
#[derive(Serialize)]
pub(in crate::infobip) struct UpdateStatus<'a> {
    pub(in crate::infobip) status: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSchedule<'a> {
    #[serde(borrow, default)]
    bulk_id: Scalar<'a>,
    #[serde(borrow)]
    send_at: Scalar<'a>,
}

/// Returns the wire bulk id and the time at which the bulk will be sent.
pub(in crate::infobip) fn read_schedule(
    body: &[u8],
) -> Result<(String, jiff::Timestamp), UnreadableBody> {
    let wire: WireSchedule<'_> = parse(body)?;
    let send_at = wire
        .send_at
        .as_str()
        .and_then(convert::parse_timestamp)
        .ok_or_else(|| UnreadableBody::new("sendAt is not a date"))?;
    Ok((wire.bulk_id.into_text(), send_at))
}

#[derive(Deserialize)]
struct WireStatus<'a> {
    #[serde(borrow)]
    status: Scalar<'a>,
}

/// A status that the contract does not have is UNSPECIFIED.
pub(in crate::infobip) fn read_bulk_status(body: &[u8]) -> Result<v1::BulkStatus, UnreadableBody> {
    let wire: WireStatus<'_> = parse(body)?;
    let name = wire
        .status
        .as_str()
        .ok_or_else(|| UnreadableBody::new("status is not a string"))?;
    let name = format!("BULK_STATUS_{}", name.trim().to_ascii_uppercase());
    Ok(v1::BulkStatus::from_str_name(&name).unwrap_or_default())
}

/// The API's name of a status; `None` for UNSPECIFIED.
pub(in crate::infobip) fn bulk_status_name(status: v1::BulkStatus) -> Option<&'static str> {
    (status != v1::BulkStatus::Unspecified)
        .then(|| status.as_str_name().trim_start_matches("BULK_STATUS_"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireConversion<'a> {
    #[serde(borrow)]
    process_key: Scalar<'a>,
}

pub(in crate::infobip) fn read_conversion(body: &[u8]) -> Result<String, UnreadableBody> {
    let wire: WireConversion<'_> = parse(body)?;
    Ok(wire.process_key.into_text())
}

#[derive(Deserialize)]
struct WireBalance<'a> {
    #[serde(borrow)]
    balance: Raw<'a>,
    #[serde(borrow, default)]
    currency: Scalar<'a>,
}

pub(in crate::infobip) fn read_balance(
    body: &[u8],
) -> Result<v1::GetBalanceResponse, UnreadableBody> {
    let wire: WireBalance<'_> = parse(body)?;
    let balance = convert::decimal(wire.balance);
    if balance.is_empty() {
        return Err(UnreadableBody::new("the body has no balance"));
    }
    Ok(v1::GetBalanceResponse {
        balance,
        currency: wire.currency.into_text(),
    })
}

/// API: the request of a number look-up.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::infobip) struct LookupRequest<'a> {
    pub(in crate::infobip) to: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::infobip) notify_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::infobip) notify_content_type: Option<&'a str>,
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, UnreadableBody> {
    serde_json::from_slice(body).map_err(|error| UnreadableBody::json(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn previews_are_read() {
        let body = r#"{"originalText":"Önizleme","previews":[
            {"textPreview":"Önizleme","messageCount":2,"charactersRemaining":36,"configuration":{}},
            {"textPreview":"Onizleme","messageCount":1,"charactersRemaining":57,
             "configuration":{"language":{"languageCode":"TR"},"transliteration":"TURKISH"}}]}"#;
        let read = read_previews(body.as_bytes()).unwrap();
        let [plain, turkish] = read.previews.as_slice() else {
            panic!("two previews");
        };
        assert_eq!((plain.message_count, plain.characters_remaining), (2, 36));
        assert_eq!(
            [&turkish.language_code, &turkish.transliteration],
            ["TR", "TURKISH"]
        );
    }

    #[test]
    fn bulk_schedules_and_statuses_are_read() {
        let body = br#"{"bulkId":"default.b","sendAt":"2021-08-25T16:00:00.000+0000"}"#;
        let (bulk_id, send_at) = read_schedule(body).unwrap();
        assert_eq!(
            (bulk_id.as_str(), send_at.to_string().as_str()),
            ("default.b", "2021-08-25T16:00:00Z")
        );
        assert!(read_schedule(br#"{"bulkId":"b","sendAt":"soon"}"#).is_err());
        for status in [
            v1::BulkStatus::Paused,
            v1::BulkStatus::Canceled,
            v1::BulkStatus::Finished,
        ] {
            let body = format!(
                r#"{{"bulkId":"b","status":"{}"}}"#,
                bulk_status_name(status).unwrap()
            );
            assert_eq!(read_bulk_status(body.as_bytes()), Ok(status));
        }
        assert_eq!(
            read_bulk_status(br#"{"status":"NEW"}"#),
            Ok(v1::BulkStatus::Unspecified)
        );
        assert_eq!(bulk_status_name(v1::BulkStatus::Unspecified), None);
    }

    #[test]
    fn a_balance_keeps_its_digits() {
        let read = read_balance(br#"{"balance":47.79134000000000001,"currency":"EUR"}"#).unwrap();
        assert_eq!(
            [read.balance, read.currency],
            ["47.79134000000000001", "EUR"]
        );
        assert!(read_balance(b"{\"currency\":\"EUR\"}").is_err());
    }
}
