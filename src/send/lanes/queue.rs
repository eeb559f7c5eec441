//! The two lanes as queues: what waits in them, and which items share a request.
//!
//! Invariants: pure; the order of a lane is that of arrival, and items that come back go to its front.
//! Neighbours: [`Lanes`](super::Lanes) locks it and counts what it takes.

use std::{collections::VecDeque, sync::Arc};

use crate::send::batch_item::BatchItem;

#[derive(Default)]
pub(super) struct Queue {
    urgent: VecDeque<BatchItem>,
    normal: VecDeque<BatchItem>,
    /// Number of destinations in both lanes.
    destinations: usize,
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
        self.lane(item.is_urgent()).push_back(item);
    }

    /// Returns an item that was taken.
    pub(super) fn put_back(&mut self, item: BatchItem) {
        self.destinations += item.slots.len();
        self.lane(item.is_urgent()).push_front(item);
    }

    pub(super) fn remove(&mut self, unwanted: impl Fn(&BatchItem) -> bool) -> Vec<BatchItem> {
        let mut removed = Vec::new();
        for urgent in [true, false] {
            let lane = std::mem::take(self.lane(urgent));
            let (out, stay): (Vec<_>, Vec<_>) = lane.into_iter().partition(&unwanted);
            *self.lane(urgent) = stay.into();
            removed.extend(out);
        }
        self.count_out(&removed);
        removed
    }

    /// Takes the items of a probe: the first one that is not in doubt, because one in doubt may be the cause of the failures. An
    /// exclusive request is not split.
    pub(super) fn take_probe(&mut self) -> Vec<BatchItem> {
        let one = self.take_one(|item| item.in_doubt_since.is_none());
        let Some(one) = one.or_else(|| self.take_one(|_| true)) else {
            return Vec::new();
        };
        let exclusive = one.exclusive.clone();
        let mut items = vec![one];
        if let Some(exclusive) = exclusive {
            let shares = |item: &BatchItem| {
                let its = item.exclusive.as_ref();
                its.is_some_and(|its| Arc::ptr_eq(its, &exclusive))
            };
            items.extend(self.remove(shares));
        }
        items
    }

    /// Takes the items of the next request: at most `max` destinations, or all items of one exclusive request.
    pub(super) fn take(&mut self, max: usize) -> Vec<BatchItem> {
        let waiting = self.urgent.len() + self.normal.len();
        let mut batch: Vec<BatchItem> = Vec::with_capacity(waiting.min(max));
        let mut room = max;
        for urgent in [true, false] {
            let lane = self.lane(urgent);
            while let Some(item) = lane.front() {
                if !batch
                    .first()
                    .is_none_or(|first| may_share_request(first, item, room))
                {
                    break;
                }
                let Some(item) = lane.pop_front() else { break };
                room = room.saturating_sub(item.slots.len());
                batch.push(item);
            }
        }
        self.count_out(&batch);
        batch
    }

    fn take_one(&mut self, is_wanted: impl Fn(&BatchItem) -> bool) -> Option<BatchItem> {
        let taken = [true, false].into_iter().find_map(|urgent| {
            let lane = self.lane(urgent);
            let at = lane.iter().position(&is_wanted)?;
            lane.remove(at)
        })?;
        self.destinations -= taken.slots.len();
        Some(taken)
    }

    fn lane(&mut self, urgent: bool) -> &mut VecDeque<BatchItem> {
        if urgent {
            &mut self.urgent
        } else {
            &mut self.normal
        }
    }

    fn count_out(&mut self, items: &[BatchItem]) {
        self.destinations -= items.iter().map(|item| item.slots.len()).sum::<usize>();
    }
}

/// Whether an item may share the request that begins with `first` and has room for `room` more destinations.
fn may_share_request(first: &BatchItem, item: &BatchItem, room: usize) -> bool {
    first.kind() == item.kind()
        && match (&first.exclusive, &item.exclusive) {
            (None, None) => item.slots.len() <= room,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
}
