//! What a replay or a discard has done when it ends, however it ends.
//!
//! Invariant: what was done is reported even if the call ends early; an early end without anything done may be an error.
//! Neighbours: `dead_letters` makes responses of it, `replay` counts.

use std::collections::HashSet;

use super::{DeadLettersError, select::Selection};
use crate::proto::v1;

/// The refused letters that a response names.
const MAX_REFUSALS: usize = 100;

#[derive(Default)]
pub(super) struct Progress {
    pub(super) count: usize,
    pub(super) found: HashSet<String>,
    pub(super) refused: Vec<v1::ReplayRefusal>,
    pub(super) refused_count: usize,
}

/// The fields that the responses of a replay and of a discard have in common.
pub(super) struct Summary {
    pub(super) count: i32,
    pub(super) not_found: Vec<String>,
    pub(super) incomplete: bool,
    pub(super) incomplete_detail: String,
}

impl Progress {
    /// Of a selection by ids only: it is bounded by their number.
    pub(super) fn note_found(&mut self, selection: &Selection, id: String) {
        if selection.has_ids() {
            self.found.insert(id);
        }
    }

    pub(super) fn refuse(&mut self, id: &str, detail: &str) {
        self.refused_count += 1;
        if self.refused.len() < MAX_REFUSALS {
            self.refused.push(v1::ReplayRefusal {
                id: id.to_owned(),
                detail: detail.to_owned(),
            });
        }
    }

    /// # Errors
    /// What ended the call, if nothing was done.
    pub(super) fn summary(
        &self,
        ended: Result<(), DeadLettersError>,
        selection: &Selection,
    ) -> Result<Summary, DeadLettersError> {
        let (incomplete, incomplete_detail) = self.incomplete(ended)?;
        Ok(Summary {
            count: to_i32(self.count),
            not_found: match incomplete {
                true => Vec::new(),
                false => selection.missing(&self.found),
            },
            incomplete,
            incomplete_detail,
        })
    }

    /// Whether the call has ended early, and why; an error if nothing was done.
    fn incomplete(
        &self,
        ended: Result<(), DeadLettersError>,
    ) -> Result<(bool, String), DeadLettersError> {
        match ended {
            Ok(()) => Ok((false, String::new())),
            Err(DeadLettersError::TimeUp) => Ok((true, "the time for the call was up".to_owned())),
            Err(error @ DeadLettersError::CutShort) => Ok((true, error.to_string())),
            Err(error) if self.count == 0 => Err(error),
            Err(error) => Ok((true, error.to_string())),
        }
    }
}

pub(super) fn to_i32(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
