//! `/_sim/messages`: the ledger of accepted messages.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::{CONTROL_SERIALIZES, json_response};
use crate::{
    dates::ApiDate,
    engine::Engine,
    envelope::ApiError,
    http::{ApiResponse, Query},
    render::{self, ErrorObject, StatusObject},
    store::Message,
    submission::MessageBody,
};

/// Rows serialized per acquisition of the lock.
const MAX_ROWS_PER_LOCK: u64 = 2000;

/// A row of the ledger: one for each accepted message.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LedgerRow<'a> {
    message_id: &'a str,
    bulk_id: &'a str,
    to: &'a str,
    from: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary: Option<Value>,
    flash: bool,
    state: &'static str,
    handset_deliveries: u32,
    parts: u32,
    accepted_at: ApiDate,
    sent_at: ApiDate,
    done_at: ApiDate,
    status: StatusObject,
    error: ErrorObject,
    price_per_message: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    notify_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback_data: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracking_type: Option<&'a str>,
}

fn ledger_row(message: &Message) -> LedgerRow<'_> {
    let content = &message.content;
    LedgerRow {
        message_id: &message.id,
        bulk_id: &message.bulk_id,
        to: &message.to,
        from: &content.from,
        text: render::handset_text(message),
        binary: match &content.body {
            MessageBody::Binary {
                hex,
                data_coding,
                esm_class,
            } => Some(json!({"hex": hex, "dataCoding": data_coding, "esmClass": esm_class})),
            MessageBody::Text(_) => None,
        },
        flash: content.flash,
        state: render::ledger_state(message),
        handset_deliveries: message.handset_deliveries,
        parts: content.parts,
        accepted_at: ApiDate(message.accepted_at_ms),
        sent_at: ApiDate(message.sent_at_ms),
        done_at: ApiDate(message.done_at_ms),
        status: StatusObject(message.status),
        error: ErrorObject(message.error),
        price_per_message: render::price(message.price_micros, "").amount(),
        notify_url: content.notify.as_ref().map(|notify| &*notify.url),
        callback_data: content.callback_data.as_ref(),
        tracking_type: content
            .tracking
            .as_ref()
            .and_then(|tracking| tracking.kind.as_deref()),
    }
}

/// The ledger, oldest first. The lock is released between batches of rows, so that a long ledger does not delay sends.
pub(super) fn messages(engine: &Arc<Engine>, query: &Query) -> Result<ApiResponse, ApiError> {
    let limit = query
        .number("limit")?
        .map_or(u64::MAX, |limit| u64::try_from(limit).unwrap_or(0));
    let (message_id, to) = (query.get("messageId"), query.get("to"));
    let rows = engine.lock().messages.rows();
    let mut rows_json: Vec<Vec<u8>> = Vec::new();
    // Backwards, because the last `limit` rows are wanted.
    let mut end = rows.end;
    while end > rows.start && (rows_json.len() as u64) < limit {
        let start = end.saturating_sub(MAX_ROWS_PER_LOCK).max(rows.start);
        let state = engine.lock();
        for row in (start..end).rev() {
            let Some(message) = state.messages.get(row).filter(|message| message.accepted) else {
                continue;
            };
            if message_id.is_none_or(|id| *message.id == *id)
                && to.is_none_or(|to| *message.to == *to)
            {
                rows_json.push(serde_json::to_vec(&ledger_row(message)).expect(CONTROL_SERIALIZES));
                if rows_json.len() as u64 >= limit {
                    break;
                }
            }
        }
        end = start;
    }
    let mut body = br#"{"messages":["#.to_vec();
    for (index, row) in rows_json.iter().rev().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(row);
    }
    body.extend_from_slice(b"]}");
    let mut response = json_response(&Value::Null);
    response.body = body.into();
    Ok(response)
}
