//! Reads a body: which events it gives, and what of it must be in quarantine. Pushes, pulls and replays of the quarantine all read here.
//!
//! Invariant: nothing of a body is left out: each row is an event or goes to quarantine, and a body of which no row can be read, or that is
//! not UTF-8, goes there whole. Neighbours: `intake` stores what was read, `infobip::wire` reads the rows.

use std::borrow::Cow;

use bytes::Bytes;
use percent_encoding::percent_decode;
use uuid::Uuid;

use super::Intake;
use crate::{
    events::{
        NewEvent,
        quarantine::{Origin, Source},
    },
    infobip::wire::{self, LookupRow, Rows, UnreadableBody},
    message::id::{ApplicationName, FOREIGN_APPLICATION},
    proto::v1::ReportSource,
};

/// Why a body that was read is in quarantine too.
pub(super) const NOT_UTF8: &str =
    "it is not UTF-8: its rows are events, with U+FFFD in place of the other bytes";

/// What a body gives.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) events: Vec<NewEvent>,
    pub(super) unread: Vec<Unread>,
    /// Why no row could be read.
    pub(super) unreadable: Option<String>,
    /// API: `messageCount`. 0 if absent.
    pub(super) message_count: i32,
    /// API: `pendingMessageCount`. 0 if absent.
    pub(super) pending_message_count: i32,
}

/// What must be in quarantine.
pub(super) struct Unread {
    pub(super) body: Bytes,
    /// Without any of its content.
    pub(super) detail: String,
    pub(super) is_row: bool,
    /// As in [`Origin`]: the body around a row may say it.
    pub(super) request: String,
}

impl Intake {
    /// With `ids_from` the same body gives the same event ids each time, where others would be random.
    pub(super) fn read(&self, origin: &Origin, ids_from: Option<Uuid>, body: &Bytes) -> Reading {
        // A row is read as it was: in a list, which says what is a row and what is not.
        let listed = match origin.is_row {
            true => Cow::Owned(as_list(body)),
            false => Cow::Borrowed(body.as_ref()),
        };
        match &*origin.endpoint {
            "reports" => {
                let source = match origin.source {
                    Source::Pull => ReportSource::Pull,
                    Source::Push | Source::Query | Source::Unknown => ReportSource::Push,
                };
                let event = |row| self.report_event(source, row);
                reading(origin, body, wire::read_reports(&listed), event)
            }
            "inbound" if origin.source == Source::Query => self.read_query(ids_from, body),
            "inbound" => {
                let read = match ids_from {
                    Some(id) => wire::read_inbox_of(id, &listed),
                    None => wire::read_inbox(&listed),
                };
                reading(origin, body, read, |row| self.received_event(row))
            }
            "clicks" => reading(origin, body, wire::read_clicks(&listed), |row| {
                NewEvent::click(
                    &self.applications,
                    &row.wire_id,
                    row.click,
                    row.source_payload,
                )
            }),
            "lookups" => {
                let read = wire::read_lookups(&listed);
                let bulk_id = read.as_ref().map_or("", |rows| &rows.bulk_id).to_owned();
                reading(origin, body, read, |row| {
                    self.lookup_event(origin, &bulk_id, row)
                })
            }
            _ => unreadable(body, "nothing tells what its rows are".to_owned()),
        }
    }

    /// Of one that names no application any more, or one that does not exist, the results are `foreign`. What identifies the request is
    /// outside of the body; where it is not, the API's ids do: that of the request, which it leaves out for one number, or that of the row.
    fn lookup_event(&self, origin: &Origin, bulk_id: &str, row: LookupRow) -> NewEvent {
        let application = match ApplicationName::parse(&origin.application) {
            Ok(named) if self.applications.exists(&named) => named.as_str().to_owned(),
            Ok(_) => FOREIGN_APPLICATION.to_owned(),
            Err(_) => ApplicationName::default_application().as_str().to_owned(),
        };
        let ids = [&origin.request, bulk_id, &row.lookup_id];
        let request = ids.into_iter().find(|id| !id.is_empty());
        let request = request.unwrap_or_default().to_owned();
        NewEvent::lookup(&application, &request, row.lookup, row.source_payload)
    }

    /// Reads the query of a pushed GET, whose parameters have the names and the formatting of the operator's template.
    fn read_query(&self, ids_from: Option<Uuid>, query: &Bytes) -> Reading {
        let (names, output) = &*self.template;
        let (pairs, is_utf8) = pairs(query);
        let pairs = pairs.iter().map(|(name, value)| (name, value));
        let read = match ids_from {
            Some(id) => wire::received_from_query_of(id, pairs, names, *output),
            None => wire::received_from_query(pairs, names, *output),
        };
        match read {
            Ok(row) => Reading {
                events: vec![self.received_event(row)],
                unread: match is_utf8 {
                    true => Vec::new(),
                    false => vec![whole(query, NOT_UTF8.to_owned())],
                },
                ..Reading::default()
            },
            Err(error) => unreadable(query, error.to_string()),
        }
    }
}

fn reading<T>(
    origin: &Origin,
    body: &Bytes,
    read: Result<Rows<T>, UnreadableBody>,
    event: impl FnMut(T) -> NewEvent,
) -> Reading {
    let rows = match read {
        Ok(rows) => rows,
        Err(error) => return unreadable(body, error.to_string()),
    };
    let mut unread = Vec::new();
    if std::str::from_utf8(body).is_err() {
        unread.push(whole(body, NOT_UTF8.to_owned()));
    }
    let request = match origin.request.as_str() {
        "" => rows.bulk_id,
        known => known.to_owned(),
    };
    unread.extend(rows.bad.into_iter().map(|row| Unread {
        body: row.payload.into(),
        detail: row.detail,
        is_row: true,
        request: request.clone(),
    }));
    Reading {
        events: rows.rows.into_iter().map(event).collect(),
        unread,
        unreadable: None,
        message_count: rows.message_count.unwrap_or_default(),
        pending_message_count: rows.pending_message_count.unwrap_or_default(),
    }
}

fn unreadable(body: &Bytes, detail: String) -> Reading {
    Reading {
        unread: vec![whole(body, detail.clone())],
        unreadable: Some(detail),
        ..Reading::default()
    }
}

fn whole(body: &Bytes, detail: String) -> Unread {
    Unread {
        body: body.clone(),
        detail,
        is_row: false,
        request: String::new(),
    }
}

/// A body with this row alone.
fn as_list(row: &[u8]) -> Vec<u8> {
    let (before, after): (&[u8], &[u8]) = match row.trim_ascii_start().first() {
        Some(b'<') => (b"<list><results>", b"</results></list>"),
        _ => (b"{\"results\":[", b"]}"),
    };
    [before, row, after].concat()
}

/// The parameters of a query, and whether all of it is UTF-8.
fn pairs(query: &[u8]) -> (Vec<(String, String)>, bool) {
    let mut is_utf8 = true;
    let mut decoded = |part: &[u8]| {
        let spaced: Vec<u8> = part
            .iter()
            .map(|byte| if *byte == b'+' { b' ' } else { *byte })
            .collect();
        let bytes: Vec<u8> = percent_decode(&spaced).collect();
        is_utf8 &= std::str::from_utf8(&bytes).is_ok();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let parts = query.split(|byte| *byte == b'&');
    let pairs = parts.filter(|part| !part.is_empty()).map(|part| {
        let equals = part.iter().position(|byte| *byte == b'=');
        let (name, value) = match equals {
            Some(at) => (&part[..at], &part[at + 1..]),
            None => (part, &part[..0]),
        };
        (decoded(name), decoded(value))
    });
    (pairs.collect(), is_utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_as_a_form() {
        let (decoded, is_utf8) = pairs(b"a=1+2%2B&&b&c=%C3%A4=&d=");
        let expected = [("a", "1 2+"), ("b", ""), ("c", "\u{e4}="), ("d", "")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!((decoded.as_slice(), is_utf8), (expected.as_slice(), true));
        assert_eq!(
            pairs(b"a=%E4"),
            (vec![("a".into(), "\u{fffd}".into())], false)
        );
    }
}
