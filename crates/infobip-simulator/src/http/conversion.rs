//! `POST /ct/1/log/end/{messageId}`: reports that a tracked message led to a conversion (official documentation).

use serde_json::json;

use crate::{
    envelope::ApiError,
    http::{Call, Reply},
};

/// Maximum number of conversions stored.
const MOST: usize = 10_000;

/// Confirms the conversion of a tracked message.
pub fn confirm(call: &Call<'_>, message_id: &str) -> Result<Reply, ApiError> {
    let mut state = call.engine.lock();
    let now_ms = state.clock.now_ms();
    let rows = state.messages.with_id(message_id).iter();
    let tracked = rows
        .filter_map(|row| state.messages.get(*row))
        .find_map(|message| Some((message.id.clone(), message.process_key.clone()?)));
    let (id, key) = tracked.ok_or_else(|| ApiError::not_found("Not found"))?;
    state.account.conversions.push_back((id, now_ms));
    while state.account.conversions.len() > MOST {
        state.account.conversions.pop_front();
    }
    drop(state);
    Ok(call.answer("EndTagResponse", &json!({"processKey": &*key})))
}
