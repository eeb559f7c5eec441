//! Whether the broker stores the events that it is given: a session can be open while it confirms none of them.
//!
//! Invariants: a problem ends with the next event that is confirmed, or [`HOLDS_FOR`] after the last failure: a process that is not
//! ready gets no calls, so nothing else would show that the broker works again. Each problem is logged once when it begins and once
//! when it ends. Neighbours: `events::broker` notes each append; `/ready` shows the problem.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::amqp::AmqpError;

/// How long a failure counts if nothing is appended after it.
const HOLDS_FOR: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct Confirms(Mutex<Option<Failing>>);

struct Failing {
    began: Instant,
    last: Instant,
    problem: String,
    /// Each refusal ends its session, so the session that is missing now is not the cause.
    ends_session: bool,
}

impl Confirms {
    /// Events were given to the broker over an open session, and it did not store them.
    pub(super) fn failed(&self, error: &AmqpError) {
        let problem = error.to_string();
        let ends_session = matches!(error, AmqpError::Lost(_) | AmqpError::EndedInFlight(_));
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
            ends_session,
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
        self.problem_at(Instant::now(), |_| true)
    }

    /// The same if it also ends sessions.
    pub(super) fn refusal(&self) -> Option<String> {
        self.problem_at(Instant::now(), |failing| failing.ends_session)
    }

    fn problem_at(&self, now: Instant, counts: impl Fn(&Failing) -> bool) -> Option<String> {
        let failing = self.0.lock();
        let failing = failing.as_ref().filter(|failing| counts(failing))?;
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
        confirms.failed(&AmqpError::Nacked);
        let problem = confirms.problem().unwrap();
        assert!(problem.starts_with("cannot publish: "), "{problem}");
        confirms.succeeded();
        assert_eq!(confirms.problem(), None);
        confirms.failed(&AmqpError::Nacked);
        let later = Instant::now() + HOLDS_FOR;
        assert_eq!(confirms.problem_at(later, |_| true), None);
    }

    #[test]
    fn only_what_ends_its_session_explains_a_missing_session() {
        let confirms = Confirms::default();
        confirms.failed(&AmqpError::Nacked);
        assert_eq!(confirms.refusal(), None);
        confirms.failed(&AmqpError::Lost("ACCESS_REFUSED".into()));
        assert!(confirms.refusal().unwrap().contains("ACCESS_REFUSED"));
    }
}
