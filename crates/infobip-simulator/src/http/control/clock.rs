//! `/_sim/clock`: shows, changes and advances the virtual clock.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::{json_response, parse};
use crate::{
    clock::HOUR_MS, dates::ApiDate, engine::Engine, envelope::ApiError, http::ApiResponse,
};

/// Maximum time that one request may advance the clock: ten years.
const MAX_ADVANCE_MS: i64 = 10 * 366 * 24 * HOUR_MS;

pub(super) fn show(engine: &Arc<Engine>) -> ApiResponse {
    let state = engine.lock();
    let now_ms = state.clock.now_ms();
    json_response(&json!({
        "now": ApiDate(now_ms),
        "nowMs": now_ms,
        "speed": state.clock.speed(),
        "frozen": state.clock.frozen(),
    }))
}

/// Changes speed and frozen state, then advances the clock.
pub(super) async fn set(engine: &Arc<Engine>, body: &Bytes) -> Result<ApiResponse, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct ClockRequest {
        advance_ms: Option<i64>,
        speed: Option<f64>,
        frozen: Option<bool>,
    }
    let request: ClockRequest = parse(body)?;
    if request
        .advance_ms
        .is_some_and(|ms| !(0..=MAX_ADVANCE_MS).contains(&ms))
    {
        return Err(ApiError::invalid(
            "advanceMs",
            "must be from 0 to ten years",
        ));
    }
    if request
        .speed
        .is_some_and(|speed| !(speed > 0.0 && speed <= 1e9))
    {
        return Err(ApiError::invalid(
            "speed",
            "must be above 0 and at most 1000000000",
        ));
    }
    engine.set_clock(request.speed, request.frozen);
    if let Some(ms) = request.advance_ms {
        engine.advance(ms).await;
    }
    Ok(show(engine))
}
