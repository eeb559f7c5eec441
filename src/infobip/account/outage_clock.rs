//! A clock that stands still while sends or the API's logs cannot be reached. The time that a send in doubt has left runs on it, so
//! that an outage never makes its result `unknown`.
//!
//! Neighbours: `breaker` tells it about sends, the resolver of `send` about the logs.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

#[derive(Default)]
pub struct OutageClock(Mutex<State>);

#[derive(Default)]
struct State {
    sends_fail: bool,
    logs_fail: bool,
    /// When the current outage began.
    since: Option<Instant>,
    /// How long the clock has stood still in earlier outages.
    stood_still: Duration,
}

impl OutageClock {
    /// The time without the outages. Only differences of two such times mean something.
    pub fn now(&self) -> Instant {
        self.0.lock().at(Instant::now())
    }

    pub fn set_sends_fail(&self, fail: bool) {
        let mut state = self.0.lock();
        state.sends_fail = fail;
        state.update(Instant::now());
    }

    pub fn set_logs_fail(&self, fail: bool) {
        let mut state = self.0.lock();
        state.logs_fail = fail;
        state.update(Instant::now());
    }
}

impl State {
    fn at(&self, now: Instant) -> Instant {
        let stood_still = self.stood_still + self.since.map_or(Duration::ZERO, |at| now - at);
        now.checked_sub(stood_still).unwrap_or(now)
    }

    fn update(&mut self, now: Instant) {
        match (self.sends_fail || self.logs_fail, self.since) {
            (true, None) => self.since = Some(now),
            (false, Some(since)) => {
                self.stood_still += now - since;
                self.since = None;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_stands_still_until_both_outages_end() {
        let mut state = State::default();
        let begin = Instant::now();
        let second = |n| begin + Duration::from_secs(n);
        for (at, sends_fail, logs_fail, shows) in [
            (1, true, false, 1),
            (2, true, true, 1),
            (3, false, true, 1),
            (4, false, false, 1),
            (5, false, false, 2),
        ] {
            state.sends_fail = sends_fail;
            state.logs_fail = logs_fail;
            state.update(second(at));
            assert_eq!(state.at(second(at)), second(shows), "second {at}");
        }
    }
}
