//! Removes old events, and those above the limit of the log's size, and later their ids; corrects stamps that a clock left in the future.
//!
//! Invariants: the ids of events that were removed stay in `known` until they are old themselves, however short the retention is;
//! each step is small, because appends wait for it; the stamps of chunks never decrease with the sequence numbers.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::schema;

/// What is old was appended before these times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    pub(super) events_ms: i64,
    pub(super) ids_ms: i64,
}

/// What a step removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Removed {
    pub(super) events: u64,
    pub(super) bytes: u64,
}

/// Removes chunks with about `events` events at most, and as many ids; returns what it removed.
pub(super) fn trim(
    connection: &Connection,
    before: Before,
    events: i64,
) -> rusqlite::Result<Removed> {
    let removed = trim_events(connection, before.events_ms, events)?;
    trim_ids(connection, before.ids_ms, events)?;
    Ok(removed)
}

/// Whether events or ids are old.
pub(super) fn is_due(connection: &Connection, before: Before) -> rusqlite::Result<bool> {
    let oldest = schema::chunk_at_or_after(connection, 0)?;
    Ok(
        oldest.is_some_and(|oldest| oldest.appended_at_ms < before.events_ms)
            || oldest_old_ids(connection, before.ids_ms)?.is_some(),
    )
}

/// Removes the oldest chunks of events up to `newest` until they have `bytes` bytes, or about `events` events.
pub(super) fn trim_bytes(
    connection: &Connection,
    newest: i64,
    bytes: u64,
    events: i64,
) -> rusqlite::Result<Removed> {
    let Some(oldest) = schema::chunk_at_or_after(connection, 0)? else {
        return Ok(Removed::default());
    };
    let mut last = None;
    {
        let mut chunks = connection.prepare_cached(
            "SELECT last_seq, appended_at_ms, length(events) FROM chunk
             WHERE last_seq <= ?1 AND last_seq < ?2 ORDER BY last_seq",
        )?;
        let mut chunks = chunks.query([newest, oldest.first_seq.saturating_add(events)])?;
        let mut passed = 0;
        while passed < bytes
            && let Some(chunk) = chunks.next()?
        {
            passed += chunk.get::<_, i64>(2)?.unsigned_abs();
            last = Some((chunk.get(0)?, chunk.get(1)?));
        }
    }
    match last {
        Some((last_seq, appended_at_ms)) => {
            remove(connection, oldest.first_seq, last_seq, appended_at_ms)
        }
        None => Ok(Removed::default()),
    }
}

fn trim_events(connection: &Connection, before_ms: i64, events: i64) -> rusqlite::Result<Removed> {
    let Some(oldest) = schema::chunk_at_or_after(connection, 0)? else {
        return Ok(Removed::default());
    };
    // Append times grow with the sequence numbers, so the old chunks are the first ones.
    let newest_old: Option<(i64, i64)> = connection
        .prepare_cached(
            "SELECT last_seq, appended_at_ms FROM chunk WHERE last_seq < ?1 AND appended_at_ms < ?2
             ORDER BY last_seq DESC LIMIT 1",
        )?
        .query_row(
            params![oldest.first_seq.saturating_add(events), before_ms],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    match newest_old {
        Some((last_seq, appended_at_ms)) => {
            remove(connection, oldest.first_seq, last_seq, appended_at_ms)
        }
        None => Ok(Removed::default()),
    }
}

/// Removes the events `first_seq..=last_seq`, which are the oldest ones.
fn remove(
    connection: &Connection,
    first_seq: i64,
    last_seq: i64,
    appended_at_ms: i64,
) -> rusqlite::Result<Removed> {
    connection
        .prepare_cached("INSERT INTO trimmed (last_seq, appended_at_ms) VALUES (?1, ?2)")?
        .execute(params![last_seq, appended_at_ms])?;
    let bytes: i64 = connection
        .prepare_cached("SELECT ifnull(sum(length(events)), 0) FROM chunk WHERE last_seq <= ?1")?
        .query_row([last_seq], |row| row.get(0))?;
    for sql in [
        "DELETE FROM chunk WHERE last_seq <= ?1",
        "UPDATE log SET head = max(head, ?1)",
    ] {
        connection.prepare_cached(sql)?.execute([last_seq])?;
    }
    let events = last_seq.saturating_sub(first_seq).saturating_add(1);
    Ok(Removed {
        events: events.unsigned_abs(),
        bytes: bytes.unsigned_abs(),
    })
}

fn trim_ids(connection: &Connection, before_ms: i64, events: i64) -> rusqlite::Result<()> {
    let Some(last_seq) = oldest_old_ids(connection, before_ms)? else {
        return Ok(());
    };
    // Their entries in the index are anywhere: the fewer, the less does the transaction write.
    let oldest: Option<i64> = connection
        .prepare_cached("SELECT min(seq) FROM known")?
        .query_row([], |row| row.get(0))?;
    let last = oldest.map_or(last_seq, |oldest| {
        oldest.saturating_add(events).min(last_seq)
    });
    connection
        .prepare_cached("DELETE FROM known WHERE seq <= ?1")?
        .execute([last])?;
    if last == last_seq {
        connection
            .prepare_cached("DELETE FROM trimmed WHERE last_seq <= ?1")?
            .execute([last])?;
    }
    Ok(())
}

/// The last sequence number of the step that removed events first, if they are older than that.
fn oldest_old_ids(connection: &Connection, before_ms: i64) -> rusqlite::Result<Option<i64>> {
    let oldest: Option<(i64, i64)> = connection
        .prepare_cached("SELECT last_seq, appended_at_ms FROM trimmed ORDER BY last_seq LIMIT 1")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let oldest = oldest.filter(|(_, appended_at_ms)| *appended_at_ms < before_ms);
    Ok(oldest.map(|(last_seq, _)| last_seq))
}

/// Gives the oldest events whose stamp is later than `now_ms` this time instead, about `events` at most; returns whether more are
/// left. The oldest first, so that stamps do not decrease meanwhile.
pub(super) fn correct_stamps(
    connection: &Connection,
    now_ms: i64,
    events: i64,
) -> rusqlite::Result<bool> {
    let head = schema::head(connection)?;
    let after = schema::seq_before(connection, now_ms.saturating_add(1), head)?;
    if let Some(first) = schema::chunk_at_or_after(connection, after.saturating_add(1))? {
        let last = first.last_seq.saturating_add(events);
        connection
            .prepare_cached(
                "UPDATE chunk SET appended_at_ms = ?1 WHERE last_seq > ?2 AND last_seq <= ?3",
            )?
            .execute(params![now_ms, after, last])?;
        if schema::chunk_at_or_after(connection, last.saturating_add(1))?.is_some() {
            return Ok(true);
        }
    }
    connection.execute(
        "UPDATE trimmed SET appended_at_ms = ?1 WHERE appended_at_ms > ?1",
        [now_ms],
    )?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        events::embedded::{chunk::Chunk, writer::write_chunk},
        proto::v1,
    };

    /// A log of chunks of ten events, appended at these times.
    fn log(at_ms: impl IntoIterator<Item = i64>) -> (tempfile::TempDir, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.sqlite");
        let connection = schema::open_for_writing(&path).unwrap();
        let mut chunk = Chunk::after(0, Vec::new());
        for at_ms in at_ms {
            for _ in 0..10 {
                chunk.push(&v1::Event::default());
            }
            chunk = write_chunk(&connection, chunk, at_ms).unwrap();
        }
        (folder, connection)
    }

    fn oldest(connection: &Connection) -> Option<i64> {
        let oldest = schema::chunk_at_or_after(connection, 0).unwrap();
        oldest.map(|chunk| chunk.first_seq)
    }

    #[test]
    fn repeated_trims_remove_all_old_events() {
        let (_folder, connection) = log(1..=4);
        let trim = |events_ms| {
            let before = Before {
                events_ms,
                ids_ms: 0,
            };
            trim(&connection, before, 25).unwrap();
            is_due(&connection, before).unwrap()
        };
        assert!(trim(4), "one more is old");
        assert_eq!(oldest(&connection), Some(21));
        assert!(!trim(4));
        assert_eq!(oldest(&connection), Some(31));
        assert!(!trim(4), "the last is not old");
        assert!(!trim(5));
        assert_eq!(oldest(&connection), None);
        assert_eq!(schema::head(&connection).unwrap(), 40, "numbers only grow");
    }

    #[test]
    fn the_oldest_chunks_go_until_enough_bytes_are_removed() {
        let (_folder, connection) = log(1..=6);
        // A default event is one byte: its length.
        let trim = |newest, bytes, events| {
            let removed = trim_bytes(&connection, newest, bytes, events).unwrap();
            (removed.events, removed.bytes, oldest(&connection))
        };
        assert_eq!(trim(60, 15, 100), (20, 20, Some(21)));
        assert_eq!(trim(60, 100, 15), (10, 10, Some(31)), "a bounded step");
        assert_eq!(trim(50, 100, 100), (20, 20, Some(51)), "not the newest");
        assert_eq!(trim(50, 100, 100), (0, 0, Some(51)));
        assert_eq!(trim(60, 1, 100), (10, 10, None));
    }

    #[test]
    fn ids_stay_longer_than_their_events() {
        let (_folder, connection) = log(1..=4);
        for seq in 1..=40 {
            let sql = "INSERT INTO known (seq, wire_id, id, kind) VALUES (?1, 'shop.m', ?1, 0)";
            connection.execute(sql, [seq]).unwrap();
        }
        let ids = || -> i64 {
            let count = "SELECT count(*) FROM known";
            connection.query_row(count, [], |row| row.get(0)).unwrap()
        };
        let trim = |events_ms, ids_ms| {
            let before = Before { events_ms, ids_ms };
            while is_due(&connection, before).unwrap() {
                trim(&connection, before, 15).unwrap();
            }
        };
        trim(5, 1);
        assert_eq!((oldest(&connection), ids()), (None, 40));
        trim(5, 3);
        assert_eq!(ids(), 20);
        trim(5, 5);
        assert_eq!(ids(), 0);
    }

    #[test]
    fn stamps_in_the_future_are_corrected_in_steps_and_never_decrease() {
        let (_folder, connection) = log([1, 2, 900, 900, 950, 999]);
        let stamps = || -> Vec<i64> {
            let mut stamps = connection
                .prepare("SELECT appended_at_ms FROM chunk ORDER BY last_seq")
                .unwrap();
            let rows = stamps.query_map([], |row| row.get(0)).unwrap();
            rows.map(Result::unwrap).collect()
        };
        assert!(correct_stamps(&connection, 10, 15).unwrap());
        assert_eq!(stamps(), [1, 2, 10, 10, 950, 999]);
        assert!(!correct_stamps(&connection, 11, 15).unwrap());
        assert_eq!(stamps(), [1, 2, 10, 10, 11, 11]);
        assert!(!correct_stamps(&connection, 12, 15).unwrap());
        assert_eq!(stamps(), [1, 2, 10, 10, 11, 11]);
    }
}
