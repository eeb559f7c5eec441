//! Whether this process can do its job: a set of named conditions, all of which must hold, and the end of the process.
//!
//! Invariants: what is not said to hold does not; after [`Readiness::fall`] it is never ready again; nothing here depends on
//! Infobip, as a replica that is taken out because the API is down helps nobody.

use std::sync::{Arc, PoisonError, RwLock};

/// Says why a condition does not hold; `None` where it does.
type Probe = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// All conditions. Cheap to clone.
#[derive(Clone, Default)]
pub struct Readiness(Arc<RwLock<State>>);

#[derive(Default)]
struct State {
    is_ending: bool,
    probes: Vec<(&'static str, Probe)>,
}

impl Readiness {
    /// No conditions: ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition that does not hold until its owner says so.
    #[must_use]
    pub fn condition(&self, name: &'static str) -> Condition {
        let unmet = Arc::new(RwLock::new(Some("not yet".to_owned())));
        let probed = Arc::clone(&unmet);
        self.probe(name, move || {
            probed
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        });
        Condition { unmet }
    }

    /// Adds a condition that is asked whenever somebody wants to know: `None` where it holds, else why not. The answer must
    /// come at once.
    pub fn probe(
        &self,
        name: &'static str,
        why_not: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        state.probes.push((name, Box::new(why_not)));
    }

    /// The process is ending: not ready, from now on.
    pub fn fall(&self) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        state.is_ending = true;
    }

    /// Whether all conditions hold.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.what_is_missing().is_empty()
    }

    /// What does not hold, each as `name: why`. Empty: ready.
    #[must_use]
    pub fn what_is_missing(&self) -> Vec<String> {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if state.is_ending {
            return vec!["shutdown: the process is ending".to_owned()];
        }
        let unmet = state
            .probes
            .iter()
            .filter_map(|(name, why_not)| Some(format!("{name}: {}", why_not()?)));
        unmet.collect()
    }
}

/// One condition, in the hands of who knows.
#[derive(Clone)]
pub struct Condition {
    unmet: Arc<RwLock<Option<String>>>,
}

impl Condition {
    /// It holds.
    pub fn met(&self) {
        self.set(None);
    }

    /// It does not hold (any more), and why: for operators, without addresses' credentials.
    pub fn unmet(&self, why: impl Into<String>) {
        self.set(Some(why.into()));
    }

    fn set(&self, why: Option<String>) {
        *self.unmet.write().unwrap_or_else(PoisonError::into_inner) = why;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_must_hold() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let broker = readiness.condition("broker");
        let log = readiness.condition("event log");
        assert_eq!(
            readiness.what_is_missing(),
            ["broker: not yet", "event log: not yet"]
        );
        broker.met();
        assert!(!readiness.is_ready());
        log.met();
        assert!(readiness.is_ready());
        broker.unmet("no connection");
        assert_eq!(readiness.what_is_missing(), ["broker: no connection"]);
    }

    #[test]
    fn the_end_is_final() {
        let readiness = Readiness::new();
        let broker = readiness.condition("broker");
        readiness.fall();
        broker.met();
        assert_eq!(
            readiness.what_is_missing(),
            ["shutdown: the process is ending"]
        );
    }
}
