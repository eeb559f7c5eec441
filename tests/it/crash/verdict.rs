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
    let broken = [
        verdict.lost,
        verdict.contradicting,
        verdict.unexpected,
        verdict.unknown_with_id,
    ];
    assert_eq!(
        broken, [0; 4],
        "{what}: lost, contradicting, unexpected, unknown with a request id"
    );
    assert!(
        verdict.sends_most(),
        "{what}: of {} destinations with a request id {} were sent",
        verdict.confirmed_with_id,
        verdict.sent_with_id
    );
    assert!(
        counts_duplicates || verdict.duplicated == 0,
        "{what}: {} duplicated",
        verdict.duplicated
    );
    assert!(evidence.left.is_empty(), "{what}: {:?}", evidence.left);
    verdict
}

/// When commands were published, and when the API accepted messages.
pub struct Flow {
    published: Vec<Timestamp>,
    accepted: Vec<Timestamp>,
}

impl Flow {
    pub fn new(records: &[Record], evidence: &Evidence) -> Self {
        let published = records.iter().flat_map(|record| &record.published);
        let accepted = evidence.ledger.iter();
        Self {
            published: published.copied().collect(),
            accepted: accepted.map(|row| api_time(&row["acceptedAt"])).collect(),
        }
    }

    /// The times of the first and of the last publication.
    fn bounds(&self) -> (Timestamp, Timestamp) {
        let first = self.published.iter().min().expect("commands");
        let last = self.published.iter().max().expect("commands");
        (*first, *last)
    }

    /// From the first publication to the last one.
    pub fn duration(&self) -> Duration {
        let (first, last) = self.bounds();
        last.duration_since(first).unsigned_abs()
    }

    /// The longest time without an accepted message from the first publication to the last one. A stall that begins with the
    /// first or lasts to the last one counts too.
    pub fn longest_pause(&self) -> Duration {
        let (first, last) = self.bounds();
        let accepted = self.accepted.iter().copied();
        let mut times: Vec<_> = accepted.filter(|at| (first..=last).contains(at)).collect();
        times.extend([first, last]);
        times.sort();
        times
            .windows(2)
            .map(|pair| pair[1].duration_since(pair[0]).unsigned_abs())
            .max()
            .expect("two times")
    }
}

#[test]
fn a_stall_at_the_beginning_or_at_the_end_is_a_pause() {
    let at = |second: i64| Timestamp::from_second(second).unwrap();
    let pause = |accepted: std::ops::Range<i64>| {
        let flow = Flow {
            published: (100..=130).map(at).collect(),
            accepted: accepted.map(at).collect(),
        };
        flow.longest_pause().as_secs()
    };
    assert_eq!(pause(100..131), 1);
    assert_eq!(pause(100..111), 20, "until the last publication");
    assert_eq!(pause(112..140), 12, "from the first publication");
    assert_eq!(pause(131..140), 30, "during all publications");
}
