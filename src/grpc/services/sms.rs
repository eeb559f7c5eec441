//! `SmsService`: sends messages, tells what became of them, lists their logs, manages scheduled bulks and confirms conversions.
//!
//! Neighbours: `send` sends; `query` reads the logs; `events` has the events of a message; `infobip` has the requests of the other calls.

mod bulk;
mod message;
mod stream;

use futures_util::{FutureExt as _, future::BoxFuture};
use tonic::{Request, Response, Status};

use crate::grpc::{
    ServiceContext,
    auth::caller::Caller,
    failure::Failure,
    middleware::{deadline::Deadline, trace::traceparent},
};
use crate::{
    message::traceparent::Traceparent,
    proto::v1::{self, sms_service_server::SmsService},
    send::{
        Arrival, SendCommand, SendHandle, Sent,
        request::{SendRequest, bulk_response, single_response},
    },
};

#[derive(Clone)]
pub(in crate::grpc) struct Sms(pub(in crate::grpc) ServiceContext);

/// A send whose results are awaited.
struct PendingSend {
    bulk_id: String,
    handle: SendHandle,
}

impl Sms {
    /// Begins to send. Not async, because a future would keep room for the request until the response.
    fn begin(
        &self,
        caller: Caller,
        traceparent: Option<Traceparent>,
        request: SendRequest,
    ) -> Result<PendingSend, Failure> {
        let bulk_id = request.bulk.bulk_id.clone();
        let handle = self.0.sender.begin(SendCommand {
            application: caller.application,
            form: request.form,
            request: request.bulk,
            violations: Vec::new(),
            arrival: Arrival::First,
            traceparent,
            delivery: None,
        })?;
        Ok(PendingSend { bulk_id, handle })
    }

    fn begin_single(&self, request: Request<v1::SendSmsRequest>) -> Result<PendingSend, Failure> {
        let caller = Caller::of(&request);
        let traceparent = traceparent(request.metadata());
        let request = SendRequest::from_single(request.into_inner());
        self.begin(caller, traceparent, request)
    }
}

impl PendingSend {
    /// Returns the bulk id and the results. Fails shortly before the caller's deadline; messages in flight are still sent.
    async fn finish(mut self, deadline: Deadline) -> Result<(String, Sent), Failure> {
        let Some(sent) = deadline.wait(self.handle.wait()).await else {
            let in_doubt = !self.handle.withdraw();
            let message_ids = self.handle.message_ids().map(str::to_owned).collect();
            return Err(Failure::Deadline {
                in_doubt,
                message_ids,
            });
        };
        Ok((self.bulk_id, sent?))
    }
}

#[tonic::async_trait]
impl SmsService for Sms {
    /// Written without `async`, because it is called most: the future that waits for the results must hold neither the
    /// request nor room for it.
    fn send_sms<'sms, 'response>(
        &'sms self,
        request: Request<v1::SendSmsRequest>,
    ) -> BoxFuture<'response, Result<Response<v1::SendSmsResponse>, Status>>
    where
        'sms: 'response,
        Self: 'response,
    {
        let deadline = Deadline::of(request.metadata());
        let pending = match self.begin_single(request) {
            Ok(pending) => pending,
            Err(failure) => return std::future::ready(Err(failure.into())).boxed(),
        };
        async move {
            let (bulk_id, sent) = pending.finish(deadline).await?;
            Ok(Response::new(single_response(bulk_id, sent)))
        }
        .boxed()
    }

    async fn send_sms_bulk(
        &self,
        request: Request<v1::SendSmsBulkRequest>,
    ) -> Result<Response<v1::SendSmsBulkResponse>, Status> {
        let caller = Caller::of(&request);
        let deadline = Deadline::of(request.metadata());
        let traceparent = traceparent(request.metadata());
        let request = SendRequest::from_bulk(request.into_inner());
        let pending = self.begin(caller, traceparent, request)?;
        let (bulk_id, sent) = pending.finish(deadline).await?;
        Ok(Response::new(bulk_response(bulk_id, sent)))
    }

    type StreamSmsStream = stream::Responses;

    async fn stream_sms(
        &self,
        request: Request<tonic::Streaming<v1::StreamSmsRequest>>,
    ) -> Result<Response<Self::StreamSmsStream>, Status> {
        let caller = Caller::of(&request);
        let traceparent = traceparent(request.metadata());
        Ok(Response::new(stream::open(
            self.clone(),
            caller,
            traceparent,
            request.into_inner(),
        )))
    }

    async fn list_sms_logs(
        &self,
        request: Request<v1::ListSmsLogsRequest>,
    ) -> Result<Response<v1::ListSmsLogsResponse>, Status> {
        let caller = Caller::of(&request);
        let deadline = Deadline::of(request.metadata());
        let (viewer, request) = (caller.viewer(), request.into_inner());
        let page = async { Ok(self.0.query.logs(&viewer, &request).await?) };
        Ok(Response::new(crate::grpc::in_time(deadline, page).await?))
    }

    async fn get_message(
        &self,
        request: Request<v1::GetMessageRequest>,
    ) -> Result<Response<v1::GetMessageResponse>, Status> {
        let caller = Caller::of(&request);
        let deadline = Deadline::of(request.metadata());
        let found = message::get(&self.0.log, &caller, deadline, request.into_inner()).await?;
        Ok(Response::new(found))
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
        let preview = async { Ok(self.0.account.client.preview(&request).await?) };
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
        let confirmed = async { Ok(self.0.account.client.confirm_conversion(&wire_id).await?) };
        let process_key = crate::grpc::in_time(deadline, confirmed).await?;
        Ok(Response::new(v1::ConfirmConversionResponse { process_key }))
    }
}
