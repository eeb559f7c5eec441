//! `StreamSms`: many messages in flight on one stream.
//!
//! Reading stops while too many messages are in flight or the caller does not read its answers; half-close drains.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Failure, Sms, name_as_single};
use crate::{
    grpc::auth::caller::Caller,
    proto::v1,
    send::{Arrival, SendCommand, SendError, Sent},
};

/// Messages on one stream at most whose answers the caller has not read.
const IN_FLIGHT: usize = 2_500;
/// The longest correlation, in characters.
const MAX_CORRELATION_CHARACTERS: usize = 128;

/// The answers of a stream.
pub(in crate::grpc) type Responses =
    Pin<Box<dyn Stream<Item = Result<v1::StreamSmsResponse, Status>> + Send>>;

/// An answer that waits to be read, with its message's place in [`IN_FLIGHT`].
type Waiting = (
    Result<v1::StreamSmsResponse, Status>,
    Option<OwnedSemaphorePermit>,
);

/// Opens a stream: a task reads and sends; answers come until the caller has closed its side and all is answered.
pub(super) fn open(
    sms: Sms,
    caller: Caller,
    requests: Streaming<v1::StreamSmsRequest>,
) -> Responses {
    // One more than there are messages in flight: the error that ends the stream.
    let (answers, waiting) = mpsc::channel(IN_FLIGHT + 1);
    let tasks = sms.0.tasks.clone();
    tasks.spawn(read(sms, caller, requests, answers));
    Box::pin(ReceiverStream::new(waiting).map(|(answer, _place)| answer))
}

async fn read(
    sms: Sms,
    caller: Caller,
    mut requests: Streaming<v1::StreamSmsRequest>,
    answers: mpsc::Sender<Waiting>,
) {
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT));
    let end = |failure: Status| {
        // There is room: see `open`.
        let _ = answers.try_send((Err(failure), None));
    };
    loop {
        let next = tokio::select! {
            // In this order: a message that is there costs no look at the others, and the two below are looked at whenever
            // the caller pauses for a moment, or is made to.
            biased;
            next = requests.next() => next,
            // The caller is gone; what was begun goes on and becomes events.
            () = answers.closed() => return,
            () = sms.0.closing.cancelled() => break,
        };
        let request = match next {
            None => return,
            Some(Ok(request)) => request,
            Some(Err(status)) => return end(status),
        };
        let place = tokio::select! {
            biased;
            place = Arc::clone(&in_flight).acquire_owned() => place.ok(),
            () = answers.closed() => return,
        };
        // Each message counts as a call does, but waits: the caller's sending is paced with it.
        tokio::select! {
            biased;
            () = caller.quotas.wait() => {}
            () = answers.closed() => return,
            // It is answered that the bridge stops.
            () = sms.0.closing.cancelled() => {}
        }
        if request.correlation.chars().count() > MAX_CORRELATION_CHARACTERS {
            return end(Failure::invalid("correlation", "has more than 128 characters").into());
        }
        begin(&sms, &caller, request, place, answers.clone());
    }
    // The bridge stops: what was begun is answered before the stream ends (P8, docs/RELIABILITY.md).
    let everything = u32::try_from(IN_FLIGHT).unwrap_or(u32::MAX);
    tokio::select! {
        _ = in_flight.acquire_many(everything) => end(Failure::Send(SendError::ShuttingDown).into()),
        () = answers.closed() => {}
    }
}

/// Begins to send a message, and sees to its answer.
fn begin(
    sms: &Sms,
    caller: &Caller,
    request: v1::StreamSmsRequest,
    place: Option<OwnedSemaphorePermit>,
    answers: mpsc::Sender<Waiting>,
) {
    let v1::StreamSmsRequest {
        correlation,
        request,
    } = request;
    let answer = move |sent: Sent| {
        let mut results = sent.results;
        for refusal in results.iter_mut().filter_map(|one| one.refusal.as_mut()) {
            name_as_single(&mut refusal.violations);
        }
        let response = v1::StreamSmsResponse {
            correlation,
            results,
        };
        // There is room: see `open`. A caller that went away learns it from the events.
        let _ = answers.try_send((Ok(response), place));
    };
    // Without a message the request is a bulk with one that has nothing, and is refused as such.
    let request = request.unwrap_or_default();
    let request = v1::SendSmsBulkRequest {
        request_id: request.request_id,
        bulk_id: request.bulk_id,
        messages: vec![request.message.unwrap_or_default()],
        tracking: request.tracking,
    };
    let command = SendCommand {
        application: caller.application.clone(),
        request,
        arrival: Arrival::First,
    };
    sms.0.sender.send_then(command, answer);
}
