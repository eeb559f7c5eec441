//! `/_sim/requests` and `/_sim/pushes`: pages of what was received and of what was pushed, and one request with its bodies.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{CONTROL_SERIALIZES, json_response};
use crate::{
    engine::Engine,
    envelope::ApiError,
    http::{ApiResponse, Query},
};

pub(super) fn list(engine: &Arc<Engine>, query: &Query) -> Result<ApiResponse, ApiError> {
    let (limit, before) = (limit(query)?, before(query)?);
    let only_refused = query.get("refused") == Some("true");
    let log = engine.request_log();
    let mut latest: Vec<_> = log
        .iter()
        .rev()
        .filter(|record| record.seq < before && (!only_refused || record.refused.is_some()))
        .take(limit)
        .collect();
    latest.reverse();
    let Some(max_ids) = query.number("ids")? else {
        return Ok(json_response(&json!({"requests": latest})));
    };
    // A request may have sent very many messages.
    let max_ids = usize::try_from(max_ids).unwrap_or(0);
    let rows = latest.into_iter().map(|record| {
        let mut row = serde_json::to_value(record.with_ids(max_ids)).expect(CONTROL_SERIALIZES);
        row["messageCount"] = record.message_ids.len().into();
        row
    });
    Ok(json_response(
        &json!({"requests": rows.collect::<Vec<_>>()}),
    ))
}

/// One request with its bodies.
pub(super) fn show(engine: &Arc<Engine>, seq: &str, _: &Query) -> Result<ApiResponse, ApiError> {
    let log = engine.request_log();
    let record = seq.parse().ok().and_then(|seq| log.get(seq));
    let record =
        record.ok_or_else(|| ApiError::not_found("No request with this number is stored"))?;
    let mut request = serde_json::to_value(record).expect(CONTROL_SERIALIZES);
    let exchange = log.exchange(record.seq);
    request["body"] = json!(exchange.and_then(|exchange| exchange.request.as_ref()));
    request["answer"] = json!(exchange.and_then(|exchange| exchange.answer.as_ref()));
    request["recorded"] = Value::Bool(exchange.is_some());
    Ok(json_response(&request))
}

pub(super) fn pushes(engine: &Arc<Engine>, query: &Query) -> Result<ApiResponse, ApiError> {
    let (limit, before) = (limit(query)?, before(query)?);
    let wanted = query.get("state");
    if wanted.is_some_and(|state| !["pending", "delivered", "lost"].contains(&state)) {
        let reason = "must be pending, delivered or lost";
        return Err(ApiError::invalid("state", reason));
    }
    let state = engine.lock();
    let mut latest: Vec<_> = state
        .pushes
        .before(before)
        .rev()
        .filter(|push| wanted.is_none_or(|wanted| push.state_name() == wanted))
        .take(limit)
        .collect();
    latest.reverse();
    Ok(json_response(&json!({"pushes": latest})))
}

/// The number of rows; all without a limit.
fn limit(query: &Query) -> Result<usize, ApiError> {
    Ok(query
        .number("limit")?
        .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(0)))
}

/// The number before which a page ends.
fn before(query: &Query) -> Result<u64, ApiError> {
    Ok(query
        .number("before")?
        .map_or(u64::MAX, |before| u64::try_from(before).unwrap_or(0)))
}
