//! Limits of the size of a status. A status is sent in trailers, and clients close a call whose trailers exceed about 8 KB: the
//! caller would see a protocol error instead of the status.

use crate::{primitives::bounded_text::bounded_to, proto::v1::FieldViolation};

/// The longest message, in bytes. A status contains it twice: percent-encoded, and in the details.
const MESSAGE_BYTES: usize = 512;
/// The longest value in an ErrorInfo's metadata, in bytes.
const VALUE_BYTES: usize = 256;
/// The longest path and the longest description of a violation, in bytes: they may quote the caller's keys and values.
const VIOLATION_PART_BYTES: usize = 300;
/// All violations together, in bytes.
const VIOLATIONS_BYTES: usize = 2_500;
/// All ids together, in bytes.
const IDS_BYTES: usize = 1_500;

pub(super) fn message(text: String) -> String {
    bounded_to(MESSAGE_BYTES, text)
}

pub(super) fn value(text: String) -> String {
    bounded_to(VALUE_BYTES, text)
}

/// The first violations, as many as fit, at least one.
pub(super) fn violations(all: Vec<FieldViolation>) -> Vec<FieldViolation> {
    let mut bytes_left = VIOLATIONS_BYTES;
    all.into_iter()
        .map(|violation| FieldViolation {
            field: bounded_to(VIOLATION_PART_BYTES, violation.field),
            description: bounded_to(VIOLATION_PART_BYTES, violation.description),
        })
        .take_while(|violation| {
            let bytes = violation.field.len() + violation.description.len();
            let fits = bytes <= bytes_left;
            bytes_left = bytes_left.saturating_sub(bytes);
            fits
        })
        .collect()
}

/// The first ids, as many as fit, separated by commas.
pub(super) fn ids(all: &[String]) -> String {
    let mut named = String::new();
    for id in all {
        if named.len() + id.len() >= IDS_BYTES {
            break;
        }
        if !named.is_empty() {
            named.push(',');
        }
        named.push_str(id);
    }
    named
}
