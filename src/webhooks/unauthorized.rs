//! Limits the warnings about unauthorized pushes: anyone can send them, but after a change of `http.secret` they are Infobip's.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::ops::metrics::Webhook;

/// The shortest time between two warnings.
const INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct UnauthorizedPushes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last_warning: Option<Instant>,
    /// Unauthorized pushes since then.
    pushes: u64,
}

impl UnauthorizedPushes {
    /// Counts one, and warns if the last warning is old enough.
    pub(super) fn count(&self, endpoint: Webhook) {
        if let Some(pushes) = self.warns(Instant::now()) {
            tracing::warn!(
                %endpoint,
                pushes,
                "pushes with a wrong secret or password were refused: if Infobip sent them, their URL has an earlier http.secret or http.basic_password"
            );
        }
    }

    /// Counts one. The number of pushes since the last warning, if the next warning is due.
    fn warns(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        state.pushes += 1;
        if state.last_warning.is_some_and(|last| now < last + INTERVAL) {
            return None;
        }
        state.last_warning = Some(now);
        Some(std::mem::take(&mut state.pushes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unauthorized_pushes_are_warned_of_once_a_minute() {
        let pushes = UnauthorizedPushes::default();
        let began = Instant::now();
        assert_eq!(pushes.warns(began), Some(1));
        for second in 1..60 {
            assert_eq!(pushes.warns(began + Duration::from_secs(second)), None);
        }
        assert_eq!(pushes.warns(began + INTERVAL), Some(60));
    }
}
