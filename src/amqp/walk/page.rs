//! The pages of a list of a queue: reads a page from a walk, and says where the next one begins.
//!
//! Invariants: the place of a page needs no memory, and works on every replica: it has the id of the last message before the page. A page
//! is bounded in messages, bytes and time. Neighbours: `desk` has the walk, parked or new; who lists makes tokens of places.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use lapin::message::Delivery;
use tokio::time::Instant;

use super::{Walk, WalkError};

/// The longest time for a page. One that found less in it has a next page.
const PAGE_TIME: Duration = Duration::from_secs(5);
/// A page with more than this in its texts ends early.
const MAX_PAGE_BYTES: usize = 1024 * 1024;

/// What a message is for a list.
pub struct Seen<T> {
    pub id: String,
    /// What the list has of it, and its size. `None`: the list does not want it.
    pub shown: Option<(T, usize)>,
}

pub struct PageRequest {
    /// As the caller gave it. Empty: the first page.
    pub token: String,
    /// What the token says.
    pub place: Option<Place>,
    /// Messages at most.
    pub limit: usize,
}

pub struct Page<T> {
    pub shown: Vec<T>,
    /// Empty: there is no next page.
    pub next_token: String,
}

/// Where a page of a list begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The number of messages up to the last one before it.
    pub walked: u64,
    /// The id of the last message before it.
    pub last: String,
}

/// A text that is not the token of a page.
#[derive(Debug)]
pub struct NoPageToken;

impl Place {
    /// Reads a token: what the list selects, and where its next page begins. `None` for the first page.
    ///
    /// # Errors
    /// If it is no token.
    pub fn read(token: &str) -> Result<Option<(String, Self)>, NoPageToken> {
        if token.is_empty() {
            return Ok(None);
        }
        let read = || {
            let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
            let mut parts = text.splitn(3, '|');
            let selection = parts.next()?.to_owned();
            let place = Self {
                walked: parts.next()?.parse().ok()?,
                last: parts.next()?.to_owned(),
            };
            Some((selection, place))
        };
        read().map(Some).ok_or(NoPageToken)
    }

    /// The token of the page of a list that selects this.
    #[must_use]
    pub fn write(&self, selection: &str) -> String {
        let Self { walked, last } = self;
        URL_SAFE_NO_PAD.encode(format!("{selection}|{walked}|{last}"))
    }
}

impl PageRequest {
    pub(super) async fn read<T>(
        &self,
        walk: &mut Walk,
        is_new: bool,
        until: Instant,
        token: impl Fn(&Place) -> String,
        mut see: impl FnMut(&Delivery) -> Seen<T>,
    ) -> Result<Page<T>, WalkError> {
        if let Some(place) = self.place.as_ref().filter(|_| is_new) {
            skip_to(place, walk, until, &mut see).await?;
        }
        let until = until.min(Instant::now() + PAGE_TIME);
        let mut walked = self.place.as_ref().map_or(0, |place| place.walked);
        let mut page = Page {
            shown: Vec::new(),
            next_token: String::new(),
        };
        let mut bytes = 0;
        let mut last = String::new();
        while page.shown.len() < self.limit && bytes < MAX_PAGE_BYTES && Instant::now() < until {
            let Some(delivery) = walk.next().await? else {
                break;
            };
            let seen = see(&delivery);
            walked += 1;
            last = seen.id;
            if let Some((shown, size)) = seen.shown {
                bytes += size;
                page.shown.push(shown);
            }
        }
        if !walk.is_at_end() {
            if last.is_empty() {
                walk.check_end()?;
                return Err(WalkError::TimeUp);
            }
            page.next_token = token(&Place { walked, last });
        }
        Ok(page)
    }
}

/// Walks from the beginning of the queue to the message after the last one of the page before.
async fn skip_to<T>(
    place: &Place,
    walk: &mut Walk,
    until: Instant,
    see: &mut impl FnMut(&Delivery) -> Seen<T>,
) -> Result<(), WalkError> {
    // More messages before it than there were: the order has changed, and some would be left out.
    for _ in 0..place.walked {
        let Some(delivery) = walk.next().await? else {
            break;
        };
        if see(&delivery).id == place.last {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(WalkError::TimeUp);
        }
    }
    walk.check_end()?;
    Err(WalkError::PlaceGone)
}
