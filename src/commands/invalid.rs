//! Commands that can never be carried out: the reason, a detail for people, and the invalid fields.

use std::borrow::Cow;

use crate::{
    amqp::frame::{MAX_TEXT_BYTES, cut},
    message::{reason::Reason, violations},
    proto::v1::FieldViolation,
};

/// Violations in the event of an invalid command at most. The detail has their total number.
const MAX_VIOLATIONS: usize = 100;

/// Why a command is dead-lettered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Invalid {
    pub(super) reason: Reason,
    /// For people.
    pub(super) detail: String,
    pub(super) violations: Vec<FieldViolation>,
}

impl Invalid {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            violations: Vec::new(),
        }
    }

    /// A request with mistakes. The detail has the first ones.
    pub(super) fn request(reason: Reason, violations: Vec<FieldViolation>) -> Self {
        Self {
            reason,
            detail: violations::summary(&violations),
            violations,
        }
    }

    /// Bounds the number of violations and the length of every text, because texts may quote the publisher's data.
    pub(super) fn bounded(mut self) -> Self {
        let shorten = |text: &mut String| {
            if let Cow::Owned(cut) = cut(text, MAX_TEXT_BYTES) {
                *text = cut;
            }
        };
        shorten(&mut self.detail);
        self.violations.truncate(MAX_VIOLATIONS);
        for violation in &mut self.violations {
            shorten(&mut violation.field);
            shorten(&mut violation.description);
        }
        self
    }
}
