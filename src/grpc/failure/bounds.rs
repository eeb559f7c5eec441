//! How long a status may be. It travels in trailers, and clients close a call whose trailers are longer than some 8 KB: its
//! caller would hear of a broken protocol instead of their mistake.

use crate::proto::v1::FieldViolation;

/// The longest message, in bytes. Written twice: percent-encoded, and in the details.
const MESSAGE_BYTES: usize = 512;
/// The longest value in an ErrorInfo's metadata, in bytes.
const VALUE_BYTES: usize = 256;
/// The longest part of a violation, in bytes: callers' keys may be in its path, callers' values in its description.
const VIOLATION_PART_BYTES: usize = 300;
/// All violations together, in bytes.
const VIOLATIONS_BYTES: usize = 2_500;
/// All ids that are named together, in bytes.
const IDS_BYTES: usize = 1_500;

/// A status's message.
pub(super) fn message(text: String) -> String {
    cut(text, MESSAGE_BYTES)
}

/// A value of an ErrorInfo's metadata.
pub(super) fn value(text: String) -> String {
    cut(text, VALUE_BYTES)
}

/// As many of the violations as a status can carry, at least one.
pub(super) fn violations(all: Vec<FieldViolation>) -> Vec<FieldViolation> {
    let mut room = VIOLATIONS_BYTES;
    all.into_iter()
        .map(|violation| FieldViolation {
            field: cut(violation.field, VIOLATION_PART_BYTES),
            description: cut(violation.description, VIOLATION_PART_BYTES),
        })
        .take_while(|violation| {
            let bytes = violation.field.len() + violation.description.len();
            let fits = bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        })
        .collect()
}

/// As many of the ids as a status can carry, with commas between them.
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

fn cut(mut text: String, most_bytes: usize) -> String {
    const MARK: &str = "…";
    if text.len() > most_bytes {
        let mut end = most_bytes - MARK.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(MARK);
    }
    text
}
