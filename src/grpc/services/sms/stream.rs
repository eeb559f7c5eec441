//! `StreamSms`: many messages in flight on one stream.
//!
//! Reading pauses while [`IN_FLIGHT`] responses are outstanding, also because the caller does not read them. After the caller
//! half-closes, the stream ends once every message has its response. All messages of a stream belong to the trace of its call.
//! Neighbours: `send` sends each message.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Failure, Sms};
use crate::{
    grpc::auth::caller::Caller,
    message::traceparent::Traceparent,
    proto::v1::{self, FieldViolation},
    send::{Arrival, SendCommand, SendError, Sent, request::SendRequest},
};

/// Messages on one stream whose response the caller has not read, at most.
const IN_FLIGHT: usize = 2_500;
const MAX_CORRELATION_CHARACTERS: usize = 128;

pub(in crate::grpc) type Responses =
    Pin<Box<dyn Stream<Item = Result<v1::StreamSmsResponse, Status>> + Send>>;

/// A response in the channel, with the permit of its message. The permit is released when the caller reads the response.
type Outstanding = (
    Result<v1::StreamSmsResponse, Status>,
    Option<OwnedSemaphorePermit>,
);

/// Opens a stream: a task reads and sends the messages. The responses end when the task and all sends have ended.
pub(super) fn open(
    sms: Sms,
    caller: Caller,
    traceparent: Option<Traceparent>,
    requests: Streaming<v1::StreamSmsRequest>,
) -> Responses {
    // One more than there are messages in flight, for the error that ends the stream.
    let (responses, receiver) = mpsc::channel(IN_FLIGHT + 1);
    let tasks = sms.0.tasks.clone();
    tasks.spawn(read(sms, caller, traceparent, requests, responses));
    Box::pin(ReceiverStream::new(receiver).map(|(response, _permit)| response))
}

async fn read(
    sms: Sms,
    caller: Caller,
    traceparent: Option<Traceparent>,
    mut requests: Streaming<v1::StreamSmsRequest>,
    responses: mpsc::Sender<Outstanding>,
) {
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT));
    let error = loop {
        let next = tokio::select! {
            // Biased, because a message that has arrived should not cost a poll of the other two futures. They are polled
            // whenever the caller pauses or has to pause.
            biased;
            next = requests.next() => next,
            // The caller is gone. The sends in flight finish and become events.
            () = responses.closed() => return,
            () = sms.0.closing.cancelled() => break Failure::Send(SendError::ShuttingDown).into(),
        };
        let request = match next {
            None => return,
            Some(Ok(request)) => request,
            Some(Err(status)) => break status,
        };
        let permit = tokio::select! {
            biased;
            permit = Arc::clone(&in_flight).acquire_owned() => permit.ok(),
            () = responses.closed() => return,
        };
        // Each message counts as a call, but it waits for the quota instead of failing. This paces the caller.
        tokio::select! {
            biased;
            () = caller.quotas.wait() => {}
            () = responses.closed() => return,
            // The sender then refuses the message, because the bridge shuts down.
            () = sms.0.closing.cancelled() => {}
        }
        let responses = responses.clone();
        begin(&sms, &caller, traceparent, request, permit, responses);
    };
    // Every message in flight gets its response before the error ends the stream (P8, docs/RELIABILITY.md).
    let all = u32::try_from(IN_FLIGHT).unwrap_or(u32::MAX);
    tokio::select! {
        _ = in_flight.acquire_many(all) => {
            // The channel has room: see `open`. If the caller is gone, nothing reads the error.
            let _ = responses.try_send((Err(error), None));
        }
        () = responses.closed() => {}
    }
}

/// Begins to send a message; its response goes to `responses`.
fn begin(
    sms: &Sms,
    caller: &Caller,
    traceparent: Option<Traceparent>,
    request: v1::StreamSmsRequest,
    permit: Option<OwnedSemaphorePermit>,
    responses: mpsc::Sender<Outstanding>,
) {
    let v1::StreamSmsRequest {
        mut correlation,
        request,
    } = request;
    let violations = check_correlation(&mut correlation);
    let respond = move |sent: Sent| {
        let response = v1::StreamSmsResponse {
            correlation,
            results: sent.results,
        };
        // The channel has room: see `open`. A caller that has gone away can read the events instead.
        let _ = responses.try_send((Ok(response), permit));
    };
    // A missing message is refused like an empty one, in the results.
    let mut request = request.unwrap_or_default();
    request.message.get_or_insert_default();
    let request = SendRequest::from_single(request);
    let command = SendCommand {
        application: caller.application.clone(),
        form: request.form,
        request: request.bulk,
        violations,
        arrival: Arrival::First,
        traceparent,
        delivery: None,
    };
    sms.0.sender.send_then(command, respond);
}

/// A violation if the correlation is too long; then its beginning is left, which the response returns.
fn check_correlation(correlation: &mut String) -> Vec<FieldViolation> {
    let Some((end, _)) = correlation.char_indices().nth(MAX_CORRELATION_CHARACTERS) else {
        return Vec::new();
    };
    correlation.truncate(end);
    vec![FieldViolation {
        field: "correlation".into(),
        description: format!("has more than {MAX_CORRELATION_CHARACTERS} characters"),
    }]
}
