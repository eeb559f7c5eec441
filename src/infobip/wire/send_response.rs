//! Parses the response to a send and assigns its rows to the destinations of the request.
//!
//! Rows are usually in the order of the request, otherwise they are found by message id. A row without an id belongs to the
//! destination at its position if no row is missing (docs/INFOBIP_API.md#sending) and, where several rows have no id, if it does not name
//! another number. Rows are borrowed from the body, because this code runs for every message.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    rows::UnreadableBody,
    scalar::{Object, Scalar},
    send::WireDestination,
};
use crate::{infobip::convert, proto::v1};

/// The response to a send. HTTP 200 does not mean that all messages were accepted: a rejected message has a row with a status
/// in the group REJECTED.
#[derive(Debug, Clone, PartialEq)]
pub struct SendResponse {
    /// API: `bulkId`. Absent for a single destination.
    pub bulk_id: Option<String>,
    /// API: `trackingProcessKey`.
    pub tracking_process_key: Option<String>,
    /// One entry per destination, in the order of the request. `None` if the response has no row for it: the API may have
    /// accepted the message.
    pub destinations: Vec<Option<SendRow>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SendRow {
    /// API: `status`. In the group UNSPECIFIED if absent.
    pub status: v1::Status,
    /// API: `smsCount`, the number of segments.
    pub sms_count: Option<i32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireResponse<'a> {
    #[serde(borrow, default)]
    bulk_id: Scalar<'a>,
    #[serde(borrow, default)]
    tracking_process_key: Scalar<'a>,
    // Required: it identifies the body as the response to a send.
    #[serde(borrow)]
    messages: Vec<Object<WireRow<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct WireRow<'a> {
    #[serde(borrow)]
    message_id: Scalar<'a>,
    #[serde(borrow)]
    to: Scalar<'a>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    sms_count: Scalar<'a>,
    // The name of `smsCount` in later versions of the API.
    #[serde(borrow)]
    message_count: Scalar<'a>,
}

impl WireRow<'_> {
    /// Rejected rows can lack it.
    fn wire_id(&self) -> Option<&str> {
        self.message_id.verbatim().filter(|id| !id.is_empty())
    }

    /// Whether it names another number. A rejected row can lack its number.
    fn is_for_another(&self, to: &str) -> bool {
        let named = self.to.as_str().unwrap_or_default();
        let named = named.strip_prefix('+').unwrap_or(named);
        !named.is_empty() && named != to
    }
}

/// Reads the response to a send. `destinations` are those of the request, in its order.
pub(in crate::infobip) fn read_send_response<'a>(
    body: &[u8],
    destinations: impl Iterator<Item = &'a WireDestination<'a>> + Clone,
) -> Result<SendResponse, UnreadableBody> {
    let response: WireResponse<'_> =
        serde_json::from_slice(body).map_err(|error| UnreadableBody::json(&error))?;
    let mut rows = RowMatcher::new(response.messages, destinations.clone().count());
    let mut statuses = StatusReader::default();
    let destinations = destinations
        .enumerate()
        .map(|(index, destination)| {
            let row = rows.take(destination, index)?;
            Some(SendRow {
                status: statuses.read(row.status),
                sms_count: row.sms_count.or(row.message_count).integer(),
            })
        })
        .collect();
    Ok(SendResponse {
        bulk_id: response.bulk_id.into_non_empty_text(),
        tracking_process_key: response.tracking_process_key.into_non_empty_text(),
        destinations,
    })
}

/// The rows of a response that no destination has taken yet.
struct RowMatcher<'a> {
    rows: Vec<Option<WireRow<'a>>>,
    /// As many rows as destinations.
    complete: bool,
    /// Only one row has no id: it belongs to the destination that no other row has.
    one_is_nameless: bool,
    /// Row positions by message id. Built when a row is searched by its id for the first time.
    indexes: Option<HashMap<String, usize>>,
}

impl<'a> RowMatcher<'a> {
    fn new(rows: Vec<Object<WireRow<'a>>>, expected: usize) -> Self {
        let rows: Vec<_> = rows
            .into_iter()
            .map(|row| row.0)
            .filter(Option::is_some)
            .collect();
        let nameless =
            |row: &&Option<WireRow<'_>>| row.as_ref().is_some_and(|row| row.wire_id().is_none());
        Self {
            complete: rows.len() == expected,
            one_is_nameless: rows.iter().filter(nameless).count() == 1,
            rows,
            indexes: None,
        }
    }

    fn take(&mut self, destination: &WireDestination<'_>, index: usize) -> Option<WireRow<'a>> {
        let &WireDestination { to, wire_id } = destination;
        let row = self.rows.get(index).and_then(Option::as_ref);
        let index = match row.map(|row| (row.wire_id(), row.is_for_another(to))) {
            Some((Some(id), _)) if id == wire_id => index,
            Some((None, is_for_another))
                if self.complete && (self.one_is_nameless || !is_for_another) =>
            {
                self.index_of(wire_id).unwrap_or(index)
            }
            _ => self.index_of(wire_id)?,
        };
        self.rows.get_mut(index)?.take()
    }

    fn index_of(&mut self, wire_id: &str) -> Option<usize> {
        let rows = &self.rows;
        let indexes = self.indexes.get_or_insert_with(|| {
            let with_id = rows.iter().enumerate();
            with_id
                .filter_map(|(index, row)| Some((row.as_ref()?.wire_id()?.to_owned(), index)))
                .collect()
        });
        indexes.get(wire_id).copied()
    }
}

/// Reads statuses. Most rows of a response have the same status, so the last one read is cached by its JSON text.
#[derive(Default)]
struct StatusReader<'a> {
    last: Option<(&'a str, v1::Status)>,
}

impl<'a> StatusReader<'a> {
    fn read(&mut self, written: Option<&'a RawValue>) -> v1::Status {
        let Some(written) = written.map(RawValue::get) else {
            return v1::Status::default();
        };
        match &self.last {
            Some((last, status)) if *last == written => status.clone(),
            _ => {
                let code = serde_json::from_str(written).unwrap_or_default();
                let status = convert::status(code).unwrap_or_default();
                self.last = Some((written, status.clone()));
                status
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::StatusGroup;

    const NUMBER: &str = "41793026727";

    fn read(body: &str, wire_ids: &[&str]) -> SendResponse {
        let destination = |wire_id: &&str| (NUMBER, (*wire_id).to_owned());
        read_for(body, &wire_ids.iter().map(destination).collect::<Vec<_>>())
    }

    /// The response for numbers and their wire ids.
    fn read_for(body: &str, destinations: &[(&str, String)]) -> SendResponse {
        let destinations: Vec<_> = destinations
            .iter()
            .map(|(to, wire_id)| WireDestination { to, wire_id })
            .collect();
        read_send_response(body.as_bytes(), destinations.iter()).unwrap()
    }

    /// The names of the statuses, by destination.
    fn names(answer: &SendResponse) -> Vec<Option<&str>> {
        let destinations = answer.destinations.iter();
        destinations
            .map(|row| row.as_ref().map(|row| row.status.name.as_str()))
            .collect()
    }

    #[test]
    fn the_manuals_send_response_is_read() {
        let body = r#"{"bulkId":"BULK-ID-123-xyz","messages":[
            {"to":"41793026727","status":{"groupId":0,"groupName":"ACCEPTED","id":0,"name":"MESSAGE_ACCEPTED",
             "description":"Message accepted"},"messageId":"default.a"},
            {"to":"41793026731","status":{"groupId":1,"groupName":"PENDING","id":7,"name":"PENDING_ENROUTE",
             "description":"Message sent to next instance"},"smsCount":2,"messageId":"default.b"}]}"#;
        let answer = read(body, &["default.a", "default.b"]);
        assert_eq!(answer.bulk_id.as_deref(), Some("BULK-ID-123-xyz"));
        let rows: Vec<_> = answer
            .destinations
            .iter()
            .flatten()
            .map(|row| (row.status.group(), row.sms_count))
            .collect();
        assert_eq!(
            rows,
            [
                (StatusGroup::Accepted, None),
                (StatusGroup::Pending, Some(2)),
            ]
        );
    }

    #[test]
    fn rows_find_their_destinations_in_any_order() {
        let row = |id: &str, name: &str| {
            format!(r#"{{"messageId":"default.{id}","status":{{"name":"{name}"}}}}"#)
        };
        let body = |rows: &[String]| format!(r#"{{"messages":[{}]}}"#, rows.join(","));
        let nameless = r#"{"status":{"name":"NAMELESS"}}"#.to_owned();
        let ids = ["default.a", "default.b", "default.c"];

        let turned = body(&[row("c", "C"), row("a", "A"), row("b", "B")]);
        assert_eq!(
            names(&read(&turned, &ids)),
            [Some("A"), Some("B"), Some("C")]
        );
        let missing = body(&[row("a", "A"), row("c", "C")]);
        assert_eq!(names(&read(&missing, &ids)), [Some("A"), None, Some("C")]);
        let by_place = body(&[row("a", "A"), nameless.clone(), row("c", "C")]);
        assert_eq!(
            names(&read(&by_place, &ids)),
            [Some("A"), Some("NAMELESS"), Some("C")]
        );
        // With a row missing, the position of a row without an id says nothing.
        let of_nobody = body(&[row("a", "A"), nameless]);
        assert_eq!(names(&read(&of_nobody, &ids)), [Some("A"), None, None]);
        let foreign = body(&[row("x", "X"), row("a", "A"), row("b", "B")]);
        assert_eq!(names(&read(&foreign, &ids)), [Some("A"), Some("B"), None]);
        let twice = body(&[row("a", "A"), row("a", "A2"), row("b", "B")]);
        assert_eq!(names(&read(&twice, &ids))[1..], [Some("B"), None]);
    }

    #[test]
    fn a_row_without_an_id_is_not_taken_for_another_number() {
        let row = |to: &str| format!(r#"{{"to":"{to}","status":{{"name":"OF {to}"}}}}"#);
        let body = |rows: &[String]| format!(r#"{{"messages":[{}]}}"#, rows.join(","));
        let both = [
            ("41", "default.a".to_owned()),
            ("42", "default.b".to_owned()),
        ];
        let names_of = |rows: &[String]| {
            let response = read_for(&body(rows), &both);
            let names = names(&response).into_iter();
            names
                .map(|name| name.map(str::to_owned))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names_of(&[row("+41"), row("42")]),
            [Some("OF +41".to_owned()), Some("OF 42".to_owned())]
        );
        assert_eq!(names_of(&[row("42"), row("41")]), [None, None]);
        assert_eq!(
            names_of(&[row(""), row("41")]),
            [Some("OF ".to_owned()), None]
        );
        // The API may write the number differently; no other row is left for it.
        let with_id = r#"{"to":"41","messageId":"default.a","status":{"name":"A"}}"#.to_owned();
        assert_eq!(
            names_of(&[with_id, row("0042")]),
            [Some("A".to_owned()), Some("OF 0042".to_owned())]
        );
    }

    #[test]
    fn each_row_has_its_own_status() {
        let body = r#"{"messages":[
            {"messageId":"a","status":{"name":"ONE","groupId":1}},
            {"messageId":"b","status":{"name":"ONE","groupId":1}},
            {"messageId":"c","status":{"name":"TWO","groupId":5}},
            {"messageId":"d"},
            {"messageId":"e","status":{"name":"ONE","groupId":1}}]}"#;
        let answer = read(body, &["a", "b", "c", "d", "e"]);
        assert_eq!(
            names(&answer),
            [Some("ONE"), Some("ONE"), Some("TWO"), Some(""), Some("ONE")]
        );
        let groups = answer.destinations.iter().flatten();
        let groups: Vec<_> = groups.map(|row| row.status.group_id).collect();
        assert_eq!(groups, [1, 1, 5, 0, 1]);
    }

    #[test]
    fn malformed_rows_do_not_spoil_a_response() {
        let body = r#"{"trackingProcessKey":"key","messages":[null,7,
            {"status":{"groupId":"5","groupName":"REJECTED","id":"51","name":"MISSING_TO","action":"Check to parameter."}},
            {"to":41793026731,"messageId":817790313235066447,"status":"what?","smsCount":"1"}]}"#;
        let answer = read(body, &["default.a", "817790313235066447"]);
        assert_eq!(answer.tracking_process_key.as_deref(), Some("key"));
        let [Some(rejected), Some(odd)] = answer.destinations.as_slice() else {
            panic!("two rows");
        };
        assert_eq!(rejected.status.group(), StatusGroup::Rejected);
        assert_eq!(rejected.status.action, "Check to parameter.");
        assert_eq!(odd.sms_count, Some(1));
        assert_eq!(odd.status.group(), StatusGroup::Unspecified);
    }

    #[test]
    fn bodies_that_are_not_a_send_response_are_unreadable() {
        for body in [
            "",
            "{}",
            "[]",
            "<html>",
            "{\"messages\":{}}",
            "{\"messages\":[{\"to\":\"4179",
            "{\"requestError\":{}}",
        ] {
            let answer = read_send_response(body.as_bytes(), std::iter::empty());
            assert!(answer.is_err(), "{body}");
        }
    }
}
