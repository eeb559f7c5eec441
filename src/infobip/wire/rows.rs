//! Splits a body into rows and reads each row on its own.
//!
//! Invariant: a malformed row does not affect the other rows. Neighbour: `infobip::xml` splits XML bodies.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::scalar::Scalar;
use crate::infobip::xml;
pub(super) use crate::primitives::json_error::describe as json_detail;

/// Maximum number of rows of a body, to bound memory. The API returns at most [`limits::MAX_ROWS`](crate::infobip::limits::MAX_ROWS).
pub(in crate::infobip) const MAX_BODY_ROWS: usize = 20_000;
/// After this many malformed rows the rest of the body counts as one malformed row, to bound the search for good rows.
pub(in crate::infobip) const MAX_BROKEN_ROWS: usize = 100;

#[derive(Debug, Clone, PartialEq)]
pub struct Rows<T> {
    /// The readable rows, in order.
    pub rows: Vec<T>,
    pub bad: Vec<BadRow>,
    /// API: `bulkId` beside the rows: of the request, in the answers to number look-ups. Empty if absent.
    pub bulk_id: String,
    /// API: `messageCount`, of received messages.
    pub message_count: Option<i32>,
    /// API: `pendingMessageCount`, of received messages: how many remain unread.
    pub pending_message_count: Option<i32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// The row as received; its end is a guess if the body is malformed.
    pub payload: String,
    /// The reason, without any content of the body.
    pub detail: String,
}

/// No row of the body could be read, and it is not an empty list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body cannot be read: {detail}")]
pub struct UnreadableBody {
    /// The reason, without any content of the body.
    pub detail: String,
}

impl UnreadableBody {
    pub(in crate::infobip) fn new(detail: impl Into<String>) -> Self {
        Self {
            detail: detail.into(),
        }
    }

    /// Without serde's own message, which may quote the content.
    pub(in crate::infobip) fn json(error: &serde_json::Error) -> Self {
        Self::new(json_detail(error))
    }
}

/// A body split into rows of unparsed JSON.
#[derive(Debug, Default)]
pub(in crate::infobip) struct RawRows<'a> {
    pub(in crate::infobip) rows: Vec<Cow<'a, str>>,
    pub(in crate::infobip) bad: Vec<BadRow>,
    pub(in crate::infobip) bulk_id: String,
    pub(in crate::infobip) message_count: Option<i32>,
    pub(in crate::infobip) pending_message_count: Option<i32>,
    /// The whole document if it has no list: it may be a single row.
    pub(in crate::infobip) single: Option<Cow<'a, str>>,
}

/// Splits a body and reads each row with `read`, which takes the row as JSON and returns the reason if it cannot read it.
pub(super) fn read_rows<T>(
    body: &[u8],
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Rows<T>, UnreadableBody> {
    // Invalid UTF-8 in one text must not make the whole batch unreadable.
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}').trim();
    let split = match text.as_bytes().first() {
        None => return Err(UnreadableBody::new("it is empty")),
        Some(b'<') => xml::split(text)?,
        Some(_) => split_json(text)?,
    };
    if let Some(single) = split.single {
        let row = read(&single).map_err(UnreadableBody::new)?;
        return Ok(Rows {
            rows: vec![row],
            bad: Vec::new(),
            bulk_id: String::new(),
            message_count: None,
            pending_message_count: None,
        });
    }
    let mut rows = Vec::with_capacity(split.rows.len());
    let mut bad = split.bad;
    for row in split.rows {
        // A list would be read as the fields of a row by their positions, and so as a row that nobody sent.
        let read = if row.starts_with('{') {
            read(&row)
        } else {
            Err("the row is not an object".to_owned())
        };
        match read {
            Ok(row) => rows.push(row),
            Err(detail) => bad.push(BadRow {
                payload: row.into_owned(),
                detail,
            }),
        }
    }
    Ok(Rows {
        rows,
        bad,
        bulk_id: split.bulk_id,
        message_count: split.message_count,
        pending_message_count: split.pending_message_count,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Document<'a> {
    // Distinguishes null from absent.
    #[serde(borrow, deserialize_with = "present")]
    results: Option<&'a RawValue>,
    #[serde(borrow)]
    bulk_id: Scalar<'a>,
    #[serde(borrow)]
    message_count: Scalar<'a>,
    #[serde(borrow)]
    pending_message_count: Scalar<'a>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

fn split_json(text: &str) -> Result<RawRows<'_>, UnreadableBody> {
    if text.starts_with('[') {
        return split_list(text);
    }
    if !text.starts_with('{') {
        return Err(UnreadableBody::new("it is neither JSON nor XML"));
    }
    let document: Document<'_> = match serde_json::from_str(text) {
        Ok(document) => document,
        Err(error) => return recover(text, &error),
    };
    let split = match document.results.map(RawValue::get) {
        Some(list) if list.starts_with('[') => split_list(list)?,
        // A single row without a list, or a list within another object, as in converted XML.
        Some(object) if object.starts_with('{') => {
            let inner: Inner<'_> =
                serde_json::from_str(object).map_err(|error| UnreadableBody::json(&error))?;
            match inner.result.map(RawValue::get) {
                Some(list) if list.starts_with('[') => split_list(list)?,
                Some(row) => one(row),
                None => one(object),
            }
        }
        Some("null") => RawRows::default(),
        Some(_) => return Err(UnreadableBody::new("`results` is not a list")),
        None if text[1..].trim_start().starts_with('}') => RawRows::default(),
        None => RawRows {
            single: Some(Cow::Borrowed(text)),
            ..RawRows::default()
        },
    };
    Ok(RawRows {
        bulk_id: document.bulk_id.into_text(),
        message_count: document.message_count.integer(),
        pending_message_count: document.pending_message_count.integer(),
        ..split
    })
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Inner<'a> {
    #[serde(borrow, alias = "results")]
    result: Option<&'a RawValue>,
}

fn one(row: &str) -> RawRows<'_> {
    RawRows {
        rows: vec![Cow::Borrowed(row)],
        ..RawRows::default()
    }
}

fn split_list(list: &str) -> Result<RawRows<'_>, UnreadableBody> {
    match serde_json::from_str::<Vec<&RawValue>>(list) {
        Ok(rows) if rows.len() > MAX_BODY_ROWS => Err(too_many_rows()),
        Ok(rows) => Ok(RawRows {
            rows: rows
                .into_iter()
                .map(|row| Cow::Borrowed(row.get()))
                .collect(),
            ..RawRows::default()
        }),
        Err(error) => recover(list, &error),
    }
}

pub(in crate::infobip) fn too_many_rows() -> UnreadableBody {
    UnreadableBody::new(format!("it has more than {MAX_BODY_ROWS} rows"))
}

/// Finds the rows of a body with malformed JSON: a row that parses is good; a row that does not parse ends where the next row
/// seems to begin.
fn recover<'a>(text: &'a str, error: &serde_json::Error) -> Result<RawRows<'a>, UnreadableBody> {
    let list = match text.find("\"results\"") {
        Some(at) => text[at..].find('[').map(|offset| at + offset),
        None => text.starts_with('[').then_some(0),
    };
    let mut rest = match list {
        Some(at) => &text[at + 1..],
        None => return Err(UnreadableBody::json(error)),
    };
    let mut split = RawRows::default();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ',');
        if rest.is_empty() || rest.strip_prefix(']').is_some_and(is_end_of_list) {
            break;
        }
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&'a RawValue>();
        match values.next() {
            Some(Ok(row)) if is_end_of_row(&rest[values.byte_offset()..]) => {
                rest = &rest[values.byte_offset()..];
                split.rows.push(Cow::Borrowed(row.get()));
            }
            _ => {
                let given_up = split.bad.len() + 1 >= MAX_BROKEN_ROWS;
                let end = next_row(rest).filter(|_| !given_up).unwrap_or(rest.len());
                let (broken, after) = rest.split_at(end);
                split.bad.push(BadRow {
                    payload: broken.trim_end().trim_end_matches(',').to_owned(),
                    detail: "the row is malformed JSON".to_owned(),
                });
                rest = after;
            }
        }
        if split.rows.len() > MAX_BODY_ROWS {
            return Err(too_many_rows());
        }
    }
    if split.rows.is_empty() {
        return Err(UnreadableBody::json(error));
    }
    Ok(split)
}

/// Whether a row can end here: at the end of the list, before the next row, or where the body was truncated.
fn is_end_of_row(after: &str) -> bool {
    matches!(
        after.trim_start().as_bytes().first(),
        None | Some(b',' | b']')
    )
}

fn is_end_of_list(after: &str) -> bool {
    matches!(
        after.trim_start().as_bytes().first(),
        None | Some(b',' | b'}')
    )
}

/// The likely start of the next row: a brace after a comma or another brace. Objects within a row follow a colon, and a text
/// that looks like a row does not parse, because its quotes are escaped.
fn next_row(rest: &str) -> Option<usize> {
    let mut last = 0;
    for (at, byte) in rest.bytes().enumerate() {
        if byte == b'{' && matches!(last, b',' | b'}') {
            return Some(at);
        }
        if !byte.is_ascii_whitespace() {
            last = byte;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(body: &str) -> Result<(Vec<String>, usize), UnreadableBody> {
        read_rows(body.as_bytes(), |row| {
            row.contains("\"id\"")
                .then(|| row.to_owned())
                .ok_or_else(|| "no id".to_owned())
        })
        .map(|rows| (rows.rows, rows.bad.len()))
    }

    #[test]
    fn rows_are_found_in_every_structure() {
        let expected = Ok((vec![r#"{"id":1}"#.to_owned(), r#"{"id":2}"#.to_owned()], 0));
        for body in [
            r#"{"results":[{"id":1},{"id":2}],"messageCount":2}"#,
            r#" [ {"id":1} , {"id":2} ] "#,
            r#"{"results":{"result":[{"id":1},{"id":2}]}}"#,
            "\u{feff}{\"results\":[{\"id\":1},{\"id\":2}]}",
        ] {
            assert_eq!(rows(body), expected, "{body}");
        }
        let single = Ok((vec![r#"{"id":1}"#.to_owned()], 0));
        for body in [
            r#"{"id":1}"#,
            r#"{"results":{"id":1}}"#,
            r#"{"results":{"result":{"id":1}}}"#,
        ] {
            assert_eq!(rows(body), single, "{body}");
        }
        for body in [
            "{}",
            "{ }",
            r#"{"results":[]}"#,
            r#"{"results":null}"#,
            "[]",
        ] {
            assert_eq!(rows(body), Ok((vec![], 0)), "{body}");
        }
    }

    #[test]
    fn a_malformed_row_does_not_affect_its_neighbours() {
        for (body, good, bad) in [
            (
                r#"{"results":[{"id":1},{"id":2,"x":{"y":1},"z},{"id":3}]}"#,
                2,
                1,
            ),
            (r#"{"results":[{"id":1},7,null,{"id":3}]}"#, 2, 2),
            (r#"{"results":[{"id":1},{"id":2}"#, 2, 0),
            (r#"{"results":[{"id":1},{"id":2},{"id":"#, 2, 1),
            (r#"{"results":[{"id":1}}, {"id":2},{"id":3}]}"#, 2, 1),
            (r#"[{"id":1},{"id" 2},{"id":3}]"#, 2, 1),
            (r#"[{"id":1},{"id":2,"x":{"y":1},{"id":3}]"#, 2, 1),
            (r#"[{"id":1},"id":2},{"id":3}]"#, 2, 1),
            (r#"[{"id":1,"t":"a \"},{\"id\":7},"x},{"id":3}]"#, 1, 2),
            (r#"{"results":[{"id":1},{"id":2}],"messageCount":}"#, 2, 0),
        ] {
            let found = rows(body).map(|(rows, bad)| (rows.len(), bad));
            assert_eq!(found, Ok((good, bad)), "{body}");
        }
    }

    #[test]
    fn bodies_without_rows_are_unreadable() {
        for body in [
            "",
            "  ",
            "hello",
            "7",
            "\"text\"",
            r#"{"requestError":{"serviceException":{}}}"#,
            r#"{"results":7}"#,
            r#"{"results":[{"id":"#,
            "<html><body>Bad gateway</body></html>",
        ] {
            assert!(rows(body).is_err(), "{body}");
        }
    }

    #[test]
    fn the_search_stops_after_too_many_malformed_rows() {
        let body = format!("[{{\"id\":1}}{}", ",{\"a\":[{}".repeat(50_000));
        let (good, bad) = rows(&body).unwrap();
        assert!(good.len() <= MAX_BROKEN_ROWS && bad <= 2 * MAX_BROKEN_ROWS);
    }
}
