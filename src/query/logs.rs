//! The logs of sends: pages by time windows, because the API has no pages (docs/INFOBIP_API.md#logs).
//!
//! The API returns the newest rows of a window, at most 1000. A page token contains the time of the oldest row of the page and
//! the ids of the rows with that time: the next page queries up to this time and leaves these rows out. If one millisecond has
//! more rows than one response of the API, the other rows cannot be reached; the next page then begins before the millisecond.
//! Neighbours: `infobip::account` has the quota of log requests, and pauses it after a 429.

use std::collections::HashSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};

use super::{Viewer, violation};
use crate::{
    infobip::{
        LogsQuery,
        account::{Account, LogsError},
        limits,
        wire::{self, UnreadableBody},
    },
    message::{
        id::{callers_bulk_id, check_caller_id, owner},
        time,
    },
    proto::v1::{self, FieldViolation, StatusGroup},
};

/// Ids in one request at most, so that they fit into the API's filter.
const MAX_IDS: usize = 50;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum LogsPageError {
    #[error("a field of the request is invalid")]
    Invalid(FieldViolation),
    #[error("the logs were not read")]
    Logs(LogsError),
    #[error(transparent)]
    Unreadable(#[from] UnreadableBody),
}

impl LogsPageError {
    fn invalid(field: &str, description: impl ToString) -> Self {
        Self::Invalid(violation(field, description))
    }
}

pub(super) async fn page(
    account: &Account,
    viewer: &Viewer,
    request: &v1::ListSmsLogsRequest,
) -> Result<v1::ListSmsLogsResponse, LogsPageError> {
    let rows = match request.page_size {
        0 => limits::DEFAULT_ROWS,
        size if (1..=limits::MAX_ROWS.cast_signed()).contains(&size) => size.unsigned_abs(),
        _ => {
            return Err(LogsPageError::invalid(
                "page_size",
                format!("must be between 1 and {}", limits::MAX_ROWS),
            ));
        }
    };
    let token = PageToken::parse(&request.page_token)?;
    let mut query = query(viewer, request)?;
    if let Some(token) = &token {
        query.sent_until = Some(token.until);
    }
    // The rows of the token are returned again and left out.
    let repeated = token.as_ref().map_or(0, |token| token.ids.len());
    let limit = rows.saturating_add(u32::try_from(repeated).unwrap_or(u32::MAX));
    query.limit = Some(limit.min(limits::MAX_ROWS));

    let answer = account.logs_now(&query).await;
    let read = wire::read_logs(&answer.map_err(LogsPageError::Logs)?.body)?;
    let returned = read.rows.len() + read.bad.len();
    let is_full = u32::try_from(returned).unwrap_or(u32::MAX) >= query.limit.unwrap_or_default();

    let mut next = NextPage::new(token.as_ref());
    let mut logs = Vec::new();
    for row in read.rows {
        let is_new = next.note_row(
            &row.wire_id,
            row.log.sent_at.as_ref().and_then(time::from_proto),
        );
        let (application, message_id) = owner(&row.wire_id);
        if !is_new || !viewer.may_see(&application) {
            continue;
        }
        let message_id = message_id.to_owned();
        let bulk_id = callers_bulk_id(&row.log.bulk_id);
        logs.push(v1::SmsLog {
            message_id,
            bulk_id,
            application,
            ..row.log
        });
    }
    let next_page_token = if is_full { next.token() } else { String::new() };
    Ok(v1::ListSmsLogsResponse {
        logs,
        next_page_token,
    })
}

fn query(viewer: &Viewer, request: &v1::ListSmsLogsRequest) -> Result<LogsQuery, LogsPageError> {
    let timestamp = |field: &str, at: Option<&crate::proto::Timestamp>| match at {
        None => Ok(None),
        Some(at) => time::from_proto(at)
            .map(Some)
            .ok_or_else(|| LogsPageError::invalid(field, "is not a time")),
    };
    for (field, ids) in [
        ("message_ids", &request.message_ids),
        ("bulk_ids", &request.bulk_ids),
    ] {
        if ids.len() > MAX_IDS {
            return Err(LogsPageError::invalid(
                field,
                format!("has more than {MAX_IDS} ids"),
            ));
        }
        for (index, id) in ids.iter().enumerate() {
            // Ids that the bridge derived contain `~`.
            check_caller_id(&id.replace('~', "-"))
                .map_err(|error| LogsPageError::invalid(&format!("{field}[{index}]"), error))?;
        }
    }
    let general_status = match StatusGroup::try_from(request.general_status) {
        Ok(StatusGroup::Unspecified) => None,
        Ok(group) => Some(group),
        Err(_) => {
            return Err(LogsPageError::invalid(
                "general_status",
                "is not a StatusGroup",
            ));
        }
    };
    let wire = |ids: &[String]| {
        ids.iter()
            .map(|id| viewer.application.wire_id(id))
            .collect()
    };
    Ok(LogsQuery {
        from: non_empty(&request.from),
        to: non_empty(&request.to),
        bulk_ids: wire(&request.bulk_ids),
        message_ids: wire(&request.message_ids),
        general_status,
        sent_since: timestamp("sent_since", request.sent_since.as_ref())?,
        sent_until: timestamp("sent_until", request.sent_until.as_ref())?,
        limit: None,
        mcc: non_empty(&request.mcc),
        mnc: non_empty(&request.mnc),
    })
}

fn non_empty(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// Where the next page begins.
struct PageToken {
    /// The time of the oldest row so far, in whole milliseconds.
    until: Timestamp,
    /// The wire ids of the rows with that time, which were returned already.
    ids: HashSet<String>,
}

impl PageToken {
    fn parse(token: &str) -> Result<Option<Self>, LogsPageError> {
        if token.is_empty() {
            return Ok(None);
        }
        let read = || {
            let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
            let (until, ids) = text.split_once('|')?;
            let until = Timestamp::from_millisecond(until.parse().ok()?).ok()?;
            Some(Self {
                until,
                ids: ids
                    .split(',')
                    .filter(|id| !id.is_empty())
                    .map(str::to_owned)
                    .collect(),
            })
        };
        read().map(Some).ok_or_else(|| {
            LogsPageError::invalid("page_token", "is not a page token of this method")
        })
    }

    fn write(&self) -> String {
        let mut ids: Vec<&str> = self.ids.iter().map(String::as_str).collect();
        ids.sort_unstable();
        URL_SAFE_NO_PAD.encode(format!("{}|{}", self.until.as_millisecond(), ids.join(",")))
    }
}

/// Finds the token of the next page: the oldest millisecond of the current page, and the ids of the rows in that millisecond.
struct NextPage<'a> {
    previous: Option<&'a PageToken>,
    oldest: Option<PageToken>,
    new_rows: usize,
}

impl<'a> NextPage<'a> {
    fn new(previous: Option<&'a PageToken>) -> Self {
        Self {
            previous,
            oldest: None,
            new_rows: 0,
        }
    }

    /// Notes a row. Returns whether it is new, that is not in an earlier page.
    fn note_row(&mut self, wire_id: &str, sent_at: Option<Timestamp>) -> bool {
        let is_new = !self
            .previous
            .is_some_and(|previous| previous.ids.contains(wire_id));
        self.new_rows += usize::from(is_new);
        if let Some(sent_at) = sent_at {
            let millisecond =
                Timestamp::from_millisecond(sent_at.as_millisecond()).unwrap_or(sent_at);
            match &mut self.oldest {
                Some(oldest) if oldest.until < millisecond => {}
                Some(oldest) if oldest.until == millisecond => {
                    oldest.ids.insert(wire_id.to_owned());
                }
                oldest => {
                    *oldest = Some(PageToken {
                        until: millisecond,
                        ids: HashSet::from([wire_id.to_owned()]),
                    });
                }
            }
        }
        is_new
    }

    fn token(self) -> String {
        let Some(mut oldest) = self.oldest else {
            return String::new();
        };
        if self.new_rows == 0 || oldest.ids.len() >= limits::MAX_ROWS as usize {
            // The millisecond has at least as many rows as one response: the next page begins before it.
            let before = oldest
                .until
                .checked_sub(SignedDuration::from_millis(1))
                .unwrap_or(oldest.until);
            oldest = PageToken {
                until: before,
                ids: HashSet::new(),
            };
        } else if let Some(previous) = self
            .previous
            .filter(|previous| previous.until == oldest.until)
        {
            oldest.ids.extend(previous.ids.iter().cloned());
        }
        oldest.write()
    }
}
