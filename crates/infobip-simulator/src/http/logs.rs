//! `GET /sms/1/logs`: messages sent in the last 48 h; reading does not consume them (manual "GETTING SMS LOGS").

use crate::{
    envelope::ApiError,
    http::{ApiRequest, ApiResponse},
    render::{self, MessageRow, Results, StatusObject},
    store::{Bulk, Message, MessageStore},
};

/// Maximum length of an id filter (docs/INFOBIP_API.md#limits).
const MAX_FILTER_CHARACTERS: usize = 2048;
const GENERAL_STATUSES: [&str; 6] = [
    "ACCEPTED",
    "PENDING",
    "UNDELIVERABLE",
    "DELIVERED",
    "EXPIRED",
    "REJECTED",
];

/// Lists the messages that match the filters, latest first.
pub fn list(request: &ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let config = &request.engine.config;
    if !request
        .engine
        .lock()
        .admit_log_request(config.logs_per_minute)
    {
        let mut error = ApiError::too_many_requests();
        error.retry_after_seconds = config.retry_after.then_some(60);
        return Err(error);
    }
    let query = &request.query;
    let limit = query.limit()?;
    let (bulk_ids, message_ids) = (query.list("bulkId"), query.list("messageId"));
    for (name, ids) in [("bulkId", &bulk_ids), ("messageId", &message_ids)] {
        if ids.iter().map(|id| id.chars().count() + 1).sum::<usize>() > MAX_FILTER_CHARACTERS + 1 {
            return Err(ApiError::invalid(name, "must not exceed 2048 characters"));
        }
    }
    let general_status = query.get("generalStatus");
    if general_status.is_some_and(|status| !GENERAL_STATUSES.contains(&status)) {
        return Err(ApiError::invalid(
            "generalStatus",
            "must be ACCEPTED, PENDING, UNDELIVERABLE, DELIVERED, EXPIRED or REJECTED",
        ));
    }
    let (mcc, mnc) = (query.get("mcc"), query.get("mnc"));
    if mnc.is_some() && mcc.is_none() {
        return Err(ApiError::invalid("mcc", "must be given with mnc"));
    }
    let from = query.get("from");
    let to = query.get("to").map(|to| to.trim().trim_start_matches('+'));
    let (since_ms, until_ms) = (query.date("sentSince")?, query.date("sentUntil")?);

    let state = request.engine.lock();
    let now_ms = state.clock.now_ms();
    let since_ms = since_ms
        .unwrap_or(i64::MIN)
        .max(now_ms - config.log_retention_ms);
    // Scheduled messages appear in the logs with their scheduled time.
    let until_ms = until_ms.unwrap_or(i64::MAX);
    let matches_filters = |message: &&Message| {
        message.in_logs_from_ms <= now_ms
            && (since_ms..=until_ms).contains(&message.sent_at_ms)
            && (message_ids.is_empty() || message_ids.contains(&&*message.id))
            && (bulk_ids.is_empty() || bulk_ids.contains(&&*message.bulk_id))
            && from.is_none_or(|from| message.content.from == from)
            && to.is_none_or(|to| *message.to == *to)
            && general_status
                .is_none_or(|status| StatusObject(message.status).group_name() == status)
            && mcc.is_none_or(|mcc| message.network.is_some_and(|network| network.mcc == mcc))
            && mnc.is_none_or(|mnc| message.network.is_some_and(|network| network.mnc == mnc))
    };
    let row = |message| render::log_row(message, &config.currency);
    let results: Vec<MessageRow<'_>> = if message_ids.is_empty() && bulk_ids.is_empty() {
        state
            .messages
            .by_sent(since_ms, until_ms)
            .filter(matches_filters)
            .take(limit)
            .map(row)
            .collect()
    } else {
        let mut messages_with_ids = with_ids(&state.messages, &message_ids, &bulk_ids);
        messages_with_ids.retain(matches_filters);
        messages_with_ids.into_iter().take(limit).map(row).collect()
    };
    Ok(request.respond("smsLogsResponse", &Results { results }))
}

/// The messages with the requested ids, latest first.
fn with_ids<'a>(
    messages: &'a MessageStore,
    message_ids: &[&str],
    bulk_ids: &[&str],
) -> Vec<&'a Message> {
    let mut rows: Vec<_> = if message_ids.is_empty() {
        bulk_ids
            .iter()
            .filter_map(|id| messages.bulk(id))
            .flat_map(Bulk::rows)
            .collect()
    } else {
        message_ids
            .iter()
            .flat_map(|id| messages.with_id(id))
            .copied()
            .collect()
    };
    rows.sort_unstable_by(|a, b| b.cmp(a));
    rows.dedup();
    let mut messages_with_ids: Vec<_> = rows
        .into_iter()
        .filter_map(|row| messages.get(row))
        .collect();
    messages_with_ids.sort_by_key(|message| std::cmp::Reverse(message.sent_at_ms));
    messages_with_ids
}
