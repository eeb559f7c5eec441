//! `GET /_sim/phones?q=`: finds phones by number, by message id, and by text.
//!
//! A text is searched by reading the messages, newest first. Invariant: one request reads a bounded number of them in a bounded time,
//! and says so if it stopped before the end; the lock is released in between.

use std::{
    borrow::Cow,
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    CONTROL_SERIALIZES,
    bubble::{self, MAX_LISTED_CHARACTERS},
    cursor::{self, Cursor},
    json_response,
    phone_row::{self, Match},
    phones::{MAX_SCANNED_PHONES, StateFilter, after, phones_after, position},
};
use crate::{
    engine::Engine,
    envelope::ApiError,
    http::{ApiResponse, Query},
    phones::{PhoneId, ReceivedId, phone_number},
    render,
    state::SimulatorState,
    store::RowId,
};

const MAX_QUERY_CHARACTERS: usize = 100;
/// Messages read in one request, and under one lock.
const MAX_SCANNED_MESSAGES: usize = 200_000;
const MESSAGES_PER_LOCK: usize = 1000;
/// Bytes of texts read under one lock, and of one text: a longer one was rejected.
const BYTES_PER_LOCK: usize = 1 << 20;
const MAX_TEXT_BYTES: usize = 16 << 10;
/// The time of one request.
const MAX_TIME: Duration = Duration::from_millis(200);
/// Characters before a match in its excerpt.
const CHARACTERS_BEFORE: usize = 40;

/// The answer, as it grows while the lock is released in between.
struct Found {
    limit: usize,
    filter: StateFilter,
    /// In lower case.
    wanted: String,
    rows: Vec<serde_json::Value>,
    phones: HashSet<PhoneId>,
    scanned: usize,
    cursor: Option<Cursor>,
    complete: bool,
}

/// Searches in this order: message id and numbers, then texts.
pub(super) async fn search(
    engine: &Arc<Engine>,
    query: &Query,
    limit: usize,
    filter: StateFilter,
) -> Result<ApiResponse, ApiError> {
    let wanted = query.get("q").unwrap_or_default().trim();
    if wanted.is_empty() || wanted.chars().count() > MAX_QUERY_CHARACTERS {
        let reason = format!("must have from 1 to {MAX_QUERY_CHARACTERS} characters");
        return Err(ApiError::invalid("q", reason));
    }
    let started = Instant::now();
    let mut found = Found {
        limit,
        filter,
        wanted: wanted.to_lowercase(),
        rows: Vec::new(),
        phones: HashSet::new(),
        scanned: 0,
        cursor: None,
        complete: true,
    };
    let generation;
    let mut position = {
        let state = engine.lock();
        generation = state.generation;
        let cursor = Cursor::from_query(query, generation)?;
        match cursor {
            Some(cursor) if cursor.kind == 't' => Some((cursor.first, cursor.second)),
            Some(cursor) if cursor.kind != 'n' => return Err(cursor::stale()),
            cursor => {
                if cursor.is_none() {
                    found.by_message_id(&state, wanted);
                }
                found.by_number(&state, cursor)?
            }
        }
    };
    while let Some(at) = position {
        {
            let state = engine.lock();
            if state.generation != generation {
                return Err(cursor::stale());
            }
            position = found.by_text(&state, at);
        }
        if found.rows.len() >= limit
            || found.scanned >= MAX_SCANNED_MESSAGES
            || started.elapsed() > MAX_TIME
        {
            break;
        }
        tokio::task::yield_now().await;
    }
    if let Some((row, received)) = position {
        found.cursor = Some(Cursor {
            kind: 't',
            first: row,
            second: received,
        });
        found.complete = false;
    }
    let total = engine.lock().phones.len();
    Ok(json_response(&serde_json::json!({
        "phones": found.rows,
        "cursor": found.cursor.map(|cursor| cursor.encode(generation)),
        "total": total,
        "complete": found.complete,
        "scanned": found.scanned,
    })))
}

impl Found {
    fn add(&mut self, state: &SimulatorState, id: PhoneId, matched: Match<'_>) {
        let Some(phone) = state.phones.get(id) else {
            return;
        };
        if !self.phones.insert(id) {
            return;
        }
        let mut row = phone_row::phone_row(state, phone);
        row.matched = Some(matched);
        self.rows
            .push(serde_json::to_value(row).expect(CONTROL_SERIALIZES));
    }

    fn by_message_id(&mut self, state: &SimulatorState, id: &str) {
        for row in state.messages.with_id(id).iter().rev() {
            let Some(message) = state.messages.get(*row) else {
                continue;
            };
            let wanted = match self.filter {
                StateFilter::Any => true,
                StateFilter::Sent(state) => message.state() == state,
                StateFilter::Received => false,
            };
            if let Some(phone) = message.phone.filter(|_| wanted) {
                let matched = Match {
                    kind: "messageId",
                    message_id: Some(&message.id),
                    row: Some(*row),
                    direction: Some("out"),
                    text: None,
                };
                self.add(state, phone, matched);
            }
        }
        let wanted = matches!(self.filter, StateFilter::Any | StateFilter::Received);
        if let Some(received) = state.inbox.with_message_id(id).filter(|_| wanted)
            && let Some(phone) = received.phone
        {
            let matched = Match {
                kind: "messageId",
                message_id: Some(&received.id),
                row: None,
                direction: Some("in"),
                text: None,
            };
            self.add(state, phone, matched);
        }
    }

    /// Adds the phones whose number contains the text. Returns where the search of texts begins; `None`: the page is full.
    fn by_number(
        &mut self,
        state: &SimulatorState,
        cursor: Option<Cursor>,
    ) -> Result<Option<(RowId, ReceivedId)>, ApiError> {
        let start = match cursor {
            Some(cursor) => Some(after(&state.phones, cursor)?),
            None => None,
        };
        let wanted = self.number();
        let mut last = None;
        for (scanned, (id, phone)) in phones_after(&state.phones, start).enumerate() {
            if self.rows.len() >= self.limit || scanned == MAX_SCANNED_PHONES {
                self.cursor = last;
                self.complete = false;
                return Ok(None);
            }
            last = Some(position('n', id, phone));
            if self.filter.has(phone) && find(&phone.number, &wanted).is_some() {
                let matched = Match {
                    kind: "number",
                    message_id: None,
                    row: None,
                    direction: None,
                    text: None,
                };
                self.add(state, id, matched);
            }
        }
        Ok(Some((state.messages.rows().end, state.inbox.next_id())))
    }

    /// The text as a part of a number, without the `+` and the spaces that people write.
    fn number(&self) -> String {
        let number = phone_number(&self.wanted);
        if number
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b' ')
        {
            number.replace(' ', "")
        } else {
            number.to_owned()
        }
    }

    /// Reads some messages before these ids, newest first. Returns where to go on; `None`: all were read.
    fn by_text(
        &mut self,
        state: &SimulatorState,
        (mut row, mut received): (RowId, ReceivedId),
    ) -> Option<(RowId, ReceivedId)> {
        let number = self.number();
        let mut bytes = 0;
        for _ in 0..MESSAGES_PER_LOCK {
            let sent = row
                .checked_sub(1)
                .and_then(|at| Some((at, state.messages.get(at)?)));
            let inbound = received.checked_sub(1).and_then(|at| state.inbox.get(at));
            let is_sent = match (&sent, inbound) {
                (None, None) => return None,
                (Some((at, _)), Some(inbound)) => *at >= inbound.next_row,
                (Some(_), None) => true,
                (None, Some(_)) => false,
            };
            if self.rows.len() >= self.limit || bytes > BYTES_PER_LOCK {
                return Some((row, received));
            }
            self.scanned += 1;
            let mut targets = None;
            let (phone, text, message_id, at, direction) = if is_sent {
                let (at, message) = sent?;
                row = at;
                let wanted = match self.filter {
                    StateFilter::Any => true,
                    StateFilter::Sent(state) => message.state() == state,
                    StateFilter::Received => false,
                };
                if !wanted {
                    continue;
                }
                let text = render::handset_text(message);
                targets = message.shortened.as_deref();
                (message.phone, text, &message.id, Some(at), "out")
            } else {
                let inbound = inbound?;
                received -= 1;
                if matches!(self.filter, StateFilter::Sent(_)) {
                    continue;
                }
                let text = (!inbound.binary).then_some(inbound.text.as_str());
                (inbound.phone, text, &inbound.id, None, "in")
            };
            let (Some(phone), Some(text)) = (phone, text) else {
                continue;
            };
            let text = cut(text);
            bytes += text.len();
            // A phone whose number matched was found by its number.
            let listed = |id: PhoneId| {
                self.phones.contains(&id)
                    || state
                        .phones
                        .get(id)
                        .is_some_and(|phone| find(&phone.number, &number).is_some())
            };
            // The URLs that the short links in the text lead to.
            let targets = targets.into_iter().flat_map(|shortened| &shortened.links);
            let mut targets = targets.map(|(_, target)| cut(target));
            let found = find(text, &self.wanted).or_else(|| {
                targets.find_map(|target| {
                    bytes += target.len();
                    find(target, &self.wanted)
                })
            });
            if let Some(excerpt) = found
                && !listed(phone)
            {
                let matched = Match {
                    kind: "text",
                    message_id: Some(message_id),
                    row: at,
                    direction: Some(direction),
                    text: Some(Cow::Borrowed(excerpt)),
                };
                self.add(state, phone, matched);
            }
        }
        Some((row, received))
    }
}

/// The part that is searched: a text or a URL may have megabytes.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]
}

/// Finds a text in lower case, whatever the case, and returns the part of the text around it.
fn find<'a>(text: &'a str, wanted: &str) -> Option<&'a str> {
    if wanted.is_empty() {
        return None;
    }
    let at = if text.is_ascii() {
        let (text, wanted) = (text.as_bytes(), wanted.as_bytes());
        text.windows(wanted.len())
            .position(|window| window.eq_ignore_ascii_case(wanted))?
    } else {
        // The lower case may have other lengths, so the position is that of the whole character before.
        let lower = text.to_lowercase();
        let characters = lower[..lower.find(wanted)?].chars().count();
        text.char_indices()
            .nth(characters)
            .map_or(text.len(), |(at, _)| at)
    };
    let start = text[..at]
        .char_indices()
        .rev()
        .nth(CHARACTERS_BEFORE.saturating_sub(1))
        .map_or(0, |(start, _)| start);
    Some(bubble::cut(&text[start..], MAX_LISTED_CHARACTERS).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_in_any_case() {
        assert_eq!(find("Hello World", "o w"), Some("Hello World"));
        assert_eq!(find("ПРИВЕТ, мир", "привет"), Some("ПРИВЕТ, мир"));
        assert_eq!(find("İİİ ab", "ab"), Some("İİİ ab"));
        assert_eq!(find("Hello", "x"), None);
        assert_eq!(find("", "x"), None);
        let long = format!("{}needle{}", "я".repeat(500), "я".repeat(500));
        let excerpt = find(&long, "needle").unwrap();
        assert!(excerpt.contains("needle"));
        assert_eq!(excerpt.chars().count(), MAX_LISTED_CHARACTERS);
    }
}
