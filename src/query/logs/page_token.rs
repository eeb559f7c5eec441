//! The page token of the logs: the time of the oldest row of the page, and which rows with that time were returned already. The next
//! page queries up to this time and leaves these rows out.
//!
//! If one millisecond has more rows than one response of the API, the other rows cannot be reached; the next page then begins before
//! the millisecond.
//!
//! Invariant: a token has nothing of a row that its caller may not see, except that there was one at this time: such rows are counted.
//! Neighbour: `logs` reads the pages.

use std::collections::HashSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::infobip::limits;

/// The first byte of a token. The tokens of earlier versions are texts and begin with a digit.
const FORMAT: u8 = 2;
/// A part of the digest of a wire id. Ids may be long and have any character.
type IdDigest = [u8; 8];

/// Where the next page begins.
pub(super) struct PageToken {
    /// The time of the oldest row so far, in whole milliseconds.
    pub(super) until: Timestamp,
    /// The rows with that time that the caller may see, by the digests of their wire ids.
    visible: HashSet<IdDigest>,
    /// The number of the other rows with that time.
    others: u32,
}

impl PageToken {
    /// Reads a token. `None` if it is empty: the first page.
    pub(super) fn parse(token: &str) -> Result<Option<Self>, ()> {
        if token.is_empty() {
            return Ok(None);
        }
        Self::read(token).map(Some).ok_or(())
    }

    fn read(token: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (format, rest) = bytes.split_first()?;
        let (until, rest) = rest.split_first_chunk()?;
        let (others, rest) = rest.split_first_chunk()?;
        let (digests, []) = rest.as_chunks() else {
            return None;
        };
        let until = Timestamp::from_millisecond(i64::from_be_bytes(*until)).ok()?;
        (*format == FORMAT).then(|| Self {
            until,
            visible: digests.iter().copied().collect(),
            others: u32::from_be_bytes(*others),
        })
    }

    fn write(&self) -> String {
        let mut digests: Vec<_> = self.visible.iter().copied().collect();
        digests.sort_unstable();
        let mut bytes = vec![FORMAT];
        bytes.extend(self.until.as_millisecond().to_be_bytes());
        bytes.extend(self.others.to_be_bytes());
        bytes.extend(digests.as_flattened());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The number of rows that the next page leaves out.
    pub(super) fn rows(&self) -> usize {
        self.visible.len() + self.others as usize
    }

    fn at(until: Timestamp) -> Self {
        Self {
            until,
            visible: HashSet::new(),
            others: 0,
        }
    }

    fn add(&mut self, visible: Option<IdDigest>) {
        match visible {
            Some(id) => {
                self.visible.insert(id);
            }
            None => self.others = self.others.saturating_add(1),
        }
    }
}

fn digest(wire_id: &str) -> IdDigest {
    let digest = Sha256::digest(wire_id);
    std::array::from_fn(|byte| digest[byte])
}

/// Finds the token of the next page: the oldest millisecond of the current page, and the rows in that millisecond.
pub(super) struct NextPage<'a> {
    previous: Option<&'a PageToken>,
    /// The rows of the previous pages that the caller may not see, and that are still to come again.
    others_left: u32,
    oldest: Option<PageToken>,
    new_rows: usize,
}

impl<'a> NextPage<'a> {
    pub(super) fn new(previous: Option<&'a PageToken>) -> Self {
        Self {
            previous,
            others_left: previous.map_or(0, |previous| previous.others),
            oldest: None,
            new_rows: 0,
        }
    }

    /// Notes a row; `visible_id` is its wire id if the caller may see it. Returns whether it is new, that is not in an earlier page.
    pub(super) fn note_row(
        &mut self,
        visible_id: Option<&str>,
        sent_at: Option<Timestamp>,
    ) -> bool {
        let visible = visible_id.map(digest);
        let millisecond =
            sent_at.map(|at| Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at));
        let is_new = !self.is_repeated(visible, millisecond);
        self.new_rows += usize::from(is_new);
        if let Some(millisecond) = millisecond {
            match &mut self.oldest {
                Some(oldest) if oldest.until < millisecond => {}
                Some(oldest) if oldest.until == millisecond => oldest.add(visible),
                oldest => oldest.insert(PageToken::at(millisecond)).add(visible),
            }
        }
        is_new
    }

    fn is_repeated(&mut self, visible: Option<IdDigest>, millisecond: Option<Timestamp>) -> bool {
        let Some(previous) = self.previous else {
            return false;
        };
        match visible {
            Some(id) => previous.visible.contains(&id),
            // Such rows are told apart by nothing but their number.
            None => {
                let is_repeated = millisecond == Some(previous.until) && self.others_left > 0;
                self.others_left -= u32::from(is_repeated);
                is_repeated
            }
        }
    }

    /// Empty if no row of the page has a time.
    pub(super) fn token(self) -> String {
        let Some(mut oldest) = self.oldest else {
            return String::new();
        };
        if self.new_rows == 0 || oldest.rows() >= limits::MAX_ROWS as usize {
            // The millisecond has at least as many rows as one response: the next page begins before it.
            let before = oldest
                .until
                .checked_sub(SignedDuration::from_millis(1))
                .unwrap_or(oldest.until);
            oldest = PageToken::at(before);
        } else if let Some(previous) = self
            .previous
            .filter(|previous| previous.until == oldest.until)
        {
            oldest.visible.extend(&previous.visible);
            oldest.others = oldest.others.max(previous.others);
        }
        oldest.write()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_earlier_versions_and_damaged_ones_are_refused() {
        let mut token = PageToken::at(Timestamp::UNIX_EPOCH);
        token.add(Some(digest("shop.a,b")));
        token.add(None);
        let written = token.write();
        let read = PageToken::parse(&written).unwrap().unwrap();
        assert_eq!((read.rows(), read.others), (2, 1));
        assert!(read.visible.contains(&digest("shop.a,b")));
        let earlier = URL_SAFE_NO_PAD.encode("1573315200000|shop.a");
        for wrong in [&written[1..], &written[..written.len() - 1], "?", &earlier] {
            assert!(PageToken::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rows_that_the_caller_may_not_see_are_left_out_by_their_number() {
        let at = Some(Timestamp::UNIX_EPOCH);
        let mut first = NextPage::new(None);
        assert!(first.note_row(Some("shop.1"), at));
        assert!(first.note_row(None, at));
        let token = PageToken::parse(&first.token()).unwrap().unwrap();
        let mut second = NextPage::new(Some(&token));
        assert!(!second.note_row(None, at), "the one of the first page");
        assert!(!second.note_row(Some("shop.1"), at));
        assert!(second.note_row(None, at), "another one");
        assert_eq!(second.new_rows, 1);
        let token = PageToken::parse(&second.token()).unwrap().unwrap();
        assert_eq!(token.rows(), 3);
    }
}
