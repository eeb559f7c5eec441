//! `StreamSms`: many messages in flight on one stream.
//!
//! Reading stops while too many messages are in flight or the caller does not read its answers; half-close drains.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Failure, Sms, as_bulk, name_as_single};
use crate::{
    grpc::caller::Caller,
    proto::v1::{self, Outcome},
    send::{Arrival, Begun, SendCommand, SendError},
};

/// Messages in flight on one stream at most.
const IN_FLIGHT: usize = 5_000;
/// Answers that wait for the caller to read them at most.
const UNREAD: usize = 256;
/// The longest correlation, in characters.
const MAX_CORRELATION_CHARACTERS: usize = 128;

/// The answers of a stream.
pub(in crate::grpc) type Responses =
    Pin<Box<dyn Stream<Item = Result<v1::StreamSmsResponse, Status>> + Send>>;

/// Opens a stream: a task reads, sends, and answers until the caller has closed its side and all is answered.
pub(super) fn open(
    sms: Sms,
    caller: Caller,
    requests: Streaming<v1::StreamSmsRequest>,
) -> Responses {
    let (answers, waiting) = mpsc::channel(UNREAD);
    let tasks = sms.0.tasks.clone();
    tasks.spawn(read(sms, caller, requests, answers));
    Box::pin(ReceiverStream::new(waiting))
}

async fn read(
    sms: Sms,
    caller: Caller,
    mut requests: Streaming<v1::StreamSmsRequest>,
    answers: mpsc::Sender<Result<v1::StreamSmsResponse, Status>>,
) {
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT));
    loop {
        let next = tokio::select! {
            next = requests.next() => next,
            // The caller is gone; what was begun goes on and becomes events.
            () = answers.closed() => return,
            () = sms.0.closing.cancelled() => {
                let _ = answers.send(Err(Failure::Send(SendError::ShuttingDown).into())).await;
                return;
            }
        };
        let request = match next {
            None => return,
            Some(Ok(request)) => request,
            Some(Err(status)) => {
                let _ = answers.send(Err(status)).await;
                return;
            }
        };
        let Ok(permit) = Arc::clone(&in_flight).acquire_owned().await else {
            return;
        };
        if request.correlation.chars().count() > MAX_CORRELATION_CHARACTERS {
            let failure = Failure::invalid("correlation", "has more than 128 characters");
            let _ = answers.send(Err(failure.into())).await;
            return;
        }
        let correlation = request.correlation;
        match begin(&sms, &caller, request.request) {
            Ok(begun) => {
                sms.0
                    .tasks
                    .spawn(answer(begun, correlation, answers.clone(), permit));
            }
            Err(error) => {
                if answers.send(Ok(refused(correlation, error))).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn begin(
    sms: &Sms,
    caller: &Caller,
    request: Option<v1::SendSmsRequest>,
) -> Result<Begun, SendError> {
    let request = match as_bulk(request.unwrap_or_default()) {
        Ok(request) => request,
        Err(Failure::Invalid(violations)) => return Err(SendError::Invalid(violations)),
        Err(_) => return Err(SendError::Invalid(Vec::new())),
    };
    let application = caller.application.clone();
    sms.0.sender.begin(SendCommand {
        application,
        request,
        arrival: Arrival::First,
    })
}

async fn answer(
    mut begun: Begun,
    correlation: String,
    answers: mpsc::Sender<Result<v1::StreamSmsResponse, Status>>,
    permit: OwnedSemaphorePermit,
) {
    let response = match begun.sent().await {
        Ok(sent) => v1::StreamSmsResponse {
            correlation,
            results: sent.results,
        },
        Err(error) => refused(correlation, error),
    };
    // A caller that went away learns it from the events.
    let _ = answers.send(Ok(response)).await;
    drop(permit);
}

/// A message of which nothing was attempted, without breaking the stream for its neighbours.
fn refused(correlation: String, error: SendError) -> v1::StreamSmsResponse {
    let mut refusal = v1::Refusal {
        reason: error.reason().to_owned(),
        detail: error.to_string(),
        retryable: error.is_retryable(),
        violations: error.violations().to_vec(),
    };
    name_as_single(&mut refusal.violations);
    let outcome = match error {
        // The API may have it.
        SendError::LogUnavailable(_) => Outcome::Unknown,
        _ => Outcome::Rejected,
    };
    let result = v1::SendResult {
        outcome: outcome.into(),
        refusal: Some(refusal),
        ..v1::SendResult::default()
    };
    v1::StreamSmsResponse {
        correlation,
        results: vec![result],
    }
}
