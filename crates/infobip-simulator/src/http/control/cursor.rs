//! Cursors of paged answers: positions in a list that goes on changing.
//!
//! Invariant: a cursor of another generation of the state, or of what was evicted, is refused, and never shows other rows.

use crate::{envelope::ApiError, http::Query};

/// Rows of a page, unless the request gives a limit.
const DEFAULT_ROWS: usize = 50;
pub(super) const MAX_ROWS: usize = 200;

/// A position: what kind it is, and two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) kind: char,
    pub(super) first: u64,
    pub(super) second: u64,
}

impl Cursor {
    pub(super) fn encode(self, generation: u64) -> String {
        let Self {
            kind,
            first,
            second,
        } = self;
        format!("{kind}{generation}-{first}-{second}")
    }

    /// The cursor of a query; `None`: it begins at the start.
    pub(super) fn from_query(query: &Query, generation: u64) -> Result<Option<Self>, ApiError> {
        let Some(text) = query.get("cursor") else {
            return Ok(None);
        };
        let parse = || {
            let mut characters = text.chars();
            let kind = characters.next()?;
            let mut numbers = characters.as_str().split('-');
            let mut number = || numbers.next()?.parse::<u64>().ok();
            let (of_generation, first, second) = (number()?, number()?, number()?);
            let cursor = Self {
                kind,
                first,
                second,
            };
            (of_generation == generation && numbers.next().is_none()).then_some(cursor)
        };
        parse().map(Some).ok_or_else(stale)
    }
}

pub(super) fn stale() -> ApiError {
    ApiError::invalid("cursor", "is not valid any more: begin without it")
}

/// `limit`: the rows of a page.
pub(super) fn page_limit(query: &Query) -> Result<usize, ApiError> {
    match query.number("limit")? {
        None => Ok(DEFAULT_ROWS),
        Some(limit) => usize::try_from(limit)
            .ok()
            .filter(|limit| (1..=MAX_ROWS).contains(limit))
            .ok_or_else(|| ApiError::invalid("limit", format!("must be from 1 to {MAX_ROWS}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_in_its_generation_only() {
        let cursor = Cursor {
            kind: 'p',
            first: u64::MAX,
            second: 7,
        };
        let text = cursor.encode(3);
        let read =
            |generation| Cursor::from_query(&Query::parse(&format!("cursor={text}")), generation);
        assert_eq!(read(3).unwrap(), Some(cursor));
        assert!(read(4).is_err());
        for broken in ["p", "p3", "p3-1", "p3-1-2-3", "p3-a-b", "é3-1-2-", "-"] {
            let query = Query::parse(&format!("cursor={broken}"));
            assert!(Cursor::from_query(&query, 3).is_err(), "{broken}");
        }
        assert_eq!(Cursor::from_query(&Query::default(), 3).unwrap(), None);
    }
}
