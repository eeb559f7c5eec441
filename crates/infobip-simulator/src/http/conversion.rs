//! `POST /ct/1/log/end/{messageId}`: reports that a tracked message led to a conversion (official documentation).

use serde_json::json;

use crate::{
    envelope::ApiError,
    http::{ApiRequest, ApiResponse},
};

/// When there are more confirmed conversions, the oldest are removed.
const MAX_CONVERSIONS: usize = 10_000;

/// Confirms the conversion of a tracked message.
pub fn confirm(request: &ApiRequest<'_>, message_id: &str) -> Result<ApiResponse, ApiError> {
    let mut state = request.engine.lock();
    let now_ms = state.clock.now_ms();
    let rows = state.messages.with_id(message_id).iter();
    let tracked = rows
        .filter_map(|row| state.messages.get(*row))
        .find_map(|message| Some((message.id.clone(), message.process_key.clone()?)));
    let (id, key) = tracked.ok_or_else(|| ApiError::not_found("Not found"))?;
    state.account.conversions.push_back((id, now_ms));
    while state.account.conversions.len() > MAX_CONVERSIONS {
        state.account.conversions.pop_front();
    }
    drop(state);
    Ok(request.respond("EndTagResponse", &json!({"processKey": &*key})))
}
