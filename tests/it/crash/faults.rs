//! The faults of the API, by cycle: some kinds, each on a part of the requests.

use rand::{Rng, RngExt as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value, json};
use smsbridge::ops::kill_point::KillPoint;

use super::schedule::{ApiMemory, End};

const SEND_PATH: &str = "/sms/1/text/advanced";
/// Less than the bridge's `infobip.request_timeout` at the least, more at the most.
const LATENCY_MS: (u64, u64) = (20, 3_000);

/// The faults that last for the whole run.
pub fn of_run(memory: ApiMemory) -> Vec<Value> {
    // So that requests are in flight when the bridge is killed.
    let mut faults = vec![json!({"kind": "latency", "ms": 10, "maxMs": 80})];
    if memory != ApiMemory::ForgetsIds {
        faults.push(json!({"kind": "log_lag", "ms": 1_500, "probability": 0.5}));
    }
    if memory != ApiMemory::LogsLag {
        faults.push(json!({"kind": "forget_ids"}));
    }
    faults
}

/// The faults of one cycle. Of five cycles, one has none.
pub fn draw(random: &mut StdRng, end: End) -> Vec<Value> {
    let mut faults = Vec::new();
    if !random.random_bool(0.2) {
        for _ in 0..random.random_range(1..=3) {
            faults.push(one(random));
        }
    }
    // Copies of commands are needed for a point behind a copy's confirm.
    if let End::At(KillPoint::CopyConfirmed, _) = end {
        faults.insert(0, refusal(random, 401, 0.5));
    }
    faults
}

fn one(random: &mut StdRng) -> Value {
    let probability = share(random, 0.05, 0.4);
    match random.random_range(0..9) {
        0 => {
            let hold = random.random_bool(0.3);
            json!({"kind": "accept_then_drop", "hold": hold, "path": SEND_PATH, "probability": probability})
        }
        1 => json!({"kind": "reset", "probability": probability}),
        2 => refusal(random, 401, probability),
        3 => json!({"kind": "html", "status": 404, "path": SEND_PATH, "probability": probability}),
        4 => json!({"kind": "status", "status": 429, "probability": probability}),
        5 => {
            let status = *[500, 502, 503].choose(random).unwrap();
            let processed = random.random_bool(0.5);
            json!({"kind": "status", "status": status, "processed": processed, "probability": probability})
        }
        6 => json!({"kind": "html", "status": 502, "probability": probability}),
        7 => json!({"kind": "truncate", "probability": probability}),
        _ => {
            json!({"kind": "latency", "ms": LATENCY_MS.0, "maxMs": LATENCY_MS.1, "probability": probability})
        }
    }
}

/// Credentials are refused for a few requests only, because their commands wait long.
fn refusal(random: &mut StdRng, status: u16, probability: f64) -> Value {
    let count = random.random_range(1..=8);
    json!({"kind": "status", "status": status, "path": SEND_PATH, "count": count, "probability": probability})
}

fn share(random: &mut impl Rng, least: f64, most: f64) -> f64 {
    random.random_range(least..most)
}
