//! Plans a request: validates it, normalizes numbers, derives ids, fills in defaults, and computes content digests.
//!
//! Invariant: pure; nothing is stored or sent here.
//! Neighbours: `validate` checks the fields; `digest` computes the digests; `core` admits the plan and places its slots.

use std::{collections::HashSet, ops::Range, sync::Arc};

use jiff::Timestamp;
use smallvec::SmallVec;

use super::{
    batch_item::ExclusiveRequest,
    digest::MessageDigest,
    request::RequestForm,
    slot::{Slot, Slots},
    validate,
};
use crate::{
    message::{address::normalize_number, id, id::ApplicationName},
    primitives::bounded_text::{MAX_TEXT_BYTES, bounded, cut},
    proto::v1::{self, FieldViolation},
};

/// Values for fields that the caller left empty.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults<'a> {
    /// URL for delivery reports: the bridge's own (`http.public_url`).
    pub(super) notify_url: Option<&'a str>,
    pub(super) sender: Option<&'a str>,
    /// Whether intermediate reports are asked for (`send.intermediate_reports`).
    pub(super) intermediate_reports: bool,
}

/// The times by which a request is judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) now: Timestamp,
    /// A `send_at` before this time is a mistake. `None`: none is.
    pub(super) send_at_not_before: Option<Timestamp>,
}

/// One message of a planned request.
pub(super) struct PlannedMessage {
    /// The slots of the message's destinations. A message without destinations has one slot with empty `to` and ids: the
    /// message is invalid, and the slot carries its result.
    pub(super) slots: Range<usize>,
    /// If not empty, the message is rejected.
    pub(super) violations: Vec<FieldViolation>,
    /// Set if `send_at` has passed. The message is rejected, unless it may have been sent before.
    pub(super) past: Option<FieldViolation>,
}

/// A planned request.
pub(super) struct Plan {
    pub(super) slots: Slots,
    /// The messages, without destinations: the slots have them.
    pub(super) messages: Vec<v1::OutboundMessage>,
    pub(super) placement: PlacementPlan,
}

/// The part of a plan that is needed only until the slots are placed.
pub(super) struct PlacementPlan {
    pub(super) messages: SmallVec<[PlannedMessage; 1]>,
    /// Set if the call must not share a request with other calls.
    pub(super) exclusive: Option<Arc<ExclusiveRequest>>,
    /// Wire ids that an earlier call with the same request id and another number of destinations would have used.
    pub(super) conflicting_ids: Vec<String>,
}

/// The slots of a request that is refused before it is planned, for its results. A request with too many destinations has one
/// slot without a destination: millions of empty ones fit into a request.
pub(super) fn slots_of(
    application: &ApplicationName,
    request: &mut v1::SendSmsBulkRequest,
) -> Slots {
    let messages = std::mem::take(&mut request.messages);
    if validate::count_results(&messages) > validate::MAX_DESTINATIONS_OF_CALL {
        return Slots::from_elem(Slot::without_destination(0), 1);
    }
    let total = count_destinations(&messages);
    let mut slots = Slots::with_capacity(total);
    let mut position = 0;
    for (index, message) in messages.into_iter().enumerate() {
        if message.destinations.is_empty() {
            slots.push(Slot::without_destination(index));
        }
        for destination in message.destinations {
            slots.push(slot(
                application,
                &request.request_id,
                destination,
                index,
                position,
                total,
            ));
            position += 1;
        }
    }
    slots
}

fn count_destinations(messages: &[v1::OutboundMessage]) -> usize {
    messages
        .iter()
        .map(|message| message.destinations.len())
        .sum()
}

/// The slot of a destination without a digest. Its texts may be invalid, so they are cut: results repeat them. `position` counts the destinations of the whole request, `total` of them.
fn slot(
    application: &ApplicationName,
    request_id: &str,
    destination: v1::Destination,
    message: usize,
    position: usize,
    total: usize,
) -> Slot {
    // A number that consists of digits only is moved, not copied.
    let normalized = match normalize_number(&destination.to) {
        Ok(digits) if digits.len() < destination.to.len() => Some(digits.into_owned()),
        _ => None,
    };
    let message_id = if destination.message_id.is_empty() {
        // Half of the length leaves room for the position.
        id::derive_message_id(&cut(request_id, MAX_TEXT_BYTES / 2), position, total)
    } else {
        bounded(destination.message_id)
    };
    Slot {
        to: bounded(normalized.unwrap_or(destination.to)),
        wire_id: application.wire_id(&message_id),
        message_id,
        message_index: i32::try_from(message).unwrap_or(i32::MAX),
        digest: None,
    }
}

/// An invalid request: nothing is sent.
pub(super) struct InvalidRequest {
    pub(super) violations: Vec<FieldViolation>,
    pub(super) slots: Slots,
}

/// Plans a request and takes its messages. `found` are violations that its edge found.
///
/// # Errors
/// All violations, if the request itself or each of its messages is invalid.
pub(super) fn plan(
    application: &ApplicationName,
    request: &mut v1::SendSmsBulkRequest,
    form: RequestForm,
    found: Vec<FieldViolation>,
    defaults: &Defaults<'_>,
    times: &Times,
) -> Result<Plan, Box<InvalidRequest>> {
    let violations = validate::check_request(request, form, found, times.now);
    if !violations.is_empty() {
        let slots = slots_of(application, request);
        return Err(Box::new(InvalidRequest { violations, slots }));
    }
    let total = count_destinations(&request.messages);
    let exclusive = exclusive_request(application, request);
    let mut seen_ids = HashSet::new();
    let mut slots = Slots::with_capacity(total);
    let mut position = 0;
    let mut messages = std::mem::take(&mut request.messages);
    let mut planned = SmallVec::<[PlannedMessage; 1]>::with_capacity(messages.len());
    for (index, message) in messages.iter_mut().enumerate() {
        let violations = validate::check_message(message, form, index, &mut seen_ids, times.now);
        let not_before = times.send_at_not_before;
        let past = not_before.and_then(|at| validate::check_past(message, form, index, at));
        let first = slots.len();
        let destinations = std::mem::take(&mut message.destinations);
        let caller_chose_any_id = !request.request_id.is_empty()
            || destinations
                .iter()
                .any(|destination| !destination.message_id.is_empty());
        let digest = caller_chose_any_id.then(|| MessageDigest::new(request, message));
        if destinations.is_empty() {
            slots.push(Slot::without_destination(index));
        }
        for destination in destinations {
            let caller_chose_id =
                !destination.message_id.is_empty() || !request.request_id.is_empty();
            let mut slot = slot(
                application,
                &request.request_id,
                destination,
                index,
                position,
                total,
            );
            slot.digest = digest
                .as_ref()
                .filter(|_| caller_chose_id)
                .map(|digest| digest.with_destination(&slot.to));
            slots.push(slot);
            position += 1;
        }
        apply_defaults(message, defaults);
        planned.push(PlannedMessage {
            slots: first..slots.len(),
            violations,
            past,
        });
    }
    if planned.iter().all(|message| !message.violations.is_empty()) {
        let violations = planned
            .into_iter()
            .flat_map(|message| message.violations.into_iter().chain(message.past));
        let violations = violations.collect();
        return Err(Box::new(InvalidRequest { violations, slots }));
    }
    let conflicting_ids = conflicting_ids(application, &request.request_id, &slots, total);
    Ok(Plan {
        slots,
        messages,
        placement: PlacementPlan {
            messages: planned,
            exclusive,
            conflicting_ids,
        },
    })
}

/// The request-level fields, if there are any. They apply to a whole REST request, so the call cannot share one.
fn exclusive_request(
    application: &ApplicationName,
    request: &v1::SendSmsBulkRequest,
) -> Option<Arc<ExclusiveRequest>> {
    let bulk_id = (!request.bulk_id.is_empty()).then(|| application.wire_id(&request.bulk_id));
    if bulk_id.is_none() && request.tracking.is_none() {
        return None;
    }
    Some(Arc::new(ExclusiveRequest {
        wire_bulk_id: bulk_id,
        tracking: request.tracking.clone(),
    }))
}

fn conflicting_ids(
    application: &ApplicationName,
    request_id: &str,
    slots: &[Slot],
    destinations: usize,
) -> Vec<String> {
    if request_id.is_empty() {
        return Vec::new();
    }
    let single = application.wire_id(request_id);
    let first = application.wire_id(&format!("{request_id}~0"));
    let other = if destinations == 1 { first } else { single };
    if slots.iter().any(|slot| slot.wire_id == other) {
        Vec::new()
    } else {
        vec![other]
    }
}

fn apply_defaults(message: &mut v1::OutboundMessage, defaults: &Defaults<'_>) {
    if message.from.is_empty()
        && let Some(sender) = defaults.sender
    {
        sender.clone_into(&mut message.from);
    }
    // The system behind a URL of the caller's own may not expect intermediate reports.
    if !message.notify_url.is_empty() {
        return;
    }
    if defaults.intermediate_reports && message.notify != Some(false) {
        message.intermediate_report = true;
    }
    if let Some(url) = defaults.notify_url {
        url.clone_into(&mut message.notify_url);
        "application/json".clone_into(&mut message.notify_content_type);
    }
}
