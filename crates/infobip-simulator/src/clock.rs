//! The virtual clock and its timers. The clock runs at a configurable speed, can be frozen and can be advanced.
//!
//! Invariants: every timestamp and delay of the simulator is virtual, in milliseconds since 1970; real time only decides
//! how long to sleep. The effects of a timer carry the time at which it was due, not the time at which it fired.
//! Neighbour: `engine` fires the timers.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use crate::dates::LATEST_MS;

pub(crate) const MINUTE_MS: i64 = 60_000;
pub(crate) const HOUR_MS: i64 = 60 * MINUTE_MS;

#[derive(Debug)]
pub(crate) struct Clock {
    anchor: Instant,
    anchor_ms: i64,
    speed: f64,
    frozen: bool,
}

impl Clock {
    /// A clock whose time is `start_ms` now.
    pub(crate) fn new(start_ms: i64, speed: f64, frozen: bool) -> Self {
        Self {
            anchor: Instant::now(),
            anchor_ms: start_ms.clamp(0, LATEST_MS),
            speed,
            frozen,
        }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        if self.frozen {
            return self.anchor_ms;
        }
        let elapsed_ms = self.anchor.elapsed().as_secs_f64() * 1000.0 * self.speed;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "float to integer casts saturate"
        )]
        self.anchor_ms
            .saturating_add(elapsed_ms as i64)
            .min(LATEST_MS)
    }

    /// Virtual seconds per real second.
    pub(crate) fn speed(&self) -> f64 {
        self.speed
    }

    pub(crate) fn frozen(&self) -> bool {
        self.frozen
    }

    /// Sets the virtual time; speed and frozen state stay the same.
    pub(crate) fn set(&mut self, now_ms: i64) {
        self.anchor_ms = now_ms.clamp(0, LATEST_MS);
        self.anchor = Instant::now();
    }

    /// Changes the speed from now on.
    pub(crate) fn set_speed(&mut self, speed: f64) {
        self.set(self.now_ms());
        self.speed = speed;
    }

    pub(crate) fn set_frozen(&mut self, frozen: bool) {
        self.set(self.now_ms());
        self.frozen = frozen;
    }

    /// Real time until `due_ms`; `None` if a frozen clock does not reach it.
    pub(crate) fn real_time_until(&self, due_ms: i64) -> Option<Duration> {
        let remaining_ms = due_ms.saturating_sub(self.now_ms());
        if remaining_ms <= 0 {
            return Some(Duration::ZERO);
        }
        if self.frozen || self.speed <= 0.0 {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a wait of centuries may be off by a second"
        )]
        Duration::try_from_secs_f64(remaining_ms as f64 / 1000.0 / self.speed).ok()
    }
}

/// A queue of timers. Timers due at the same time fire in the order in which they were set.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    heap: BinaryHeap<Reverse<TimerEntry<T>>>,
    sequence: u64,
}

#[derive(Debug)]
struct TimerEntry<T> {
    due_ms: i64,
    sequence: u64,
    timer: T,
}

impl<T> PartialEq for TimerEntry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl<T> Eq for TimerEntry<T> {}
impl<T> PartialOrd for TimerEntry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for TimerEntry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due_ms, self.sequence).cmp(&(other.due_ms, other.sequence))
    }
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            sequence: 0,
        }
    }
}

impl<T> Timers<T> {
    /// Sets a timer. Returns whether it is now the next one.
    pub(crate) fn set(&mut self, due_ms: i64, timer: T) -> bool {
        self.sequence += 1;
        let first = self.next_due_ms().is_none_or(|next| due_ms < next);
        self.heap.push(Reverse(TimerEntry {
            due_ms,
            sequence: self.sequence,
            timer,
        }));
        first
    }

    /// When the next timer is due.
    pub(crate) fn next_due_ms(&self) -> Option<i64> {
        self.heap.peek().map(|Reverse(entry)| entry.due_ms)
    }

    /// Removes the next timer if it is due at `now_ms`. Returns it with the time at which it was due.
    pub(crate) fn pop_due(&mut self, now_ms: i64) -> Option<(i64, T)> {
        if self.next_due_ms()? > now_ms {
            return None;
        }
        self.heap
            .pop()
            .map(|Reverse(entry)| (entry.due_ms, entry.timer))
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_by_time_and_then_in_the_order_they_were_set() {
        let mut timers = Timers::default();
        assert!(timers.set(20, "c"));
        assert!(timers.set(10, "a"));
        assert!(!timers.set(10, "b"));
        assert_eq!(timers.pop_due(9), None);
        assert_eq!(timers.pop_due(30), Some((10, "a")));
        assert_eq!(timers.pop_due(30), Some((10, "b")));
        assert_eq!(timers.pop_due(30), Some((20, "c")));
        assert_eq!(timers.pop_due(30), None);
    }

    #[test]
    fn a_frozen_clock_moves_only_when_set() {
        let mut clock = Clock::new(1_000, 1.0, true);
        assert_eq!(clock.now_ms(), 1_000);
        assert_eq!(clock.real_time_until(2_000), None);
        clock.set(2_000);
        assert_eq!(clock.now_ms(), 2_000);
        assert_eq!(clock.real_time_until(2_000), Some(Duration::ZERO));
    }

    #[test]
    fn speed_shortens_the_real_wait() {
        let clock = Clock::new(0, 1_000_000.0, false);
        assert!(
            clock
                .real_time_until(3_600_000)
                .is_some_and(|wait| wait <= Duration::from_millis(4))
        );
    }
}
