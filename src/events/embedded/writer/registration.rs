//! Registers the ids of events, so that an event is written once and no pending report follows a final one (P6).

use rusqlite::{Connection, params};

use super::super::{
    super::{NewEvent, new_event::is_reused_id},
    schema::kind,
};

pub(super) enum Registration {
    /// The event is new and must be appended.
    New,
    /// The log has an event with this id.
    Known,
    /// The event is a pending report, and its message has a final one.
    TooLate,
}

/// Registers the id of an event with the sequence number `seq` that it will get, unless it must not be appended.
pub(super) fn register(
    connection: &Connection,
    new: &NewEvent,
    seq: i64,
) -> rusqlite::Result<Registration> {
    let kind = if new.is_final_report() {
        kind::FINAL_REPORT
    } else if new.is_pending_report() {
        kind::PENDING_REPORT
    } else if new.result().is_some_and(is_reused_id) {
        // Not a result: that of the id is the one of its first content.
        kind::OTHER
    } else if new.result().is_some() {
        // Without a digest the bridge made the message's id: the result is unique, and no caller looks it up. A result without a
        // wire id belongs to a message without destinations, and may be recorded again when its request is repeated.
        if new.digest.is_none() && !new.wire_id.is_empty() {
            return Ok(Registration::New);
        }
        kind::RESULT
    } else {
        kind::OTHER
    };
    if kind == kind::PENDING_REPORT {
        let mut final_report =
            connection.prepare_cached("SELECT 1 FROM known WHERE wire_id = ?1 AND kind = ?2")?;
        if final_report.exists(params![new.wire_id, kind::FINAL_REPORT])? {
            tracing::debug!(
                event_id = new.event.id,
                "dropped a pending report that came after a final one"
            );
            return Ok(Registration::TooLate);
        }
    }
    let id = uuid::Uuid::parse_str(&new.event.id).unwrap_or_else(|_| {
        uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, new.event.id.as_bytes())
    });
    let inserted = connection
        .prepare_cached(
            "INSERT INTO known (seq, wire_id, id, kind, digest) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (wire_id, id) DO NOTHING",
        )?
        .execute(params![
            seq,
            new.wire_id,
            id.as_bytes(),
            kind,
            new.digest.as_ref().map(<[u8; 16]>::as_slice),
        ])?;
    Ok(if inserted == 1 {
        Registration::New
    } else {
        Registration::Known
    })
}
