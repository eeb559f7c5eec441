//! Whether this process can do its job: a set of named conditions, all of which must hold, and the end of the process.
//!
//! Invariants: after [`Readiness::fall`] it is never ready again; nothing here depends on
//! Infobip, as a replica that is taken out because the API is down helps nobody.

use std::sync::Arc;

use parking_lot::RwLock;

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

    /// Adds a condition that is asked whenever somebody wants to know: `None` where it holds, else why not. The answer must
    /// come at once.
    pub fn probe(
        &self,
        name: &'static str,
        why_not: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) {
        let mut state = self.0.write();
        state.probes.push((name, Box::new(why_not)));
    }

    /// The process is ending: not ready, from now on.
    pub fn fall(&self) {
        let mut state = self.0.write();
        state.is_ending = true;
    }

    /// What does not hold, each as `name: why`. Empty: ready.
    #[must_use]
    pub fn what_is_missing(&self) -> Vec<String> {
        let state = self.0.read();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_must_hold() {
        let readiness = Readiness::new();
        assert!(readiness.what_is_missing().is_empty());
        readiness.probe("broker", || None);
        assert!(readiness.what_is_missing().is_empty());
        readiness.probe("event log", || Some("the disk is full".to_owned()));
        assert_eq!(readiness.what_is_missing(), ["event log: the disk is full"]);
    }

    #[test]
    fn the_end_is_final() {
        let readiness = Readiness::new();
        readiness.probe("broker", || None);
        readiness.fall();
        assert_eq!(
            readiness.what_is_missing(),
            ["shutdown: the process is ending"]
        );
    }
}
