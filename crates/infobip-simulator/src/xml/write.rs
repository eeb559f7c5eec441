//! Writes a JSON value as an XML document.

use serde_json::Value;

use super::{is_forbidden, item_name};

/// Writes a JSON value as a document with the given root.
///
/// An array becomes an element with the name of its field that contains one element for each item: `message` in
/// `messages`, `result` in `results`, `destination` in `destinations`, and the name of the field in any other (`to`, `days`,
/// `previews`). `null` is omitted. Characters that XML 1.0 forbids are omitted, because XML cannot represent them.
pub fn from_json(root: &str, value: &Value) -> String {
    let mut out = String::with_capacity(1024);
    out.push_str(r#"<?xml version="1.0" encoding="UTF-8"?>"#);
    write_element(&mut out, root, value);
    out
}

fn write_element(out: &mut String, name: &str, value: &Value) {
    if value.is_null() {
        return;
    }
    out.push('<');
    push_name(out, name);
    let content = out.len();
    out.push('>');
    let empty = out.len();
    match value {
        Value::Null => {}
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => push_text(out, text),
        Value::Array(items) => {
            let item = item_name(name).unwrap_or(name);
            for value in items {
                write_element(out, item, value);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                write_element(out, name, value);
            }
        }
    }
    if out.len() == empty {
        out.truncate(content);
        out.push_str("/>");
    } else {
        out.push_str("</");
        push_name(out, name);
        out.push('>');
    }
}

/// Writes the name of an element. Invalid characters, which only keys of a `callbackData` object can have, are replaced.
fn push_name(out: &mut String, name: &str) {
    let starts_well = |c: char| c.is_ascii_alphabetic() || c == '_';
    let continues_well = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !name.starts_with(starts_well) {
        out.push('_');
    }
    out.extend(
        name.chars()
            .map(|c| if continues_well(c) { c } else { '_' }),
    );
}

fn push_text(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // XML readers convert a bare carriage return into a line feed.
            '\r' => out.push_str("&#13;"),
            character if is_forbidden(character) => {}
            character => out.push(character),
        }
    }
}
