//! Texts for the log: what may be a phone number or a text of a message is masked.

/// Masks runs of five or more digits, and replaces control characters.
#[must_use]
pub fn mask_digits(text: &str) -> String {
    let mut clean = String::new();
    let mut digits = String::new();
    let end = |clean: &mut String, digits: &mut String| {
        if digits.len() < 5 {
            clean.push_str(digits);
        } else {
            clean.push('…');
        }
        digits.clear();
    };
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        end(&mut clean, &mut digits);
        clean.push(if c.is_control() { ' ' } else { c });
    }
    end(&mut clean, &mut digits);
    clean
}

/// As [`mask_digits`], also without what is quoted, with quotation marks or backticks: an error may quote values of a body.
#[must_use]
pub fn mask_quoted(text: &str) -> String {
    // From the first to the last: a quoted value may have escaped quotes in it.
    let quotes = ['"', '`'];
    let masked = match (text.find(quotes), text.rfind(quotes)) {
        (Some(first), Some(last)) if first < last => {
            format!("{}…{}", &text[..first], &text[last + 1..])
        }
        _ => text.to_owned(),
    };
    mask_digits(&masked)
}

/// Line and column at the end of an error of a JSON parser: `line 1 column 25`.
#[must_use]
pub fn position(error: &str) -> Option<&str> {
    let (_, position) = error.rsplit_once(" at ")?;
    let (line, column) = position.strip_prefix("line ")?.split_once(" column ")?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(line) && is_number(column)).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_quoted_values_are_masked() {
        assert_eq!(mask_digits("HTTP 403 for 41793026727\n"), "HTTP 403 for … ");
        let quoted = "invalid type: string \"Your \\\"code\", expected u32 at line 1";
        assert_eq!(
            mask_quoted(quoted),
            "invalid type: string …, expected u32 at line 1"
        );
        assert_eq!(
            mask_quoted("message.text is empty"),
            "message.text is empty"
        );
        assert_eq!(mask_quoted("one \" only"), "one \" only");
        assert_eq!(mask_quoted("integer `4711`, or \"x`\""), "integer …");
    }

    #[test]
    fn a_position_is_at_the_end() {
        let at = "invalid type: integer `4711` at line 2 column 25";
        assert_eq!(position(at), Some("line 2 column 25"));
        for other in ["x at line 1 column 2: y", "x at line 1 column", "x"] {
            assert_eq!(position(other), None);
        }
    }
}
