//! Scheduled bulks: their time and their status.
//!
//! Invariant: the bulk id that the API gets contains the caller's application, so a caller cannot reach the bulks of others.

use jiff::Timestamp;

use crate::grpc::{ServiceContext, auth::caller::Caller, failure::Failure};
use crate::{
    message::{id::check_bulk_id, time},
    proto::v1,
};

pub(super) async fn get(
    context: &ServiceContext,
    caller: &Caller,
    request: v1::GetBulkRequest,
) -> Result<v1::GetBulkResponse, Failure> {
    let wire_id = wire_bulk_id(caller, &request.bulk_id)?;
    let schedule = context.account.client.get_bulk(&wire_id).await?;
    Ok(v1::GetBulkResponse {
        bulk_id: request.bulk_id,
        send_at: Some(time::to_proto(schedule.send_at)),
    })
}

pub(super) async fn reschedule(
    context: &ServiceContext,
    caller: &Caller,
    request: v1::RescheduleBulkRequest,
) -> Result<v1::RescheduleBulkResponse, Failure> {
    let wire_id = wire_bulk_id(caller, &request.bulk_id)?;
    let send_at = request
        .send_at
        .as_ref()
        .and_then(time::from_proto)
        .ok_or_else(|| Failure::invalid("send_at", "is missing or not a time"))?;
    if send_at <= Timestamp::now() {
        return Err(Failure::invalid("send_at", "is in the past"));
    }
    let schedule = context.account.client.put_bulk(&wire_id, send_at).await?;
    Ok(v1::RescheduleBulkResponse {
        bulk_id: request.bulk_id,
        send_at: Some(time::to_proto(schedule.send_at)),
    })
}

pub(super) async fn status(
    context: &ServiceContext,
    caller: &Caller,
    request: v1::GetBulkStatusRequest,
) -> Result<v1::GetBulkStatusResponse, Failure> {
    let wire_id = wire_bulk_id(caller, &request.bulk_id)?;
    let status = context.account.client.get_bulk_status(&wire_id).await?;
    Ok(v1::GetBulkStatusResponse {
        bulk_id: request.bulk_id,
        status: status.into(),
    })
}

pub(super) async fn update_status(
    context: &ServiceContext,
    caller: &Caller,
    request: v1::UpdateBulkStatusRequest,
) -> Result<v1::UpdateBulkStatusResponse, Failure> {
    let wire_id = wire_bulk_id(caller, &request.bulk_id)?;
    let wanted = request.status();
    if !matches!(
        wanted,
        v1::BulkStatus::Pending | v1::BulkStatus::Paused | v1::BulkStatus::Canceled
    ) {
        return Err(Failure::invalid(
            "status",
            "must be PENDING, PAUSED or CANCELED",
        ));
    }
    let status = context
        .account
        .client
        .put_bulk_status(&wire_id, wanted)
        .await?;
    Ok(v1::UpdateBulkStatusResponse {
        bulk_id: request.bulk_id,
        status: status.into(),
    })
}

fn wire_bulk_id(caller: &Caller, bulk_id: &str) -> Result<String, Failure> {
    check_bulk_id(bulk_id).map_err(|error| Failure::invalid("bulk_id", error))?;
    Ok(caller.application.wire_id(bulk_id))
}
