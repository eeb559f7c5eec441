//! Plans a request: validates it, normalises numbers, derives ids, fills in defaults, and computes content digests.
//!
//! Invariant: pure; nothing is stored or sent here. Neighbours: `validate` checks the fields; `core` admits the plan and turns it
//! into items for the lanes.

use std::{collections::HashSet, ops::Range, sync::Arc};

use jiff::Timestamp;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{
    call::{Call, Slot, Slots},
    validate,
};
use crate::{
    events::ContentDigest,
    infobip::{BatchKind, WireDestination},
    message::{address::normalize_number, id, id::ApplicationName, time},
    proto::v1::{self, FieldViolation, outbound_message::Content},
};

/// Values for fields that the caller left empty.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults<'a> {
    /// URL for delivery reports: the bridge's own (`http.public_url`).
    pub(super) notify_url: Option<&'a str>,
    pub(super) sender: Option<&'a str>,
}

/// The unit of batching: one message with some of its destinations, which becomes one element of `messages[]` in a REST request.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) call: Arc<Call>,
    /// Index of the message in the call.
    pub(super) message: usize,
    /// Indexes of the call's slots that are its destinations.
    pub(super) slots: PartSlots,
    /// When it was first pushed to a lane.
    pub(super) since: Instant,
    /// When it first became in doubt. Such an item may have been sent, so it never fails as "not attempted".
    pub(super) in_doubt_since: Option<Instant>,
    /// Set if it must not share a request with other calls.
    pub(super) alone: Option<Arc<OwnRequest>>,
}

/// The request-level fields of a call, because of which it does not share a REST request.
#[derive(Debug)]
pub(super) struct OwnRequest {
    /// The caller's bulk id with the application prefix.
    pub(super) wire_bulk_id: Option<String>,
    pub(super) tracking: Option<Box<v1::Tracking>>,
}

/// Indexes of slots, in the order of sending. Usually one.
pub(super) type PartSlots = SmallVec<[usize; 1]>;

impl Part {
    /// The message, without destinations.
    pub(super) fn message(&self) -> &v1::OutboundMessage {
        &self.call.messages[self.message]
    }

    pub(super) fn is_urgent(&self) -> bool {
        self.message().priority() == v1::Priority::Urgent
    }

    /// Whether `expires_at` has passed.
    pub(super) fn is_expired(&self) -> bool {
        let expires_at = self.message().expires_at.as_ref();
        expires_at
            .and_then(time::from_proto)
            .is_some_and(|at| at <= Timestamp::now())
    }

    pub(super) fn kind(&self) -> BatchKind {
        match self.message().content {
            Some(Content::Binary(_)) => BatchKind::Binary,
            Some(Content::Text(_)) | None => BatchKind::Text,
        }
    }

    /// The destinations, in the order of `slots`.
    pub(super) fn destinations(&self) -> impl Iterator<Item = WireDestination<'_>> {
        self.slots.iter().map(|slot| {
            let slot = &self.call.slots[*slot];
            WireDestination {
                to: &slot.to,
                wire_id: &slot.wire_id,
            }
        })
    }

    /// The same message with one of its destinations.
    pub(super) fn only(&self, index: usize) -> Self {
        Self {
            slots: PartSlots::from_elem(self.slots[index], 1),
            ..self.clone()
        }
    }

    /// Two items with half of the destinations each.
    pub(super) fn split(&self) -> (Self, Self) {
        let middle = self.slots.len() / 2;
        let half = |range: Range<usize>| Self {
            slots: self.slots[range].into(),
            ..self.clone()
        };
        (half(0..middle), half(middle..self.slots.len()))
    }
}

/// One message of a planned request.
pub(super) struct PlannedMessage {
    /// The slots of the message's destinations. A message without destinations has one slot with empty `to` and ids: the
    /// message is invalid, and the slot carries its result.
    pub(super) slots: Range<usize>,
    /// If not empty, the message is rejected.
    pub(super) violations: Vec<FieldViolation>,
}

/// A planned request.
pub(super) struct Plan {
    pub(super) slots: Slots,
    /// The messages, without destinations: the slots have them.
    pub(super) messages: Vec<v1::OutboundMessage>,
    pub(super) planned: Planned,
}

/// The part of a plan that is only needed until the call's items are in the lanes.
pub(super) struct Planned {
    pub(super) messages: SmallVec<[PlannedMessage; 1]>,
    pub(super) own_request: Option<Arc<OwnRequest>>,
    /// Wire ids that an earlier call with the same request id and another number of destinations would have used.
    pub(super) conflicting_ids: Vec<String>,
}

/// The slots of a request that is refused before it is planned, for its results.
pub(super) fn slots_of(
    application: &ApplicationName,
    request: &mut v1::SendSmsBulkRequest,
) -> Slots {
    let messages = std::mem::take(&mut request.messages);
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

/// The slot of a destination without a digest. `position` counts the destinations of the whole request, `total` of them.
fn slot(
    application: &ApplicationName,
    request_id: &str,
    destination: v1::Destination,
    message: usize,
    position: usize,
    total: usize,
) -> Slot {
    // A number of digits only is moved, not copied.
    let normalized = match normalize_number(&destination.to) {
        Ok(digits) if digits.len() < destination.to.len() => Some(digits.into_owned()),
        _ => None,
    };
    let message_id = if destination.message_id.is_empty() {
        id::derive_message_id(request_id, position, total)
    } else {
        destination.message_id
    };
    Slot {
        to: normalized.unwrap_or(destination.to),
        wire_id: application.wire_id(&message_id),
        message_id,
        message_index: i32::try_from(message).unwrap_or(i32::MAX),
        digest: None,
    }
}

/// An invalid request: nothing is sent.
pub(super) struct Unplanned {
    pub(super) violations: Vec<FieldViolation>,
    pub(super) slots: Slots,
}

/// Plans a request and takes its messages.
///
/// # Errors
/// All violations, if the request itself or each of its messages is invalid.
pub(super) fn plan(
    application: &ApplicationName,
    request: &mut v1::SendSmsBulkRequest,
    defaults: &Defaults<'_>,
    now: Timestamp,
) -> Result<Plan, Box<Unplanned>> {
    let violations = validate::check_request(request);
    if !violations.is_empty() {
        let slots = slots_of(application, request);
        return Err(Box::new(Unplanned { violations, slots }));
    }
    let total = count_destinations(&request.messages);
    let own_request = own_request(application, request);
    let mut seen_ids = HashSet::new();
    let mut slots = Slots::with_capacity(total);
    let mut position = 0;
    let mut messages = std::mem::take(&mut request.messages);
    let mut planned = SmallVec::<[PlannedMessage; 1]>::with_capacity(messages.len());
    for (index, message) in messages.iter_mut().enumerate() {
        let violations = validate::check_message(message, index, &mut seen_ids, now);
        let first = slots.len();
        let destinations = std::mem::take(&mut message.destinations);
        let repeatable = !request.request_id.is_empty()
            || destinations
                .iter()
                .any(|destination| !destination.message_id.is_empty());
        let digest = repeatable.then(|| MessageDigest::new(request, message));
        if destinations.is_empty() {
            slots.push(Slot::without_destination(index));
        }
        for destination in destinations {
            let callers_id = !destination.message_id.is_empty() || !request.request_id.is_empty();
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
                .filter(|_| callers_id)
                .map(|digest| digest.with_destination(&slot.to));
            slots.push(slot);
            position += 1;
        }
        apply_defaults(message, defaults);
        planned.push(PlannedMessage {
            slots: first..slots.len(),
            violations,
        });
    }
    if planned.iter().all(|message| !message.violations.is_empty()) {
        let violations = planned.into_iter().flat_map(|message| message.violations);
        let violations = violations.collect();
        return Err(Box::new(Unplanned { violations, slots }));
    }
    let conflicting_ids = conflicting_ids(application, &request.request_id, &slots, total);
    Ok(Plan {
        slots,
        messages,
        planned: Planned {
            messages: planned,
            own_request,
            conflicting_ids,
        },
    })
}

/// The request-level fields, if there are any. They apply to a whole REST request, so the call can't share one.
fn own_request(
    application: &ApplicationName,
    request: &v1::SendSmsBulkRequest,
) -> Option<Arc<OwnRequest>> {
    let bulk_id = (!request.bulk_id.is_empty()).then(|| application.wire_id(&request.bulk_id));
    if bulk_id.is_none() && request.tracking.is_none() {
        return None;
    }
    Some(Arc::new(OwnRequest {
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
    if message.notify_url.is_empty()
        && let Some(url) = defaults.notify_url
    {
        url.clone_into(&mut message.notify_url);
        "application/json".clone_into(&mut message.notify_content_type);
    }
}

/// Digest of the content of a message. Each destination adds its number.
struct MessageDigest(Sha256);

impl MessageDigest {
    /// Takes out the fields that do not count, and puts them back.
    fn new(request: &v1::SendSmsBulkRequest, message: &mut v1::OutboundMessage) -> Self {
        let mut hash = Sha256::new();
        // Priority and deadline do not belong to the content: a retry may change them.
        let not_content = (message.expires_at.take(), message.priority);
        message.priority = 0;
        hash.update(message.encode_to_vec());
        (message.expires_at, message.priority) = not_content;
        hash.update(request.bulk_id.as_bytes());
        hash.update([0]);
        if let Some(tracking) = &request.tracking {
            hash.update(tracking.encode_to_vec());
        }
        Self(hash)
    }

    fn with_destination(&self, to: &str) -> ContentDigest {
        let mut hash = self.0.clone();
        hash.update([0]);
        hash.update(to.as_bytes());
        let mut digest = ContentDigest::default();
        for (byte, full) in digest.iter_mut().zip(hash.finalize()) {
            *byte = full;
        }
        digest
    }
}
