//! `GET /_sim/phones/{number}`: the messages to and from a phone, newest first.
//!
//! Invariant: a page follows the chain of the phone's messages, and looks at no other message.

use std::sync::Arc;

use serde::Serialize;

use super::{
    bubble::{self, Bubble},
    cursor::{self, Cursor, page_limit},
    json_response,
    phone_row::{self, PhoneRow},
};
use crate::{
    engine::Engine,
    envelope::ApiError,
    http::{ApiResponse, Query},
    phones::{PhoneId, ReceivedId},
    state::SimulatorState,
    store::RowId,
};

#[derive(Serialize)]
struct Conversation<'a> {
    phone: PhoneRow<'a>,
    bubbles: Vec<Bubble<'a>>,
    cursor: Option<String>,
}

/// In a cursor: nothing more in this direction.
const NONE: u64 = u64::MAX;

pub(super) fn show(
    engine: &Arc<Engine>,
    number: &str,
    query: &Query,
) -> Result<ApiResponse, ApiError> {
    let limit = page_limit(query)?;
    let state = engine.lock();
    let unknown = || ApiError::not_found("No message to or from this number is stored");
    let id = state.phones.find(number).ok_or_else(unknown)?;
    let phone = state.phones.get(id).ok_or_else(unknown)?;
    let (mut sent, mut received) = match Cursor::from_query(query, state.generation)? {
        None => (phone.last_sent, phone.last_received),
        Some(cursor) => continued(&state, id, cursor)?,
    };
    let mut bubbles = Vec::new();
    while bubbles.len() < limit {
        let message = sent.and_then(|row| Some((row, state.messages.get(row)?)));
        let inbound = received.and_then(|id| state.inbox.get(id));
        match (message, inbound) {
            (Some((row, message)), other)
                if other.is_none_or(|inbound| inbound.next_row <= row) =>
            {
                bubbles.push(bubble::sent_bubble(&state, row, message, &engine.config));
                sent = message.older_of_phone;
            }
            (_, Some(inbound)) => {
                bubbles.push(bubble::received_bubble(&state, inbound));
                received = inbound.older_of_phone;
            }
            _ => break,
        }
    }
    let more = sent.is_some_and(|row| state.messages.get(row).is_some())
        || received.is_some_and(|id| state.inbox.get(id).is_some());
    let cursor = more.then(|| {
        let cursor = Cursor {
            kind: 'c',
            first: sent.unwrap_or(NONE),
            second: received.unwrap_or(NONE),
        };
        cursor.encode(state.generation)
    });
    Ok(json_response(&Conversation {
        phone: phone_row::phone_row(&state, phone),
        bubbles,
        cursor,
    }))
}

/// The next messages of a cursor, if they are this phone's. What was evicted since is the end of the conversation.
fn continued(
    state: &SimulatorState,
    phone: PhoneId,
    cursor: Cursor,
) -> Result<(Option<RowId>, Option<ReceivedId>), ApiError> {
    let sent = Some(cursor.first).filter(|row| *row != NONE);
    let received = Some(cursor.second).filter(|id| *id != NONE);
    let is_of_phone = |owner: Option<Option<PhoneId>>| owner.is_none_or(|id| id == Some(phone));
    let sent_owner = sent
        .and_then(|row| state.messages.get(row))
        .map(|m| m.phone);
    let received_owner = received.and_then(|id| state.inbox.get(id)).map(|m| m.phone);
    if cursor.kind != 'c' || !is_of_phone(sent_owner) || !is_of_phone(received_owner) {
        return Err(cursor::stale());
    }
    Ok((sent, received))
}
