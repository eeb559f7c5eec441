//! The answer to a send: one row for each destination, in whatever order.

use std::fmt;

use serde::Deserialize;

use super::{
    rows::UnreadableBody,
    scalar::{Object, Scalar},
};
use crate::{
    infobip::convert::{self, WireCode},
    proto::v1,
};

/// What the API said to a send. HTTP 200 is not success: a rejected message has a row with a status in the group REJECTED.
#[derive(Debug, Clone, PartialEq)]
pub struct SendAnswer {
    /// API: `bulkId`. The v1 API leaves it out where there is one destination.
    pub bulk_id: Option<String>,
    /// API: `trackingProcessKey`.
    pub tracking_process_key: Option<String>,
    /// The rows as they came. A destination may be missing: of that nothing is known.
    pub rows: Vec<SendRow>,
}

/// What the API said of one destination.
#[derive(Clone, PartialEq)]
pub struct SendRow {
    /// API: `messageId`. A rejected row can lack it (WIRE.md).
    pub wire_id: Option<String>,
    /// API: `to`, as the API writes it. Empty where it is missing.
    pub to: String,
    /// API: `status`. In the group UNSPECIFIED where it is missing.
    pub status: v1::Status,
    /// API: `smsCount`, the number of segments.
    pub sms_count: Option<i32>,
}

impl fmt::Debug for SendRow {
    /// Without the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendRow")
            .field("wire_id", &self.wire_id)
            .field("status", &self.status)
            .field("sms_count", &self.sms_count)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireAnswer<'a> {
    #[serde(borrow, default)]
    bulk_id: Scalar<'a>,
    #[serde(borrow, default)]
    tracking_process_key: Scalar<'a>,
    // Not optional: a body without it is no answer to a send.
    #[serde(borrow)]
    messages: Vec<Object<WireRow<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct WireRow<'a> {
    #[serde(borrow)]
    to: Scalar<'a>,
    #[serde(borrow)]
    message_id: Scalar<'a>,
    #[serde(borrow)]
    status: Object<WireCode<'a>>,
    #[serde(borrow)]
    sms_count: Scalar<'a>,
    // As later versions of the API call it.
    #[serde(borrow)]
    message_count: Scalar<'a>,
}

/// Reads the answer to a send.
pub(in crate::infobip) fn read_send_answer(body: &[u8]) -> Result<SendAnswer, UnreadableBody> {
    let answer: WireAnswer<'_> =
        serde_json::from_slice(body).map_err(|error| UnreadableBody::json(&error))?;
    Ok(SendAnswer {
        bulk_id: answer.bulk_id.into_some_text(),
        tracking_process_key: answer.tracking_process_key.into_some_text(),
        rows: answer
            .messages
            .into_iter()
            .filter_map(|row| row.0)
            .map(|row| SendRow {
                wire_id: row.message_id.into_some_text(),
                to: row.to.into_text(),
                status: convert::status(row.status).unwrap_or_default(),
                sms_count: row.sms_count.or(row.message_count).integer(),
            })
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::StatusGroup;

    #[test]
    fn the_manuals_answer_is_read() {
        let body = r#"{"bulkId":"BULK-ID-123-xyz","messages":[
            {"to":"41793026727","status":{"groupId":0,"groupName":"ACCEPTED","id":0,"name":"MESSAGE_ACCEPTED",
             "description":"Message accepted"},"messageId":"default.a"},
            {"to":"41793026731","status":{"groupId":1,"groupName":"PENDING","id":7,"name":"PENDING_ENROUTE",
             "description":"Message sent to next instance"},"smsCount":2,"messageId":"default.b"}]}"#;
        let answer = read_send_answer(body.as_bytes()).unwrap();
        assert_eq!(answer.bulk_id.as_deref(), Some("BULK-ID-123-xyz"));
        let rows: Vec<_> = answer
            .rows
            .iter()
            .map(|row| {
                (
                    row.wire_id.as_deref(),
                    row.to.as_str(),
                    row.status.group(),
                    row.sms_count,
                )
            })
            .collect();
        assert_eq!(
            rows,
            [
                (
                    Some("default.a"),
                    "41793026727",
                    StatusGroup::Accepted,
                    None
                ),
                (
                    Some("default.b"),
                    "41793026731",
                    StatusGroup::Pending,
                    Some(2)
                ),
            ]
        );
    }

    #[test]
    fn odd_rows_do_not_spoil_an_answer() {
        let body = r#"{"trackingProcessKey":"key","messages":[null,7,
            {"status":{"groupId":"5","groupName":"REJECTED","id":"51","name":"MISSING_TO","action":"Check to parameter."}},
            {"to":41793026731,"messageId":817790313235066447,"status":"what?","smsCount":"1"}]}"#;
        let answer = read_send_answer(body.as_bytes()).unwrap();
        assert_eq!(answer.tracking_process_key.as_deref(), Some("key"));
        let [rejected, odd] = answer.rows.as_slice() else {
            panic!("two rows");
        };
        assert_eq!(
            (&rejected.wire_id, rejected.status.group()),
            (&None, StatusGroup::Rejected)
        );
        assert_eq!(rejected.status.action, "Check to parameter.");
        assert_eq!(
            (odd.wire_id.as_deref(), odd.to.as_str(), odd.sms_count),
            (Some("817790313235066447"), "41793026731", Some(1))
        );
        assert_eq!(odd.status.group(), StatusGroup::Unspecified);
    }

    #[test]
    fn what_is_no_answer_is_unreadable() {
        for body in [
            "",
            "{}",
            "[]",
            "<html>",
            "{\"messages\":{}}",
            "{\"messages\":[{\"to\":\"4179",
            "{\"requestError\":{}}",
        ] {
            assert!(read_send_answer(body.as_bytes()).is_err(), "{body}");
        }
    }
}
