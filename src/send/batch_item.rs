//! Batch items: the unit of batching. An item is one message with some of its destinations, and becomes one element of
//! `messages[]` in a REST request.
//!
//! Neighbours: `core` makes items; `lanes` queues and batches them; `dispatcher` sends them; `resolver` holds those in doubt.

use std::{fmt, ops::Range, slice, sync::Arc};

use jiff::Timestamp;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{call::Call, lane_of};
use crate::{
    infobip::{BatchKind, WireDestination, estimated_bytes},
    message::time,
    ops::metrics::Lane,
    primitives::joined::Joined,
    proto::v1::{self, outbound_message::Content},
};

/// One message of a call with some of its destinations.
#[derive(Clone)]
pub(super) struct BatchItem {
    pub(super) call: Arc<Call>,
    /// Index of the message in the call.
    pub(super) message: usize,
    /// Indexes of the call's slots that are its destinations.
    pub(super) slots: BatchSlots,
    /// When it was first pushed to a lane.
    pub(super) since: Instant,
    /// When it first became in doubt, on the clock that stands still during outages (`outage_clock`). Such an item may have been sent, so it never fails as "not attempted".
    pub(super) in_doubt_since: Option<Instant>,
    /// Whether a request may have carried it since it became in doubt.
    pub(super) is_resent: bool,
    /// Set if it shares a request only with the items that have the same value.
    pub(super) exclusive: Option<Arc<ExclusiveRequest>>,
}

/// The wire ids of the destinations, for a log line.
pub(super) fn wire_ids(items: &[BatchItem]) -> impl fmt::Display {
    let destinations = items.iter().flat_map(BatchItem::destinations);
    Joined(destinations.map(|destination| destination.wire_id))
}

/// A request that is not shared with other calls: because the call has these request-level fields, because its message is scheduled,
/// because it is a part of a request that the API refused, or because the API refused an earlier attempt of its command.
#[derive(Debug, Clone, Default)]
pub(super) struct ExclusiveRequest {
    /// The caller's bulk id with the application prefix.
    pub(super) wire_bulk_id: Option<String>,
    pub(super) tracking: Option<Box<v1::Tracking>>,
}

impl ExclusiveRequest {
    /// Whether it must be one request whatever its size: its caller named it. Without fields of its own it may become several.
    pub(super) fn is_named(&self) -> bool {
        self.wire_bulk_id.is_some() || self.tracking.is_some()
    }
}

/// Indexes of slots, in the order of sending. Usually one.
pub(super) type BatchSlots = SmallVec<[usize; 1]>;

impl BatchItem {
    /// The message, without destinations.
    pub(super) fn message(&self) -> &v1::OutboundMessage {
        &self.call.messages[self.message]
    }

    pub(super) fn is_urgent(&self) -> bool {
        self.message().priority() == v1::Priority::Urgent
    }

    pub(super) fn lane(&self) -> Lane {
        lane_of(slice::from_ref(self.message()))
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

    /// Number of bytes that it adds to a request, about.
    pub(super) fn estimated_bytes(&self) -> usize {
        estimated_bytes(self.message(), self.slots.len())
    }

    /// The destinations, in the order of `slots`.
    pub(super) fn destinations(&self) -> impl Iterator<Item = WireDestination<'_>> + Clone {
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
            slots: BatchSlots::from_elem(self.slots[index], 1),
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

#[cfg(test)]
impl BatchItem {
    /// A message with one destination, of a call of its own.
    pub(super) fn alone(
        message: v1::OutboundMessage,
        since: tokio::time::Instant,
        reply_to: super::call::ReplyTo,
    ) -> Self {
        let call = Call::new(
            crate::message::id::ApplicationName::default_application(),
            String::new(),
            String::new(),
            super::slot::Slots::from_elem(super::slot::Slot::without_destination(0), 1),
            vec![message],
            super::places::Taken::alone(),
            reply_to,
        );
        Self {
            call: Arc::new(call),
            message: 0,
            slots: BatchSlots::from_elem(0, 1),
            since,
            in_doubt_since: None,
            is_resent: false,
            exclusive: None,
        }
    }
}
