//! The clock of the log: stamps what is appended, and tells whether the time may decide what is old.
//!
//! Invariants: stamps never decrease, also over a restart, because `reader` searches them; a clock that was set does not remove
//! events at once: it must go on for [`SETTLING`] first. A clock that was ahead leaves stamps in the future, which would keep their
//! events for as long: [`LogClock::is_ahead`] tells that they must be corrected.
//! Neighbour: `writer`.

use std::time::{Duration, Instant};

/// How long old events stay after the clock was set.
const SETTLING: Duration = Duration::from_hours(1);
/// A difference between this clock and the monotonic one that counts as a step.
const STEP_MS: i64 = 60_000;
/// How long the log may have had no event before it is opened without doubts about the clock.
const QUIET_MS: i64 = 3_600_000;
/// How far the newest stamp may be in the future. A clock that was set back by less catches up.
const AHEAD_MS: i64 = 24 * 3_600_000;

/// A reading of both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub(super) wall_ms: i64,
    pub(super) monotonic: Instant,
}

impl Reading {
    pub(super) fn now() -> Self {
        Self {
            wall_ms: jiff::Timestamp::now().as_millisecond(),
            monotonic: Instant::now(),
        }
    }
}

pub(super) struct LogClock {
    newest_ms: i64,
    last: Reading,
    settled_at: Instant,
}

impl LogClock {
    /// `newest_ms` is the newest stamp in the log, if it has one.
    pub(super) fn new(newest_ms: Option<i64>, now: Reading) -> Self {
        let newest_ms = newest_ms.unwrap_or(now.wall_ms);
        let mut clock = Self {
            newest_ms,
            last: now,
            settled_at: now.monotonic,
        };
        // While no process ran, only the stamps tell how the clock went on.
        let since_newest = now.wall_ms.saturating_sub(newest_ms);
        if !(-STEP_MS..=QUIET_MS).contains(&since_newest) {
            clock.settled_at = now.monotonic + SETTLING;
        }
        clock
    }

    /// The stamp of what is appended now.
    pub(super) fn stamp(&mut self, now: Reading) -> i64 {
        let passed = now.monotonic.duration_since(self.last.monotonic);
        let passed_ms = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        let step_ms = now
            .wall_ms
            .saturating_sub(self.last.wall_ms.saturating_add(passed_ms));
        if step_ms.saturating_abs() > STEP_MS {
            self.settled_at = now.monotonic + SETTLING;
            tracing::warn!(
                step_s = step_ms / 1000,
                "the clock was set, or the machine was suspended: old events are kept for another hour"
            );
        }
        self.last = now;
        self.newest_ms = self.newest_ms.max(now.wall_ms);
        self.newest_ms
    }

    /// Whether the time decides what is old.
    pub(super) fn is_settled(&self, now: Reading) -> bool {
        now.monotonic >= self.settled_at
    }

    /// Whether stamps are so far in the future that they must be corrected. Asked when the clock is settled.
    pub(super) fn is_ahead(&self, now: Reading) -> bool {
        self.newest_ms.saturating_sub(now.wall_ms) > AHEAD_MS
    }

    /// All stamps are corrected: none is later than `now`.
    pub(super) fn corrected(&mut self, now: Reading) {
        self.newest_ms = now.wall_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    const START_MS: i64 = 1_800_000_000_000;

    /// What the clocks show `passed` after the start, if the wall clock was set by `step_ms` meanwhile.
    fn after(start: Instant, passed: Duration, step_ms: i64) -> Reading {
        Reading {
            wall_ms: START_MS + i64::try_from(passed.as_millis()).unwrap() + step_ms,
            monotonic: start + passed,
        }
    }

    #[test]
    fn a_clock_that_was_set_is_not_trusted_for_an_hour() {
        let start = Instant::now();
        let at = |seconds, step_ms| after(start, Duration::from_secs(seconds), step_ms);
        for step_ms in [HOUR_MS, -HOUR_MS, 365 * 24 * HOUR_MS] {
            let mut clock = LogClock::new(Some(START_MS), at(0, 0));
            assert!(clock.is_settled(at(0, 0)));
            clock.stamp(at(10, 0));
            assert!(clock.is_settled(at(10, 0)));
            clock.stamp(at(20, step_ms));
            assert!(!clock.is_settled(at(20, step_ms)));
            clock.stamp(at(3_000, step_ms));
            assert!(!clock.is_settled(at(3_619, step_ms)));
            assert!(clock.is_settled(at(3_620, step_ms)));
        }
    }

    #[test]
    fn a_log_that_was_closed_for_long_or_is_ahead_is_not_trusted_at_once() {
        let now = after(Instant::now(), Duration::ZERO, 0);
        for (newest_ms, is_settled) in [
            (None, true),
            (Some(START_MS), true),
            (Some(START_MS - HOUR_MS), true),
            (Some(START_MS - 2 * HOUR_MS), false),
            (Some(START_MS + HOUR_MS), false),
        ] {
            let clock = LogClock::new(newest_ms, now);
            assert_eq!(clock.is_settled(now), is_settled, "{newest_ms:?}");
        }
    }

    #[test]
    fn stamps_never_decrease_until_they_are_corrected() {
        let start = Instant::now();
        let at = |seconds, step_ms| after(start, Duration::from_secs(seconds), step_ms);
        let year = 365 * 24 * HOUR_MS;
        let mut clock = LogClock::new(Some(START_MS), at(0, 0));
        let ahead = clock.stamp(at(10, year));
        assert_eq!(clock.stamp(at(70, 0)), ahead);
        assert!(clock.is_ahead(at(70, 0)));
        // Over a restart too.
        let mut clock = LogClock::new(Some(ahead), at(80, 0));
        assert_eq!(clock.stamp(at(80, 0)), ahead);
        clock.corrected(at(90, 0));
        assert!(!clock.is_ahead(at(90, 0)));
        assert_eq!(clock.stamp(at(90, 0)), START_MS + 90_000);
    }
}
