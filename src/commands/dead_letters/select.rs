//! Which dead letters a call is about: checked ids and filter, and what its caller may see.
//!
//! Neighbours: `letter` reads the letters, `dead_letters` walks.

use std::collections::HashSet;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::{
    message::time,
    proto::v1::{self, DeadLetterCause, FieldViolation},
};

/// Ids in one request at most.
const MAX_IDS: usize = 1000;
/// Reasons, and applications, in one filter at most.
const MAX_NAMES: usize = 50;

/// What must hold of a letter.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// Empty: any.
    ids: HashSet<String>,
    reasons: Vec<String>,
    cause: Option<DeadLetterCause>,
    applications: Vec<String>,
    died_since: Option<Timestamp>,
    died_before: Option<Timestamp>,
    /// The only application that the caller may see.
    visible: Option<String>,
}

impl Selection {
    /// Reads ids and filter; all mistakes at once.
    pub(super) fn read(
        ids: Vec<String>,
        filter: Option<v1::DeadLetterFilter>,
        visible: Option<String>,
    ) -> Result<Self, Vec<FieldViolation>> {
        let mut mistakes = Mistakes::default();
        let filter = filter.unwrap_or_default();
        for (field, count, max) in [
            ("ids", ids.len(), MAX_IDS),
            ("filter.reasons", filter.reasons.len(), MAX_NAMES),
            ("filter.applications", filter.applications.len(), MAX_NAMES),
        ] {
            if count > max {
                mistakes.add(field, format!("has {count} elements and may have {max}"));
            }
        }
        let cause = match DeadLetterCause::try_from(filter.cause) {
            Ok(DeadLetterCause::Unspecified) => None,
            Ok(cause) => Some(cause),
            Err(_) => {
                mistakes.add("filter.cause", "is not a DeadLetterCause");
                None
            }
        };
        let mut time = |field: &str, at: Option<crate::proto::Timestamp>| {
            let read = time::from_proto(at.as_ref()?);
            if read.is_none() {
                mistakes.add(field, "is not a time");
            }
            read
        };
        let died_since = time("filter.died_since", filter.died_since);
        let died_before = time("filter.died_before", filter.died_before);
        let selection = Self {
            ids: ids.into_iter().collect(),
            reasons: filter.reasons,
            cause,
            applications: filter.applications,
            died_since,
            died_before,
            visible,
        };
        match mistakes.0.is_empty() {
            true => Ok(selection),
            false => Err(mistakes.0),
        }
    }

    /// Whether letters are named.
    pub(super) fn has_ids(&self) -> bool {
        !self.ids.is_empty()
    }

    /// Whether it selects all that the caller may see.
    pub(super) fn is_everything(&self) -> bool {
        self.ids.is_empty()
            && self.reasons.is_empty()
            && self.cause.is_none()
            && self.applications.is_empty()
            && self.died_since.is_none()
            && self.died_before.is_none()
    }

    pub(super) fn selects(&self, letter: &v1::DeadLetter) -> bool {
        let has =
            |names: &[String], name: &str| names.is_empty() || names.iter().any(|one| one == name);
        let died_at = letter.time.as_ref().and_then(time::from_proto);
        // One without a time is not known to have died within a time.
        let died = |holds: &dyn Fn(Timestamp) -> bool| died_at.is_some_and(holds);
        (self.ids.is_empty() || self.ids.contains(&letter.id))
            && has(&self.reasons, &letter.reason)
            && has(&self.applications, &letter.application)
            && self.cause.is_none_or(|cause| letter.cause() == cause)
            && self.died_since.is_none_or(|since| died(&|at| at >= since))
            && self
                .died_before
                .is_none_or(|before| died(&|at| at < before))
            && self
                .visible
                .as_ref()
                .is_none_or(|visible| *visible == letter.application)
    }

    /// The ids that were asked for and are not among these, sorted.
    pub(super) fn missing(&self, found: &HashSet<String>) -> Vec<String> {
        let mut missing: Vec<_> = self.ids.difference(found).cloned().collect();
        missing.sort_unstable();
        missing
    }

    /// Whether these are all ids that were asked for. Never if none were.
    pub(super) fn has_found_all(&self, found: &HashSet<String>) -> bool {
        !self.ids.is_empty() && self.ids.is_subset(found)
    }

    /// The same for two requests that select the same.
    pub(super) fn digest(&self) -> String {
        let mut ids: Vec<_> = self.ids.iter().collect();
        ids.sort_unstable();
        let Self {
            ids: _,
            reasons,
            cause,
            applications,
            died_since,
            died_before,
            visible,
        } = self;
        let told = format!(
            "{ids:?}{reasons:?}{cause:?}{applications:?}{died_since:?}{died_before:?}{visible:?}"
        );
        hex::encode(&Sha256::digest(told)[..8])
    }
}

/// The mistakes of a request.
#[derive(Default)]
pub(super) struct Mistakes(pub(super) Vec<FieldViolation>);

impl Mistakes {
    pub(super) fn add(&mut self, field: &str, description: impl Into<String>) {
        self.0.push(FieldViolation {
            field: field.to_owned(),
            description: description.into(),
        });
    }
}
