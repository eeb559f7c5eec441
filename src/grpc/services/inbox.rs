//! `InboxService`: pulls and lists received messages. A pulled message is durable before the caller gets it.

use tonic::{Request, Response, Status};

use crate::grpc::{
    ServiceContext, auth::caller::Caller, failure::Failure, middleware::deadline::Deadline,
    services::pull,
};
use crate::{
    infobip::{InboxLogsQuery, wire},
    message::time,
    proto::v1::{self, event::Payload, inbox_service_server::InboxService},
};

#[derive(Clone)]
pub(in crate::grpc) struct Inbox(pub(in crate::grpc) ServiceContext);

#[tonic::async_trait]
impl InboxService for Inbox {
    async fn pull_received_messages(
        &self,
        request: Request<v1::PullReceivedMessagesRequest>,
    ) -> Result<Response<v1::PullReceivedMessagesResponse>, Status> {
        let caller = Caller::of(&request);
        let deadline = Deadline::of(request.metadata());
        let limit = pull::limit(request.get_ref().limit)?;
        // A task of its own: the API returns each message once, so the response must be stored even if the caller goes away.
        let pulls = self.0.pulls.clone();
        let pulled = self
            .0
            .tasks
            .spawn(async move { Ok(pulls.received(limit).await?) });
        let inbox = crate::grpc::in_time(deadline, crate::grpc::joined(pulled)).await?;
        let messages = inbox
            .events
            .into_iter()
            .map(|new| new.event)
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
        let time = |field: &str, at: Option<&crate::proto::Timestamp>| match at {
            None => Ok(None),
            Some(at) => time::from_proto(at)
                .map(Some)
                .ok_or_else(|| Failure::invalid(field, "is not a time")),
        };
        let non_empty = |value: String| (!value.is_empty()).then_some(value);
        let query = InboxLogsQuery {
            received_since: time("received_since", request.received_since.as_ref())?,
            received_until: time("received_until", request.received_until.as_ref())?,
            to: non_empty(request.to),
            keyword: non_empty(request.keyword),
            limit: Some(pull::limit(request.limit)?),
        };
        let response = self.0.account.client.inbox_logs(&query).await?;
        let inbox = wire::read_inbox(&response.body)
            .map_err(|error| Failure::UnreadableResponse(error.to_string()))?;
        let messages = inbox
            .rows
            .into_iter()
            .map(|row| row.received)
            .filter(|received| caller.may_see(self.0.intake.owner_of(received).as_str()))
            .collect();
        Ok(v1::ListReceivedMessagesResponse { messages })
    }
}
