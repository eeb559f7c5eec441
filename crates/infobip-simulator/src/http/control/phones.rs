//! `GET /_sim/phones`: the phones, newest activity first.
//!
//! Neighbours: `search` answers requests with `q`, `conversation` shows one phone.

use std::sync::Arc;

use serde::Serialize;

use super::{
    cursor::{self, Cursor, page_limit},
    json_response,
    phone_row::{self, PhoneRow},
    search,
};
use crate::{
    engine::Engine,
    envelope::ApiError,
    http::{ApiResponse, Query},
    phones::{Phone, PhoneId, Phones},
    store::MessageState,
};

/// Phones looked at in one request.
pub(super) const MAX_SCANNED_PHONES: usize = 100_000;

/// A page of phones.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PhonesPage<'a> {
    pub(super) phones: Vec<PhoneRow<'a>>,
    pub(super) cursor: Option<String>,
    pub(super) total: usize,
    /// False: it stopped before the end of the list.
    pub(super) complete: bool,
    /// Rows that were looked at.
    pub(super) scanned: usize,
}

/// The messages that a phone must have to be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateFilter {
    Any,
    Sent(MessageState),
    Received,
}

impl StateFilter {
    pub(super) fn of(query: &Query) -> Result<Self, ApiError> {
        match query.get("state") {
            None => Ok(Self::Any),
            Some("received") => Ok(Self::Received),
            Some(name) => MessageState::parse(name).map(Self::Sent).ok_or_else(|| {
                ApiError::invalid(
                    "state",
                    "must be scheduled, pending, delivered, undeliverable, expired, rejected or received",
                )
            }),
        }
    }

    pub(super) fn has(self, phone: &Phone) -> bool {
        match self {
            Self::Any => true,
            Self::Sent(state) => phone.states.get(state) > 0,
            Self::Received => phone.received > 0,
        }
    }
}

pub(super) async fn list(engine: &Arc<Engine>, query: &Query) -> Result<ApiResponse, ApiError> {
    let (limit, filter) = (page_limit(query)?, StateFilter::of(query)?);
    if query.get("q").is_some() {
        return search::search(engine, query, limit, filter).await;
    }
    let state = engine.lock();
    let start = match Cursor::from_query(query, state.generation)? {
        None => None,
        Some(cursor) if cursor.kind == 'p' => Some(after(&state.phones, cursor)?),
        Some(_) => return Err(cursor::stale()),
    };
    let mut page = PhonesPage {
        phones: Vec::new(),
        cursor: None,
        total: state.phones.len(),
        complete: true,
        scanned: 0,
    };
    let mut last = None;
    for (id, phone) in phones_after(&state.phones, start) {
        if page.phones.len() == limit || page.scanned == MAX_SCANNED_PHONES {
            page.cursor = last.map(|cursor: Cursor| cursor.encode(state.generation));
            page.complete = page.phones.len() == limit;
            break;
        }
        page.scanned += 1;
        last = Some(position('p', id, phone));
        if filter.has(phone) {
            page.phones.push(phone_row::phone_row(&state, phone));
        }
    }
    Ok(json_response(&page))
}

/// Where a list of phones goes on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start {
    /// After this phone.
    After(PhoneId),
    /// At the first phone whose activity is below.
    Below(u64),
}

pub(super) fn position(kind: char, id: PhoneId, phone: &Phone) -> Cursor {
    Cursor {
        kind,
        first: phone.activity,
        second: u64::from(id),
    }
}

/// Where to go on after the phone of a cursor, which may have had another activity since.
pub(super) fn after(phones: &Phones, cursor: Cursor) -> Result<Start, ApiError> {
    let id = PhoneId::try_from(cursor.second).map_err(|_| cursor::stale())?;
    if phones
        .get(id)
        .is_some_and(|phone| phone.activity == cursor.first)
    {
        return Ok(Start::After(id));
    }
    // All phones before it in the list had an activity since. With very many the list is another one.
    let skipped = phones
        .newest_first(None)
        .take(MAX_SCANNED_PHONES)
        .filter(|(_, phone)| phone.activity > cursor.first)
        .count();
    if skipped == MAX_SCANNED_PHONES {
        return Err(cursor::stale());
    }
    Ok(Start::Below(cursor.first))
}

pub(super) fn phones_after(
    phones: &Phones,
    start: Option<Start>,
) -> impl Iterator<Item = (PhoneId, &Phone)> {
    let (after, below) = match start {
        None => (None, u64::MAX),
        Some(Start::After(id)) => (Some(id), u64::MAX),
        Some(Start::Below(activity)) => (None, activity),
    };
    phones
        .newest_first(after)
        .skip_while(move |(_, phone)| phone.activity >= below)
}
