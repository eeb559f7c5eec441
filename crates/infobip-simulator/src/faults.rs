//! Fault injection: decides which faults apply to a request or a push, and counts them.
//!
//! Invariant: each fault has a random generator of its own, seeded by its id and match count, so that adding a fault does
//! not change when another one strikes. Rate limits refill in virtual time.
//! Neighbours: `http::control` sets faults, `http` applies their effects, `engine` asks about pushes.

mod kind;

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use http::Method;
use serde_json::Value;

use crate::{acceptance::Twist, dice::Dice};
pub(crate) use kind::{Fault, Kind};

/// How a fault ends a request instead of its normal response.
#[derive(Debug, Clone)]
pub(crate) enum Ending {
    /// The connection is reset.
    Reset { processed: bool },
    /// The request is processed, then the connection is closed without a response.
    Drop { hold: bool },
    /// The response body is cut off.
    Truncate {
        /// Length sent; `None`: half of the body.
        bytes: Option<usize>,
    },
    Answer {
        status: u16,
        /// Content type and body; `None`: the API's error envelope.
        body: Option<(String, String)>,
        /// The request is processed nevertheless.
        processed: bool,
    },
}

impl Ending {
    /// Whether the request is processed.
    pub(crate) fn processes(&self) -> bool {
        match self {
            Self::Reset { processed } | Self::Answer { processed, .. } => *processed,
            Self::Drop { .. } | Self::Truncate { .. } => true,
        }
    }
}

/// The effects of all matching faults on a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict {
    /// Delay before processing, in real milliseconds.
    pub(crate) wait_before_ms: u64,
    pub(crate) wait_after_ms: u64,
    /// The fault that ends the request, and how.
    pub(crate) ending: Option<(&'static str, Ending)>,
    pub(crate) twist: Twist,
}

#[derive(Debug)]
pub(crate) struct Faults {
    seed: u64,
    /// Number of faults: avoids taking the lock when there are none.
    set: AtomicUsize,
    all: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next_id: u64,
    faults: Vec<(Fault, Bucket)>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled_at_ms: i64,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            set: AtomicUsize::new(0),
            all: Mutex::default(),
        }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.all
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Parses and adds a fault. Returns its id, or a message that names the mistake.
    pub(crate) fn set(&self, value: &Value, now_ms: i64) -> Result<u64, String> {
        let mut fault: Fault =
            serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
        if !(0.0..=1.0).contains(&fault.probability) {
            return Err("probability must be from 0 to 1".into());
        }
        // `flatten` lets unknown fields pass; a mistyped one would silently do nothing.
        let known = serde_json::to_value(&fault).map_err(|error| error.to_string())?;
        if let Some(unknown) = value
            .as_object()
            .into_iter()
            .flat_map(|map| map.keys())
            .find(|key| known.get(key).is_none())
        {
            return Err(format!("unknown field {unknown:?} for this kind of fault"));
        }
        let tokens = match &fault.kind {
            Kind::RateLimit { per_second, burst } => {
                if !(*per_second >= 0.0 && per_second.is_finite()) {
                    return Err("perSecond must not be negative".into());
                }
                burst.unwrap_or(per_second.max(1.0))
            }
            Kind::Status { status, .. } | Kind::Html { status, .. }
                if !(200..=599).contains(status) =>
            {
                return Err("status must be from 200 to 599".into());
            }
            _ => 0.0,
        };
        let mut table = self.table();
        fault.id = table.next_id;
        (fault.matched, fault.struck) = (0, 0);
        table.next_id += 1;
        let id = fault.id;
        table.faults.push((
            fault,
            Bucket {
                tokens,
                filled_at_ms: now_ms,
            },
        ));
        self.set.store(table.faults.len(), Ordering::Release);
        Ok(id)
    }

    /// Removes one fault, or all. Returns how many were removed.
    pub(crate) fn lift(&self, id: Option<u64>) -> usize {
        let mut table = self.table();
        let before = table.faults.len();
        table
            .faults
            .retain(|(fault, _)| id.is_some_and(|id| fault.id != id));
        self.set.store(table.faults.len(), Ordering::Release);
        before - table.faults.len()
    }

    pub(crate) fn list(&self) -> Vec<Fault> {
        self.table()
            .faults
            .iter()
            .map(|(fault, _)| fault.clone())
            .collect()
    }

    /// The effects of all matching faults on a request.
    pub(crate) fn judge(&self, method: &Method, path: &str, now_ms: i64) -> Verdict {
        let mut verdict = Verdict::default();
        if self.set.load(Ordering::Acquire) == 0 {
            return verdict;
        }
        let seed = self.seed;
        for (fault, bucket) in &mut self.table().faults {
            if matches!(fault.kind, Kind::DuplicatePush {}) || !matches(fault, method, path) {
                continue;
            }
            // The first fault that ends the request wins; the others are not counted as matched.
            if fault.kind.ends_request() && verdict.ending.is_some() {
                continue;
            }
            if let Some(mut dice) = strikes(fault, seed) {
                let struck = apply(&fault.kind, bucket, &mut dice, now_ms, &mut verdict);
                fault.struck += u64::from(struck);
            }
        }
        verdict
    }

    /// Whether an accepted push is sent a second time.
    pub(crate) fn duplicates_push(&self, url: &str) -> bool {
        if self.set.load(Ordering::Acquire) == 0 {
            return false;
        }
        let path = reqwest::Url::parse(url)
            .map(|url| url.path().to_owned())
            .unwrap_or_default();
        let seed = self.seed;
        let mut twice = false;
        for (fault, _) in &mut self.table().faults {
            let applies = fault
                .path
                .as_ref()
                .is_none_or(|prefix| path.starts_with(prefix.as_str()));
            if matches!(fault.kind, Kind::DuplicatePush {})
                && applies
                && strikes(fault, seed).is_some()
            {
                fault.struck += 1;
                twice = true;
            }
        }
        twice
    }
}

/// Whether a request sends messages.
pub(crate) fn is_send(method: &Method, path: &str) -> bool {
    (method == Method::POST
        && (path.starts_with("/sms/1/text/") || path.starts_with("/sms/1/binary/")))
        || path.starts_with("/sms/1/text/query")
}

fn matches(fault: &Fault, method: &Method, path: &str) -> bool {
    let sensible = match fault.kind {
        Kind::AcceptThenDrop { .. }
        | Kind::EarlyPush {}
        | Kind::LogLag { .. }
        | Kind::ForgetIds {} => is_send(method, path),
        Kind::ReadThenReset {} => {
            path.starts_with("/sms/1/reports") || path.starts_with("/sms/1/inbox/reports")
        }
        _ => true,
    };
    sensible
        && fault
            .path
            .as_ref()
            .is_none_or(|prefix| path.starts_with(prefix.as_str()))
}

/// Decides whether a matched fault strikes. The returned generator is used for the fault's parameters.
fn strikes(fault: &mut Fault, seed: u64) -> Option<Dice> {
    if fault.count.is_some_and(|count| fault.struck >= count) {
        return None;
    }
    let mut dice = Dice::nth(seed ^ fault.id.rotate_left(32), "fault", fault.matched);
    fault.matched += 1;
    (dice.unit() < fault.probability).then_some(dice)
}

/// Applies a fault. Returns false if it had no effect, such as a rate limit with tokens left.
fn apply(
    kind: &Kind,
    bucket: &mut Bucket,
    dice: &mut Dice,
    now_ms: i64,
    verdict: &mut Verdict,
) -> bool {
    let ending = match kind {
        Kind::Latency { ms, max_ms, before } => {
            let wait = dice.between(*ms, max_ms.unwrap_or(*ms));
            let total = if *before {
                &mut verdict.wait_before_ms
            } else {
                &mut verdict.wait_after_ms
            };
            *total += wait;
            return true;
        }
        Kind::EarlyPush {} => {
            verdict.twist.early_push = true;
            return true;
        }
        Kind::LogLag { ms } => {
            verdict.twist.log_lag_ms = verdict.twist.log_lag_ms.max(*ms);
            return true;
        }
        Kind::ForgetIds {} => {
            verdict.twist.forget_ids = true;
            return true;
        }
        Kind::DuplicatePush {} => return false,
        Kind::RateLimit { per_second, burst } => {
            if bucket.take(*per_second, burst.unwrap_or(per_second.max(1.0)), now_ms) {
                return false;
            }
            (
                "rate_limit",
                Ending::Answer {
                    status: 429,
                    body: None,
                    processed: false,
                },
            )
        }
        Kind::Status {
            status,
            body,
            content_type,
            processed,
        } => {
            let body = body.as_ref().map(|body| {
                let (default, text) = match body {
                    Value::String(text) => ("text/plain;charset=UTF-8", text.clone()),
                    other => ("application/json;charset=UTF-8", other.to_string()),
                };
                (
                    content_type.clone().unwrap_or_else(|| default.to_owned()),
                    text,
                )
            });
            (
                "status",
                Ending::Answer {
                    status: *status,
                    body,
                    processed: *processed,
                },
            )
        }
        Kind::Html { status, processed } => {
            let page = format!(
                "<html>\r\n<head><title>{status}</title></head>\r\n<body><h1>{status}</h1></body>\r\n</html>\r\n"
            );
            let body = Some(("text/html".to_owned(), page));
            (
                "html",
                Ending::Answer {
                    status: *status,
                    body,
                    processed: *processed,
                },
            )
        }
        Kind::Reset {} => ("reset", Ending::Reset { processed: false }),
        Kind::ReadThenReset {} => ("read_then_reset", Ending::Reset { processed: true }),
        Kind::AcceptThenDrop { hold } => ("accept_then_drop", Ending::Drop { hold: *hold }),
        Kind::Truncate { bytes } => ("truncate", Ending::Truncate { bytes: *bytes }),
    };
    verdict.ending = Some(ending);
    true
}

impl Bucket {
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds since 1970 fit 53 bits"
    )]
    fn take(&mut self, per_second: f64, burst: f64, now_ms: i64) -> bool {
        let passed_ms = now_ms.saturating_sub(self.filled_at_ms).max(0);
        self.tokens = (self.tokens + passed_ms as f64 / 1000.0 * per_second).min(burst);
        self.filled_at_ms = now_ms;
        let has = self.tokens >= 1.0;
        if has {
            self.tokens -= 1.0;
        }
        has
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn endings(faults: &Faults, times: usize) -> Vec<bool> {
        (0..times)
            .map(|_| {
                faults
                    .judge(&Method::POST, "/sms/1/text/advanced", 0)
                    .ending
                    .is_some()
            })
            .collect()
    }

    #[test]
    fn the_same_seed_strikes_the_same_requests() {
        let struck = |seed| {
            let faults = Faults::new(seed);
            faults
                .set(&json!({"kind": "reset", "probability": 0.2}), 0)
                .unwrap();
            endings(&faults, 200)
        };
        assert_eq!(struck(1), struck(1));
        assert_ne!(struck(1), struck(2));
        let times = struck(1).into_iter().filter(|struck| *struck).count();
        assert!((20..60).contains(&times), "{times}");
    }

    #[test]
    fn a_count_is_used_up() {
        let faults = Faults::new(1);
        faults.set(&json!({"kind": "html", "count": 2}), 0).unwrap();
        assert_eq!(endings(&faults, 4), [true, true, false, false]);
        assert_eq!(faults.list()[0].struck, 2);
    }

    #[test]
    fn a_bucket_fills_with_virtual_time() {
        let faults = Faults::new(1);
        faults
            .set(
                &json!({"kind": "rate_limit", "perSecond": 1.0, "burst": 2.0}),
                0,
            )
            .unwrap();
        let limited = |now| {
            faults
                .judge(&Method::GET, "/sms/1/logs", now)
                .ending
                .is_some()
        };
        assert_eq!([limited(0), limited(0), limited(0)], [false, false, true]);
        assert_eq!([limited(1000), limited(1000)], [false, true]);
    }

    #[test]
    fn faults_keep_to_what_they_are_for() {
        let faults = Faults::new(1);
        faults.set(&json!({"kind": "accept_then_drop"}), 0).unwrap();
        faults
            .set(
                &json!({"kind": "status", "status": 503, "path": "/number/1/"}),
                0,
            )
            .unwrap();
        assert!(
            faults
                .judge(&Method::GET, "/sms/1/logs", 0)
                .ending
                .is_none()
        );
        assert!(
            faults
                .judge(&Method::POST, "/number/1/query", 0)
                .ending
                .is_some()
        );
        assert!(
            faults
                .judge(&Method::POST, "/sms/1/text/single", 0)
                .ending
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
        ] {
            let error = faults.set(&fault, 0).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        assert!(faults.list().is_empty());
    }
}
