//! Ids as one field of a log line.

use std::fmt::{self, Write as _};

/// Items that are shown; the others are counted.
const MAX_ITEMS: usize = 20;

/// Shows the first items of an iterator, joined by commas. Control characters are escaped, because an invalid id could forge a line.
/// Nothing is formatted unless it is displayed.
#[derive(Debug, Clone)]
pub struct Joined<I>(pub I);

impl<I> fmt::Display for Joined<I>
where
    I: Iterator<Item: fmt::Display> + Clone,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut items = self.0.clone();
        for (index, item) in items.by_ref().take(MAX_ITEMS).enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(Escaped(f), "{item}")?;
        }
        match items.count() {
            0 => Ok(()),
            others => write!(f, ",… {others} more"),
        }
    }
}

/// Escapes control characters.
struct Escaped<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(char::is_control) {
            let mut shown = part.chars();
            match shown.next_back() {
                Some(last) if last.is_control() => {
                    write!(self.0, "{}{}", shown.as_str(), last.escape_default())?;
                }
                _ => self.0.write_str(part)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_items_are_shown_and_the_others_counted() {
        assert_eq!(Joined(["a", "b"].iter()).to_string(), "a,b");
        assert_eq!(Joined(0..0).to_string(), "");
        let long = Joined(0..22).to_string();
        assert!(long.ends_with(",18,19,… 2 more"), "{long}");
    }

    #[test]
    fn control_characters_are_escaped() {
        let ids = ["a\n2026 ERROR", "b\r\u{1b}[2J", "ä\u{85}", "\n"];
        assert_eq!(
            Joined(ids.iter()).to_string(),
            r"a\n2026 ERROR,b\r\u{1b}[2J,ä\u{85},\n"
        );
    }
}
