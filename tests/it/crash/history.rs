//! What happened to one command, in the order of time: publications, requests that name its ids, events, ends of the bridge and
//! of the broker. So that a violation can be understood.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;
use smsbridge::proto::v1::event::Payload;

use super::{
    evidence::Evidence,
    producer::Record,
    requests::{asked_ids, sent_ids},
};

/// How the simulator writes a time.
const API_DATE: &str = "%Y-%m-%dT%H:%M:%S%.f%z";

/// What the test did, and when.
pub type Timeline = Vec<(Timestamp, String)>;

pub fn history(record: &Record, evidence: &Evidence, timeline: &Timeline) -> String {
    let command = &record.command;
    let is_one_of_it = |value: &Value| {
        let to = value["to"].as_str().unwrap_or_default();
        command.numbers.iter().any(|number| number == to)
    };
    let mut lines: Timeline = Vec::new();
    for at in &record.published {
        lines.push((
            *at,
            format!("published, in the end confirmed: {}", record.is_confirmed),
        ));
    }
    let mut ids: BTreeSet<String> = BTreeSet::new();
    for event in &evidence.events {
        let Some(Payload::Result(result)) = &event.payload else {
            continue;
        };
        if command.numbers.contains(&result.to) {
            ids.insert(format!("default.{}", result.message_id));
            let at = event
                .time
                .as_ref()
                .map(|at| Timestamp::new(at.seconds, at.nanos).unwrap_or(Timestamp::UNIX_EPOCH));
            let refusal = result.refusal.as_ref().map(|refusal| &refusal.reason);
            let line = format!(
                "event {} {} of {} ({}) {refusal:?}",
                event.id, event.r#type, result.to, result.message_id
            );
            lines.push((at.unwrap_or(Timestamp::UNIX_EPOCH), line));
        }
    }
    for row in evidence.ledger.iter().filter(|row| is_one_of_it(row)) {
        ids.insert(row["messageId"].as_str().unwrap_or_default().to_owned());
        let line = format!("accepted by the API: {} to {}", row["messageId"], row["to"]);
        lines.push((api_time(&row["acceptedAt"]), line));
    }
    for request in &evidence.requests {
        let named = sent_ids(request).any(|id| ids.contains(id))
            || asked_ids(request).iter().any(|id| ids.contains(id));
        if named {
            let line = format!(
                "request {} {}: status {}, fault {}",
                request["method"], request["path"], request["status"], request["fault"]
            );
            lines.push((api_time(&request["at"]), line));
        }
    }
    let first = lines.iter().map(|(at, _)| *at).min();
    let last = lines.iter().map(|(at, _)| *at).max();
    let is_within = |(at, _): &&(Timestamp, String)| Some(*at) >= first && Some(*at) <= last;
    let around: Timeline = timeline.iter().filter(is_within).cloned().collect();
    lines.extend(around);
    lines.sort_by_key(|(at, _)| *at);
    let mut told = format!(
        "command {} ({:?}) to {:?}\n",
        command.index, command.request_id, command.numbers
    );
    for (at, line) in lines {
        told.push_str(&format!("  {} {line}\n", at.strftime("%H:%M:%S%.3f")));
    }
    told
}

/// A time of the simulator.
pub fn api_time(value: &Value) -> Timestamp {
    let text = value.as_str().unwrap_or_default();
    Timestamp::strptime(API_DATE, text).unwrap_or(Timestamp::UNIX_EPOCH)
}
