//! Checks the fields of a request that are not in a message, and decides whether the mistakes of its messages are reported with them.
//!
//! Neighbours: [`super`] checks the messages; `plan` and `commands` call it.

use std::collections::HashSet;

use jiff::Timestamp;

use super::{Violations, check_length, check_message, check_past};
use crate::{
    message::id::{check_bulk_id, check_caller_id},
    proto::v1::{self, FieldViolation},
    send::request::RequestForm,
};

/// Maximum number of destinations of one call. An exclusive request may have as many, other REST requests `send.max_batch`.
pub(in crate::send) const MAX_DESTINATIONS_OF_CALL: usize = 10_000;

/// The mistakes of a request as a whole: `found`, what its edge found already, and those of its own fields. If there are any, those
/// of its messages follow, because the caller gets all of them at once. None of them if only messages are invalid: then each
/// message is judged alone.
#[must_use]
pub fn check_request(
    request: &v1::SendSmsBulkRequest,
    form: RequestForm,
    found: Vec<FieldViolation>,
    now: Timestamp,
) -> Vec<FieldViolation> {
    let mut violations = Violations {
        message: None,
        found,
    };
    check_own_fields(&mut violations, request, form);
    let mut found = violations.found;
    if !found.is_empty() {
        let mut seen_ids = HashSet::new();
        for (index, message) in first_messages(&request.messages) {
            found.extend(check_message(message, form, index, &mut seen_ids, now));
            found.extend(check_past(message, form, index, now));
        }
    }
    found
}

/// The messages up to the maximum of destinations: it bounds the number of violations.
fn first_messages(
    messages: &[v1::OutboundMessage],
) -> impl Iterator<Item = (usize, &v1::OutboundMessage)> {
    let mut destinations = 0;
    messages.iter().enumerate().take_while(move |(_, message)| {
        destinations += count_results(std::slice::from_ref(*message));
        destinations <= MAX_DESTINATIONS_OF_CALL
    })
}

/// The number of results of messages: one for each destination, and one for each message without destinations.
pub(in crate::send) fn count_results(messages: &[v1::OutboundMessage]) -> usize {
    messages
        .iter()
        .map(|message| message.destinations.len().max(1))
        .sum()
}

fn check_own_fields(
    violations: &mut Violations,
    request: &v1::SendSmsBulkRequest,
    form: RequestForm,
) {
    if !request.request_id.is_empty()
        && let Err(error) = check_caller_id(&request.request_id)
    {
        violations.add("request_id", error);
    }
    if !request.bulk_id.is_empty()
        && let Err(error) = check_bulk_id(&request.bulk_id)
    {
        violations.add("bulk_id", error);
    }
    if request.messages.is_empty() {
        match form {
            RequestForm::Single => violations.add("message", "is missing"),
            RequestForm::Bulk => violations.add("messages", "is empty: give at least one message"),
        }
    }
    let destinations = count_results(&request.messages);
    if destinations > MAX_DESTINATIONS_OF_CALL {
        match form {
            RequestForm::Single => violations.add(
                "message.destinations",
                format_args!("has {destinations} entries: the maximum is {MAX_DESTINATIONS_OF_CALL}"),
            ),
            RequestForm::Bulk => violations.add(
                "messages",
                format_args!(
                    "has {destinations} destinations in total: the maximum is {MAX_DESTINATIONS_OF_CALL}"
                ),
            ),
        }
    }
    if let Some(tracking) = &request.tracking {
        if tracking.track.is_empty() {
            violations.add("tracking.track", "is empty: must be SMS or URL");
        }
        for (field, value) in [
            ("tracking.track", &tracking.track),
            ("tracking.process_key", &tracking.process_key),
            ("tracking.type", &tracking.r#type),
            ("tracking.base_url", &tracking.base_url),
        ] {
            check_length(violations, field, value, 200);
        }
    }
}
