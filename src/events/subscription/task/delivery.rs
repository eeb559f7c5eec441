//! Delivers the events of a subscription to its subscribers, and moves its position past the events that are done.
//!
//! Invariants: each step of [`Task::deliver`] uses up room or detaches a subscriber, so that it ends; a delivery is settled in the
//! same time however many others are open, because one subscriber could stop the process otherwise.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::Task;
use crate::{events::subscription::memory::Reserved, proto::v1};

/// How long a delivery that was rejected for the first time waits. The wait doubles with each further one, because a subscriber
/// that cannot process an event would otherwise get it again without a pause.
const FIRST_REJECT_WAIT: Duration = Duration::from_millis(250);
const MAX_REJECT_WAIT: Duration = Duration::from_secs(30);

/// A delivery that is not settled.
pub(super) struct Outstanding {
    /// The place of its event in [`Unsettled`].
    number: u64,
    pub(super) event: v1::Event,
    pub(super) attempt: i32,
    /// `None`: the subscription had no other open delivery, and there was no memory.
    _memory: Option<Reserved>,
}

/// The events from the first unacknowledged one on, in the order of the log. They are numbered, so that one is found at once.
#[derive(Default)]
pub(super) struct Unsettled {
    first_number: u64,
    events: VecDeque<UnsettledEvent>,
}

struct UnsettledEvent {
    cursor: String,
    done: bool,
}

impl Unsettled {
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Appends the next event of the log; returns its number.
    fn push(&mut self, cursor: String, done: bool) -> u64 {
        let number = self.first_number + self.events.len() as u64;
        self.events.push_back(UnsettledEvent { cursor, done });
        number
    }

    fn set_done(&mut self, number: u64) {
        let at = number.checked_sub(self.first_number);
        let at = at.and_then(|at| usize::try_from(at).ok());
        if let Some(event) = at.and_then(|at| self.events.get_mut(at)) {
            event.done = true;
        }
    }

    /// Removes the first event if it is done; returns its cursor.
    fn pop_done(&mut self) -> Option<String> {
        let first = self.events.pop_front_if(|first| first.done)?;
        self.first_number += 1;
        Some(first.cursor)
    }
}

impl Task {
    pub(super) fn has_room(&self) -> bool {
        self.least_loaded().is_some()
    }

    /// Of the subscribers that have room, the one with the fewest outstanding deliveries.
    fn least_loaded(&self) -> Option<u64> {
        self.subscribers
            .iter()
            .filter(|(_, subscriber)| {
                subscriber.outstanding.len() < subscriber.max_outstanding && subscriber.can_take()
            })
            .min_by_key(|(_, subscriber)| subscriber.outstanding.len())
            .map(|(id, _)| *id)
    }

    pub(super) fn detach(&mut self, subscriber: u64) {
        if let Some(state) = self.subscribers.remove(&subscriber) {
            let mut outstanding: Vec<Outstanding> = state.outstanding.into_values().collect();
            // The order of the log.
            outstanding.sort_unstable_by_key(|outstanding| outstanding.number);
            self.redeliveries.extend(outstanding);
        }
    }

    /// A rejected delivery comes again after a wait, to any subscriber.
    pub(super) fn reject(&mut self, outstanding: Outstanding) {
        let due = Instant::now() + reject_wait(outstanding.attempt);
        self.rejected.insert((due, outstanding.number), outstanding);
    }

    /// When the next rejected delivery comes again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.rejected.first_key_value().map(|((due, _), _)| *due)
    }

    fn redeliver_due(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.rejected.first_entry()
            && first.key().0 <= now
        {
            self.redeliveries.push_back(first.remove());
        }
    }

    /// Delivers events while there are some and a subscriber has room.
    pub(super) fn deliver(&mut self) {
        self.waits = false;
        self.redeliver_due();
        while let Some(subscriber) = self.least_loaded() {
            let next = match self.redeliveries.pop_front() {
                Some(outstanding) => Outstanding {
                    attempt: outstanding.attempt + 1,
                    ..outstanding
                },
                None => match self.next_new() {
                    Some(new) => new,
                    None => return,
                },
            };
            self.deliver_to(subscriber, next);
        }
        // Nothing else tells when it has read.
        self.waits = self.subscribers.values().any(|subscriber| {
            subscriber.outstanding.len() < subscriber.max_outstanding && !subscriber.can_take()
        });
    }

    /// The next event that matches the filter, if there is memory for it. Others are done at once.
    fn next_new(&mut self) -> Option<Outstanding> {
        loop {
            let next = self.read.front()?;
            let wanted = self.filter.wants(next);
            let memory = wanted.then(|| self.memory.reserve(next)).flatten();
            if wanted && memory.is_none() && self.open > 0 {
                self.waits = true;
                return None;
            }
            let event = self.read.pop_front()?;
            let number = self.unsettled.push(event.cursor.clone(), !wanted);
            if wanted {
                self.open += 1;
                return Some(Outstanding {
                    number,
                    event,
                    attempt: 1,
                    _memory: memory,
                });
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
        // The channel has room, so this fails only if the subscriber has gone away.
        if subscriber.deliveries.try_send(delivery).is_err() {
            self.detach(id);
        }
    }

    /// An acknowledged delivery is done.
    pub(super) fn settle(&mut self, outstanding: Outstanding) {
        let number = outstanding.number;
        // Gives its memory back.
        drop(outstanding);
        self.open -= 1;
        self.unsettled.set_done(number);
        self.advance();
    }

    /// Moves the position past the events that are done.
    fn advance(&mut self) {
        while let Some(cursor) = self.unsettled.pop_done() {
            self.position = cursor;
            self.unsaved = true;
        }
    }
}

/// The wait before a delivery that was rejected at this attempt comes again.
fn reject_wait(attempt: i32) -> Duration {
    let doublings = attempt.saturating_sub(1).clamp(0, 16).unsigned_abs();
    (FIRST_REJECT_WAIT * 2_u32.pow(doublings)).min(MAX_REJECT_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_deliveries_wait_longer_each_time() {
        let waits = [1, 2, 3, 8, 100, i32::MAX].map(|attempt| reject_wait(attempt).as_millis());
        assert_eq!(waits, [250, 500, 1_000, 30_000, 30_000, 30_000]);
    }

    /// With a search from the front, this takes five billion comparisons.
    #[test]
    fn events_are_settled_at_once_while_the_first_one_is_open() {
        let mut unsettled = Unsettled::default();
        let numbers: Vec<u64> = (0..100_000)
            .map(|cursor: u32| unsettled.push(cursor.to_string(), false))
            .collect();
        let began = std::time::Instant::now();
        for number in &numbers[1..] {
            unsettled.set_done(*number);
            assert_eq!(unsettled.pop_done(), None, "the first one is open");
            assert!(began.elapsed() < Duration::from_secs(10));
        }
        unsettled.set_done(numbers[0]);
        for cursor in 0..numbers.len() {
            assert_eq!(unsettled.pop_done(), Some(cursor.to_string()));
        }
        assert_eq!(unsettled.pop_done(), None);
        // Numbers that are settled are not there any more.
        let next = unsettled.push("next".into(), false);
        unsettled.set_done(numbers[7]);
        assert_eq!(unsettled.pop_done(), None);
        unsettled.set_done(next);
        assert_eq!(unsettled.pop_done().as_deref(), Some("next"));
    }
}
