//! Handles one delivery, from decoding to its acknowledgement.
//!
//! Neighbours: `command` decodes, `send` sends, `lookup` handles look-ups, `custody` requeues, dead-letters and acknowledges.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use jiff::Timestamp;
use lapin::message::Delivery;

use super::{
    Context, attempts,
    command::{Command, Source},
    custody::{Copy, Requeue},
    decoded_size::TooLarge,
    encoding::Encoding,
    envelope::Envelope,
    invalid::Invalid,
    lease::HeldDelivery,
    ledger::{InFlight, Key, Redelivered},
    lookup, message_ids, panicked,
    redelivered_without_id::report_unknown,
    reply::reply,
    returned::{self, Returned},
    waiting::send_when_there_is_room,
};
use crate::{
    amqp::headers::REFUSALS,
    message::{
        id::{ApplicationName, logged_id},
        reason::Reason,
        traceparent::Traceparent,
    },
    ops::{
        kill_point::{self, KillPoint},
        milliseconds,
    },
    proto::v1::{Outcome, SendResult},
    send::{
        Arrival, QueueDelivery, SendCommand, SendError, Sent,
        refusal_note::Refusal,
        request::{RequestMessage, SendRequest},
    },
};

/// Minimum delay before a command is looked up again that was handed back in doubt.
const DOUBT_RETRY_DELAY: Duration = Duration::from_secs(60);
/// Minimum delay of a retry while the API refuses the bridge's credentials, which an operator has to correct.
const CREDENTIALS_RETRY_DELAY: Duration = Duration::from_secs(60);

pub(super) async fn handle(context: &Context, source: Source, delivery: HeldDelivery) {
    let began = Instant::now();
    let envelope = Envelope::new(&delivery);
    let request_id = envelope.request_id().to_owned();
    tracing::debug!(
        ?source,
        request_id = logged_id(&request_id),
        redelivered = envelope.history().is_redelivered,
        "a command was received"
    );
    // Another process has it otherwise.
    if delivery.is_usable() {
        let handling = AssertUnwindSafe(carry_out(context, source, &delivery, began));
        if handling.catch_unwind().await.is_err() {
            Box::pin(panicked::requeue_or_end(context, source, &delivery)).await;
        }
    }
    tracing::debug!(
        ?source,
        request_id = logged_id(&request_id),
        ms = milliseconds(began.elapsed()),
        "a command ended"
    );
}

async fn carry_out(context: &Context, source: Source, delivery: &HeldDelivery, began: Instant) {
    let mut given_up = None;
    if source == Source::Returned {
        match returned::decide(context, delivery) {
            Returned::Expired => {}
            Returned::Unroutable(why) => {
                return context.dead_letter(source, delivery, why, None).await;
            }
            // Nothing tells whether numbers were looked up.
            Returned::GivenUp(why)
                if lookup::is_lookup(source, delivery) || delivery.decoded_bytes.is_err() =>
            {
                return context.dead_letter(source, delivery, why, None).await;
            }
            Returned::GivenUp(why) => given_up = Some(why),
        }
    }
    if lookup::is_lookup(source, delivery) {
        // Boxed: it would make the future of each command larger.
        let looking_up = lookup::carry_out(context, source, delivery, began);
        return Box::pin(looking_up).await;
    }
    if let Err(TooLarge(detail)) = &delivery.decoded_bytes {
        let invalid = Invalid::new(Reason::MessageTooLarge, detail.as_str());
        context.dead_letter(source, delivery, invalid, None).await;
        return;
    }
    let commands = &context.commands;
    let envelope = Envelope::new(delivery);
    let read = match given_up {
        Some(why) => Command::read_given_up(&envelope, commands, why),
        None => Command::read(&envelope, source, commands),
    };
    match read {
        Ok(mut command) => {
            command.send.delivery = Some(QueueDelivery {
                lease: delivery.lease.clone(),
                hold_until: (began + commands.hold_for).into(),
                published_at: time_of(envelope.published_ms()),
                send_at_not_before: envelope.told_published_ms().map(time_of),
                alone: envelope.refusals().is_some(),
                refusal: Arc::default(),
            });
            send(context, source, delivery, command).await;
        }
        Err(invalid) => context.dead_letter(source, delivery, invalid, None).await,
    }
}

fn time_of(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or_else(|_| Timestamp::now())
}

/// Requeues a delivery that was received while the process shuts down.
pub(super) async fn requeue_unchanged(context: &Context, source: Source, delivery: &HeldDelivery) {
    if lookup::is_lookup(source, delivery) {
        return lookup::requeue_unchanged(context, source, delivery).await;
    }
    let commands = &context.commands;
    let envelope = Envelope::new(delivery);
    let may_be_sent = envelope.history().may_be_sent(source);
    // One that may have been sent was sent by other ids than new ones. So may one that the broker gave up, which becomes a dead letter.
    let is_given_up =
        source == Source::Returned && !returned::has_expired(&commands.topology, delivery);
    let needs_ids = envelope.request_id().is_empty()
        && !may_be_sent
        && !is_given_up
        && delivery.decoded_bytes.is_ok();
    let read = needs_ids.then(|| Command::read(&envelope, source, commands));
    // One that cannot be read is handled by the process that receives the copy.
    let body = match read {
        Some(Ok(command)) => copied_body(delivery, command.encoding, command.into_request()),
        Some(Err(_)) | None => Bytes::copy_from_slice(&delivery.data),
    };
    let queue = source.queue(&commands.topology);
    let copy = Copy {
        body,
        requeue: Requeue::Unchanged,
        may_be_sent,
        count: None,
    };
    context.requeue(queue, delivery, copy, None).await;
}

async fn send(context: &Context, source: Source, delivery: &HeldDelivery, command: Command) {
    let request_id = command.send.request.request_id.clone();
    let history = command.history;
    if request_id.is_empty() {
        // One without destinations counts as one with ids: it has no results to report, and the sender refuses it as invalid.
        let has_ids = message_ids::has_all(&command.send.request);
        if history.may_be_sent(source) && !has_ids {
            report_unknown(context, delivery, command).await;
        } else {
            attempt(context, source, delivery, command, None).await;
        }
        return;
    }
    let key: Key = (command.send.application.to_string(), request_id);
    let is_first = command.send.arrival == Arrival::First;
    let beginning = begin(context, delivery, &key, history.is_redelivered, is_first);
    if let Some(_in_flight) = beginning.await {
        attempt(context, source, delivery, command, Some(&key)).await;
    }
}

/// Waits until no earlier delivery of the command is in flight in this process. `None`: nothing is left to do with this one, because an
/// earlier one was handled, or its session ended.
pub(super) async fn begin<'a>(
    context: &'a Context,
    delivery: &HeldDelivery,
    key: &Key,
    is_redelivered: bool,
    is_first: bool,
) -> Option<InFlight<'a>> {
    let ledger = &context.ledger;
    let beginning = async {
        if is_redelivered {
            let redelivered = ledger.begin_redelivered(key.clone(), || delivery.is_usable());
            redelivered.await
        } else if is_first {
            Redelivered::Begun(ledger.begin(key.clone()))
        } else {
            Redelivered::Begun(ledger.begin_copy(key.clone()).await)
        }
    };
    let begun = tokio::select! {
        biased;
        begun = beginning => begun,
        () = delivery.lease.lost() => Redelivered::Lost,
    };
    match begun {
        Redelivered::Begun(in_flight) => Some(in_flight),
        Redelivered::Handled => {
            context.acknowledge(delivery, Some(key)).await;
            None
        }
        Redelivered::Lost => None,
    }
}

/// Sends the command once, then acknowledges, requeues or dead-letters it.
async fn attempt(
    context: &Context,
    source: Source,
    delivery: &HeldDelivery,
    command: Command,
    key: Option<&Key>,
) {
    let may_be_sent = command.history.may_be_sent(source);
    let (encoding, given_up) = (command.encoding, command.given_up);
    let mut request = SendRequest {
        form: command.form,
        bulk: command.send.request.clone(),
    };
    let again = SendTerms::of(&command.send);
    let outcome = if context.lines.has_waiting(source) {
        Err(SendError::QueueFull {
            retry_after: Duration::from_secs(1),
        })
    } else {
        context.commands.sender.send(command.send).await
    };
    let outcome = match outcome {
        Err(full @ SendError::QueueFull { .. }) => {
            // Boxed: it is rare, and would make the future of each command larger.
            let waiting =
                send_when_there_is_room(context, source, delivery, &again, &request, full);
            match Box::pin(waiting).await {
                Some(outcome) => outcome,
                None => return,
            }
        }
        outcome => outcome,
    };
    let (body, requeue, may_be_sent, why) = match outcome {
        Ok(sent) if !sent.results.iter().any(SendResult::has_retryable_refusal) => {
            kill_point::reached(KillPoint::ResultsStored);
            reply(context, delivery, encoding, &request, sent).await;
            context.acknowledge(delivery, key).await;
            return;
        }
        Ok(sent) => {
            if let Some(missing) = returned::missing(&sent)
                && let Some(why) = given_up
            {
                let why = returned::not_found(why, sent.results.len(), missing);
                return context.dead_letter(source, delivery, why, key).await;
            }
            let requeue = if context.shutdown.is_cancelled() {
                Requeue::Unchanged
            } else {
                Requeue::Delayed(shortest_delay(&sent))
            };
            let why = attempts::last_refusal(&sent);
            if key.is_some() {
                // The whole command is repeated. Destinations with a result are found by their ids and not sent again.
                let body = Bytes::copy_from_slice(&delivery.data);
                (body, requeue, true, why)
            } else {
                // Without a request id only destinations without a result may be sent again, and by the ids that they have.
                let is_in_doubt = sent.results.iter().any(|result| {
                    result.outcome() == Outcome::Unknown && result.has_retryable_refusal()
                });
                message_ids::set_from_results(&mut request, &sent);
                request.retain_retryable(&sent);
                let may_be_sent = may_be_sent || is_in_doubt;
                (encode(encoding, request), requeue, may_be_sent, why)
            }
        }
        Err(error) => match requeue_or_reject(&error, may_be_sent, given_up) {
            Ok((requeue, may_be_sent)) => {
                let body = match may_be_sent {
                    // New ids would not find it in the API's logs.
                    true => Bytes::copy_from_slice(&delivery.data),
                    false => copied_body(delivery, encoding, request),
                };
                (body, requeue, may_be_sent, error.to_string())
            }
            Err(invalid) => {
                context.dead_letter(source, delivery, invalid, key).await;
                return;
            }
        },
    };
    let refusal = again.delivery.and_then(|delivery| delivery.refusal.noted());
    let refusals = attempts::counted(Envelope::new(delivery).refusals(), refusal);
    let max_attempts = context.commands.max_attempts;
    // One whose attempt did not count this time is tried again, whatever its count, and so is one that may have been sent.
    if refusal == Some(Refusal::AloneAfterOthers)
        && !may_be_sent
        && let Some(invalid) = attempts::over_the_limit(refusals, max_attempts, &why)
    {
        let dying = context.dead_letter_with(source, delivery, body, invalid, key);
        return Box::pin(dying).await;
    }
    let copy = Copy {
        body,
        requeue,
        may_be_sent,
        count: refusals.map(|refusals| (REFUSALS, refusals)),
    };
    let queue = source.queue(&context.commands.topology);
    context.requeue(queue, delivery, copy, key).await;
}

/// What a command has beside its request, to send it again.
pub(super) struct SendTerms {
    application: ApplicationName,
    arrival: Arrival,
    traceparent: Option<Traceparent>,
    delivery: Option<QueueDelivery>,
}

impl SendTerms {
    fn of(command: &SendCommand) -> Self {
        Self {
            application: command.application.clone(),
            arrival: command.arrival,
            traceparent: command.traceparent,
            delivery: command.delivery.clone(),
        }
    }

    /// The number of its results, for which the sender must have room.
    pub(super) fn results(request: &SendRequest) -> usize {
        let messages = request.bulk.messages.iter();
        messages.map(|one| one.destinations.len().max(1)).sum()
    }

    /// When the command has to be handed back.
    pub(super) fn hold_until(&self) -> Option<tokio::time::Instant> {
        Some(self.delivery.as_ref()?.hold_until)
    }

    pub(super) fn command(&self, request: &SendRequest) -> SendCommand {
        SendCommand {
            application: self.application.clone(),
            form: request.form,
            request: request.bulk.clone(),
            // One with violations is invalid, and does not wait.
            violations: Vec::new(),
            arrival: self.arrival,
            traceparent: self.traceparent,
            delivery: self.delivery.clone(),
        }
    }
}

/// How to requeue a command that the sender refused as a whole; `Err` if it can never be carried out.
fn requeue_or_reject(
    error: &SendError,
    may_be_sent: bool,
    given_up: Option<Invalid>,
) -> Result<(Requeue, bool), Invalid> {
    match (error, given_up) {
        (SendError::NotSent, Some(why)) => Err(returned::not_found(why, 1, 1)),
        (error, _) => requeue_or_reject_new(error, may_be_sent),
    }
}

fn requeue_or_reject_new(error: &SendError, may_be_sent: bool) -> Result<(Requeue, bool), Invalid> {
    match error {
        SendError::Invalid(violations) => {
            let violations = violations.clone();
            Err(Invalid::request(Reason::InvalidRequest, violations))
        }
        SendError::IdReused { .. } => Err(Invalid::new(Reason::IdReused, error.to_string())),
        SendError::QueueFull { retry_after } | SendError::Unavailable { retry_after, .. } => {
            Ok((Requeue::Delayed(*retry_after), may_be_sent))
        }
        SendError::CredentialsRefused { .. } => {
            Ok((Requeue::Delayed(CREDENTIALS_RETRY_DELAY), may_be_sent))
        }
        SendError::LogUnavailable(_) | SendError::StillInDoubt => {
            Ok((Requeue::Delayed(Duration::ZERO), true))
        }
        // Nothing was attempted. (A command whose delivery was lost is withdrawn, and gets no copy.)
        SendError::LogUnreadable(_) | SendError::Withdrawn | SendError::NotSent => {
            Ok((Requeue::Delayed(Duration::ZERO), may_be_sent))
        }
        SendError::ShuttingDown => Ok((Requeue::Unchanged, may_be_sent)),
    }
}

/// The shortest delay before the refused destinations are attempted again.
fn shortest_delay(sent: &Sent) -> Duration {
    let has = |reason: Reason| {
        let refusals = sent.results.iter().filter_map(|one| one.refusal.as_ref());
        let mut retryable = refusals.filter(|refusal| refusal.retryable);
        retryable.any(|refusal| refusal.reason == reason.as_str())
    };
    if has(Reason::ApiCredentialsRefused) {
        CREDENTIALS_RETRY_DELAY
    } else if has(Reason::OutcomeUnknown) {
        DOUBT_RETRY_DELAY
    } else {
        Duration::ZERO
    }
}

/// The body of a copy of the whole command. Without a request id it has message ids.
fn copied_body(delivery: &Delivery, encoding: Encoding, mut request: SendRequest) -> Bytes {
    if !request.bulk.request_id.is_empty() {
        return Bytes::copy_from_slice(&delivery.data);
    }
    message_ids::set_new(&mut request);
    encode(encoding, request)
}

fn encode(encoding: Encoding, request: SendRequest) -> Bytes {
    match request.into_message() {
        RequestMessage::Single(request) => encoding.encode(&*request),
        RequestMessage::Bulk(request) => encoding.encode(&request),
    }
}
