//! Compares what was pushed with the events: each row that was answered with 200 is an event, and each event has a row
//! (P4 and P6, docs/RELIABILITY.md).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use smsbridge::proto::v1::{Event, event::Payload};

use super::infobip::{Pushed, Row, text};

/// Findings that are printed.
const SHOWN: usize = 20;

#[derive(Debug, Default)]
pub struct Verdict {
    pub rows: usize,
    /// Rows without an event.
    pub lost: Vec<Row>,
    /// Rows with events of several ids.
    pub doubled: Vec<Row>,
    /// Events without a row, or with another content.
    pub unexpected: Vec<String>,
    /// Pending reports behind their final one in the log.
    pub pending_after_final: Vec<usize>,
    /// Pending reports without an event whose final report was under way before they were answered: P6 drops them.
    pub overtaken: usize,
    /// Events that are in the log more than once, with one id.
    pub repeated: usize,
    /// Rows with an event although an attempt of their push got no 200.
    pub recovered: usize,
}

/// The row of an event, if its content is what was pushed.
pub fn row(event: &Event) -> Option<Row> {
    match event.payload.as_ref()? {
        Payload::Report(report) => {
            let number = report.message_id.strip_prefix('m')?.parse().ok()?;
            let is_whole = report.to == format!("4179{number:07}") && report.done_at.is_some();
            match event.r#type.as_str() {
                "report.delivered" if is_whole && report.r#final => Some(Row::Delivered(number)),
                "report.pending" if is_whole && !report.r#final => Some(Row::Pending(number)),
                _ => None,
            }
        }
        Payload::Received(received) => {
            let number = received.message_id.strip_prefix("in")?.parse().ok()?;
            (received.text == text(number)).then_some(Row::Received(number))
        }
        _ => None,
    }
}

/// `events` in the order of the log.
pub fn judge(pushed: &[Pushed], events: &[Event]) -> Verdict {
    let mut first: BTreeMap<Row, Pushed> = BTreeMap::new();
    for one in pushed {
        let known = first.entry(one.row).or_insert(*one);
        known.begun = known.begun.min(one.begun);
        known.answered = known.answered.min(one.answered);
        known.was_repeated |= one.was_repeated;
    }
    let mut verdict = Verdict {
        rows: first.len(),
        ..Verdict::default()
    };
    let mut ids: BTreeMap<Row, BTreeSet<&str>> = BTreeMap::new();
    let mut finals = BTreeSet::new();
    let mut late = BTreeSet::new();
    for event in events {
        let row = row(event).filter(|row| first.contains_key(row));
        let Some(row) = row else {
            let what = format!("{} {}", event.r#type, event.id);
            verdict.unexpected.push(what);
            continue;
        };
        let of_row = ids.entry(row).or_default();
        let is_first = of_row.is_empty();
        if !of_row.insert(&event.id) {
            verdict.repeated += 1;
        }
        match row {
            Row::Delivered(number) => drop(finals.insert(number)),
            Row::Pending(number) if is_first && finals.contains(&number) => {
                late.insert(number);
            }
            Row::Pending(_) | Row::Received(_) => {}
        }
    }
    verdict.pending_after_final.extend(late);
    for (row, one) in &first {
        match ids.get(row).map_or(0, BTreeSet::len) {
            0 => match row {
                Row::Pending(number)
                    if first
                        .get(&Row::Delivered(*number))
                        .is_some_and(|delivered| may_overtake(delivered, one)) =>
                {
                    verdict.overtaken += 1;
                }
                _ => verdict.lost.push(*row),
            },
            1 => verdict.recovered += usize::from(one.was_repeated),
            _ => verdict.doubled.push(*row),
        }
    }
    verdict
}

/// Whether the final report may be in the log before the pending one: it came before the latter was answered, and not behind it in its
/// body, which the bridge takes in its order. A body that is repeated may have been stored in part.
fn may_overtake(delivered: &Pushed, pending: &Pushed) -> bool {
    let is_behind = delivered.begun == pending.begun && delivered.place > pending.place;
    delivered.begun <= pending.answered && (pending.was_repeated || !is_behind)
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "rows {}: lost {}, duplicated {}, unexpected {}, recovered {}, repeated with one id {}, pending dropped behind a final {}, \
             pending after a final {}",
            self.rows,
            self.lost.len(),
            self.doubled.len(),
            self.unexpected.len(),
            self.recovered,
            self.repeated,
            self.overtaken,
            self.pending_after_final.len()
        )?;
        for lost in self.lost.iter().take(SHOWN) {
            writeln!(f, "lost: {lost:?}")?;
        }
        for doubled in self.doubled.iter().take(SHOWN) {
            writeln!(f, "duplicated: {doubled:?}")?;
        }
        for unexpected in self.unexpected.iter().take(SHOWN) {
            writeln!(f, "unexpected: {unexpected}")?;
        }
        Ok(())
    }
}
