//! The tables of the embedded log.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use super::cursor::LogId;

/// What an event is to the log; stored, so never renumbered.
pub(super) mod kind {
    /// Anything without a rule of its own.
    pub(in super::super) const OTHER: i64 = 0;
    /// A result: found again by its wire id.
    pub(in super::super) const RESULT: i64 = 1;
    /// A report that must not follow a final one.
    pub(in super::super) const PENDING_REPORT: i64 = 2;
    /// A report after which nothing happens.
    pub(in super::super) const FINAL_REPORT: i64 = 3;
}

const VERSION: i64 = 1;

const TABLES: &str = "
    CREATE TABLE log (id INTEGER NOT NULL);
    CREATE TABLE event (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id BLOB NOT NULL UNIQUE,
        appended_at_ms INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        wire_id TEXT,
        digest BLOB,
        body BLOB NOT NULL
    );
    CREATE INDEX event_by_wire_id ON event (wire_id, kind) WHERE wire_id IS NOT NULL;
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

/// Opens the file for the writer and makes what is missing.
pub(super) fn open_for_writing(path: &Path) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Every commit is on the disk when it returns: custody rests on it (promise 5).
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -4096)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == 0 {
        let transaction = connection.transaction()?;
        transaction.execute_batch(TABLES)?;
        transaction.execute("INSERT INTO log (id) VALUES (?1)", [rand::random::<u32>()])?;
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
    Ok(connection)
}

/// Opens the file for a reader.
pub(super) fn open_for_reading(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.pragma_update(None, "cache_size", -1024)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    Ok(connection)
}

/// The log's id.
pub(super) fn log_id(connection: &Connection) -> rusqlite::Result<LogId> {
    connection
        .query_row("SELECT id FROM log", [], |row| row.get(0))
        .map(LogId)
}

/// The newest sequence number that was ever given, 0 for none.
pub(super) fn head(connection: &Connection) -> rusqlite::Result<i64> {
    let head = connection
        .query_row(
            "SELECT seq FROM sqlite_sequence WHERE name = 'event'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    Ok(head.unwrap_or(0))
}

/// The first sequence number not below `seq` and when it was appended.
pub(super) fn event_at_or_after(
    connection: &Connection,
    seq: i64,
) -> rusqlite::Result<Option<(i64, i64)>> {
    connection
        .prepare_cached(
            "SELECT seq, appended_at_ms FROM event WHERE seq >= ?1 ORDER BY seq LIMIT 1",
        )?
        .query_row(params![seq], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}
