//! What a run did and what the oracle found, for people: the figures, each promise, and the history of what went wrong.

use std::{collections::BTreeSet, fmt, process::ExitStatus, time::Duration};

use jiff::Timestamp;
use smsbridge::ops::kill_point::KillPoint;

use super::{
    evidence::Evidence,
    history::{Timeline, history},
    oracle::{Verdict, judge},
    producer::Record,
    schedule::{ApiMemory, End, Schedule},
};

/// Commands whose history is printed.
const HISTORIES: usize = 10;
/// A bridge with a bounded number of commands in flight needs less (P9).
const MEMORY_MB: usize = 200;

pub struct Report {
    seed: u64,
    memory: ApiMemory,
    pub cycles: usize,
    /// Ends of the bridge by SIGKILL.
    kills: usize,
    /// Ends of the bridge at each kill point.
    at_points: Vec<KillPoint>,
    /// Ends that the schedule has not, such as a panic.
    other_ends: Vec<String>,
    pub restarts: usize,
    peak_memory_mb: usize,
    /// How long it took until all was handled when the faults had ended; `None`: it was not.
    pub rest: Option<Duration>,
    /// Of the last process, which got SIGTERM.
    pub last_exit: Option<ExitStatus>,
    pub timeline: Timeline,
    verdict: Verdict,
    left: String,
    histories: Vec<String>,
    /// Of one command for each kind of hole.
    holes: Vec<String>,
}

impl Report {
    pub fn new(schedule: &Schedule) -> Self {
        Self {
            seed: schedule.seed,
            memory: schedule.memory,
            cycles: schedule.cycles.len(),
            kills: 0,
            at_points: Vec::new(),
            other_ends: Vec::new(),
            restarts: 0,
            peak_memory_mb: 0,
            rest: None,
            last_exit: None,
            timeline: Timeline::new(),
            verdict: Verdict::default(),
            left: String::new(),
            histories: Vec::new(),
            holes: Vec::new(),
        }
    }

    pub fn note(&mut self, what: String) {
        self.timeline.push((Timestamp::now(), what));
    }

    pub fn memory(&mut self, peak_mb: Option<usize>) {
        self.peak_memory_mb = self.peak_memory_mb.max(peak_mb.unwrap_or_default());
    }

    /// Notes how a process ended: `status` if it was not killed by the test.
    pub fn ended(&mut self, number: usize, end: End, status: Option<ExitStatus>) {
        match (end, status) {
            (End::At(point, _), Some(_)) => self.at_points.push(point),
            (_, None) => self.kills += 1,
            (End::Kill(_), Some(status)) => {
                self.other_ends.push(format!("{number}: {status}"));
            }
        }
        self.note(format!(
            "{number}: bridge ended, {end:?}, by itself: {status:?}"
        ));
    }

    pub fn judge(&mut self, records: Vec<Record>, evidence: Evidence) {
        self.verdict = judge(&records, &evidence);
        if !evidence.left.is_empty() {
            self.left = format!("{:?}", evidence.left);
        }
        for (index, findings) in self.verdict.findings.iter().take(HISTORIES) {
            let told = history(&records[*index], &evidence, &self.timeline);
            self.histories.push(format!("{findings:?}\n{told}"));
        }
        let mut kinds = BTreeSet::new();
        for (index, findings) in &self.verdict.holes {
            let kind = findings
                .first()
                .and_then(|finding| finding.split(':').next());
            if kinds.insert(kind) {
                let told = history(&records[*index], &evidence, &self.timeline);
                self.holes.push(format!("a hole: {findings:?}\n{told}"));
            }
        }
    }

    /// Whether no promise is broken, as far as it is judged, and the bridge ended only where the schedule says so.
    pub fn is_kept(&self) -> bool {
        let is_broken = |(_, kept, _): &(u8, Option<bool>, String)| *kept == Some(false);
        !self.promises().iter().any(is_broken)
            && self.resolves_and_sends()
            && self.rest.is_some()
            && self.other_ends.is_empty()
    }

    /// Whether everything with a request id has a definite result, and most of it was sent. Beyond P2 a result may be unknown.
    fn resolves_and_sends(&self) -> bool {
        let may_be_unknown = self.memory == ApiMemory::ForgetsIdsAndLogsLag;
        (may_be_unknown || self.verdict.unknown_with_id == 0) && self.verdict.sends_most()
    }

    fn exits_well(&self) -> bool {
        self.last_exit.is_some_and(|status| status.success())
    }

    fn promises(&self) -> [(u8, Option<bool>, String); 9] {
        let Verdict {
            lost,
            lost_after_send,
            duplicated,
            contradicting,
            unexpected,
            untrue,
            ..
        } = self.verdict;
        let v = &self.verdict;
        let is = |kept: bool| Some(kept);
        [
            (
                1,
                is(lost + contradicting == 0),
                format!(
                    "lost {lost}, contradicting {contradicting}; without a request id a definite result and unknown {}, unknown \
                     twice {} (a hole)",
                    v.definite_and_unknown, v.unknown_twice
                ),
            ),
            (
                2,
                (self.memory != ApiMemory::ForgetsIdsAndLogsLag).then_some(duplicated == 0),
                format!(
                    "duplicated {duplicated}, sent again without a look-up {} (a hole)",
                    v.resent_without_look_up
                ),
            ),
            (
                3,
                is(untrue == 0),
                format!("results that the ledger contradicts {untrue}"),
            ),
            (4, None, "no reports are pushed".into()),
            (
                5,
                is(lost_after_send == 0),
                format!("sent without a result {lost_after_send}"),
            ),
            (
                6,
                is(unexpected == untrue),
                format!("without a cause {}", unexpected - untrue),
            ),
            (
                7,
                is(self.left.is_empty()),
                format!(
                    "left in queues {:?}, at rest after {:?}",
                    self.left, self.rest
                ),
            ),
            (
                8,
                is(self.exits_well()),
                format!("the last process: {:?}", self.last_exit),
            ),
            (
                9,
                is(self.peak_memory_mb <= MEMORY_MB),
                format!("peak memory {} MB", self.peak_memory_mb),
            ),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = &self.verdict;
        for history in self.holes.iter().chain(&self.histories) {
            writeln!(f, "{history}")?;
        }
        for stranger in v.strangers.iter().take(HISTORIES) {
            writeln!(f, "{stranger}")?;
        }
        for end in &self.other_ends {
            writeln!(f, "the bridge ended by itself: {end}")?;
        }
        let points = |point: KillPoint| {
            let count = self
                .at_points
                .iter()
                .filter(|other| **other == point)
                .count();
            format!("{} {count}", point.name())
        };
        let memory = match self.memory {
            ApiMemory::LogsLag => "the API remembers ids, and its logs lag",
            ApiMemory::ForgetsIds => "the API forgets ids, and its logs do not lag",
            ApiMemory::ForgetsIdsAndLogsLag => {
                "the API forgets ids, and its logs lag: beyond P2, so what is duplicated is counted"
            }
        };
        writeln!(f, "seed {}: {memory}", self.seed)?;
        writeln!(
            f,
            "kills of the bridge {} by SIGKILL, at points: {}, {}, {}; of the broker {}",
            self.kills,
            points(KillPoint::RequestEnded),
            points(KillPoint::ResultsStored),
            points(KillPoint::CopyConfirmed),
            self.restarts
        )?;
        writeln!(
            f,
            "commands {}, destinations confirmed {}, sent {}, dead letters {} (twice {})",
            v.commands, v.confirmed, v.sent, v.dead, v.dead_twice
        )?;
        writeln!(
            f,
            "lost {}, duplicated {}, contradicting {}, unexpected {}, recovered {}, unknown {} with a request id and {} without",
            v.lost,
            v.duplicated,
            v.contradicting,
            v.unexpected,
            v.recovered,
            v.unknown_with_id,
            v.unknown_without_id
        )?;
        writeln!(
            f,
            "with a request id: {}, destinations confirmed {}, sent {}",
            match self.resolves_and_sends() {
                true => "resolved and sent",
                false => "NOT RESOLVED OR NOT SENT",
            },
            v.confirmed_with_id,
            v.sent_with_id
        )?;
        for (number, is_kept, detail) in self.promises() {
            let told = match is_kept {
                Some(true) => "kept",
                Some(false) => "BROKEN",
                None => "not judged",
            };
            writeln!(f, "P{number} {told}: {detail}")?;
        }
        Ok(())
    }
}
