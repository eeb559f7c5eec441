//! The two lanes as queues: what waits in them, and which items share a request.
//!
//! Invariants: pure; the order of a lane is that of arrival, and items that come back go to its front.
//! Neighbours: [`Lanes`](super::Lanes) locks it and counts what it takes.

use std::{collections::VecDeque, sync::Arc};

use crate::{ops::metrics::Lane, send::batch_item::BatchItem};

/// After this many batches with urgent items only, one begins with a normal item, if any waits.
const URGENT_IN_A_ROW: u32 = 7;

/// How many items in a row a batch passes that need another request.
const MAX_PASSED: usize = 1_000;

const LANES: [Lane; 2] = [Lane::Urgent, Lane::Normal];

#[derive(Default)]
pub(super) struct Queue {
    urgent: VecDeque<BatchItem>,
    normal: VecDeque<BatchItem>,
    /// Number of destinations in both lanes.
    destinations: usize,
    /// Number of batches in a row that had urgent items only while normal ones waited.
    urgent_in_a_row: u32,
}

impl Queue {
    pub(super) fn destinations(&self) -> usize {
        self.destinations
    }

    pub(super) fn has_urgent(&self) -> bool {
        !self.urgent.is_empty()
    }

    pub(super) fn first_normal(&self) -> Option<&BatchItem> {
        self.normal.front()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &BatchItem> {
        self.urgent.iter().chain(&self.normal)
    }

    pub(super) fn push(&mut self, item: BatchItem) {
        self.destinations += item.slots.len();
        self.items(item.lane()).push_back(item);
    }

    /// Returns an item that was taken.
    pub(super) fn put_back(&mut self, item: BatchItem) {
        self.destinations += item.slots.len();
        self.items(item.lane()).push_front(item);
    }

    pub(super) fn remove(&mut self, unwanted: impl Fn(&BatchItem) -> bool) -> Vec<BatchItem> {
        let mut removed = Vec::new();
        for lane in LANES {
            let items = std::mem::take(self.items(lane));
            let (out, stay): (Vec<_>, Vec<_>) = items.into_iter().partition(&unwanted);
            *self.items(lane) = stay.into();
            removed.extend(out);
        }
        self.count_out(&removed);
        removed
    }

    /// Takes the items of a probe: the first one that is not in doubt, because one in doubt may be the cause of the failures. A request
    /// that a caller named is split by kind only.
    pub(super) fn take_probe(&mut self) -> Vec<BatchItem> {
        let one = self.take_one(|item| item.in_doubt_since.is_none());
        let Some(one) = one.or_else(|| self.take_one(|_| true)) else {
            return Vec::new();
        };
        let (exclusive, kind) = (one.exclusive.clone(), one.kind());
        let mut items = vec![one];
        if let Some(exclusive) = exclusive.filter(|request| request.is_named()) {
            let shares = |item: &BatchItem| {
                let its = item.exclusive.as_ref();
                its.is_some_and(|its| Arc::ptr_eq(its, &exclusive)) && item.kind() == kind
            };
            items.extend(self.remove(shares));
        }
        items
    }

    /// The lanes with items, the one first whose turn it is.
    pub(super) fn turns(&self) -> impl Iterator<Item = Lane> + use<> {
        let (has_urgent, has_normal) = (!self.urgent.is_empty(), !self.normal.is_empty());
        let order = if self.urgent_in_a_row < URGENT_IN_A_ROW {
            LANES
        } else {
            [Lane::Normal, Lane::Urgent]
        };
        order.into_iter().filter(move |lane| match lane {
            Lane::Urgent => has_urgent,
            Lane::Normal => has_normal,
        })
    }

    /// Takes the items of a request that begins with the first item of `first`, or all items of a request that a caller named. If there
    /// is room, and `others_too`, it takes items of the other lane as well.
    pub(super) fn take(&mut self, first: Lane, others_too: bool, room: Room) -> Vec<BatchItem> {
        let waiting = self.urgent.len() + self.normal.len();
        let mut batch = Batch {
            items: Vec::with_capacity(waiting.min(room.destinations)),
            room,
        };
        let other = match first {
            Lane::Urgent => Lane::Normal,
            Lane::Normal => Lane::Urgent,
        };
        batch.fill(self.items(first));
        if others_too {
            batch.fill(self.items(other));
        }
        let batch = batch.items;
        let is_urgent = batch.iter().all(BatchItem::is_urgent);
        self.urgent_in_a_row = if is_urgent && !self.normal.is_empty() {
            self.urgent_in_a_row.saturating_add(1)
        } else {
            0
        };
        self.count_out(&batch);
        batch
    }

    fn take_one(&mut self, is_wanted: impl Fn(&BatchItem) -> bool) -> Option<BatchItem> {
        let taken = LANES.into_iter().find_map(|lane| {
            let items = self.items(lane);
            let at = items.iter().position(&is_wanted)?;
            items.remove(at)
        })?;
        self.destinations -= taken.slots.len();
        Some(taken)
    }

    fn items(&mut self, lane: Lane) -> &mut VecDeque<BatchItem> {
        match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Normal => &mut self.normal,
        }
    }

    fn count_out(&mut self, items: &[BatchItem]) {
        self.destinations -= items.iter().map(|item| item.slots.len()).sum::<usize>();
    }
}

/// What a request may hold.
#[derive(Debug, Clone, Copy)]
pub(in crate::send) struct Room {
    pub(in crate::send) destinations: usize,
    pub(in crate::send) bytes: usize,
}

/// The items of a request while it is put together.
struct Batch {
    items: Vec<BatchItem>,
    room: Room,
}

impl Batch {
    /// Takes items from the front of a lane while there is room. Items that cannot share the request keep their places.
    fn fill(&mut self, lane: &mut VecDeque<BatchItem>) {
        let mut passed = Vec::new();
        while passed.len() <= MAX_PASSED
            && let Some(item) = lane.pop_front()
        {
            match self.fit(&item) {
                Fit::Shares => self.push(item),
                Fit::Ends => {
                    lane.push_front(item);
                    break;
                }
                Fit::Other => passed.push(item),
            }
        }
        for item in passed.into_iter().rev() {
            lane.push_front(item);
        }
    }

    fn fit(&self, item: &BatchItem) -> Fit {
        let Some(first) = self.items.first() else {
            return Fit::Shares;
        };
        let is_of_one_kind = first.kind() == item.kind();
        let has_room = || {
            item.slots.len() <= self.room.destinations && item.estimated_bytes() <= self.room.bytes
        };
        match (&first.exclusive, &item.exclusive) {
            (None, None) if is_of_one_kind => Fit::shares_if(has_room()),
            (Some(one), Some(other)) if Arc::ptr_eq(one, other) && is_of_one_kind => {
                Fit::shares_if(one.is_named() || has_room())
            }
            // The items of an exclusive request are side by side.
            (Some(one), other) if !other.as_ref().is_some_and(|its| Arc::ptr_eq(one, its)) => {
                Fit::Ends
            }
            _ => Fit::Other,
        }
    }

    fn push(&mut self, item: BatchItem) {
        let Room {
            destinations,
            bytes,
        } = &mut self.room;
        *destinations = destinations.saturating_sub(item.slots.len());
        *bytes = bytes.saturating_sub(item.estimated_bytes());
        self.items.push(item);
    }
}

/// Whether an item may join a batch.
enum Fit {
    Shares,
    /// It does not fit, and neither do the items behind it.
    Ends,
    /// It needs another request, because its content is of the other kind or it is exclusive.
    Other,
}

impl Fit {
    fn shares_if(has_room: bool) -> Self {
        match has_room {
            true => Self::Shares,
            false => Self::Ends,
        }
    }
}
