//! Removes old events, and later their ids; corrects stamps that a clock left in the future.
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

/// Removes chunks with about `events` events at most, and the ids of one earlier step; returns whether more of either is old.
pub(super) fn trim(connection: &Connection, before: Before, events: i64) -> rusqlite::Result<bool> {
    let more_events = trim_events(connection, before.events_ms, events)?;
    let more_ids = trim_ids(connection, before.ids_ms)?;
    Ok(more_events || more_ids)
}

fn trim_events(connection: &Connection, before_ms: i64, events: i64) -> rusqlite::Result<bool> {
    let Some(oldest) = schema::chunk_at_or_after(connection, 0)? else {
        return Ok(false);
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
    let Some((newest_old, appended_at_ms)) = newest_old else {
        return Ok(false);
    };
    connection
        .prepare_cached("INSERT INTO trimmed (last_seq, appended_at_ms) VALUES (?1, ?2)")?
        .execute(params![newest_old, appended_at_ms])?;
    for sql in [
        "DELETE FROM chunk WHERE last_seq <= ?1",
        "UPDATE log SET head = max(head, ?1)",
    ] {
        connection.prepare_cached(sql)?.execute([newest_old])?;
    }
    let left = schema::chunk_at_or_after(connection, 0)?;
    Ok(left.is_some_and(|left| left.appended_at_ms < before_ms))
}

fn trim_ids(connection: &Connection, before_ms: i64) -> rusqlite::Result<bool> {
    let oldest_old = || -> rusqlite::Result<Option<i64>> {
        let oldest: Option<(i64, i64)> = connection
            .prepare_cached(
                "SELECT last_seq, appended_at_ms FROM trimmed ORDER BY last_seq LIMIT 1",
            )?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let oldest = oldest.filter(|(_, appended_at_ms)| *appended_at_ms < before_ms);
        Ok(oldest.map(|(last_seq, _)| last_seq))
    };
    let Some(last_seq) = oldest_old()? else {
        return Ok(false);
    };
    for sql in [
        "DELETE FROM known WHERE seq <= ?1",
        "DELETE FROM trimmed WHERE last_seq <= ?1",
    ] {
        connection.prepare_cached(sql)?.execute([last_seq])?;
    }
    Ok(oldest_old()?.is_some())
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
            let ids_ms = 0;
            trim(&connection, Before { events_ms, ids_ms }, 25).unwrap()
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
            while trim(&connection, before, 15).unwrap() {}
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
