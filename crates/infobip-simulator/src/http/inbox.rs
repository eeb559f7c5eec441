//! `GET /sms/1/inbox/reports` and `/sms/1/inbox/logs`: received messages, consumed by reading or listed repeatedly (manual "PULL
//! RECEIVED MESSAGE"; the logs from the official clients' sources).

use crate::{
    envelope::ApiError,
    http::{ApiRequest, ApiResponse},
    render::{self, Results},
};

/// Returns unread messages and removes them.
pub fn pull(request: &ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let limit = request.query.limit()?;
    let config = &request.engine.config;
    let mut state = request.engine.lock();
    let now_ms = state.clock.now_ms();
    let oldest_ms = now_ms - config.log_retention_ms;
    let (received, pending) = state.inbox.take_unread(oldest_ms, now_ms, limit);
    for message in &received {
        state.phone_changed(message.phone);
    }
    drop(state);
    let mut response = request.respond(
        "reportResponse",
        &render::inbox_response(&received, pending, &config.currency),
    );
    response.message_ids = received.into_iter().map(|message| message.id).collect();
    Ok(response)
}

/// Lists received messages of the last 48 h, latest first.
pub fn list(request: &ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let query = &request.query;
    let limit = query.limit()?;
    let (since_ms, until_ms) = (query.date("receivedSince")?, query.date("receivedUntil")?);
    let to = query.get("to").map(|to| to.trim().trim_start_matches('+'));
    let keyword = query.get("keyword");
    let config = &request.engine.config;
    let state = request.engine.lock();
    let oldest_ms = state.clock.now_ms() - config.log_retention_ms;
    let results = state
        .inbox
        .received
        .iter()
        .rev()
        .filter(|message| {
            message.received_at_ms >= since_ms.unwrap_or(i64::MIN).max(oldest_ms)
                && until_ms.is_none_or(|until| message.received_at_ms <= until)
                && to.is_none_or(|to| message.to.trim_start_matches('+') == to)
                && keyword.is_none_or(|filter| match &message.keyword {
                    None => filter == "NO_KEYWORD",
                    Some(keyword) => keyword.eq_ignore_ascii_case(filter),
                })
        })
        .take(limit)
        .map(|message| render::received_row(message, &config.currency))
        .collect();
    Ok(request.respond("reportResponse", &Results { results }))
}
