//! `ListSmsLogs`: pages by time windows, as the API has none (docs/INFOBIP_API.md#logs).
//!
//! The API gives the newest rows of a window, at most 1000. A page token is the moment of the oldest row given, with the ids
//! given of that very millisecond: the next page asks until then and leaves those out. Where a single millisecond holds more
//! rows than the API gives at once, the rest of it can't be reached; the token then goes on before it.

use std::collections::HashSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};

use crate::grpc::{ServiceContext, auth::caller::Caller, failure::Failure};
use crate::{
    infobip::{LogsQuery, limits, wire},
    message::{
        id::{callers_bulk_id, check_caller_id, owner},
        time,
    },
    proto::v1::{self, StatusGroup},
};

/// Ids of one request at most, so that they fit the API's filter.
const MAX_IDS: usize = 50;

pub(super) async fn page(
    context: &ServiceContext,
    caller: &Caller,
    request: v1::ListSmsLogsRequest,
) -> Result<v1::ListSmsLogsResponse, Failure> {
    let rows = match request.page_size {
        0 => limits::DEFAULT_ROWS,
        size if (1..=limits::MAX_ROWS.cast_signed()).contains(&size) => size.unsigned_abs(),
        _ => {
            return Err(Failure::invalid(
                "page_size",
                format!("must be between 1 and {}", limits::MAX_ROWS),
            ));
        }
    };
    let token = PageToken::parse(&request.page_token)?;
    let mut query = query(caller, &request)?;
    if let Some(token) = &token {
        query.sent_until = Some(token.until);
    }
    // Room for the rows of the last page that come again.
    let again = token.as_ref().map_or(0, |token| token.given.len());
    let limit = rows.saturating_add(u32::try_from(again).unwrap_or(u32::MAX));
    query.limit = Some(limit.min(limits::MAX_ROWS));

    if let Err(retry_after) = context.log_quota.try_acquire() {
        return Err(Failure::LogQuotaExhausted { retry_after });
    }
    let answer = context.client.logs(&query).await?;
    let read = wire::read_logs(&answer.body)
        .map_err(|error| Failure::UnreadableResponse(error.to_string()))?;
    let came = read.rows.len() + read.bad.len();
    let full = u32::try_from(came).unwrap_or(u32::MAX) >= query.limit.unwrap_or_default();

    let mut next = NextPage::new(token.as_ref());
    let mut logs = Vec::new();
    for row in read.rows {
        let is_new = next.see(
            &row.wire_id,
            row.log.sent_at.as_ref().and_then(time::from_proto),
        );
        let (application, message_id) = owner(&row.wire_id);
        if !is_new || !caller.may_see(&application) {
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
    let next_page_token = if full { next.token() } else { String::new() };
    Ok(v1::ListSmsLogsResponse {
        logs,
        next_page_token,
    })
}

fn query(caller: &Caller, request: &v1::ListSmsLogsRequest) -> Result<LogsQuery, Failure> {
    let moment = |field: &str, at: Option<&pbjson_types::Timestamp>| match at {
        None => Ok(None),
        Some(at) => time::from_proto(at)
            .map(Some)
            .ok_or_else(|| Failure::invalid(field, "is not a time")),
    };
    for (field, ids) in [
        ("message_ids", &request.message_ids),
        ("bulk_ids", &request.bulk_ids),
    ] {
        if ids.len() > MAX_IDS {
            return Err(Failure::invalid(
                field,
                format!("has more than {MAX_IDS} ids"),
            ));
        }
        for (index, id) in ids.iter().enumerate() {
            // `~` is in ids that the bridge derived.
            check_caller_id(&id.replace('~', "-"))
                .map_err(|error| Failure::invalid(&format!("{field}[{index}]"), error))?;
        }
    }
    let general_status = match StatusGroup::try_from(request.general_status) {
        Ok(StatusGroup::Unspecified) => None,
        Ok(group) => Some(group),
        Err(_) => {
            return Err(Failure::invalid(
                "general_status",
                "is not a group of this contract",
            ));
        }
    };
    let wire = |ids: &[String]| {
        ids.iter()
            .map(|id| caller.application.wire_id(id))
            .collect()
    };
    Ok(LogsQuery {
        from: given(&request.from),
        to: given(&request.to),
        bulk_ids: wire(&request.bulk_ids),
        message_ids: wire(&request.message_ids),
        general_status,
        sent_since: moment("sent_since", request.sent_since.as_ref())?,
        sent_until: moment("sent_until", request.sent_until.as_ref())?,
        limit: None,
        mcc: given(&request.mcc),
        mnc: given(&request.mnc),
    })
}

fn given(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// Where the next page begins.
struct PageToken {
    until: Timestamp,
    given: HashSet<String>,
}

impl PageToken {
    fn parse(token: &str) -> Result<Option<Self>, Failure> {
        if token.is_empty() {
            return Ok(None);
        }
        let read = || {
            let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
            let (until, given) = text.split_once('|')?;
            let until = Timestamp::from_millisecond(until.parse().ok()?).ok()?;
            Some(Self {
                until,
                given: given
                    .split(',')
                    .filter(|id| !id.is_empty())
                    .map(str::to_owned)
                    .collect(),
            })
        };
        read()
            .map(Some)
            .ok_or_else(|| Failure::invalid("page_token", "is not one that this method gave"))
    }

    fn write(&self) -> String {
        let mut given: Vec<&str> = self.given.iter().map(String::as_str).collect();
        given.sort_unstable();
        URL_SAFE_NO_PAD.encode(format!(
            "{}|{}",
            self.until.as_millisecond(),
            given.join(",")
        ))
    }
}

/// Finds the oldest millisecond of a page and what it gave of it.
struct NextPage<'a> {
    last: Option<&'a PageToken>,
    oldest: Option<PageToken>,
    new_rows: usize,
}

impl<'a> NextPage<'a> {
    fn new(last: Option<&'a PageToken>) -> Self {
        Self {
            last,
            oldest: None,
            new_rows: 0,
        }
    }

    /// Notes a row; false where the last page gave it.
    fn see(&mut self, wire_id: &str, sent_at: Option<Timestamp>) -> bool {
        let is_new = !self.last.is_some_and(|last| last.given.contains(wire_id));
        self.new_rows += usize::from(is_new);
        if let Some(sent_at) = sent_at {
            let moment = Timestamp::from_millisecond(sent_at.as_millisecond()).unwrap_or(sent_at);
            match &mut self.oldest {
                Some(oldest) if oldest.until < moment => {}
                Some(oldest) if oldest.until == moment => {
                    oldest.given.insert(wire_id.to_owned());
                }
                oldest => {
                    *oldest = Some(PageToken {
                        until: moment,
                        given: HashSet::from([wire_id.to_owned()]),
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
        if self.new_rows == 0 || oldest.given.len() >= limits::MAX_ROWS as usize {
            // A full millisecond: go on before it.
            let before = oldest
                .until
                .checked_sub(SignedDuration::from_millis(1))
                .unwrap_or(oldest.until);
            oldest = PageToken {
                until: before,
                given: HashSet::new(),
            };
        } else if let Some(last) = self.last.filter(|last| last.until == oldest.until) {
            oldest.given.extend(last.given.iter().cloned());
        }
        oldest.write()
    }
}
