//! Handles one delivery, from decoding to its acknowledgement.
//!
//! Neighbours: `command` decodes, `send` sends, `custody` requeues, dead-letters and acknowledges.

use std::time::{Duration, Instant};

use bytes::Bytes;
use lapin::message::Delivery;

use super::{
    Context,
    command::{Command, Source},
    custody::Requeue,
    encoding::Encoding,
    envelope::Envelope,
    invalid::Invalid,
    ledger::Key,
    redelivered_without_id::report_unknown,
    reply::reply,
    returned,
};
use crate::{
    message::reason::Reason,
    ops::{
        kill_point::{self, KillPoint},
        milliseconds,
    },
    proto::v1::SendResult,
    send::{
        Arrival, SendError, Sent,
        request::{RequestMessage, SendRequest},
    },
};

/// Minimum delay of a retry while the API refuses the bridge's credentials, which an operator has to correct.
const CREDENTIALS_RETRY_DELAY: Duration = Duration::from_secs(60);

pub(super) async fn handle(context: &Context, source: Source, delivery: Delivery) {
    let began = Instant::now();
    let envelope = Envelope::new(&delivery);
    let request_id = envelope.request_id().to_owned();
    tracing::debug!(
        ?source,
        request_id,
        redelivered = envelope.arrival() == Arrival::Redelivered,
        "a command was received"
    );
    carry_out(context, source, delivery).await;
    tracing::debug!(
        ?source,
        request_id,
        ms = milliseconds(began.elapsed()),
        "a command ended"
    );
}

async fn carry_out(context: &Context, source: Source, delivery: Delivery) {
    if source == Source::Returned
        && let Some(invalid) = returned::dead_letter_reason(context, &delivery)
    {
        context.dead_letter(&delivery, invalid, None).await;
        return;
    }
    let commands = &context.commands;
    let bridge_user = commands.endpoint.username();
    let envelope = Envelope::new(&delivery);
    match Command::read(&envelope, source, commands.application_from, bridge_user) {
        Ok(command) => send(context, source, &delivery, command).await,
        Err(invalid) => context.dead_letter(&delivery, invalid, None).await,
    }
}

/// Requeues a delivery that was received while the process shuts down.
pub(super) async fn requeue_unchanged(context: &Context, source: Source, delivery: &Delivery) {
    let queue = source.queue(&context.commands.topology);
    let body = Bytes::copy_from_slice(&delivery.data);
    let arrival = Envelope::new(delivery).arrival();
    context
        .requeue(queue, delivery, body, Requeue::Unchanged, arrival, None)
        .await;
}

async fn send(context: &Context, source: Source, delivery: &Delivery, command: Command) {
    let request_id = command.send.request.request_id.clone();
    let arrival = command.send.arrival;
    if request_id.is_empty() {
        // A command without destinations has no results to report: the sender refuses it as invalid.
        let has_destinations = command
            .send
            .request
            .messages
            .iter()
            .any(|message| !message.destinations.is_empty());
        if arrival == Arrival::Redelivered && source != Source::Returned && has_destinations {
            report_unknown(context, delivery, &command).await;
        } else {
            attempt(context, source, delivery, command, None).await;
        }
        return;
    }
    let key: Key = (command.send.application.to_string(), request_id);
    let in_flight = match arrival {
        Arrival::First => Some(context.ledger.begin(key.clone())),
        Arrival::Redelivered => context.ledger.begin_redelivered(key.clone()).await,
    };
    match in_flight {
        Some(_in_flight) => attempt(context, source, delivery, command, Some(&key)).await,
        None => context.acknowledge(delivery, Some(&key)).await,
    }
}

/// Sends the command once, then acknowledges, requeues or dead-letters it.
async fn attempt(
    context: &Context,
    source: Source,
    delivery: &Delivery,
    command: Command,
    key: Option<&Key>,
) {
    let arrival = command.send.arrival;
    let encoding = command.encoding;
    let mut request = SendRequest {
        form: command.form,
        bulk: command.send.request.clone(),
    };
    let unchanged_body = || Bytes::copy_from_slice(&delivery.data);
    let (body, requeue, next_arrival) = match context.commands.sender.send(command.send).await {
        Ok(sent) if !sent.results.iter().any(SendResult::has_retryable_refusal) => {
            kill_point::reached(KillPoint::ResultsStored);
            reply(context, delivery, encoding, &request, sent).await;
            context.acknowledge(delivery, key).await;
            return;
        }
        Ok(sent) => {
            let requeue = Requeue::Delayed(shortest_delay(&sent));
            if key.is_some() {
                // The whole command is repeated. Destinations with a result are found by their ids and not sent again.
                (unchanged_body(), requeue, Arrival::Redelivered)
            } else {
                // Without a request id only destinations of which nothing was attempted may be sent again.
                request.retain_retryable(&sent);
                (encode(encoding, request), requeue, arrival)
            }
        }
        Err(error) => match requeue_or_reject(error, arrival) {
            Ok((requeue, next_arrival)) => (unchanged_body(), requeue, next_arrival),
            Err(invalid) => {
                context.dead_letter(delivery, invalid, key).await;
                return;
            }
        },
    };
    let queue = source.queue(&context.commands.topology);
    context
        .requeue(queue, delivery, body, requeue, next_arrival, key)
        .await;
}

/// How to requeue a command that the sender refused as a whole; `Err` if it can never be carried out.
fn requeue_or_reject(error: SendError, arrival: Arrival) -> Result<(Requeue, Arrival), Invalid> {
    match error {
        SendError::Invalid(violations) => Err(Invalid::request(Reason::InvalidRequest, violations)),
        SendError::IdReused { .. } => Err(Invalid::new(Reason::IdReused, error.to_string())),
        SendError::QueueFull { retry_after } | SendError::Unavailable { retry_after, .. } => {
            Ok((Requeue::Delayed(retry_after), arrival))
        }
        SendError::CredentialsRefused { .. } => {
            Ok((Requeue::Delayed(CREDENTIALS_RETRY_DELAY), arrival))
        }
        SendError::LogUnavailable(_) => {
            Ok((Requeue::Delayed(Duration::ZERO), Arrival::Redelivered))
        }
        // Nothing was attempted. (Commands are never withdrawn.)
        SendError::LogUnreadable(_) | SendError::Withdrawn => {
            Ok((Requeue::Delayed(Duration::ZERO), arrival))
        }
        SendError::ShuttingDown => Ok((Requeue::Unchanged, arrival)),
    }
}

/// The shortest delay before the refused destinations are attempted again.
fn shortest_delay(sent: &Sent) -> Duration {
    let mut refusals = sent
        .results
        .iter()
        .filter_map(|result| result.refusal.as_ref());
    if refusals.any(|refusal| refusal.reason == Reason::ApiCredentialsRefused.as_str()) {
        CREDENTIALS_RETRY_DELAY
    } else {
        Duration::ZERO
    }
}

fn encode(encoding: Encoding, request: SendRequest) -> Bytes {
    match request.into_message() {
        RequestMessage::Single(request) => encoding.encode(&*request),
        RequestMessage::Bulk(request) => encoding.encode(&request),
    }
}
