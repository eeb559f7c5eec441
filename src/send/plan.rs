//! From a request to what waits in the lanes: addresses normalised, ids derived, defaults filled in.

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

/// What the bridge fills in where a caller said nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults<'a> {
    /// Where reports are pushed to: the bridge's own address (`http.public_url`).
    pub(super) notify_url: Option<&'a str>,
    /// The application's default sender.
    pub(super) sender: Option<&'a str>,
}

/// A message with one content and some of its destinations: what stands in `messages[]` of a REST request.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) call: Arc<Call>,
    /// Which message of the call.
    pub(super) message: usize,
    /// The slots of the call that are its destinations.
    pub(super) slots: PartSlots,
    /// When it was first put into a lane.
    pub(super) since: Instant,
    /// When a request with it first went out and its outcome was in doubt; such a part is never given up as untried.
    pub(super) in_doubt_since: Option<Instant>,
    /// Set where it goes out in a request of its own.
    pub(super) alone: Option<Arc<OwnRequest>>,
}

/// What a request of its own carries beside its messages.
#[derive(Debug)]
pub(super) struct OwnRequest {
    /// With the application.
    pub(super) wire_bulk_id: Option<String>,
    pub(super) tracking: Option<Box<v1::Tracking>>,
}

/// Slots of a call, in the order in which they are sent. As a rule there is one.
pub(super) type PartSlots = SmallVec<[usize; 1]>;

impl Part {
    /// What is sent, without destinations.
    pub(super) fn message(&self) -> &v1::OutboundMessage {
        &self.call.messages[self.message]
    }

    pub(super) fn is_urgent(&self) -> bool {
        self.message().priority() == v1::Priority::Urgent
    }

    /// Whether it is too late to send it.
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

    /// Its destinations, in the order of `slots`.
    pub(super) fn destinations(&self) -> impl Iterator<Item = WireDestination<'_>> {
        self.slots.iter().map(|slot| {
            let slot = &self.call.slots[*slot];
            WireDestination {
                to: &slot.to,
                wire_id: &slot.wire_id,
            }
        })
    }

    /// This part with one of its destinations only.
    pub(super) fn only(&self, index: usize) -> Self {
        Self {
            slots: PartSlots::from_elem(self.slots[index], 1),
            ..self.clone()
        }
    }

    /// Splits the destinations in two.
    pub(super) fn split(&self) -> (Self, Self) {
        let middle = self.slots.len() / 2;
        let half = |range: Range<usize>| Self {
            slots: self.slots[range].into(),
            ..self.clone()
        };
        (half(0..middle), half(middle..self.slots.len()))
    }
}

/// What was found of a message of a request.
pub(super) struct PlannedMessage {
    /// The slots of its destinations.
    pub(super) slots: Range<usize>,
    /// Not empty: it is not sent.
    pub(super) violations: Vec<FieldViolation>,
}

/// A whole request, planned.
pub(super) struct Plan {
    pub(super) slots: Slots,
    /// Without destinations: those are slots.
    pub(super) messages: Vec<v1::OutboundMessage>,
    pub(super) planned: Planned,
}

/// What is to be done for a call.
pub(super) struct Planned {
    /// In the order of the call's messages.
    pub(super) messages: SmallVec<[PlannedMessage; 1]>,
    pub(super) own_request: Option<Arc<OwnRequest>>,
    /// Wire ids that an earlier use of the request id with another number of destinations would have.
    pub(super) other_shapes: Vec<String>,
}

/// Plans a request, whose messages it takes out. `Err` where the request is wrong as a whole, or every message of it is.
pub(super) fn plan(
    application: &ApplicationName,
    request: &mut v1::SendSmsBulkRequest,
    defaults: &Defaults<'_>,
    now: Timestamp,
) -> Result<Plan, Vec<FieldViolation>> {
    let violations = validate::check_request(request);
    if !violations.is_empty() {
        return Err(violations);
    }
    let total: usize = request
        .messages
        .iter()
        .map(|message| message.destinations.len())
        .sum();
    let own_request = own_request(application, request);
    let mut seen_ids = HashSet::new();
    let mut slots = Slots::with_capacity(total);
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
        let digest = repeatable.then(|| DigestOf::new(request, message));
        for destination in destinations {
            let callers_id = !destination.message_id.is_empty() || !request.request_id.is_empty();
            // One that is digits only is kept as it came.
            let normalized = match normalize_number(&destination.to) {
                Ok(digits) if digits.len() < destination.to.len() => Some(digits.into_owned()),
                _ => None,
            };
            let to = normalized.unwrap_or(destination.to);
            let message_id = if destination.message_id.is_empty() {
                id::derive_message_id(&request.request_id, slots.len(), total)
            } else {
                destination.message_id
            };
            slots.push(Slot {
                wire_id: application.wire_id(&message_id),
                digest: digest
                    .as_ref()
                    .filter(|_| callers_id)
                    .map(|digest| digest.with_destination(&to)),
                to,
                message_id,
                message_index: i32::try_from(index).unwrap_or(i32::MAX),
            });
        }
        fill_in(message, defaults);
        planned.push(PlannedMessage {
            slots: first..slots.len(),
            violations,
        });
    }
    if planned.iter().all(|message| !message.violations.is_empty()) {
        return Err(planned
            .into_iter()
            .flat_map(|message| message.violations)
            .collect());
    }
    let other_shapes = other_shapes(application, &request.request_id, &slots);
    Ok(Plan {
        slots,
        messages,
        planned: Planned {
            messages: planned,
            own_request,
            other_shapes,
        },
    })
}

/// A caller's bulk id or tracking stands at the top of a REST request, so such a request is not shared.
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

fn other_shapes(application: &ApplicationName, request_id: &str, slots: &[Slot]) -> Vec<String> {
    if request_id.is_empty() {
        return Vec::new();
    }
    let single = application.wire_id(request_id);
    let first = application.wire_id(&format!("{request_id}~0"));
    let other = if slots.len() == 1 { first } else { single };
    if slots.iter().any(|slot| slot.wire_id == other) {
        Vec::new()
    } else {
        vec![other]
    }
}

fn fill_in(message: &mut v1::OutboundMessage, defaults: &Defaults<'_>) {
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

/// The digest of what a message asks for; each destination adds its number.
struct DigestOf(Sha256);

impl DigestOf {
    /// Leaves the message as it was.
    fn new(request: &v1::SendSmsBulkRequest, message: &mut v1::OutboundMessage) -> Self {
        let mut hash = Sha256::new();
        // Lanes and deadlines say how soon, not what: a retry may change them.
        let how_soon = (message.expires_at.take(), message.priority);
        message.priority = 0;
        hash.update(message.encode_to_vec());
        (message.expires_at, message.priority) = how_soon;
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
        for (byte, of_full) in digest.iter_mut().zip(hash.finalize()) {
            *byte = of_full;
        }
        digest
    }
}
