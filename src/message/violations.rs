//! The mistakes of a request as one text for people.
//!
//! Invariant: the text is bounded, because violations may quote what a caller sent, and a status or a header has to hold it.
//! Neighbours: `send` and `commands` describe invalid requests with it, `grpc::failure` its statuses.

use crate::{primitives::bounded_text::bounded_to, proto::v1::FieldViolation};

/// The longest summary, in bytes, without its "and N more".
const SUMMARY_BYTES: usize = 400;
/// The longest mistake in a summary of several, in bytes.
const MISTAKE_BYTES: usize = 160;

/// The first mistakes, as many as fit, and the number of the others. A description continues the sentence that its field begins.
#[must_use]
pub fn summary(violations: &[FieldViolation]) -> String {
    let sentence = |violation: &FieldViolation, max_bytes| {
        bounded_to(
            max_bytes,
            format!("{} {}", violation.field, violation.description),
        )
    };
    match violations {
        [] => "the request is invalid".to_owned(),
        [only] => sentence(only, SUMMARY_BYTES),
        all => {
            let mut text = format!("{} mistakes: ", all.len());
            for (index, violation) in all.iter().enumerate() {
                let sentence = sentence(violation, MISTAKE_BYTES);
                if text.len() + sentence.len() > SUMMARY_BYTES {
                    let more = all.len() - index;
                    return format!("{text}; and {more} more");
                }
                if index > 0 {
                    text.push_str("; ");
                }
                text.push_str(&sentence);
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation(field: &str, description: &str) -> FieldViolation {
        FieldViolation {
            field: field.into(),
            description: description.into(),
        }
    }

    #[test]
    fn one_mistake_is_a_sentence_and_several_are_counted() {
        let id = violation("request_id", "must be 1 to 128 characters");
        let text = violation("message.text", "is empty");
        assert_eq!(
            summary(std::slice::from_ref(&id)),
            "request_id must be 1 to 128 characters"
        );
        assert_eq!(
            summary(&[id, text]),
            "2 mistakes: request_id must be 1 to 128 characters; message.text is empty"
        );
    }

    #[test]
    fn a_summary_is_bounded_and_counts_the_mistakes_that_do_not_fit() {
        let long = "\u{e4}".repeat(10_000);
        let many = vec![violation(&long, &long); 1_000];
        for count in [1, 2, 1_000] {
            let text = summary(&many[..count]);
            assert!(text.len() < SUMMARY_BYTES + 30, "{} bytes", text.len());
        }
        assert!(summary(&many).starts_with("1000 mistakes: "));
        assert!(summary(&many).ends_with("; and 998 more"));
    }
}
