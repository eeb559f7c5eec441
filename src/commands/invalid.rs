//! Commands that can never be carried out: the reason, a detail for people, the invalid fields, and what tells one from another.

use lapin::message::Delivery;
use sha2::{Digest as _, Sha256};

use crate::{
    amqp::headers::property,
    message::{reason::Reason, violations},
    primitives::bounded_text::bounded,
    proto::v1::FieldViolation,
};

/// Maximum number of violations in the event of an invalid command. The detail has their total number.
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
        let shorten = |text: &mut String| *text = bounded(std::mem::take(text));
        shorten(&mut self.detail);
        self.violations.truncate(MAX_VIOLATIONS);
        for violation in &mut self.violations {
            shorten(&mut violation.field);
            shorten(&mut violation.description);
        }
        self
    }
}

/// What the id of the event derives from, beside application and request id: the same for each delivery of a command, and different for
/// publications that differ in `correlation_id`, `reply_to` or `timestamp`.
pub(super) fn command_key(delivery: &Delivery) -> String {
    let properties = &delivery.properties;
    let mut digest = Sha256::new();
    digest.update(&delivery.data);
    // With a request id, a repeated publication is the same command.
    if property(properties.message_id()).is_empty() {
        let timestamp = properties.timestamp().map(|at| at.to_string());
        let told = [
            property(properties.correlation_id()),
            property(properties.reply_to()),
            timestamp.as_deref().unwrap_or_default(),
        ];
        for text in told {
            digest.update(text.len().to_be_bytes());
            digest.update(text);
        }
    }
    hex::encode(digest.finalize())
}
