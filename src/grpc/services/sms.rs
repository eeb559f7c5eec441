//! `SmsService`: sending, and what belongs to messages that were sent.

mod bulk;
mod logs;
mod stream;

use futures_util::{FutureExt as _, future::BoxFuture};
use tonic::{Request, Response, Status};

use crate::grpc::{
    ServiceContext, auth::caller::Caller, failure::Failure, middleware::deadline::Deadline,
};
use crate::{
    proto::v1::{self, FieldViolation, sms_service_server::SmsService},
    send::{Arrival, SendCommand, SendError, SendHandle, Sent},
};

/// The service.
#[derive(Clone)]
pub(in crate::grpc) struct Sms(pub(in crate::grpc) ServiceContext);

impl Sms {
    /// Begins to send. Not within the future that waits: that would keep room for the request until it is answered.
    fn begin(
        &self,
        caller: Caller,
        request: v1::SendSmsBulkRequest,
    ) -> Result<SendHandle, Failure> {
        Ok(self.0.sender.begin(SendCommand {
            application: caller.application,
            request,
            arrival: Arrival::First,
        })?)
    }

    /// Begins to send one message; gives its bulk id too.
    fn begin_single(
        &self,
        request: Request<v1::SendSmsRequest>,
    ) -> Result<(String, SendHandle), Failure> {
        let caller = Caller::of(&request);
        let request = as_bulk(request.into_inner())?;
        let bulk_id = request.bulk_id.clone();
        Ok((bulk_id, self.begin(caller, request).map_err(single)?))
    }
}

/// What came of a send, a little before the caller's deadline whatever happens. What is under way then goes on.
async fn sent_in_time(mut begun: SendHandle, deadline: Deadline) -> Result<Sent, Failure> {
    let Some(sent) = deadline.wait(begun.wait()).await else {
        let in_doubt = !begun.withdraw();
        let message_ids = begun.message_ids().map(str::to_owned).collect();
        return Err(Failure::Deadline {
            in_doubt,
            message_ids,
        });
    };
    Ok(sent?)
}

/// One message is a bulk of one.
fn as_bulk(request: v1::SendSmsRequest) -> Result<v1::SendSmsBulkRequest, Failure> {
    let message = request
        .message
        .ok_or_else(|| Failure::invalid("message", "is missing"))?;
    Ok(v1::SendSmsBulkRequest {
        request_id: request.request_id,
        bulk_id: request.bulk_id,
        messages: vec![message],
        tracking: request.tracking,
    })
}

/// The paths of mistakes as the caller of `SendSms` wrote them.
fn name_as_single(violations: &mut [FieldViolation]) {
    for violation in violations {
        if let Some(rest) = violation.field.strip_prefix("messages[0]") {
            violation.field = format!("message{rest}");
        }
    }
}

fn single(failure: Failure) -> Failure {
    match failure {
        Failure::Send(SendError::Invalid(mut violations)) => {
            name_as_single(&mut violations);
            Failure::Send(SendError::Invalid(violations))
        }
        other => other,
    }
}

#[tonic::async_trait]
impl SmsService for Sms {
    /// Written out, as the hottest of all: what waits holds no request, nor room for one.
    fn send_sms<'sms, 'answer>(
        &'sms self,
        request: Request<v1::SendSmsRequest>,
    ) -> BoxFuture<'answer, Result<Response<v1::SendSmsResponse>, Status>>
    where
        'sms: 'answer,
        Self: 'answer,
    {
        let deadline = Deadline::of(request.metadata());
        let (bulk_id, begun) = match self.begin_single(request) {
            Ok(begun) => begun,
            Err(failure) => return std::future::ready(Err(failure.into())).boxed(),
        };
        async move {
            let sent = sent_in_time(begun, deadline).await.map_err(single)?;
            Ok(Response::new(v1::SendSmsResponse {
                bulk_id,
                results: sent.results,
                tracking_process_key: sent.tracking_process_key,
            }))
        }
        .boxed()
    }

    async fn send_sms_bulk(
        &self,
        request: Request<v1::SendSmsBulkRequest>,
    ) -> Result<Response<v1::SendSmsBulkResponse>, Status> {
        let caller = Caller::of(&request);
        let deadline = Deadline::of(request.metadata());
        let request = request.into_inner();
        let bulk_id = request.bulk_id.clone();
        let begun = self.begin(caller, request)?;
        let sent = sent_in_time(begun, deadline).await?;
        Ok(Response::new(v1::SendSmsBulkResponse {
            bulk_id,
            results: sent.results,
            tracking_process_key: sent.tracking_process_key,
        }))
    }

    type StreamSmsStream = stream::Responses;

    async fn stream_sms(
        &self,
        request: Request<tonic::Streaming<v1::StreamSmsRequest>>,
    ) -> Result<Response<Self::StreamSmsStream>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(stream::open(
            self.clone(),
            caller,
            request.into_inner(),
        )))
    }

    async fn list_sms_logs(
        &self,
        request: Request<v1::ListSmsLogsRequest>,
    ) -> Result<Response<v1::ListSmsLogsResponse>, Status> {
        let caller = Caller::of(&request);
        let deadline = Deadline::of(request.metadata());
        let page = logs::page(&self.0, &caller, request.into_inner());
        Ok(Response::new(crate::grpc::in_time(deadline, page).await?))
    }

    async fn preview_sms(
        &self,
        request: Request<v1::PreviewSmsRequest>,
    ) -> Result<Response<v1::PreviewSmsResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let request = request.into_inner();
        if request.text.is_empty() {
            return Err(Failure::invalid("text", "is empty: give at least one character").into());
        }
        let preview = async { Ok(self.0.client.preview(&request).await?) };
        Ok(Response::new(
            crate::grpc::in_time(deadline, preview).await?,
        ))
    }

    async fn get_bulk(
        &self,
        request: Request<v1::GetBulkRequest>,
    ) -> Result<Response<v1::GetBulkResponse>, Status> {
        let caller = Caller::of(&request);
        let deadline = Deadline::of(request.metadata());
        let done = bulk::get(&self.0, &caller, request.into_inner());
        Ok(Response::new(crate::grpc::in_time(deadline, done).await?))
    }

    async fn reschedule_bulk(
        &self,
        request: Request<v1::RescheduleBulkRequest>,
    ) -> Result<Response<v1::RescheduleBulkResponse>, Status> {
        let caller = Caller::of(&request);
        let deadline = Deadline::of(request.metadata());
        let done = bulk::reschedule(&self.0, &caller, request.into_inner());
        Ok(Response::new(crate::grpc::in_time(deadline, done).await?))
    }

    async fn get_bulk_status(
        &self,
        request: Request<v1::GetBulkStatusRequest>,
    ) -> Result<Response<v1::GetBulkStatusResponse>, Status> {
        let caller = Caller::of(&request);
        let deadline = Deadline::of(request.metadata());
        let done = bulk::status(&self.0, &caller, request.into_inner());
        Ok(Response::new(crate::grpc::in_time(deadline, done).await?))
    }

    async fn update_bulk_status(
        &self,
        request: Request<v1::UpdateBulkStatusRequest>,
    ) -> Result<Response<v1::UpdateBulkStatusResponse>, Status> {
        let caller = Caller::of(&request);
        let deadline = Deadline::of(request.metadata());
        let done = bulk::update_status(&self.0, &caller, request.into_inner());
        Ok(Response::new(crate::grpc::in_time(deadline, done).await?))
    }

    async fn confirm_conversion(
        &self,
        request: Request<v1::ConfirmConversionRequest>,
    ) -> Result<Response<v1::ConfirmConversionResponse>, Status> {
        let caller = Caller::of(&request);
        let deadline = Deadline::of(request.metadata());
        let message_id = crate::grpc::caller_id("message_id", &request.get_ref().message_id)?;
        let wire_id = caller.application.wire_id(message_id);
        let confirmed = async { Ok(self.0.client.confirm_conversion(&wire_id).await?) };
        let process_key = crate::grpc::in_time(deadline, confirmed).await?;
        Ok(Response::new(v1::ConfirmConversionResponse { process_key }))
    }
}
