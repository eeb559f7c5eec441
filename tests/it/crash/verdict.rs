//! What the oracle found in a run that has no report of its own, for people, and the flow of messages.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    evidence::Evidence,
    history::{Timeline, api_time, history},
    oracle::{Verdict, judge},
    producer::Record,
};

/// Commands whose history is printed.
const HISTORIES: usize = 5;

/// Prints what was found, and panics if a promise is broken. With `counts_duplicates` a message that was sent twice is counted only.
pub fn assert_kept(
    what: &str,
    records: &[Record],
    evidence: &Evidence,
    timeline: &Timeline,
    counts_duplicates: bool,
) -> Verdict {
    let verdict = judge(records, evidence);
    println!(
        "{what}: commands {}, destinations confirmed {}, sent {}, lost {}, duplicated {}, contradicting {}, unexpected {}, recovered \
         {}, unknown {} with a request id and {} without, sent again without a look-up {}, dead {}",
        verdict.commands,
        verdict.confirmed,
        verdict.sent,
        verdict.lost,
        verdict.duplicated,
        verdict.contradicting,
        verdict.unexpected,
        verdict.recovered,
        verdict.unknown_with_id,
        verdict.unknown_without_id,
        verdict.resent_without_look_up,
        verdict.dead,
    );
    for (index, findings) in verdict.findings.iter().take(HISTORIES) {
        let told = history(&records[*index], evidence, timeline);
        println!("{findings:?}\n{told}");
    }
    for stranger in verdict.strangers.iter().take(HISTORIES) {
        println!("{stranger}");
    }
    let broken = [verdict.lost, verdict.contradicting, verdict.unexpected];
    assert_eq!(broken, [0; 3], "{what}: lost, contradicting, unexpected");
    assert!(
        counts_duplicates || verdict.duplicated == 0,
        "{what}: {} duplicated",
        verdict.duplicated
    );
    assert!(evidence.left.is_empty(), "{what}: {:?}", evidence.left);
    verdict
}

/// The longest time between two accepted messages while commands were published.
pub fn longest_pause(records: &[Record], evidence: &Evidence) -> Duration {
    let published = records.iter().flat_map(|record| &record.published);
    let last = published.max().copied().unwrap_or(Timestamp::UNIX_EPOCH);
    let mut accepted: Vec<_> = evidence
        .ledger
        .iter()
        .map(|row| api_time(&row["acceptedAt"]))
        .filter(|at| *at <= last)
        .collect();
    accepted.sort();
    accepted
        .windows(2)
        .map(|pair| pair[1].duration_since(pair[0]).unsigned_abs())
        .max()
        .unwrap_or(Duration::MAX)
}
