//! Undoes the formatting of values that the parameter `output` of a URL template asks for: "values are formatted as xml", "as json".
//!
//! The manual does not say more, so a value that is not formatted is left as it is: an entity that XML does not have, a text that is no
//! JSON string. Invariant: no character that the format cannot produce is changed.

use quick_xml::escape::resolve_predefined_entity;
use serde_json::value::RawValue;

use crate::{config::InboundOutput, infobip::wire::scalar};

/// `&#x10FFFF;` is the longest reference of one character, unless it has leading zeros.
const MAX_REFERENCE_BYTES: usize = 16;

/// The formatting that a pushed parameter names. `None`: it names none.
pub(super) fn of(parameter: Option<&str>) -> Option<InboundOutput> {
    let name = parameter?.trim();
    if name.eq_ignore_ascii_case("xml") {
        Some(InboundOutput::Xml)
    } else if name.eq_ignore_ascii_case("json") {
        Some(InboundOutput::Json)
    } else {
        None
    }
}

/// The value before it was formatted.
pub(super) fn read(value: String, output: InboundOutput) -> String {
    match output {
        InboundOutput::Plain => value,
        InboundOutput::Xml => unescape_xml(&value),
        InboundOutput::Json => unescape_json(&value).unwrap_or(value),
    }
}

fn unescape_xml(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('&') {
        text.push_str(before);
        let end = after
            .bytes()
            .take(MAX_REFERENCE_BYTES)
            .position(|b| b == b';');
        let reference = end.map(|end| after.split_at(end));
        match reference.and_then(|(name, after)| Some((resolve(name)?, &after[1..]))) {
            Some((resolved, after)) => {
                text.push_str(&resolved);
                rest = after;
            }
            None => {
                text.push('&');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text
}

fn resolve(name: &str) -> Option<String> {
    let Some(number) = name.strip_prefix('#') else {
        return resolve_predefined_entity(name).map(str::to_owned);
    };
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
        None => number.parse(),
    };
    code.ok().and_then(char::from_u32).map(String::from)
}

/// A JSON string, or its content without the quotes. `None`: it is neither.
fn unescape_json(value: &str) -> Option<String> {
    let is_json = |text: &str| serde_json::from_str::<&RawValue>(text).is_ok();
    let raw = if value.starts_with('"') && is_json(value) {
        value.to_owned()
    } else {
        format!("\"{value}\"")
    };
    let text = is_json(&raw).then(|| scalar::unescape(&raw))?;
    text.map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_of_xml_are_resolved_once() {
        for (value, text) in [
            ("ABC", "ABC"),
            ("&lt;b&gt; &amp;amp; &quot;&apos;", "<b> &amp; \"'"),
            ("&#233;&#xe9;&#x1F600;", "éé😀"),
            // Not produced by the format: left as it is.
            (
                "Tom & Jerry &nbsp; &#xd800; &#; &",
                "Tom & Jerry &nbsp; &#xd800; &#; &",
            ),
            ("&&lt;&amp", "&<&amp"),
            ("&é;", "&é;"),
        ] {
            assert_eq!(read(value.to_owned(), InboundOutput::Xml), text, "{value}");
        }
    }

    #[test]
    fn escapes_of_json_are_resolved_with_and_without_quotes() {
        for (value, text) in [
            ("ABC", "ABC"),
            (r#"say \"hi\"\n\u00e9"#, "say \"hi\"\né"),
            (r#""say \"hi\"""#, "say \"hi\""),
            (r#"\"quoted\""#, "\"quoted\""),
            // Not produced by the format: left as it is.
            (r#"a\n"b"#, r#"a\n"b"#),
            (r#""a" and "b""#, r#""a" and "b""#),
            (r"C:\x", r"C:\x"),
            ("two\nlines", "two\nlines"),
            ("\"", "\""),
        ] {
            assert_eq!(read(value.to_owned(), InboundOutput::Json), text, "{value}");
        }
    }
}
