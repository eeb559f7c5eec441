//! Parses the logs of sent messages (`/sms/1/logs`).

use super::{
    report::{ReportRow, WireReport, is_final},
    rows::{Rows, UnreadableBody, json_detail, read_rows},
    scalar::Scalar,
};
use crate::{infobip::convert, proto::v1};

#[derive(Debug, Clone, PartialEq)]
pub struct LogRow {
    /// API: `messageId`, a wire id. Empty if the row has none, for example if it was rejected for a missing number.
    pub wire_id: String,
    /// Its `message_id` and `bulk_id` are wire ids; its `application` is empty, the caller sets it.
    pub log: v1::SmsLog,
}

impl LogRow {
    /// The delivery report with the same content; `None` for a row without an id. Logs have no callback data, so the report
    /// has none either. For the reconciler, which is not built yet (docs/RELIABILITY.md).
    #[must_use]
    pub fn to_report(&self) -> Option<ReportRow> {
        if self.wire_id.is_empty() {
            return None;
        }
        let log = &self.log;
        Some(ReportRow {
            wire_id: self.wire_id.clone(),
            report: v1::DeliveryReport {
                message_id: log.message_id.clone(),
                bulk_id: log.bulk_id.clone(),
                to: log.to.clone(),
                from: log.from.clone(),
                sent_at: log.sent_at,
                done_at: log.done_at,
                sms_count: log.sms_count,
                mcc_mnc: log.mcc_mnc.clone(),
                price: log.price.clone(),
                status: log.status.clone(),
                error: log.error.clone(),
                callback_data: String::new(),
                r#final: is_final(log.status.as_ref()),
                source: v1::ReportSource::Logs.into(),
            },
            source_payload: log.source_payload.clone(),
        })
    }
}

/// Reads log rows from JSON or XML.
///
/// # Errors
/// [`UnreadableBody`] if the body has no readable row and is not an empty list either.
pub fn read_logs(body: &[u8]) -> Result<Rows<LogRow>, UnreadableBody> {
    read_rows(body, read)
}

fn read(row: &str) -> Result<LogRow, String> {
    let wire: WireReport<'_> = serde_json::from_str(row).map_err(|error| json_detail(&error))?;
    let wire_id = wire.message_id.into_text();
    if wire_id.is_empty() && wire.to == Scalar::Absent && wire.status.0.is_none() {
        return Err("the log row has no messageId, to or status".to_owned());
    }
    Ok(LogRow {
        log: v1::SmsLog {
            message_id: wire_id.clone(),
            bulk_id: wire.bulk_id.into_text(),
            to: wire.to.into_text(),
            from: wire.from.or(wire.sender).into_text(),
            text: wire.text.into_text(),
            sent_at: convert::proto_timestamp(&wire.sent_at),
            done_at: convert::proto_timestamp(&wire.done_at),
            sms_count: wire.sms_count.or(wire.message_count).integer(),
            mcc_mnc: convert::mcc_mnc(wire.mcc_mnc.or(wire.mccmnc)),
            price: convert::price(wire.price),
            status: convert::status(wire.status),
            error: convert::error(wire.error),
            application: String::new(),
            source_payload: row.to_owned(),
        },
        wire_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::StatusGroup;

    #[test]
    fn the_manuals_rejected_row_becomes_a_log_row_and_a_report() {
        let body = r#"{"results":[{"bulkId":"82d1d36e","messageId":"fc0cbfb8","to":"41793026727","from":"InfoSMS",
            "text":"Test SMS.","sentAt":"2015-02-23T17:42:05.390+0100","doneAt":"2015-02-23T17:42:05.390+0100",
            "smsCount":1,"mccmnc":"22801","price":{"pricePerMessage":0,"currency":"EUR"},
            "status":{"groupId":5,"groupName":"REJECTED","id":6,"name":"REJECTED_NETWORK",
                      "description":"Network is forbidden","action":"Contact account manager"},
            "error":{"groupId":0,"groupName":"OK","id":0,"name":"NO_ERROR","description":"No Error","permanent":false}}]}"#;
        let rows = read_logs(body.as_bytes()).unwrap();
        let row = &rows.rows[0];
        assert_eq!(
            (row.log.text.as_str(), row.log.mcc_mnc.as_str()),
            ("Test SMS.", "22801")
        );
        let report = row.to_report().unwrap();
        assert_eq!(report.wire_id, "fc0cbfb8");
        assert_eq!(report.report.source(), v1::ReportSource::Logs);
        assert!(report.report.r#final);
        assert_eq!(report.report.done_at, row.log.done_at);
        let status = report.report.status.unwrap();
        assert_eq!(
            (status.group(), status.action.as_str()),
            (StatusGroup::Rejected, "Contact account manager")
        );
        assert_eq!(report.report.price.unwrap().price_per_message, "0");
    }

    #[test]
    fn the_2015_xml_format_is_read() {
        let row = |id: &str| {
            format!(
                "<results><bulkId>b</bulkId><messageId>{id}</messageId><to>41793026727</to><text>Test &amp; SMS.</text>\
                 <mccmnc>22801</mccmnc><price><pricePerMessage>0.0100</pricePerMessage><currency>EUR</currency></price>\
                 <status><groupId>3</groupId><groupName>DELIVERED</groupName><id>5</id></status>\
                 <error><groupName>Ok</groupName><permanent>false</permanent></error></results>"
            )
        };
        let body = format!(
            "<SMSLogsResponse>\n<results>\n{}\n{}</results></SMSLogsResponse>",
            row("one"),
            row("two")
        );
        let rows = read_logs(body.as_bytes()).unwrap();
        let ids: Vec<_> = rows.rows.iter().map(|row| row.wire_id.as_str()).collect();
        assert_eq!((ids, rows.bad.len()), (vec!["one", "two"], 0));
        let log = &rows.rows[0].log;
        assert_eq!(
            (log.text.as_str(), log.mcc_mnc.as_str()),
            ("Test & SMS.", "22801")
        );
        assert_eq!(log.price.as_ref().unwrap().price_per_message, "0.0100");
        assert_eq!(log.status.as_ref().unwrap().group(), StatusGroup::Delivered);
    }

    #[test]
    fn a_log_row_without_an_id_has_no_report() {
        let body = r#"{"results":[{"to":"","status":{"id":51,"name":"MISSING_TO"}}]}"#;
        let rows = read_logs(body.as_bytes()).unwrap();
        assert_eq!(rows.rows[0].to_report(), None);
        assert!(read_logs(br#"{"requestError":{}}"#).is_err());
    }
}
