//! What the API's logs answered about sends in doubt.
//!
//! Invariant: of several rows with one id, an acceptance counts, whatever the others say: a message that was accepted may be rejected when
//! it is sent again. The row of a refused duplicate is no outcome; it tells that the API has seen the id.
//! Neighbours: the resolver in [`super`] asks; `outcome` classifies rows.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    infobip::wire::LogRow,
    proto::v1,
    send::outcome::{self, Verdict},
};

#[derive(Default)]
pub(super) struct LogAnswers {
    accepted: HashMap<String, v1::SmsLog>,
    rejected: HashMap<String, v1::SmsLog>,
    duplicates: HashSet<String>,
    /// When the look-up that was answered began, by wire id.
    answered: HashMap<String, Instant>,
    /// The ids of look-ups that failed.
    failed: HashSet<String>,
    were_sought: bool,
    outage: Duration,
}

/// What the logs have of one id.
pub(super) enum LogAnswer<'a> {
    Accepted(&'a v1::SmsLog),
    Rejected(&'a v1::SmsLog),
    /// Only refused duplicates.
    Duplicate,
    NotFound,
    Unanswered,
}

impl LogAnswers {
    /// A look-up of these ids that began `at` was answered with these rows.
    pub(super) fn add(&mut self, ids: Vec<String>, at: Instant, rows: Vec<LogRow>) {
        self.answered.extend(ids.into_iter().map(|id| (id, at)));
        for LogRow { wire_id, log } in rows {
            let status = log.status.clone().unwrap_or_default();
            match outcome::of_log(&status) {
                Verdict::Accepted => drop(self.accepted.insert(wire_id, log)),
                Verdict::Rejected => drop(self.rejected.insert(wire_id, log)),
                Verdict::InDoubt => drop(self.duplicates.insert(wire_id)),
            }
        }
    }

    /// When the id was asked for, if that was answered.
    pub(super) fn asked_at(&self, wire_id: &str) -> Option<Instant> {
        self.answered.get(wire_id).copied()
    }

    /// Whether a look-up was answered.
    pub(super) fn has_some(&self) -> bool {
        !self.answered.is_empty()
    }

    /// The look-up of these ids failed.
    pub(super) fn fail(&mut self, ids: Vec<String>) {
        self.failed.extend(ids);
    }

    /// Whether a look-up of the id was answered or failed. Otherwise the round ended before it.
    pub(super) fn was_asked(&self, wire_id: &str) -> bool {
        self.answered.contains_key(wire_id) || self.failed.contains(wire_id)
    }

    /// The ids were sought among the latest rows.
    pub(super) fn note_sought(&mut self) {
        self.were_sought = true;
    }

    pub(super) fn were_sought(&self) -> bool {
        self.were_sought
    }

    /// The clock of doubts ran for this time while a request failed.
    pub(super) fn note_outage(&mut self, took: Duration) {
        self.outage += took;
    }

    pub(super) fn outage(&self) -> Duration {
        self.outage
    }

    pub(super) fn of(&self, wire_id: &str) -> LogAnswer<'_> {
        if let Some(log) = self.accepted.get(wire_id) {
            LogAnswer::Accepted(log)
        } else if let Some(log) = self.rejected.get(wire_id) {
            LogAnswer::Rejected(log)
        } else if self.duplicates.contains(wire_id) {
            LogAnswer::Duplicate
        } else if self.answered.contains_key(wire_id) {
            LogAnswer::NotFound
        } else {
            LogAnswer::Unanswered
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::StatusGroup;

    fn row(id: i32, group: StatusGroup) -> LogRow {
        LogRow {
            wire_id: "default.m".into(),
            log: v1::SmsLog {
                status: Some(v1::Status {
                    id,
                    group: group.into(),
                    ..Default::default()
                }),
                ..Default::default()
            },
        }
    }

    fn answer(rows: Vec<LogRow>) -> LogAnswers {
        let mut answers = LogAnswers::default();
        answers.add(vec!["default.m".into()], Instant::now(), rows);
        answers
    }

    #[test]
    fn an_accepted_row_counts_whatever_the_others_say() {
        let delivered = || row(5, StatusGroup::Delivered);
        let rejected = || row(6, StatusGroup::Rejected);
        let duplicate = || row(23, StatusGroup::Rejected);
        for rows in [
            vec![delivered(), rejected(), duplicate()],
            vec![rejected(), duplicate(), delivered()],
        ] {
            let answers = answer(rows);
            assert!(matches!(answers.of("default.m"), LogAnswer::Accepted(log)
                if log.status.as_ref().unwrap().id == 5));
        }
        let answers = answer(vec![rejected(), duplicate()]);
        assert!(matches!(answers.of("default.m"), LogAnswer::Rejected(log)
            if log.status.as_ref().unwrap().id == 6));
        let answers = answer(vec![duplicate()]);
        assert!(matches!(answers.of("default.m"), LogAnswer::Duplicate));
        assert!(matches!(answers.of("default.other"), LogAnswer::Unanswered));
        let answers = answer(Vec::new());
        assert!(matches!(answers.of("default.m"), LogAnswer::NotFound));
    }
}
