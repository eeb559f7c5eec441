//! Fault injection: decides which faults affect a request or a push, and counts them.
//!
//! Invariant: each draw has a random generator of its own, seeded by the fault's id and match count, so that adding a
//! fault does not change which requests another one affects. Rate limits refill in virtual time.
//! Neighbours: `http::control` adds faults, `http` carries out their effects, `engine` asks whether a push is reset or duplicated.

mod bucket;
mod effects;
mod kind;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use http::{HeaderValue, Method};
use parking_lot::Mutex;
use serde_json::Value;

use self::{
    bucket::TokenBucket,
    effects::apply,
    kind::{Fault, FaultKind},
};
use crate::random::SeededRandom;

pub(crate) use effects::{FaultEffects, ResponseFault, SendFaults};

/// The faults that are set.
#[derive(Debug)]
pub(crate) struct Faults {
    seed: u64,
    /// Number of faults: avoids taking the lock when there are none.
    count: AtomicUsize,
    /// Changes with the table and its counters.
    version: AtomicU64,
    table: Mutex<FaultTable>,
}

#[derive(Debug, Default)]
struct FaultTable {
    next_id: u64,
    faults: Vec<(Fault, TokenBucket)>,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            count: AtomicUsize::new(0),
            version: AtomicU64::new(0),
            table: Mutex::default(),
        }
    }

    /// Parses and adds a fault. Returns its id, or a message that names the mistake.
    pub(crate) fn add(&self, value: &Value, now_ms: i64) -> Result<u64, String> {
        let mut fault: Fault =
            serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
        if !(0.0..=1.0).contains(&fault.probability) {
            return Err("probability must be from 0 to 1".into());
        }
        // `flatten` lets unknown fields pass; a mistyped one would silently do nothing.
        let all_fields = serde_json::to_value(&fault).map_err(|error| error.to_string())?;
        if let Some(unknown) = value
            .as_object()
            .into_iter()
            .flat_map(|map| map.keys())
            .find(|key| all_fields.get(key).is_none())
        {
            return Err(format!("unknown field {unknown:?} for this kind of fault"));
        }
        let tokens = match &fault.kind {
            FaultKind::RateLimit { per_second, burst } => {
                if !(*per_second >= 0.0 && per_second.is_finite()) {
                    return Err("perSecond must not be negative".into());
                }
                burst.unwrap_or(per_second.max(1.0))
            }
            FaultKind::Status { status, .. } | FaultKind::Html { status, .. }
                if !(200..=599).contains(status) =>
            {
                return Err("status must be from 200 to 599".into());
            }
            FaultKind::Status {
                content_type: Some(content_type),
                ..
            } if HeaderValue::from_str(content_type).is_err() => {
                return Err("contentType must be the value of a header".into());
            }
            _ => 0.0,
        };
        let mut table = self.table.lock();
        fault.id = table.next_id;
        (fault.matched, fault.struck) = (0, 0);
        table.next_id += 1;
        let id = fault.id;
        table.faults.push((fault, TokenBucket::new(tokens, now_ms)));
        self.count.store(table.faults.len(), Ordering::Release);
        self.changed();
        Ok(id)
    }

    /// Removes one fault, or all with `None`. Returns how many were removed.
    pub(crate) fn remove(&self, id: Option<u64>) -> usize {
        let mut table = self.table.lock();
        let before = table.faults.len();
        table
            .faults
            .retain(|(fault, _)| id.is_some_and(|id| fault.id != id));
        self.count.store(table.faults.len(), Ordering::Release);
        self.changed();
        before - table.faults.len()
    }

    /// How many faults are on. Takes no lock.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Differs after each change of the faults or of their counters.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn list(&self) -> Vec<Fault> {
        self.table
            .lock()
            .faults
            .iter()
            .map(|(fault, _)| fault.clone())
            .collect()
    }

    /// The combined effects of all matching faults on a request.
    pub(crate) fn effects_on(&self, method: &Method, path: &str, now_ms: i64) -> FaultEffects {
        let mut effects = FaultEffects::default();
        if self.count.load(Ordering::Acquire) == 0 {
            return effects;
        }
        let seed = self.seed;
        for (fault, bucket) in &mut self.table.lock().faults {
            if !fault.kind.applies_to(method, path) || !fault.matches_path(path) {
                continue;
            }
            // Only the first such fault applies; the others are not counted as matched.
            if fault.kind.replaces_response() && effects.response_fault.is_some() {
                continue;
            }
            self.changed();
            if let Some(mut random) = draw(fault, seed) {
                let struck = apply(&fault.kind, bucket, &mut random, now_ms, &mut effects);
                fault.struck += u64::from(struck);
            }
        }
        effects
    }

    /// Whether an accepted push is sent a second time.
    pub(crate) fn duplicates_push(&self, url: &str) -> bool {
        self.strikes_push(url, |fault| {
            matches!(fault.kind, FaultKind::DuplicatePush {})
        })
    }

    /// Whether the attempt of a push fails without an answer. Only a fault with a path applies: one without is for requests.
    pub(crate) fn resets_push(&self, url: &str) -> bool {
        self.strikes_push(url, |fault| {
            matches!(fault.kind, FaultKind::Reset {}) && fault.path.is_some()
        })
    }

    fn strikes_push(&self, url: &str, is_for_it: impl Fn(&Fault) -> bool) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        // A template of inbound messages may be no URL: a fault with a path does not match it.
        let path =
            reqwest::Url::parse(url).map_or_else(|_| String::new(), |url| url.path().to_owned());
        let seed = self.seed;
        let mut any_struck = false;
        for (fault, _) in &mut self.table.lock().faults {
            if !is_for_it(fault) || !fault.matches_path(&path) {
                continue;
            }
            self.changed();
            if draw(fault, seed).is_some() {
                fault.struck += 1;
                any_struck = true;
            }
        }
        any_struck
    }
}

/// Draws whether a matched fault affects the request. Returns the generator from which the fault draws its parameters.
fn draw(fault: &mut Fault, seed: u64) -> Option<SeededRandom> {
    if fault.count.is_some_and(|count| fault.struck >= count) {
        return None;
    }
    let mut random =
        SeededRandom::for_item(seed ^ fault.id.rotate_left(32), "fault", fault.matched);
    fault.matched += 1;
    (random.unit_interval() < fault.probability).then_some(random)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ended(faults: &Faults, times: usize) -> Vec<bool> {
        (0..times)
            .map(|_| {
                faults
                    .effects_on(&Method::POST, "/sms/1/text/advanced", 0)
                    .response_fault
                    .is_some()
            })
            .collect()
    }

    #[test]
    fn the_same_seed_strikes_the_same_requests() {
        let struck = |seed| {
            let faults = Faults::new(seed);
            faults
                .add(&json!({"kind": "reset", "probability": 0.2}), 0)
                .unwrap();
            ended(&faults, 200)
        };
        assert_eq!(struck(1), struck(1));
        assert_ne!(struck(1), struck(2));
        let times = struck(1).into_iter().filter(|struck| *struck).count();
        assert!((20..60).contains(&times), "{times}");
    }

    #[test]
    fn a_count_is_used_up() {
        let faults = Faults::new(1);
        faults.add(&json!({"kind": "html", "count": 2}), 0).unwrap();
        assert_eq!(ended(&faults, 4), [true, true, false, false]);
        assert_eq!(faults.list()[0].struck, 2);
    }

    #[test]
    fn a_bucket_fills_with_virtual_time() {
        let faults = Faults::new(1);
        faults
            .add(
                &json!({"kind": "rate_limit", "perSecond": 1.0, "burst": 2.0}),
                0,
            )
            .unwrap();
        let limited = |now| {
            faults
                .effects_on(&Method::GET, "/sms/1/logs", now)
                .response_fault
                .is_some()
        };
        assert_eq!([limited(0), limited(0), limited(0)], [false, false, true]);
        assert_eq!([limited(1000), limited(1000)], [false, true]);
    }

    #[test]
    fn faults_apply_only_to_matching_requests() {
        let faults = Faults::new(1);
        faults.add(&json!({"kind": "accept_then_drop"}), 0).unwrap();
        faults
            .add(
                &json!({"kind": "status", "status": 503, "path": "/number/1/"}),
                0,
            )
            .unwrap();
        assert!(
            faults
                .effects_on(&Method::GET, "/sms/1/logs", 0)
                .response_fault
                .is_none()
        );
        assert!(
            faults
                .effects_on(&Method::POST, "/number/1/query", 0)
                .response_fault
                .is_some()
        );
        assert!(
            faults
                .effects_on(&Method::POST, "/sms/1/text/single", 0)
                .response_fault
                .is_some()
        );
    }

    #[test]
    fn mistakes_are_named() {
        let faults = Faults::new(1);
        for (fault, word) in [
            (json!({"kind": "rest"}), "rest"),
            (json!({"kind": "reset", "probabilty": 0.5}), "probabilty"),
            (json!({"kind": "reset", "probability": 2}), "probability"),
            (json!({"kind": "status", "status": 99}), "status"),
            (
                json!({"kind": "status", "status": 200, "contentType": "a\nb"}),
                "contentType",
            ),
        ] {
            let error = faults.add(&fault, 0).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        assert!(faults.list().is_empty());
    }
}
