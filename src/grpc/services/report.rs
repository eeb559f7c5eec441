//! `ReportService`: pulling delivery reports. What is pulled is an event before the caller sees it.

use tonic::{Request, Response, Status};

use crate::grpc::{
    Context, auth::caller::Caller, failure::Failure, middleware::deadline::Deadline, services::pull,
};
use crate::{
    infobip::ReportsQuery,
    message::id::check_bulk_id,
    proto::v1::{self, ReportSource, event::Payload, report_service_server::ReportService},
};

/// The service.
#[derive(Clone)]
pub(in crate::grpc) struct Reports(pub(in crate::grpc) Context);

#[tonic::async_trait]
impl ReportService for Reports {
    async fn pull_delivery_reports(
        &self,
        request: Request<v1::PullDeliveryReportsRequest>,
    ) -> Result<Response<v1::PullDeliveryReportsResponse>, Status> {
        let caller = Caller::of(&request);
        let deadline = Deadline::of(request.metadata());
        let request = request.into_inner();
        let wire = |id: &str| (!id.is_empty()).then(|| caller.application.wire_id(id));
        if !request.bulk_id.is_empty() {
            check_bulk_id(&request.bulk_id).map_err(|error| Failure::invalid("bulk_id", error))?;
        }
        if !request.message_id.is_empty() {
            crate::grpc::caller_id("message_id", &request.message_id)?;
        }
        let query = ReportsQuery {
            bulk_id: wire(&request.bulk_id),
            message_id: wire(&request.message_id),
            limit: Some(pull::limit(request.limit)?),
        };
        // Read once: what the API gave must not get lost when the caller goes away.
        let context = self.0.clone();
        let pulled = self.0.tasks.spawn(async move {
            pull::can_be_kept(&context)?;
            let answer = context.client.reports(&query).await?;
            let store = || {
                let body = answer.body.clone();
                context
                    .intake
                    .reports(ReportSource::Pull, &answer.content_type, body)
            };
            pull::keep(store).await
        });
        let events = crate::grpc::in_time(deadline, crate::grpc::finished(pulled)).await?;
        let reports = events
            .into_iter()
            .filter(|event| caller.may_see(&event.application))
            .filter_map(|event| match event.payload {
                Some(Payload::Report(report)) => Some(*report),
                _ => None,
            })
            .collect();
        Ok(Response::new(v1::PullDeliveryReportsResponse { reports }))
    }
}
