//! One command, from its delivery to its acknowledgement.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use lapin::message::Delivery;

use super::{
    Context,
    command::{Command, Encoding, Envelope, Invalid, Kind, Source},
    custody::Back,
    ledger::Key,
    returned,
};
use crate::{
    amqp::{Message, codec},
    events::NewEvent,
    message::{address::normalize_number, id::derive_message_id, reason::Reason},
    proto::v1,
    send::{Arrival, SendError, Sent},
};

/// How long a command waits at least where the API refuses the bridge's credentials: someone has to act.
const CREDENTIALS_WAIT: Duration = Duration::from_secs(60);

/// Handles one delivery. `untouched`: the process ends, and the delivery goes back.
pub(super) async fn handle(context: &Context, source: Source, delivery: Delivery, untouched: bool) {
    let envelope = Envelope::new(&delivery);
    if untouched {
        let (queue, doubt) = (context.queue(source), envelope.arrival());
        let body = Bytes::copy_from_slice(&delivery.data);
        context
            .put_back(&queue, &delivery, body, Back::Untouched, doubt, None)
            .await;
        return;
    }
    if source == Source::Returned
        && let Some(invalid) = returned::given_up(context, &delivery)
    {
        context.bury(&delivery, invalid, None).await;
        return;
    }
    let commands = &context.commands;
    let bridge_user = commands.endpoint.username();
    match envelope.read(source, commands.application_from, bridge_user) {
        Ok(command) => send(context, source, &delivery, command).await,
        Err(invalid) => context.bury(&delivery, invalid, None).await,
    }
}

async fn send(context: &Context, source: Source, delivery: &Delivery, command: Command) {
    let request_id = command.send.request.request_id.clone();
    let arrival = command.send.arrival;
    if request_id.is_empty() {
        // Without destinations there is nothing to report: it is invalid, which the sender says.
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
    let under_way = match arrival {
        Arrival::First => Some(context.ledger.begin(key.clone())),
        Arrival::Redelivered => context.ledger.begin_again(key.clone()).await,
    };
    match under_way {
        Some(_under_way) => attempt(context, source, delivery, command, Some(&key)).await,
        None => context.acknowledge(delivery, Some(&key)).await,
    }
}

async fn attempt(
    context: &Context,
    source: Source,
    delivery: &Delivery,
    command: Command,
    key: Option<&Key>,
) {
    let arrival = command.send.arrival;
    let (kind, encoding) = (command.kind, command.encoding);
    let request = command.send.request.clone();
    let queue = context.queue(source);
    let body = || Bytes::copy_from_slice(&delivery.data);
    let later = |wait| Back::Later(wait);
    match context.commands.sender.send(command.send).await {
        Ok(sent) => {
            if !sent.results.iter().any(may_succeed_later) {
                reply(context, delivery, kind, encoding, &request, sent).await;
                context.acknowledge(delivery, key).await;
                return;
            }
            // With a request id the whole command comes again, and what was done is found by its ids; without one only
            // what was not attempted may.
            let (body, doubt) = if key.is_some() {
                (body(), Arrival::Redelivered)
            } else {
                (encode(encoding, kind, untried(request, &sent)), arrival)
            };
            let back = later(wait_of(&sent));
            context
                .put_back(&queue, delivery, body, back, doubt, key)
                .await;
        }
        Err(error) => {
            let (back, doubt) = match error {
                SendError::Invalid(violations) => {
                    let invalid = Invalid {
                        reason: Reason::InvalidRequest,
                        detail: format!("the command has {} mistakes", violations.len()),
                        violations: paths_as_sent(violations, kind),
                    };
                    context.bury(delivery, invalid, key).await;
                    return;
                }
                SendError::IdReused { .. } => {
                    let invalid = Invalid::new(Reason::IdReused, error.to_string());
                    context.bury(delivery, invalid, key).await;
                    return;
                }
                SendError::QueueFull { retry_after }
                | SendError::Unavailable { retry_after, .. } => (later(retry_after), arrival),
                SendError::CredentialsRefused { .. } => (later(CREDENTIALS_WAIT), arrival),
                SendError::LogUnavailable(_) => (later(Duration::ZERO), Arrival::Redelivered),
                // Nothing was attempted; nobody takes a command back.
                SendError::LogUnreadable(_) | SendError::Withdrawn => {
                    (later(Duration::ZERO), arrival)
                }
                SendError::ShuttingDown => (Back::Untouched, arrival),
            };
            context
                .put_back(&queue, delivery, body(), back, doubt, key)
                .await;
        }
    }
}

/// At most once without a request id: what was delivered before is never sent again (docs/RELIABILITY.md#how-a-send-stays-single).
async fn report_unknown(context: &Context, delivery: &Delivery, command: &Command) {
    let request = &command.send.request;
    for (index, message) in request.messages.iter().enumerate() {
        if message.destinations.is_empty() {
            let event = rejected_without_destination(command, index);
            if !context.appended(delivery, event).await {
                return;
            }
        }
        for destination in &message.destinations {
            let message_id = if destination.message_id.is_empty() {
                derive_message_id("", 0, 1)
            } else {
                destination.message_id.clone()
            };
            let to = normalize_number(&destination.to).unwrap_or(Cow::Borrowed(&destination.to));
            let result = v1::SendResult {
                to: to.into_owned(),
                message_id,
                outcome: v1::Outcome::Unknown.into(),
                message_index: i32::try_from(index).unwrap_or(i32::MAX),
                bulk_id: request.bulk_id.clone(),
                refusal: Some(Box::new(v1::Refusal {
                    reason: Reason::RedeliveredWithoutRequestId.into(),
                    detail: "the command was delivered before and may have been sent; without a request id (property \
                             message_id) it is never sent again"
                        .into(),
                    ..Default::default()
                })),
                ..Default::default()
            };
            let event = NewEvent::send_result(
                &command.send.application,
                "",
                None,
                Box::new(result),
                Timestamp::now(),
            );
            if !context.appended(delivery, event).await {
                return;
            }
        }
    }
    context.acknowledge(delivery, None).await;
}

/// How long the destinations wait at least that were not attempted.
fn wait_of(sent: &Sent) -> Duration {
    let mut refusals = sent
        .results
        .iter()
        .filter_map(|result| result.refusal.as_ref());
    if refusals.any(|refusal| refusal.reason == Reason::ApiCredentialsRefused.as_str()) {
        CREDENTIALS_WAIT
    } else {
        Duration::ZERO
    }
}

/// A message without destinations was not sent by an earlier delivery either: its result is certain.
fn rejected_without_destination(command: &Command, index: usize) -> NewEvent {
    let violation = v1::FieldViolation {
        field: format!("messages[{index}].destinations"),
        description: "is empty: give at least one destination".into(),
    };
    let result = v1::SendResult {
        outcome: v1::Outcome::Rejected.into(),
        message_index: i32::try_from(index).unwrap_or(i32::MAX),
        bulk_id: command.send.request.bulk_id.clone(),
        refusal: Some(Box::new(v1::Refusal {
            reason: Reason::InvalidRequest.into(),
            detail: "the message is invalid: nothing was sent".into(),
            violations: paths_as_sent(vec![violation], command.kind),
            ..Default::default()
        })),
        ..Default::default()
    };
    NewEvent::send_result(
        &command.send.application,
        "",
        None,
        Box::new(result),
        Timestamp::now(),
    )
}

fn may_succeed_later(result: &v1::SendResult) -> bool {
    result
        .refusal
        .as_ref()
        .is_some_and(|refusal| refusal.retryable)
}

/// The request with only those destinations of which nothing was attempted.
fn untried(mut request: v1::SendSmsBulkRequest, sent: &Sent) -> v1::SendSmsBulkRequest {
    let mut results = sent.results.iter();
    for message in &mut request.messages {
        if message.destinations.is_empty() {
            // It has one result, which is final.
            results.next();
        }
        message
            .destinations
            .retain(|_| results.next().is_some_and(may_succeed_later));
    }
    request
        .messages
        .retain(|message| !message.destinations.is_empty());
    request
}

fn encode(encoding: Encoding, kind: Kind, request: v1::SendSmsBulkRequest) -> Bytes {
    match kind {
        Kind::Bulk => to_bytes(encoding, &request),
        Kind::Single => to_bytes(
            encoding,
            &v1::SendSmsRequest {
                request_id: request.request_id,
                message: request.messages.into_iter().next(),
                tracking: request.tracking,
                bulk_id: request.bulk_id,
            },
        ),
    }
}

/// Writes a message of the contract, which always can be.
fn to_bytes(encoding: Encoding, message: &(impl prost::Message + serde::Serialize)) -> Bytes {
    match encoding {
        Encoding::Json => serde_json::to_vec(message)
            .map(Bytes::from)
            .unwrap_or_default(),
        Encoding::Protobuf => message.encode_to_vec().into(),
    }
}

/// A single message's mistakes are told with the paths of `SendSmsRequest`.
fn paths_as_sent(mut violations: Vec<v1::FieldViolation>, kind: Kind) -> Vec<v1::FieldViolation> {
    if kind == Kind::Single {
        for violation in &mut violations {
            if let Some(rest) = violation.field.strip_prefix("messages[0]") {
                violation.field = format!("message{rest}");
            }
        }
    }
    violations
}

/// Answers to `reply_to`, where one is given. The results are events already: a reply that finds nobody is no failure.
async fn reply(
    context: &Context,
    delivery: &Delivery,
    kind: Kind,
    encoding: Encoding,
    request: &v1::SendSmsBulkRequest,
    sent: Sent,
) {
    let properties = &delivery.properties;
    let Some(reply_to) = properties
        .reply_to()
        .as_ref()
        .filter(|to| !to.as_str().is_empty())
    else {
        return;
    };
    let bulk_id = request.bulk_id.clone();
    let Sent {
        tracking_process_key,
        results,
    } = sent;
    let (name, body) = match kind {
        Kind::Single => {
            let response = v1::SendSmsResponse {
                bulk_id,
                results,
                tracking_process_key,
            };
            (
                "smsbridge.v1.SendSmsResponse",
                to_bytes(encoding, &response),
            )
        }
        Kind::Bulk => {
            let response = v1::SendSmsBulkResponse {
                bulk_id,
                results,
                tracking_process_key,
            };
            (
                "smsbridge.v1.SendSmsBulkResponse",
                to_bytes(encoding, &response),
            )
        }
    };
    let content_type = match encoding {
        Encoding::Json => codec::JSON,
        Encoding::Protobuf => codec::PROTOBUF,
    };
    let correlation = properties
        .correlation_id()
        .as_ref()
        .map_or(request.request_id.as_str(), |id| id.as_str());
    let message = Message {
        exchange: String::new(),
        routing_key: reply_to.to_string(),
        properties: codec::properties(content_type)
            .with_type(codec::lossy_short(name))
            .with_correlation_id(codec::lossy_short(correlation)),
        body,
    };
    for outcome in context.commands.publisher.publish_all(vec![message]).await {
        if let Err(error) = outcome {
            tracing::warn!(%error, request_id = request.request_id, "a reply could not be published");
        }
    }
}

impl Context {
    /// The queue that a command comes back to.
    fn queue(&self, source: Source) -> String {
        let topology = &self.commands.topology;
        match source {
            Source::Normal => topology.send_normal(),
            Source::Urgent => topology.send_urgent(),
            Source::Returned => topology.returned(),
        }
    }
}
