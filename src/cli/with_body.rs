//! How an item with a body is shown: a dead letter, or a quarantined body.

use super::output::printable;

/// Formats one line for each field, then the body: as text, or in hex if it is not UTF-8.
pub(super) fn show(fields: &[(&str, String)], body: &[u8]) -> String {
    let mut shown = String::new();
    for (name, value) in fields {
        shown.push_str(&format!("{name}: {}\n", printable(value.clone())));
    }
    shown.push('\n');
    match std::str::from_utf8(body) {
        Ok(text) => {
            for line in text.lines() {
                shown.push_str(&printable(line.to_owned()));
                shown.push('\n');
            }
        }
        Err(_) => shown.push_str(&hex::encode(body)),
    }
    shown.truncate(shown.trim_end().len());
    shown
}
