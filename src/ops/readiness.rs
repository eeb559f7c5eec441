//! Readiness: a set of named conditions that must all hold, until shutdown begins.
//!
//! Invariants: the process is never ready again after [`Readiness::end`]; no condition depends on Infobip, because removing
//! replicas while the API is down does not help. What does not work, but makes no process unready, is a remark. Neighbours: `app` adds the conditions, `admin` serves the result.

use std::sync::Arc;

use parking_lot::RwLock;

/// Returns why a condition does not hold, or `None` if it holds.
type Probe = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Cheap to clone; clones share the conditions.
#[derive(Clone, Default)]
pub struct Readiness(Arc<RwLock<State>>);

#[derive(Default)]
struct State {
    is_ending: bool,
    probes: Vec<(&'static str, Probe)>,
    remarks: Vec<(&'static str, Probe)>,
}

impl Readiness {
    /// There are no conditions yet, so the process counts as ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition, which is evaluated on each request for `/ready` and must not block.
    pub fn probe(
        &self,
        name: &'static str,
        why_not: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) {
        let mut state = self.0.write();
        state.probes.push((name, Box::new(why_not)));
    }

    /// Adds a remark: what does not work now, although the process counts as ready. It must not block.
    pub fn remark(
        &self,
        name: &'static str,
        what: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) {
        let mut state = self.0.write();
        state.remarks.push((name, Box::new(what)));
    }

    /// Not ready from now on: the process is shutting down.
    pub fn end(&self) {
        let mut state = self.0.write();
        state.is_ending = true;
    }

    /// The conditions that do not hold, each as `name: why`. Ready if empty.
    #[must_use]
    pub fn unmet(&self) -> Vec<String> {
        let state = self.0.read();
        if state.is_ending {
            return vec!["shutdown: the process is ending".to_owned()];
        }
        evaluate(&state.probes)
    }

    /// What does not work now, each as `name: what`.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        evaluate(&self.0.read().remarks)
    }
}

fn evaluate(probes: &[(&'static str, Probe)]) -> Vec<String> {
    let texts = probes
        .iter()
        .filter_map(|(name, probe)| Some(format!("{name}: {}", probe()?)));
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_must_hold() {
        let readiness = Readiness::new();
        assert!(readiness.unmet().is_empty());
        readiness.probe("broker", || None);
        assert!(readiness.unmet().is_empty());
        readiness.probe("event log", || Some("the disk is full".to_owned()));
        assert_eq!(readiness.unmet(), ["event log: the disk is full"]);
    }

    #[test]
    fn a_process_that_ends_is_never_ready_again() {
        let readiness = Readiness::new();
        readiness.probe("broker", || None);
        readiness.end();
        assert_eq!(readiness.unmet(), ["shutdown: the process is ending"]);
    }
}
