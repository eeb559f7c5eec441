//! Bounds the write-ahead log. SQLite begins it anew when all of it is in the database and nobody reads it; where some reader is always
//! on, that moment does not come by itself.
//!
//! Neighbour: the writer asks after each commit.

use std::{ffi::OsString, fs, path::PathBuf, time::Duration};

use rusqlite::Connection;

use super::super::schema::BUSY_TIMEOUT;

/// Readers are waited for when it is this much longer than when they were waited for last.
const STEP: u64 = 16 * 1024 * 1024;
/// How long. A read has a bounded number of events.
const WAIT: Duration = Duration::from_secs(1);

pub(super) struct Wal {
    path: PathBuf,
    /// The length at which readers are waited for.
    limit: u64,
}

impl Wal {
    pub(super) fn of(database: &Connection) -> Self {
        let mut name = OsString::from(database.path().unwrap_or_default());
        name.push("-wal");
        Self {
            path: name.into(),
            limit: STEP,
        }
    }

    fn length(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |found| found.len())
    }

    /// Moves it into the database if it is long, and waits for readers so that it begins anew.
    pub(super) fn bound(&mut self, connection: &Connection) {
        let length = self.length();
        if length < self.limit {
            return;
        }
        // A new one begins where readers are on the database alone; it is cut by `journal_size_limit` then.
        self.limit = match checkpoint(connection, "RESTART") {
            Ok(true) => STEP,
            Ok(false) | Err(_) => length,
        } + STEP;
    }
}

/// Moves it into the database and empties the file; returns whether no reader was in the way.
pub(super) fn empty(connection: &Connection) -> rusqlite::Result<bool> {
    checkpoint(connection, "TRUNCATE")
}

fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<bool> {
    connection.busy_timeout(WAIT)?;
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    let is_busy = connection.query_row(&sql, [], |row| row.get::<_, bool>(0));
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(!is_busy?)
}
