//! The logs of sends: pages by time windows, because the API has no pages (docs/INFOBIP_API.md#logs).
//!
//! The API returns the newest rows of a window, at most 1000, of all applications. [`page_token`] tells where the next page begins.
//! Neighbours: `infobip::account` has the quota of log requests, and pauses it after a 429.

mod page_token;

use self::page_token::{NextPage, PageToken};

use super::{Viewer, violation};
use crate::{
    infobip::{
        LogsQuery,
        account::{Account, LogsError},
        limits,
        wire::{self, UnreadableBody},
    },
    message::{applications::Applications, id::check_caller_id, time},
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
    applications: &Applications,
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
    let token = PageToken::parse(&request.page_token)
        .map_err(|()| LogsPageError::invalid("page_token", "is not a page token of this method"))?;
    let mut query = query(viewer, request)?;
    if let Some(token) = &token {
        query.sent_until = Some(token.until);
    }
    // The rows of the token are returned again and left out.
    let repeated = token.as_ref().map_or(0, PageToken::rows);
    let limit = rows.saturating_add(u32::try_from(repeated).unwrap_or(u32::MAX));
    query.limit = Some(limit.min(limits::MAX_ROWS));

    let answer = account.logs_now(&query).await;
    let read = wire::read_logs(&answer.map_err(LogsPageError::Logs)?.body)?;
    let returned = read.rows.len() + read.bad.len();
    let is_full = u32::try_from(returned).unwrap_or(u32::MAX) >= query.limit.unwrap_or_default();

    let mut next = NextPage::new(token.as_ref());
    let mut logs = Vec::new();
    for row in read.rows {
        let (application, message_id) = applications.owner(&row.wire_id);
        let visible_id = viewer.may_see(&application).then_some(&*row.wire_id);
        let sent_at = row.log.sent_at.as_ref().and_then(time::from_proto);
        if !next.note_row(visible_id, sent_at) || visible_id.is_none() {
            continue;
        }
        let message_id = message_id.to_owned();
        let bulk_id = applications.callers_bulk_id(&row.log.bulk_id);
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
