//! Parses delivery reports: responses of `/sms/1/reports`, and pushes.

use serde::Deserialize;

use super::{
    rows::{Rows, UnreadableBody, json_detail, read_rows},
    scalar::{Object, Scalar},
};
use crate::{
    infobip::convert::{self, Raw, WireCode, WirePrice},
    message::codes,
    proto::v1,
};

#[derive(Debug, Clone, PartialEq)]
pub struct ReportRow {
    /// API: `messageId`, a wire id. Never empty.
    pub wire_id: String,
    /// Its `message_id` and `bulk_id` are wire ids. Its `source` is unspecified, the caller sets it; only reports made from
    /// log rows have one.
    pub report: v1::DeliveryReport,
    /// The row as received, as JSON.
    pub source_payload: String,
}

/// The fields that reports and log rows share.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub(super) struct WireReport<'a> {
    #[serde(borrow)]
    pub(super) bulk_id: Scalar<'a>,
    #[serde(borrow)]
    pub(super) message_id: Scalar<'a>,
    #[serde(borrow)]
    pub(super) to: Scalar<'a>,
    #[serde(borrow)]
    pub(super) from: Scalar<'a>,
    // Later versions of the API call `from` and `smsCount` `sender` and `messageCount`.
    #[serde(borrow)]
    pub(super) sender: Scalar<'a>,
    #[serde(borrow)]
    pub(super) text: Scalar<'a>,
    #[serde(borrow)]
    pub(super) sent_at: Scalar<'a>,
    #[serde(borrow)]
    pub(super) done_at: Scalar<'a>,
    #[serde(borrow)]
    pub(super) sms_count: Scalar<'a>,
    #[serde(borrow)]
    pub(super) message_count: Scalar<'a>,
    #[serde(borrow)]
    pub(super) mcc_mnc: Scalar<'a>,
    // The 2015 manual's spelling.
    #[serde(borrow, rename = "mccmnc")]
    pub(super) mccmnc: Scalar<'a>,
    #[serde(borrow)]
    pub(super) price: Object<WirePrice<'a>>,
    #[serde(borrow, deserialize_with = "convert::status_or_name")]
    pub(super) status: Object<WireCode<'a>>,
    #[serde(borrow)]
    pub(super) error: Object<WireCode<'a>>,
    #[serde(borrow)]
    pub(super) callback_data: Raw<'a>,
}

/// Reads delivery reports from JSON or XML. A row without a `messageId` is bad, because it cannot be assigned to a message.
///
/// # Errors
/// [`UnreadableBody`] if the body has no readable row and is not an empty list either.
pub fn read_reports(body: &[u8]) -> Result<Rows<ReportRow>, UnreadableBody> {
    read_rows(body, read)
}

fn read(row: &str) -> Result<ReportRow, String> {
    let wire: WireReport<'_> = serde_json::from_str(row).map_err(|error| json_detail(&error))?;
    let wire_id = wire
        .message_id
        .into_non_empty_text()
        .ok_or("the report has no messageId")?;
    let status = convert::status(wire.status);
    let report = v1::DeliveryReport {
        message_id: wire_id.clone(),
        bulk_id: wire.bulk_id.into_text(),
        to: wire.to.into_text(),
        from: wire.from.or(wire.sender).into_text(),
        sent_at: convert::proto_timestamp(&wire.sent_at),
        done_at: convert::proto_timestamp(&wire.done_at),
        sms_count: wire.sms_count.or(wire.message_count).integer(),
        mcc_mnc: convert::mcc_mnc(wire.mcc_mnc.or(wire.mccmnc)),
        price: convert::price(wire.price),
        r#final: is_final(status.as_ref()),
        status,
        error: convert::error(wire.error),
        callback_data: convert::raw_text(wire.callback_data),
        source: v1::ReportSource::Unspecified.into(),
    };
    Ok(ReportRow {
        wire_id,
        report,
        source_payload: row.to_owned(),
    })
}

/// Whether this is the last status of a message.
pub(super) fn is_final(status: Option<&v1::Status>) -> bool {
    status.is_some_and(|status| codes::is_final(status.group()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::StatusGroup;

    /// The manual's pushed report ("Delivery reports on Notify URL").
    const PUSHED: &str = r#"{"results":[{
        "bulkId":"default.b","messageId":"default.MESSAGE-ID-123-xyz","to":"41793026727",
        "sentAt":"2015-06-04T13:01:52.937+0000","doneAt":"2015-06-04T13:02:01.204+0000","smsCount":1,
        "price":{"pricePerMessage":0.0001000000,"currency":"EUR"},
        "status":{"groupId":3,"groupName":"DELIVERED","id":5,"name":"DELIVERED_TO_HANDSET",
                  "description":"Message delivered to handset"},
        "error":{"groupId":0,"groupName":"OK","id":0,"name":"NO_ERROR","description":"No Error","permanent":false},
        "callbackData":"There's no place like home."}]}"#;

    fn only(body: &str) -> ReportRow {
        let mut rows = read_reports(body.as_bytes()).unwrap();
        assert_eq!((rows.rows.len(), &rows.bad), (1, &vec![]));
        rows.rows.remove(0)
    }

    fn moment(text: &str) -> Option<crate::proto::Timestamp> {
        Some(crate::message::time::to_proto(text.parse().unwrap()))
    }

    #[test]
    fn every_field_of_the_manuals_push_is_read() {
        let row = only(PUSHED);
        assert_eq!(row.wire_id, "default.MESSAGE-ID-123-xyz");
        let report = row.report;
        assert_eq!(report.sent_at, moment("2015-06-04T13:01:52.937Z"));
        assert_eq!(report.done_at, moment("2015-06-04T13:02:01.204Z"));
        assert_eq!(report.sms_count, Some(1));
        assert_eq!(
            report.price,
            Some(v1::Price {
                price_per_message: "0.0001000000".into(),
                currency: "EUR".into()
            })
        );
        let status = report.status.unwrap();
        assert_eq!((status.id, status.group()), (5, StatusGroup::Delivered));
        assert_eq!(report.error.unwrap().group(), v1::ErrorGroup::Ok);
        assert_eq!(report.callback_data, "There's no place like home.");
        assert!(report.r#final);
        assert!(row.source_payload.starts_with("{\n        \"bulkId\""));
    }

    #[test]
    fn xml_and_json_give_the_same_report() {
        let xml = r#"<?xml version="1.0" encoding="UTF-8"?><reportResponse><results><result>
            <bulkId>default.b</bulkId><messageId>default.MESSAGE-ID-123-xyz</messageId><to>41793026727</to>
            <sentAt>2015-06-04T13:01:52.937+0000</sentAt><doneAt>2015-06-04T13:02:01.204+0000</doneAt>
            <smsCount>1</smsCount>
            <price><pricePerMessage>0.0001000000</pricePerMessage><currency>EUR</currency></price>
            <status><groupId>3</groupId><groupName>DELIVERED</groupName><id>5</id><name>DELIVERED_TO_HANDSET</name>
                    <description>Message delivered to handset</description></status>
            <error><groupId>0</groupId><groupName>OK</groupName><id>0</id><name>NO_ERROR</name>
                   <description>No Error</description><permanent>false</permanent></error>
            <callbackData>There's no place like home.</callbackData></result></results></reportResponse>"#;
        assert_eq!(only(xml).report, only(PUSHED).report);
    }

    #[test]
    fn the_manuals_intermediate_report_is_pending_and_not_final() {
        let body = PUSHED.replace(
            r#""id":5,"name":"DELIVERED_TO_HANDSET""#,
            r#""id":1,"name":"PENDING_WAITING_DELIVERY""#,
        );
        let body = body.replace(r#""groupName":"DELIVERED""#, r#""groupName":"PENDING""#);
        let report = only(&body).report;
        assert_eq!(report.status.unwrap().group(), StatusGroup::Pending);
        assert!(!report.r#final);
    }

    #[test]
    fn fields_of_any_type_are_read() {
        let report = only(
            r#"{"results":{"messageId":12,"to":41793026727,"smsCount":"2","sentAt":"soon","doneAt":1434027721204,
                "mccmnc":22801,"price":"free","status":{"groupId":"4"},"error":[],"unknown":{"deep":[{}]},
                "callbackData":{"order": 7}}}"#,
        )
        .report;
        assert_eq!(
            (
                report.message_id.as_str(),
                report.to.as_str(),
                report.mcc_mnc.as_str()
            ),
            ("12", "41793026727", "22801")
        );
        assert_eq!(
            (report.sms_count, report.sent_at, report.price),
            (Some(2), None, None)
        );
        assert_eq!(report.done_at, moment("2015-06-11T13:02:01.204Z"));
        assert_eq!(report.status.unwrap().group(), StatusGroup::Expired);
        assert_eq!(report.callback_data, r#"{"order": 7}"#);
        assert!(report.r#final);
    }

    /// Seen of clients in production, in flat rows.
    #[test]
    fn a_status_may_be_a_text() {
        for (text, group, name) in [
            ("delivered", StatusGroup::Delivered, ""),
            (" PENDING", StatusGroup::Pending, ""),
            ("EXPIRED_EXPIRED", StatusGroup::Expired, "EXPIRED_EXPIRED"),
            ("sent", StatusGroup::Unspecified, "sent"),
        ] {
            let report = only(&format!(r#"{{"messageId":"a","status":"{text}"}}"#)).report;
            assert_eq!(report.r#final, codes::is_final(group), "{text}");
            let status = report.status.unwrap();
            assert_eq!((status.group(), status.name.as_str()), (group, name));
        }
        for nothing in ["\"\"", "\" \"", "null", "7", "[]", "true"] {
            let row = format!(r#"{{"messageId":"a","status":{nothing}}}"#);
            assert_eq!(only(&row).report.status, None, "{row}");
        }
    }

    #[test]
    fn a_null_network_is_absent() {
        for row in [
            r#"{"messageId":"a","mccMnc":"null"}"#,
            r#"{"messageId":"a","mccMnc":null}"#,
            r#"{"messageId":"a"}"#,
        ] {
            assert_eq!(only(row).report.mcc_mnc, "", "{row}");
        }
        let both = r#"{"messageId":"a","mccMnc":"22801","mccmnc":"22802"}"#;
        assert_eq!(only(both).report.mcc_mnc, "22801");
    }

    #[test]
    fn a_report_without_an_id_does_not_spoil_its_batch() {
        let body = r#"{"results":[{"to":"41793026727"},{"messageId":"a"},{"messageId":""}]}"#;
        let rows = read_reports(body.as_bytes()).unwrap();
        assert_eq!((rows.rows.len(), rows.bad.len()), (1, 2));
        assert_eq!(rows.bad[0].payload, r#"{"to":"41793026727"}"#);
        assert!(!rows.bad[0].detail.contains("41793026727"));
    }

    #[test]
    fn field_names_of_later_api_versions_are_read() {
        let row = r#"{"messageId":"a","sender":"InfoSMS","messageCount":3}"#;
        let report = only(row).report;
        assert_eq!(
            (report.from.as_str(), report.sms_count),
            ("InfoSMS", Some(3))
        );
    }
}
