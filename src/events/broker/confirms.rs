//! Whether the broker stores the events that it is given: a session can be open while it confirms none of them.
//!
//! Invariants: a problem ends with the next event that is confirmed, or [`HOLDS_FOR`] after the last failure: a process that is not
//! ready gets no calls, so nothing else would show that the broker works again. Each problem is logged once when it begins and once
//! when it ends. Neighbours: `events::broker` notes each append; `/ready` shows the problem.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a failure counts if nothing is appended after it.
const HOLDS_FOR: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct Confirms(Mutex<Option<Failing>>);

struct Failing {
    began: Instant,
    last: Instant,
    problem: String,
}

impl Confirms {
    /// Events were given to the broker over an open session, and it did not store them.
    pub(super) fn failed(&self, problem: String) {
        let now = Instant::now();
        let mut failing = self.0.lock();
        let began = match &*failing {
            Some(failing) => failing.began,
            None => {
                tracing::warn!(
                    cause = problem,
                    "cannot publish: the broker does not store events"
                );
                now
            }
        };
        *failing = Some(Failing {
            began,
            last: now,
            problem,
        });
    }

    pub(super) fn succeeded(&self) {
        if let Some(failing) = self.0.lock().take() {
            let after_s = failing.began.elapsed().as_secs();
            tracing::info!(after_s, "the broker stores events again");
        }
    }

    /// Why events are not stored.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem_at(Instant::now())
    }

    fn problem_at(&self, now: Instant) -> Option<String> {
        let failing = self.0.lock();
        let failing = failing.as_ref()?;
        let holds = now.duration_since(failing.last) < HOLDS_FOR;
        holds.then(|| format!("cannot publish: {}", failing.problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_ends_with_a_success_or_after_a_time() {
        let confirms = Confirms::default();
        assert_eq!(confirms.problem(), None);
        confirms.failed("full".into());
        assert_eq!(confirms.problem().unwrap(), "cannot publish: full");
        confirms.succeeded();
        assert_eq!(confirms.problem(), None);
        confirms.failed("full".into());
        assert_eq!(confirms.problem_at(Instant::now() + HOLDS_FOR), None);
    }
}
