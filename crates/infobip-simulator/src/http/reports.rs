//! `GET /sms/1/reports`: final reports, each read once (manual "GETTING DELIVERY REPORTS").

use crate::{
    envelope::ApiError,
    http::{ApiRequest, ApiResponse},
    push::DeliveryReport,
    render,
};

/// Returns unread reports and removes them.
pub fn pull(request: &ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let limit = request.query.limit()?;
    let config = &request.engine.config;
    let mut state = request.engine.lock();
    let now_ms = state.clock.now_ms();
    let oldest_ms = now_ms - config.log_retention_ms;
    let (bulk_ids, message_ids) = (
        request.query.list("bulkId"),
        request.query.list("messageId"),
    );
    let rows = state
        .messages
        .take_unread(&bulk_ids, &message_ids, oldest_ms, now_ms, limit);
    for row in &rows {
        state.message_changed(*row);
    }
    let reports: Vec<DeliveryReport> = rows
        .into_iter()
        .filter_map(|row| {
            let message = state.messages.get(row)?;
            Some(DeliveryReport {
                row,
                status: message.status,
                error: message.error,
                done_at_ms: message.done_at_ms,
                is_final: true,
            })
        })
        .collect();
    let mut response = request.respond(
        "reportResponse",
        &render::report_rows(&state.messages, &reports, &config.currency),
    );
    response.message_ids = reports
        .iter()
        .filter_map(|r| Some(state.messages.get(r.row)?.id.clone()))
        .collect();
    Ok(response)
}
