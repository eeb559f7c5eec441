//! The pages of a list of dead letters: what a request asks for, reading a page from a walk, the token of the next one.
//!
//! Invariants: a page token needs no memory, and works on every replica: it has the id of the last letter before the next page. A page
//! is bounded in letters, bytes and time. Neighbours: `dead_letters` has the walk, parked or new; `select` chooses the letters.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::Message as _;
use tokio::time::Instant;

use super::{
    DeadLettersError,
    letter::{self, letter},
    select::{Mistakes, Selection},
    walk::Walk,
};
use crate::proto::v1::{self, FieldViolation};

/// The longest time for a page. One that found less in it has a next page.
const PAGE_TIME: Duration = Duration::from_secs(5);
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 1000;
/// A page with more than this in its texts ends early.
const MAX_PAGE_BYTES: usize = 1024 * 1024;

/// A checked request for a page.
pub(super) struct PageRequest {
    selection: Selection,
    /// `None` for the first page.
    token: Option<PageToken>,
    limit: usize,
}

impl PageRequest {
    /// All mistakes at once.
    pub(super) fn read(
        request: v1::ListDeadLettersRequest,
        visible: Option<String>,
    ) -> Result<Self, Vec<FieldViolation>> {
        let mut mistakes = Mistakes::default();
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
        if limit > MAX_LIMIT {
            mistakes.add("limit", format!("must be between 1 and {MAX_LIMIT}"));
        }
        let selection = Selection::read(Vec::new(), request.filter, visible)
            .map_err(|found| mistakes.0.extend(found))
            .unwrap_or_default();
        let token = PageToken::read(&request.page_token);
        match &token {
            Ok(Some(token)) if mistakes.0.is_empty() && token.selection != selection.digest() => {
                mistakes.add("page_token", "is the token of a list with another filter");
            }
            Ok(_) => {}
            Err(NoPageToken) => mistakes.add("page_token", "is not a page token of this method"),
        }
        match token {
            Ok(token) if mistakes.0.is_empty() => Ok(Self {
                selection,
                token,
                limit: if limit == 0 { DEFAULT_LIMIT } else { limit },
            }),
            _ => Err(mistakes.0),
        }
    }

    /// Reads the page from a walk that is at its first letter.
    pub(super) async fn read_page(
        &self,
        walk: &mut Walk,
        until: Instant,
    ) -> Result<v1::ListDeadLettersResponse, DeadLettersError> {
        let until = until.min(Instant::now() + PAGE_TIME);
        let mut walked = self.token.as_ref().map_or(0, |token| token.walked);
        let mut page = v1::ListDeadLettersResponse::default();
        let mut bytes = 0;
        let mut last = String::new();
        while page.letters.len() < self.limit && bytes < MAX_PAGE_BYTES && Instant::now() < until {
            let Some(delivery) = walk.next().await? else {
                break;
            };
            let letter = letter(&delivery);
            walked += 1;
            letter.id.clone_into(&mut last);
            if self.selection.selects(&letter) {
                bytes += letter.encoded_len();
                page.letters.push(letter);
            }
        }
        if !walk.is_at_end() {
            if last.is_empty() {
                walk.check_end()?;
                return Err(DeadLettersError::TimeUp);
            }
            let token = PageToken {
                selection: self.selection.digest(),
                walked,
                last,
            };
            page.next_page_token = token.write();
        }
        Ok(page)
    }

    /// Walks from the beginning of the queue to the letter after the last one of the page before.
    pub(super) async fn skip_to_page(
        &self,
        walk: &mut Walk,
        until: Instant,
    ) -> Result<(), DeadLettersError> {
        let Some(token) = &self.token else {
            return Ok(());
        };
        // More letters before it than there were: the order has changed, and some would be left out.
        for _ in 0..token.walked {
            let Some(delivery) = walk.next().await? else {
                break;
            };
            if letter::id(&delivery) == token.last {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(DeadLettersError::TimeUp);
            }
        }
        walk.check_end()?;
        Err(DeadLettersError::PageTokenExpired)
    }
}

/// A text that this method did not return as a token.
struct NoPageToken;

/// Where the next page of a list begins.
struct PageToken {
    /// What the list selects.
    selection: String,
    /// The number of letters up to the last one.
    walked: u64,
    /// The id of the last letter before it.
    last: String,
}

impl PageToken {
    /// `None` for the first page.
    fn read(token: &str) -> Result<Option<Self>, NoPageToken> {
        if token.is_empty() {
            return Ok(None);
        }
        let read = || {
            let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
            let mut parts = text.splitn(3, '|');
            Some(Self {
                selection: parts.next()?.to_owned(),
                walked: parts.next()?.parse().ok()?,
                last: parts.next()?.to_owned(),
            })
        };
        read().map(Some).ok_or(NoPageToken)
    }

    fn write(&self) -> String {
        let Self {
            selection,
            walked,
            last,
        } = self;
        URL_SAFE_NO_PAD.encode(format!("{selection}|{walked}|{last}"))
    }
}
