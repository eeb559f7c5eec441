//! The events of one message, by the index of the log.
//!
//! The result of a message whose id the bridge made is not in the index, which would cost more than the result. The id tells when it
//! was made, so the result is searched for from then on.

use jiff::{SignedDuration, Timestamp};
use prost::Message as _;
use rusqlite::{Connection, params};

use super::{
    super::message_events::{MAX_EVENTS, MessageEvents, MessageKey},
    chunk::encoded_events,
    cursor::LogId,
    reader::event,
    schema,
};
use crate::proto::v1::{self, event::Payload};

/// How much earlier than its id a result is searched for: the stamps of the log never decrease, so the clock may have been ahead.
const EARLIER: SignedDuration = SignedDuration::from_secs(1);
/// How many events are searched for a result: some seconds of a full load.
const MAX_SEARCHED: i64 = 100_000;

pub(super) fn find(
    connection: &Connection,
    id: LogId,
    message: &MessageKey,
    since: Option<Timestamp>,
) -> rusqlite::Result<MessageEvents> {
    // One snapshot: trims do not come in between.
    let snapshot = connection.unchecked_transaction()?;
    let mut seqs = seqs_in_index(&snapshot, &message.wire_id())?;
    if let Some(made_at) = message.made_at()
        && let Some(seq) = search_result(&snapshot, message, made_at)?
        && let Err(place) = seqs.binary_search(&seq)
    {
        seqs.insert(place, seq);
    }
    let mut found = MessageEvents::default();
    for seq in seqs {
        // A removed event leaves its id in the index for a while.
        let Some(mut event) = event(&snapshot, seq)?.filter(|event| message.is_of(event)) else {
            continue;
        };
        event.cursor = id.cursor(seq);
        if !found.add(event, since) {
            break;
        }
    }
    Ok(found)
}

fn seqs_in_index(connection: &Connection, wire_id: &str) -> rusqlite::Result<Vec<i64>> {
    let limit = i64::try_from(MAX_EVENTS + 1).unwrap_or(i64::MAX);
    connection
        .prepare_cached("SELECT seq FROM known WHERE wire_id = ?1 ORDER BY seq LIMIT ?2")?
        .query_map(params![wire_id, limit], |row| row.get(0))?
        .collect()
}

/// The sequence number of the message's result.
fn search_result(
    connection: &Connection,
    message: &MessageKey,
    made_at: Timestamp,
) -> rusqlite::Result<Option<i64>> {
    let head = schema::head(connection)?;
    let from = made_at.checked_sub(EARLIER).unwrap_or(made_at);
    let after = schema::seq_before(connection, from.as_millisecond(), head)?;
    let mut query = connection.prepare_cached(
        "SELECT first_seq, events FROM chunk WHERE last_seq > ?1 ORDER BY last_seq",
    )?;
    let mut chunks = query.query(params![after])?;
    while let Some(chunk) = chunks.next()? {
        let first_seq: i64 = chunk.get(0)?;
        if first_seq > after + MAX_SEARCHED {
            break;
        }
        let events = chunk.get_ref(1)?.as_blob().unwrap_or_default();
        for (seq, encoded) in encoded_events(first_seq, events) {
            if let Ok(event) = v1::Event::decode(encoded)
                && matches!(event.payload, Some(Payload::Result(_)))
                && message.is_of(&event)
            {
                return Ok(Some(seq));
            }
        }
    }
    Ok(None)
}
