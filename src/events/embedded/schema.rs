//! The SQLite schema of the embedded log, and the queries that the writer and the readers share.
//!
//! Events are stored in chunks, because a row and two index entries for each event cost several times as much as the event.
//! Only events that are looked up by their message, or must be unique, have a row in `known`.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use super::cursor::LogId;

/// The kinds of rows in `known`. They are stored, so never renumber them.
pub(super) mod kind {
    /// Any event without a rule of its own.
    pub(in super::super) const OTHER: i64 = 0;
    /// The result of a send, which is looked up by its wire id.
    pub(in super::super) const RESULT: i64 = 1;
    /// A report that must not follow a final one.
    pub(in super::super) const PENDING_REPORT: i64 = 2;
    /// A report after which no other follows.
    pub(in super::super) const FINAL_REPORT: i64 = 3;
}

const VERSION: i64 = 2;

/// How long a connection waits for another one that holds a lock.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// A write-ahead log that was longer is cut to this when it begins anew.
const JOURNAL_BYTES: i64 = 16 * 1024 * 1024;

/// - `log`: one row; `head` is the newest sequence number that was ever trimmed, so that no number is assigned twice.
/// - `chunk`: the events `first_seq..=last_seq`.
/// - `trimmed`: the last sequence number of the events that one trim removed, and when they were appended: their ids are in `known`
///   for longer.
/// - `size`: one row, the bytes of the events `first_seq..=last_seq` when they were counted.
/// - `known`: the ids of events that must be unique. The index begins with the wire id: entries of one message, and of messages
///   of one time, are adjacent, so that the used pages of the index stay in memory however long the log is.
const TABLES: &str = "
    CREATE TABLE log (id INTEGER NOT NULL, head INTEGER NOT NULL);
    CREATE TABLE chunk (
        last_seq INTEGER PRIMARY KEY,
        first_seq INTEGER NOT NULL,
        appended_at_ms INTEGER NOT NULL,
        events BLOB NOT NULL
    );
    CREATE TABLE known (
        seq INTEGER PRIMARY KEY,
        wire_id TEXT NOT NULL,
        id BLOB NOT NULL,
        kind INTEGER NOT NULL,
        digest BLOB
    );
    CREATE UNIQUE INDEX known_by_message ON known (wire_id, id);
    CREATE TABLE subscription (
        application TEXT NOT NULL,
        name TEXT NOT NULL,
        filter BLOB,
        cursor TEXT NOT NULL,
        used_at_ms INTEGER NOT NULL,
        PRIMARY KEY (application, name)
    );
    CREATE TABLE quarantine (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        came_at_ms INTEGER NOT NULL,
        endpoint TEXT NOT NULL,
        content_type TEXT NOT NULL,
        detail TEXT NOT NULL,
        body BLOB NOT NULL
    );
";

/// Opens the file for the writer, and creates the tables of a new one.
pub(super) fn open_for_writing(path: &Path) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(path)?;
    // Fixed once there is a table: a file of an earlier version cannot give free pages back to the disk, and only uses them again.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    // Where the file system has no shared memory, SQLite stays with another mode, without an error.
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
            Some(format!(
                "the file system does not allow a write-ahead log (journal mode {mode}); use a local disk"
            )),
        ));
    }
    // A commit is on the disk when it returns: custody depends on it (P5, docs/RELIABILITY.md).
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update_and_check(None, "journal_size_limit", JOURNAL_BYTES, |_| Ok(()))?;
    // Negative: in KiB. Appends go to the end of the file, and the index has few recent pages.
    connection.pragma_update(None, "cache_size", -2048)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == 0 {
        let transaction = connection.transaction()?;
        transaction.execute_batch(TABLES)?;
        transaction.execute(
            "INSERT INTO log (id, head) VALUES (?1, 0)",
            [rand::random::<u32>()],
        )?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    } else if version != VERSION {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_MISMATCH),
            Some(format!(
                "it has version {version}, this smsbridge writes version {VERSION}"
            )),
        ));
    }
    add_visibility(&connection)?;
    add_trimmed(&connection)?;
    add_raw(&connection)?;
    add_size(&connection)?;
    Ok(connection)
}

/// Adds `size` to a file of a version that did not bound it. The earlier version reads such a file too, so `VERSION` stays.
fn add_size(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS size (
            one INTEGER PRIMARY KEY,
            first_seq INTEGER NOT NULL,
            last_seq INTEGER NOT NULL,
            bytes INTEGER NOT NULL
        )",
    )
}

/// Adds `trimmed` to a file of a version that forgot ids with their events. The earlier version reads such a file too, so `VERSION`
/// stays.
fn add_trimmed(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS trimmed (
            last_seq INTEGER PRIMARY KEY,
            appended_at_ms INTEGER NOT NULL
        )",
    )
}

/// Adds `raw`, the responses of pulls whose rows are not events yet, and the key by which a body is in quarantine once, to a file of a
/// version that had neither. The earlier version reads such a file too, so `VERSION` stays.
fn add_raw(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS raw (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id BLOB NOT NULL UNIQUE,
            rows TEXT NOT NULL,
            content_type TEXT NOT NULL,
            received_at_ms INTEGER NOT NULL,
            body BLOB NOT NULL
        )",
    )?;
    if !connection.column_exists(None, "quarantine", "key")? {
        connection.execute_batch("ALTER TABLE quarantine ADD COLUMN key BLOB")?;
    }
    connection
        .execute_batch("CREATE UNIQUE INDEX IF NOT EXISTS quarantine_by_key ON quarantine (key)")
}

/// Adds the visibility of subscriptions to a file of a version that did not keep it. NULL: the next subscriber decides. The
/// earlier version reads such a file too, so `VERSION` stays.
fn add_visibility(connection: &Connection) -> rusqlite::Result<()> {
    let is_there = connection.column_exists(None, "subscription", "sees_all")?;
    if !is_there {
        connection.execute_batch("ALTER TABLE subscription ADD COLUMN sees_all INTEGER")?;
    }
    Ok(())
}

/// Opens the file for a reader.
pub(super) fn open_for_reading(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.pragma_update(None, "cache_size", -1024)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

pub(super) fn log_id(connection: &Connection) -> rusqlite::Result<LogId> {
    connection
        .query_row("SELECT id FROM log", [], |row| row.get(0))
        .map(LogId)
}

/// The newest sequence number that was ever assigned, or 0.
pub(super) fn head(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row(
        "SELECT max(head, ifnull((SELECT max(last_seq) FROM chunk), 0)) FROM log",
        [],
        |row| row.get(0),
    )
}

/// The newest time at which events were appended. `None` if the log never had any.
pub(super) fn newest_stamp(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let newest_of = |sql: &str| {
        let row = connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        row.optional()
    };
    let newest = newest_of("SELECT appended_at_ms FROM chunk ORDER BY last_seq DESC LIMIT 1")?;
    match newest {
        Some(newest) => Ok(Some(newest)),
        None => newest_of("SELECT appended_at_ms FROM trimmed ORDER BY last_seq DESC LIMIT 1"),
    }
}

/// The position and age of a chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkPlace {
    pub(super) first_seq: i64,
    pub(super) last_seq: i64,
    pub(super) appended_at_ms: i64,
}

/// The first chunk with an event that has this sequence number or a later one.
pub(super) fn chunk_at_or_after(
    connection: &Connection,
    seq: i64,
) -> rusqlite::Result<Option<ChunkPlace>> {
    connection
        .prepare_cached(
            "SELECT first_seq, last_seq, appended_at_ms FROM chunk WHERE last_seq >= ?1
             ORDER BY last_seq LIMIT 1",
        )?
        .query_row(params![seq], |row| {
            Ok(ChunkPlace {
                first_seq: row.get(0)?,
                last_seq: row.get(1)?,
                appended_at_ms: row.get(2)?,
            })
        })
        .optional()
}

/// The sequence number before the first event that was appended at `at_ms` or later.
pub(super) fn seq_before(connection: &Connection, at_ms: i64, head: i64) -> rusqlite::Result<i64> {
    // Append times grow with the sequence numbers, so a binary search needs no index on them.
    let (mut low, mut high) = (0, head);
    while low < high {
        let middle = low + (high - low) / 2;
        match chunk_at_or_after(connection, middle + 1)? {
            Some(chunk) if chunk.appended_at_ms < at_ms => low = chunk.last_seq,
            _ => high = middle,
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        events::{
            EventLog as _, SavedSubscription, SubscriptionKey, SubscriptionStore as _, Visibility,
            embedded::EmbeddedLog,
        },
        ops::metrics::Metrics,
    };

    /// SQLite keeps a database in memory in another mode, as it does where the file system has no shared memory.
    #[test]
    fn a_log_that_cannot_have_a_write_ahead_log_is_not_opened() {
        let error = open_for_writing(Path::new(":memory:")).unwrap_err();
        assert!(error.to_string().contains("write-ahead log"), "{error}");
    }

    #[tokio::test]
    async fn an_old_subscription_has_no_visibility_until_it_is_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.sqlite");
        let earlier = open_for_writing(&path).unwrap();
        let statements = "ALTER TABLE subscription DROP COLUMN sees_all;
            INSERT INTO subscription (application, name, cursor, used_at_ms) VALUES ('ops', 'x', '1-2', 3);";
        earlier.execute_batch(statements).unwrap();
        drop(earlier);

        let log =
            EmbeddedLog::open(folder.path(), Duration::from_secs(60), Metrics::new()).unwrap();
        let key = SubscriptionKey {
            application: "ops".into(),
            name: "x".into(),
        };
        let found = log.find(key.clone()).await.unwrap().unwrap();
        assert_eq!((found.visibility, found.cursor.as_str()), (None, "1-2"));
        for visibility in [Visibility::AllApplications, Visibility::OwnApplication] {
            let saved = SavedSubscription {
                visibility: Some(visibility),
                ..found.clone()
            };
            log.save(saved.clone()).await.unwrap();
            let found = log.find(key.clone()).await.unwrap();
            assert_eq!(found, Some(saved));
        }
        log.close().await;
    }
}
