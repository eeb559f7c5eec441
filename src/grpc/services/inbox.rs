//! `InboxService`: messages from phones on demand. What is pulled is an event before the caller sees it.

use tonic::{Request, Response, Status};

use crate::grpc::{
    Context, auth::caller::Caller, failure::Failure, middleware::deadline::Deadline, services::pull,
};
use crate::{
    infobip::{InboxLogsQuery, wire},
    message::time,
    proto::v1::{self, event::Payload, inbox_service_server::InboxService},
};

/// The service.
#[derive(Clone)]
pub(in crate::grpc) struct Inbox(pub(in crate::grpc) Context);

#[tonic::async_trait]
impl InboxService for Inbox {
    async fn pull_received_messages(
        &self,
        request: Request<v1::PullReceivedMessagesRequest>,
    ) -> Result<Response<v1::PullReceivedMessagesResponse>, Status> {
        let caller = Caller::of(&request);
        let deadline = Deadline::of(request.metadata());
        let limit = pull::limit(request.get_ref().limit)?;
        // Read once: what the API gave must not get lost when the caller goes away.
        let context = self.0.clone();
        let pulled = self.0.tasks.spawn(async move {
            pull::can_be_kept(&context)?;
            let answer = context.client.inbox(Some(limit)).await?;
            let store = || {
                let body = answer.body.clone();
                context.intake.received(&answer.content_type, body)
            };
            pull::keep(store).await
        });
        let inbox = crate::grpc::in_time(deadline, crate::grpc::finished(pulled)).await?;
        let messages = inbox
            .events
            .into_iter()
            .filter(|event| caller.may_see(&event.application))
            .filter_map(|event| match event.payload {
                Some(Payload::Received(received)) => Some(*received),
                _ => None,
            })
            .collect();
        Ok(Response::new(v1::PullReceivedMessagesResponse {
            messages,
            message_count: inbox.message_count,
            pending_message_count: inbox.pending_message_count,
        }))
    }

    async fn list_received_messages(
        &self,
        request: Request<v1::ListReceivedMessagesRequest>,
    ) -> Result<Response<v1::ListReceivedMessagesResponse>, Status> {
        let caller = Caller::of(&request);
        let deadline = Deadline::of(request.metadata());
        let listed = self.list(&caller, request.into_inner());
        Ok(Response::new(crate::grpc::in_time(deadline, listed).await?))
    }
}

impl Inbox {
    async fn list(
        &self,
        caller: &Caller,
        request: v1::ListReceivedMessagesRequest,
    ) -> Result<v1::ListReceivedMessagesResponse, Failure> {
        let moment = |field: &str, at: Option<&pbjson_types::Timestamp>| match at {
            None => Ok(None),
            Some(at) => time::from_proto(at)
                .map(Some)
                .ok_or_else(|| Failure::invalid(field, "is not a time")),
        };
        let given = |value: String| (!value.is_empty()).then_some(value);
        let query = InboxLogsQuery {
            received_since: moment("received_since", request.received_since.as_ref())?,
            received_until: moment("received_until", request.received_until.as_ref())?,
            to: given(request.to),
            keyword: given(request.keyword),
            limit: Some(pull::limit(request.limit)?),
        };
        let answer = self.0.client.inbox_logs(&query).await?;
        let read = wire::read_inbox(&answer.body)
            .map_err(|error| Failure::UnreadableAnswer(error.to_string()))?;
        let messages = read
            .rows
            .into_iter()
            .map(|row| row.received)
            .filter(|received| caller.may_see(self.0.intake.owner_of(received).as_str()))
            .collect();
        Ok(v1::ListReceivedMessagesResponse { messages })
    }
}
