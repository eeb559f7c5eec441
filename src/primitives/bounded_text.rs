//! Texts of bounded length: a text from outside is cut before it is repeated in a header, an event or a response.

use std::borrow::Cow;

/// The longest text from outside that is repeated, in bytes.
pub const MAX_TEXT_BYTES: usize = 1024;

/// Cuts a text that is longer than `max_bytes` between characters and ends it with a note. The result is at most `max_bytes`
/// long, so cutting it again changes nothing.
#[must_use]
pub fn cut(text: &str, max_bytes: usize) -> Cow<'_, str> {
    if text.len() <= max_bytes {
        return Cow::Borrowed(text);
    }
    let note = format!("… (cut: {} bytes)", text.len());
    let end = text.floor_char_boundary(max_bytes.saturating_sub(note.len()));
    Cow::Owned(format!("{}{note}", &text[..end]))
}

/// The text, cut to `max_bytes`.
#[must_use]
pub fn bounded_to(max_bytes: usize, text: String) -> String {
    match cut(&text, max_bytes) {
        Cow::Owned(cut) => cut,
        Cow::Borrowed(_) => text,
    }
}

/// The text, cut to [`MAX_TEXT_BYTES`].
#[must_use]
pub fn bounded(text: String) -> String {
    bounded_to(MAX_TEXT_BYTES, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters_and_marked_as_cut() {
        assert_eq!(cut("short", 5), "short");
        let long = "ä".repeat(20);
        let shorter = cut(&long, 24);
        assert_eq!(shorter, "ää… (cut: 40 bytes)");
        assert_eq!(cut(&shorter, 24), shorter);
    }
}
