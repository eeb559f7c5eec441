//! The results of a command that looks numbers up: as events, and as a reply.
//!
//! Invariant: what the API answered was paid for, so it is stored also after the delivery was lost. With a request id an event's id
//! does not depend on the result: whatever a redelivery reports later is a duplicate. Neighbours: `events` stores, `reply` publishes.

use std::sync::Arc;

use lapin::message::Delivery;
use prost::Message as _;

use super::request::LookupCommand;
use crate::{
    amqp::{headers::property, session::RECONNECT},
    commands::{Context, lease::HeldDelivery, reply::MAX_REPLY_BYTES},
    events::{Batch, NewEvent},
    infobip::ApiError,
    message::{id::logged_id, reason::Reason},
    primitives::retry::Backoff,
    proto::v1,
    query::lookup::{LookupError, without_answer},
};

/// Why numbers that an earlier delivery may have asked have no answer.
pub(super) fn may_have_been_asked() -> v1::Refusal {
    v1::Refusal {
        reason: Reason::OutcomeUnknown.into(),
        detail: "the command was delivered before, and the number may have been looked up and paid for: it is not looked up again"
            .into(),
        ..v1::Refusal::default()
    }
}

/// Why numbers of a command that was published before are not asked. Their results are events of the first publication.
pub(super) fn published_before() -> v1::Refusal {
    v1::Refusal {
        reason: Reason::OutcomeUnknown.into(),
        detail: "a command with this request id was published before: the number is not looked up again. Its result is the \
                 lookup.completed event of the first publication, which may still come. To look it up again, use a new request id"
            .into(),
        ..v1::Refusal::default()
    }
}

/// Why numbers of an expired command have no answer. `is_untouched`: no earlier delivery can have asked. It is never retryable: the
/// event is the result of the number under this request id, for good.
pub(super) fn expired(is_untouched: bool) -> v1::Refusal {
    let detail = if is_untouched {
        "the command expired before the number was looked up: to look it up, use a new request id"
    } else {
        "the command expired in its queue. If it was delivered before, the number may have been looked up and paid for then. To look \
         it up, use a new request id"
    };
    v1::Refusal {
        reason: Reason::Expired.into(),
        detail: detail.into(),
        ..v1::Refusal::default()
    }
}

pub(super) fn refusal(error: ApiError) -> v1::Refusal {
    LookupError::from(error).refusal()
}

pub(super) fn without_answers(numbers: &[String], refusal: &v1::Refusal) -> Vec<v1::NumberLookup> {
    let results = numbers.iter().map(|to| without_answer(to, refusal));
    results.collect()
}

pub(super) fn events(command: &LookupCommand, results: &[v1::NumberLookup]) -> Batch {
    let event = |result: &v1::NumberLookup| {
        let LookupCommand {
            application,
            request_id,
            traceparent,
            ..
        } = command;
        NewEvent::lookup_result(application, request_id, result.clone()).caused_by(*traceparent)
    };
    Arc::new(results.iter().map(event).collect())
}

/// Appends what the API answered: while the delivery is this process's without an end, because it keeps its place until it is
/// acknowledged; after it was lost until `give_up_at`; at a shutdown once more. Returns whether it is durable.
pub(super) async fn append_answers(
    context: &Context,
    delivery: &HeldDelivery,
    events: Batch,
    give_up_at: tokio::time::Instant,
) -> bool {
    let mut backoff = Backoff::new(RECONNECT);
    loop {
        let is_over = tokio::time::Instant::now() > give_up_at && !delivery.is_usable();
        let is_last = context.shutdown.is_cancelled() || is_over;
        match context.commands.log.append(Arc::clone(&events)).await {
            Ok(()) => return true,
            Err(error) if is_last => {
                tracing::warn!(
                    %error,
                    numbers = events.len(),
                    "answers to look-ups could not be stored: when their command is delivered again, they are unknown"
                );
                return false;
            }
            Err(error) => tracing::debug!(%error, "answers could not be stored, trying again"),
        }
        tokio::select! {
            () = context.shutdown.cancelled() => {}
            () = tokio::time::sleep(backoff.next_wait()) => {}
        }
    }
}

/// The results for the reply. Nothing is kept if the publisher wants none, or if they become too many.
#[derive(Default)]
pub(super) struct Results {
    is_wanted: bool,
    bytes: usize,
    results: Vec<v1::NumberLookup>,
}

impl Results {
    pub(super) fn new(delivery: &Delivery) -> Self {
        Self {
            is_wanted: !property(delivery.properties.reply_to()).is_empty(),
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, results: Vec<v1::NumberLookup>) {
        if !self.is_wanted || self.bytes > MAX_REPLY_BYTES {
            return;
        }
        let bytes = results.iter().map(v1::NumberLookup::encoded_len);
        self.bytes += bytes.sum::<usize>();
        if self.bytes > MAX_REPLY_BYTES {
            self.results = Vec::new();
        } else {
            self.results.extend(results);
        }
    }

    /// `None` if no reply is published.
    pub(super) fn into_response(self, request_id: &str) -> Option<v1::LookupNumbersResponse> {
        if self.bytes > MAX_REPLY_BYTES {
            tracing::warn!(
                request_id = logged_id(request_id),
                max = MAX_REPLY_BYTES,
                "a reply is not published: it is too large"
            );
            return None;
        }
        let results = self.results;
        self.is_wanted
            .then_some(v1::LookupNumbersResponse { results })
    }
}
