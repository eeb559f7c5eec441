//! `ReportService`: pulls delivery reports. A pulled report is durable before the caller gets it.

use tonic::{Request, Response, Status};

use crate::grpc::{
    ServiceContext, auth::caller::Caller, failure::Failure, middleware::deadline::Deadline,
    services::pull,
};
use crate::{
    infobip::ReportsQuery,
    message::id::check_bulk_id,
    proto::v1::{self, event::Payload, report_service_server::ReportService},
};

#[derive(Clone)]
pub(in crate::grpc) struct Reports(pub(in crate::grpc) ServiceContext);

#[tonic::async_trait]
impl ReportService for Reports {
    async fn pull_delivery_reports(
        &self,
        request: Request<v1::PullDeliveryReportsRequest>,
    ) -> Result<Response<v1::PullDeliveryReportsResponse>, Status> {
        let caller = Caller::of(&request);
        let deadline = Deadline::of(request.metadata());
        let request = request.into_inner();
        let wire_id = |id: &str| (!id.is_empty()).then(|| caller.application.wire_id(id));
        if !request.bulk_id.is_empty() {
            check_bulk_id(&request.bulk_id).map_err(|error| Failure::invalid("bulk_id", error))?;
        }
        if !request.message_id.is_empty() {
            crate::grpc::caller_id("message_id", &request.message_id)?;
        }
        let query = ReportsQuery {
            bulk_id: wire_id(&request.bulk_id),
            message_id: wire_id(&request.message_id),
            limit: Some(pull::limit(request.limit)?),
        };
        // A task of its own: the API returns each report once, so the response must be stored even if the caller goes away.
        let pulls = self.0.pulls.clone();
        let pulled = self
            .0
            .tasks
            .spawn(async move { Ok(pulls.reports(&query).await?) });
        let pulled = crate::grpc::in_time(deadline, crate::grpc::joined(pulled)).await?;
        let reports = pulled
            .events
            .into_iter()
            .map(|new| new.event)
            .filter(|event| caller.may_see(&event.application))
            .filter_map(|event| match event.payload {
                Some(Payload::Report(report)) => Some(*report),
                _ => None,
            })
            .collect();
        Ok(Response::new(v1::PullDeliveryReportsResponse { reports }))
    }
}
