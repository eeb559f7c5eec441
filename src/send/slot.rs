//! Slots: the destinations of a call, and the results of those that get no answer from the API.
//!
//! Invariants: pure; all results of a call together have a bounded number of violations.
//! Neighbours: `plan` makes slots, `call` settles them, `core` refuses commands with them.

use smallvec::SmallVec;

use super::{SendError, Sent};
use crate::{
    events::ContentDigest,
    primitives::bounded_text::{MAX_TEXT_BYTES, cut},
    proto::v1::{self, FieldViolation},
};

/// Maximum number of violations in all results of a call together. Each result of an invalid message has the violations of the
/// whole message: without a bound, 10,000 destinations with one violation each would make 100 million.
const MAX_VIOLATIONS: usize = 4_096;

/// One destination of a call.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// Digits only.
    pub(super) to: String,
    /// Without the application.
    pub(super) message_id: String,
    /// The id that Infobip sees.
    pub(super) wire_id: String,
    /// Index of the message in the request.
    pub(super) message_index: i32,
    /// Digest of the content, if the caller chose the id and so can repeat it.
    pub(super) digest: Option<ContentDigest>,
}

/// The destinations of a call, in the order of the request. Usually one.
pub(super) type Slots = SmallVec<[Slot; 1]>;

impl Slot {
    /// The slot of a message without destinations. It is only ever rejected.
    pub(super) fn without_destination(message: usize) -> Self {
        Self {
            to: String::new(),
            message_id: String::new(),
            wire_id: String::new(),
            message_index: i32::try_from(message).unwrap_or(i32::MAX),
            digest: None,
        }
    }

    /// A result without status. The bulk id is cut, because it may be invalid.
    pub(super) fn result(&self, outcome: v1::Outcome, bulk_id: &str) -> v1::SendResult {
        v1::SendResult {
            to: self.to.clone(),
            message_id: self.message_id.clone(),
            outcome: outcome.into(),
            message_index: self.message_index,
            bulk_id: cut(bulk_id, MAX_TEXT_BYTES).into_owned(),
            ..v1::SendResult::default()
        }
    }

    /// The result of a slot that ended with an error. `results` is the number of results of its call.
    pub(super) fn failed(
        &self,
        error: &SendError,
        retryable: bool,
        bulk_id: &str,
        results: usize,
    ) -> v1::SendResult {
        let outcome = match error {
            // The API may have the message.
            error if error.may_be_sent() => v1::Outcome::Unknown,
            _ => v1::Outcome::Rejected,
        };
        let refusal = v1::Refusal {
            reason: error.reason().into(),
            detail: error.to_string(),
            retryable,
            violations: first_violations(error.violations().iter(), results),
        };
        v1::SendResult {
            refusal: Some(Box::new(refusal)),
            ..self.result(outcome, bulk_id)
        }
    }
}

/// The violations for one of `results` results of a call: all of them, or the first ones if all results together would have
/// more than [`MAX_VIOLATIONS`].
pub(super) fn first_violations<'a>(
    all: impl Iterator<Item = &'a FieldViolation>,
    results: usize,
) -> Vec<FieldViolation> {
    let max = (MAX_VIOLATIONS / results.max(1)).max(1);
    all.take(max).cloned().collect()
}

/// The results of slots that ended with errors.
pub(super) fn failed_results<'a>(
    slots: &[Slot],
    bulk_id: &str,
    errors: impl Iterator<Item = &'a SendError>,
) -> Sent {
    let results = slots.iter().zip(errors);
    Sent {
        tracking_process_key: String::new(),
        results: results
            .map(|(slot, error)| slot.failed(error, error.is_retryable(), bulk_id, slots.len()))
            .collect(),
    }
}
