//! Compares the producer's record with what the broker and the API hold, and judges the promises of docs/RELIABILITY.md.
//!
//! It shares no code with the bridge but the types of the contract. Whatever violates a promise names the command, so that
//! `history` can show what happened to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;
use smsbridge::proto::v1::{self, Outcome, SendResult, event::Payload};

use super::{
    evidence::Evidence,
    producer::{Commands, REJECTED_PREFIX, Record},
    requests,
};

/// The least share of the destinations with a request id whose handset gets the message. The API rejects two of a hundred.
const LEAST_SENT_PERCENT: usize = 90;

/// What was found. Each finding is about a destination, except where its comment says otherwise.
#[derive(Debug, Default)]
pub struct Verdict {
    pub commands: usize,
    pub confirmed: usize,
    /// Their handset got the message.
    pub sent: usize,
    /// Of the confirmed commands with a request id.
    pub confirmed_with_id: usize,
    pub sent_with_id: usize,
    /// Confirmed, without a result and without a dead letter.
    pub lost: usize,
    /// Lost, although the handset got the message: the acknowledgement came before the result was durable.
    pub lost_after_send: usize,
    /// Their handset got the message more than once.
    pub duplicated: usize,
    /// Several results, counted by event id. Those of `definite_and_unknown` and `unknown_twice` are not counted.
    pub contradicting: usize,
    /// Events, ledger rows and dead letters without a cause.
    pub unexpected: usize,
    /// Results that the ledger contradicts: accepted and not in it, or rejected without a reason. They count as unexpected.
    pub untrue: usize,
    pub unknown_with_id: usize,
    pub unknown_without_id: usize,
    /// Destinations of commands without a request id that have a definite result and `send.unknown`. The hole of P1: a
    /// redelivered command without an id is reported as unknown, also where the killed process had stored its result.
    pub definite_and_unknown: usize,
    /// Destinations of commands without a request id that have several `send.unknown`: the same hole, where the process was
    /// killed between the event and the acknowledgement.
    pub unknown_twice: usize,
    /// They were looked up in the API's logs and have one definite result.
    pub recovered: usize,
    /// Sent again without a look-up since the last request that may have been accepted. The hole of P2: a copy of a command in a
    /// retry queue, and a command that its publisher repeats, do not say that they may have been sent.
    pub resent_without_look_up: usize,
    /// Dead letters of commands that have one already. P1 allows them: a copy is confirmed before the delivery is acknowledged.
    pub dead_twice: usize,
    pub dead: usize,
    /// Findings by the index of their command.
    pub findings: BTreeMap<usize, BTreeSet<String>>,
    /// The same for what is counted as a hole, and breaks no promise.
    pub holes: BTreeMap<usize, BTreeSet<String>>,
    /// Findings without a command.
    pub strangers: Vec<String>,
}

impl Verdict {
    /// Whether most of what can be looked up reached its handset. A bridge that sends nothing and reports each command as
    /// unknown loses, repeats and contradicts nothing.
    pub fn sends_most(&self) -> bool {
        self.confirmed_with_id > 0
            && self.sent_with_id * 100 >= self.confirmed_with_id * LEAST_SENT_PERCENT
    }

    fn find(&mut self, index: usize, finding: impl Into<String>) {
        self.findings
            .entry(index)
            .or_default()
            .insert(finding.into());
    }

    fn find_hole(&mut self, index: usize, finding: String) {
        self.holes.entry(index).or_default().insert(finding);
    }

    fn stranger(&mut self, finding: String) {
        self.unexpected += 1;
        self.strangers.push(finding);
    }
}

/// What is known of one destination.
#[derive(Default)]
struct Destination<'a> {
    /// The results with distinct event ids.
    results: BTreeMap<&'a str, &'a SendResult>,
    /// The ids that the API knows it by, with the times that the handset got it.
    deliveries: BTreeMap<&'a str, u64>,
}

pub fn judge(records: &[Record], evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict {
        commands: records.len(),
        ..Verdict::default()
    };
    let mut destinations: HashMap<&str, (usize, Destination<'_>)> = HashMap::new();
    for (place, record) in records.iter().enumerate() {
        for number in &record.command.numbers {
            destinations.insert(number, (place, Destination::default()));
        }
    }
    read_ledger(&evidence.ledger, &mut destinations, &mut verdict);
    read_events(records, &evidence.events, &mut destinations, &mut verdict);
    let dead = read_dead_letters(records, evidence, &mut verdict);
    let looked_up = requests::looked_up(&evidence.requests);
    let resent = requests::resent_without_look_up(&evidence.requests);

    for record in records {
        let command = &record.command;
        if command.is_invalid && record.is_confirmed {
            verdict.confirmed += 1;
            if !dead.contains(&command.index) {
                verdict.lost += 1;
                verdict.find(command.index, "lost: invalid, and not a dead letter");
            }
        }
        for number in &command.numbers {
            let (_, destination) = &destinations[number.as_str()];
            let times: u64 = destination.deliveries.values().sum();
            verdict.sent += usize::from(times > 0);
            if times > 1 {
                verdict.duplicated += 1;
                verdict.find(command.index, format!("duplicated: {number} {times} times"));
            }
            if record.is_confirmed {
                verdict.confirmed += 1;
                if !command.request_id.is_empty() {
                    verdict.confirmed_with_id += 1;
                    verdict.sent_with_id += usize::from(times > 0);
                }
                if destination.results.is_empty() && !dead.contains(&command.index) {
                    verdict.lost += 1;
                    verdict.lost_after_send += usize::from(times > 0);
                    verdict.find(command.index, format!("lost: {number}"));
                }
            }
            judge_results(record, number, destination, &mut verdict);
            let is_definite = destination.results.len() == 1
                && destination.results.values().all(|result| {
                    result.outcome() != Outcome::Unknown && looked_up.contains(&wire_id(result))
                });
            verdict.recovered += usize::from(is_definite);
            if destination.deliveries.keys().any(|id| resent.contains(*id)) {
                verdict.resent_without_look_up += 1;
                verdict.find_hole(
                    command.index,
                    format!("sent again without a look-up: {number}"),
                );
            }
        }
    }
    verdict
}

fn wire_id(result: &SendResult) -> String {
    format!("default.{}", result.message_id)
}

/// The results of one destination: how many, and whether the ledger agrees.
fn judge_results(
    record: &Record,
    number: &str,
    destination: &Destination<'_>,
    verdict: &mut Verdict,
) {
    let index = record.command.index;
    let has_id = !record.command.request_id.is_empty();
    let results: Vec<_> = destination.results.values().collect();
    let unknown = results
        .iter()
        .filter(|result| result.outcome() == Outcome::Unknown)
        .count();
    let definite = results.len() - unknown;
    match has_id {
        true => verdict.unknown_with_id += usize::from(unknown > 0),
        false => verdict.unknown_without_id += usize::from(unknown > 0),
    }
    if has_id && results.len() > 1 || definite > 1 {
        verdict.contradicting += 1;
        verdict.find(index, format!("contradicting: {number}"));
    } else if definite == 1 && unknown > 0 {
        verdict.definite_and_unknown += 1;
        verdict.find_hole(index, format!("a definite result and unknown: {number}"));
    } else if unknown > 1 {
        verdict.unknown_twice += 1;
    }
    for result in results {
        let is_true = match result.outcome() {
            Outcome::Accepted => destination
                .deliveries
                .contains_key(wire_id(result).as_str()),
            Outcome::Rejected => {
                number.starts_with(REJECTED_PREFIX) && destination.deliveries.is_empty()
            }
            Outcome::Unknown => true,
            Outcome::Unspecified => false,
        };
        if !is_true {
            verdict.unexpected += 1;
            verdict.untrue += 1;
            verdict.find(index, format!("untrue: {number} {:?}", result.outcome()));
        }
    }
}

fn read_ledger<'a>(
    ledger: &'a [Value],
    destinations: &mut HashMap<&str, (usize, Destination<'a>)>,
    verdict: &mut Verdict,
) {
    for row in ledger {
        let to = row["to"].as_str().unwrap_or_default();
        let id = row["messageId"].as_str().unwrap_or_default();
        match destinations.get_mut(to) {
            Some((_, destination)) => {
                let times = row["handsetDeliveries"].as_u64().unwrap_or_default();
                *destination.deliveries.entry(id).or_default() += times;
            }
            None => verdict.stranger(format!("a message without a command: {row}")),
        }
    }
}

fn read_events<'a>(
    records: &[Record],
    events: &'a [v1::Event],
    destinations: &mut HashMap<&str, (usize, Destination<'a>)>,
    verdict: &mut Verdict,
) {
    let mut ids: HashMap<&str, &v1::Event> = HashMap::new();
    let mut invalid_without_id = BTreeSet::new();
    for event in events {
        let is_same = |other: &v1::Event| {
            (&other.r#type, &other.application) == (&event.r#type, &event.application)
                && message_id(other) == message_id(event)
        };
        if ids
            .insert(&event.id, event)
            .is_some_and(|other| !is_same(other))
        {
            verdict.stranger(format!("an event id with two meanings: {event:?}"));
        }
        if event.application != "default" {
            verdict.stranger(format!("an event of another application: {event:?}"));
        }
        match &event.payload {
            Some(Payload::Result(result)) => match destinations.get_mut(result.to.as_str()) {
                Some((place, destination)) => {
                    destination.results.insert(&event.id, result);
                    let record = &records[*place];
                    if record.published.is_empty() || record.command.request_id != event.request_id
                    {
                        verdict.unexpected += 1;
                        let finding = format!("unexpected: {event:?}");
                        verdict.find(record.command.index, finding);
                    }
                }
                None => verdict.stranger(format!("a result without a command: {event:?}")),
            },
            Some(Payload::InvalidCommand(_)) if event.request_id.is_empty() => {
                invalid_without_id.insert(event.id.as_str());
            }
            Some(Payload::InvalidCommand(_)) => {
                let is_its_cause = |record: &&Record| {
                    record.command.is_invalid && record.command.request_id == event.request_id
                };
                if !records.iter().any(|record| is_its_cause(&record)) {
                    verdict.stranger(format!("a valid command is invalid: {event:?}"));
                }
            }
            _ => verdict.stranger(format!("an event without a cause: {event:?}")),
        }
    }
    let invalid = records.iter().filter(|record| {
        record.command.is_invalid
            && record.command.request_id.is_empty()
            && !record.published.is_empty()
    });
    if invalid_without_id.len() > invalid.count() {
        verdict.stranger("more command.invalid events than invalid commands".into());
    }
}

fn message_id(event: &v1::Event) -> &str {
    match &event.payload {
        Some(Payload::Result(result)) => &result.message_id,
        _ => "",
    }
}

/// The indices of the commands that are dead letters.
fn read_dead_letters(
    records: &[Record],
    evidence: &Evidence,
    verdict: &mut Verdict,
) -> BTreeSet<usize> {
    let mut dead = BTreeSet::new();
    for letter in &evidence.dead {
        let command = letter.index.and_then(|index| records.get(index));
        match (letter.index, command) {
            (Some(index), Some(record)) => {
                if !dead.insert(index) {
                    verdict.dead_twice += 1;
                }
                if !record.command.is_invalid {
                    verdict.unexpected += 1;
                    let finding = format!("unexpected: a dead letter, {}", letter.reason);
                    verdict.find(index, finding);
                }
            }
            _ => verdict.stranger(format!(
                "a dead letter without a command: {}",
                letter.reason
            )),
        }
    }
    verdict.dead = dead.len();
    dead
}

#[test]
fn a_bridge_that_reports_all_as_unknown_and_sends_nothing_is_noticed() {
    let records: Vec<_> = Commands::plain(10)
        .into_iter()
        .map(|command| Record {
            command,
            published: vec![jiff::Timestamp::now()],
            is_confirmed: true,
        })
        .collect();
    let unknown = |record: &Record| v1::Event {
        id: record.command.request_id.clone(),
        application: "default".into(),
        request_id: record.command.request_id.clone(),
        payload: Some(Payload::Result(Box::new(SendResult {
            to: record.command.numbers[0].clone(),
            outcome: Outcome::Unknown.into(),
            ..Default::default()
        }))),
        ..Default::default()
    };
    let evidence = Evidence {
        events: records.iter().map(unknown).collect(),
        dead: Vec::new(),
        left: BTreeMap::new(),
        ledger: Vec::new(),
        requests: Vec::new(),
    };
    let verdict = judge(&records, &evidence);
    let broken = [verdict.lost, verdict.contradicting, verdict.unexpected];
    assert_eq!(broken, [0; 3], "what the other rules notice");
    assert_eq!(verdict.unknown_with_id, records.len());
    assert!(!verdict.sends_most());
}
