//! Ids as one field of a log line.

use std::fmt;

/// Items that are shown; the others are counted.
const MAX_ITEMS: usize = 20;

/// Shows the first items of an iterator, joined by commas. Nothing is formatted unless it is displayed.
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
            item.fmt(f)?;
        }
        match items.count() {
            0 => Ok(()),
            others => write!(f, ",… {others} more"),
        }
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
}
