//! Delivers the events of a subscription to its subscribers, and moves its position past the events that are done.
//!
//! Invariant: each step of [`Task::deliver`] uses up room or detaches a subscriber, so that it ends.

use super::Task;
use crate::proto::v1;

/// An event from the first unacknowledged one on.
pub(super) struct Unsettled {
    pub(super) cursor: String,
    pub(super) done: bool,
}

/// A delivery that is not settled.
pub(super) struct Outstanding {
    pub(super) event: v1::Event,
    pub(super) attempt: i32,
}

impl Task {
    pub(super) fn has_room(&self) -> bool {
        self.least_loaded().is_some()
    }

    /// Of the subscribers that have room, the one with the fewest outstanding deliveries.
    fn least_loaded(&self) -> Option<u64> {
        self.subscribers
            .iter()
            .filter(|(_, subscriber)| subscriber.outstanding.len() < subscriber.max_outstanding)
            .min_by_key(|(_, subscriber)| subscriber.outstanding.len())
            .map(|(id, _)| *id)
    }

    pub(super) fn detach(&mut self, subscriber: u64) {
        if let Some(state) = self.subscribers.remove(&subscriber) {
            let mut outstanding: Vec<Outstanding> = state.outstanding.into_values().collect();
            // The order of the log. The cursors of one log have equal prefixes and decimal sequence numbers without leading
            // zeros, so a shorter cursor is an older one (`embedded::cursor`).
            outstanding.sort_by(|one, other| {
                one.event
                    .cursor
                    .len()
                    .cmp(&other.event.cursor.len())
                    .then_with(|| one.event.cursor.cmp(&other.event.cursor))
            });
            self.redeliveries.extend(outstanding);
        }
    }

    /// Delivers events while there are some and a subscriber has room.
    pub(super) fn deliver(&mut self) {
        while let Some(subscriber) = self.least_loaded() {
            let next = match self.redeliveries.pop_front() {
                Some(outstanding) => Outstanding {
                    attempt: outstanding.attempt + 1,
                    ..outstanding
                },
                None => match self.next_new() {
                    Some(event) => Outstanding { event, attempt: 1 },
                    None => return,
                },
            };
            self.deliver_to(subscriber, next);
        }
    }

    /// The next event that matches the filter. Others are done at once.
    fn next_new(&mut self) -> Option<v1::Event> {
        loop {
            let event = self.read.pop_front()?;
            let wanted = self.filter.wants(&event);
            self.unsettled.push_back(Unsettled {
                cursor: event.cursor.clone(),
                done: !wanted,
            });
            if wanted {
                return Some(event);
            }
            self.advance();
        }
    }

    fn deliver_to(&mut self, id: u64, outstanding: Outstanding) {
        let Some(subscriber) = self.subscribers.get_mut(&id) else {
            return;
        };
        let delivery = v1::Delivery {
            delivery_id: outstanding.event.cursor.clone(),
            attempt: outstanding.attempt,
            event: Some(outstanding.event.clone()),
        };
        subscriber
            .outstanding
            .insert(outstanding.event.cursor.clone(), outstanding);
        // The channel has room for `max_outstanding` deliveries, so this fails only if the subscriber has gone away.
        if subscriber.deliveries.try_send(delivery).is_err() {
            self.detach(id);
        }
    }

    pub(super) fn settle(&mut self, cursor: &str) {
        if let Some(unsettled) = self
            .unsettled
            .iter_mut()
            .find(|unsettled| unsettled.cursor == cursor)
        {
            unsettled.done = true;
        }
        self.advance();
    }

    /// Moves the position past the events that are done.
    fn advance(&mut self) {
        while let Some(first) = self.unsettled.pop_front_if(|first| first.done) {
            self.position = first.cursor;
            self.unsaved = true;
        }
    }
}
