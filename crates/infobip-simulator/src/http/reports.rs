//! `GET /sms/1/reports`: final reports, each read once (manual "GETTING DELIVERY REPORTS").

use crate::{
    envelope::ApiError,
    http::{Call, Reply},
    push::Report,
    render,
};

/// Returns unread reports and removes them.
pub fn pull(call: &Call<'_>) -> Result<Reply, ApiError> {
    let limit = call.query.limit()?;
    let config = &call.engine.config;
    let mut state = call.engine.lock();
    let oldest_ms = state.clock.now_ms() - config.log_retention_ms;
    let (bulk_ids, message_ids) = (call.query.list("bulkId"), call.query.list("messageId"));
    let rows = state
        .messages
        .take_unread(&bulk_ids, &message_ids, oldest_ms, limit);
    let reports: Vec<Report> = rows
        .into_iter()
        .filter_map(|row| {
            let message = state.messages.get(row)?;
            Some(Report {
                row,
                status: message.status,
                error: message.error,
                done_at_ms: message.done_at_ms,
            })
        })
        .collect();
    let mut reply = call.answer(
        "reportResponse",
        &render::report_rows(&state.messages, &reports, &config.currency),
    );
    reply.message_ids = reports
        .iter()
        .filter_map(|r| Some(state.messages.get(r.row)?.id.clone()))
        .collect();
    Ok(reply)
}
