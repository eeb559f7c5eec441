//! `/sms/1/bulks` and `/sms/1/bulks/status`: shows and changes the time and the status of scheduled bulks (official
//! documentation).

use serde_json::json;

use crate::{
    dates::ApiDate,
    envelope::ApiError,
    http::{ApiRequest, ApiResponse},
    request::{BulkStatusRequest, RescheduleRequest},
    state::SimulatorState,
    store::{Bulk, Phase},
    validate,
};

fn bulk_id<'a>(request: &'a ApiRequest<'_>) -> Result<&'a str, ApiError> {
    request
        .query
        .get("bulkId")
        .ok_or_else(|| ApiError::invalid("bulkId", "must be given"))
}

fn scheduled_bulk<'a>(state: &'a SimulatorState, id: &str) -> Result<&'a Bulk, ApiError> {
    state
        .messages
        .bulk(id)
        .filter(|bulk| bulk.scheduled)
        .ok_or_else(|| ApiError::not_found("Bulk not found"))
}

/// Send time of a bulk: that of its earliest scheduled message, or of its earliest message if none is scheduled.
fn send_at(state: &SimulatorState, bulk: &Bulk) -> Option<ApiDate> {
    let messages = || bulk.rows().filter_map(|row| state.messages.get(row));
    let earliest_scheduled = messages()
        .filter(|message| message.phase == Phase::Scheduled)
        .map(|message| message.sent_at_ms)
        .min();
    earliest_scheduled
        .or_else(|| messages().map(|message| message.sent_at_ms).min())
        .map(ApiDate)
}

/// The status of a bulk in the API's words.
fn status_of(state: &SimulatorState, bulk: &Bulk) -> &'static str {
    let phases = || {
        bulk.rows()
            .filter_map(|row| state.messages.get(row))
            .map(|message| message.phase)
    };
    if bulk.canceled {
        "CANCELED"
    } else if phases().all(|phase| phase == Phase::Final) {
        "FINISHED"
    } else if bulk.paused {
        "PAUSED"
    } else if phases().all(|phase| phase == Phase::Scheduled) {
        "PENDING"
    } else {
        "PROCESSING"
    }
}

/// `GET /sms/1/bulks`.
pub fn show(request: &ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let id = bulk_id(request)?;
    let state = request.engine.lock();
    let bulk = scheduled_bulk(&state, id)?;
    Ok(request.respond(
        "BulkResponse",
        &json!({"bulkId": id, "sendAt": send_at(&state, bulk)}),
    ))
}

/// `PUT /sms/1/bulks`: reschedules the messages that are not sent yet.
pub fn reschedule(request: &ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let id = bulk_id(request)?;
    let body: RescheduleRequest = request.parse_body()?;
    let config = &request.engine.config;
    let mut state = request.engine.lock();
    let now_ms = state.clock.now_ms();
    check_changeable(&state, id)?;
    let send_at_ms = validate::schedule_ms(body.send_at.as_ref(), now_ms)?;
    state.reschedule(id, send_at_ms, config);
    request.engine.release(state);
    Ok(request.respond(
        "BulkResponse",
        &json!({"bulkId": id, "sendAt": ApiDate(send_at_ms.max(now_ms))}),
    ))
}

/// `GET /sms/1/bulks/status`.
pub fn status(request: &ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let id = bulk_id(request)?;
    let state = request.engine.lock();
    let bulk = scheduled_bulk(&state, id)?;
    Ok(request.respond(
        "BulkStatusResponse",
        &json!({"bulkId": id, "status": status_of(&state, bulk)}),
    ))
}

/// `PUT /sms/1/bulks/status`: pauses, resumes, cancels.
pub fn set_status(request: &ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let id = bulk_id(request)?;
    let body: BulkStatusRequest = request.parse_body()?;
    let config = &request.engine.config;
    let new_status = body.status.map(|status| status.0).unwrap_or_default();
    let mut state = request.engine.lock();
    check_changeable(&state, id)?;
    match new_status.as_str() {
        "PAUSED" => state.set_paused(id, true, config),
        "PENDING" | "PROCESSING" => state.set_paused(id, false, config),
        "CANCELED" => state.cancel(id, config),
        _ => {
            return Err(ApiError::invalid(
                "status",
                "must be PENDING, PAUSED, PROCESSING or CANCELED",
            ));
        }
    }
    let status = scheduled_bulk(&state, id).map(|bulk| status_of(&state, bulk))?;
    request.engine.release(state);
    Ok(request.respond(
        "BulkStatusResponse",
        &json!({"bulkId": id, "status": status}),
    ))
}

/// Refuses changes to a bulk that is finished or cancelled.
fn check_changeable(state: &SimulatorState, id: &str) -> Result<(), ApiError> {
    let bulk = scheduled_bulk(state, id)?;
    match status_of(state, bulk) {
        status @ ("FINISHED" | "CANCELED") => Err(ApiError::invalid(
            "bulkId",
            format!("the bulk is {status} and cannot be changed"),
        )),
        _ => Ok(()),
    }
}
