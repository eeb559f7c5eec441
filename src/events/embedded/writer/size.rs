//! The size of the log: the bytes of all its events. Known without reading them: it is stored with each trim, and what was appended
//! since is added at the start.
//!
//! Neighbours: `trim` removes events, the writer counts what it adds.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::schema;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LogSize {
    pub(super) bytes: u64,
}

impl LogSize {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let saved: Option<(i64, i64, i64)> = connection
            .query_row("SELECT first_seq, last_seq, bytes FROM size", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        // An earlier version may have written the log since, and does not know the table.
        let saved = match saved {
            Some((first_seq, last_seq, bytes))
                if oldest(connection)? == first_seq && ends_chunk(connection, last_seq)? =>
            {
                Some((last_seq, bytes))
            }
            _ => None,
        };
        let (last_seq, bytes) = saved.unwrap_or((0, 0));
        // The length of a blob is in its row: the events themselves are not read.
        let more: i64 = connection.query_row(
            "SELECT ifnull(sum(length(events)), 0) FROM chunk WHERE last_seq > ?1",
            [last_seq],
            |row| row.get(0),
        )?;
        Ok(Self {
            bytes: u64::try_from(bytes.saturating_add(more)).unwrap_or(0),
        })
    }

    /// Stores it. Every event up to `last_seq` must be in the log or removed.
    pub(super) fn save(self, connection: &Connection, last_seq: i64) -> rusqlite::Result<()> {
        let bytes = i64::try_from(self.bytes).unwrap_or(i64::MAX);
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO size (one, first_seq, last_seq, bytes) VALUES (1, ?1, ?2, ?3)",
            )?
            .execute(params![oldest(connection)?, last_seq, bytes])?;
        Ok(())
    }

    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    pub(super) fn remove(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// The oldest sequence number in the log, or 0.
fn oldest(connection: &Connection) -> rusqlite::Result<i64> {
    let found = schema::chunk_at_or_after(connection, 0)?;
    Ok(found.map_or(0, |chunk| chunk.first_seq))
}

fn ends_chunk(connection: &Connection, last_seq: i64) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM chunk WHERE last_seq = ?1")?
        .exists([last_seq])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        events::embedded::{chunk::Chunk, writer::write_chunk},
        proto::v1,
    };

    #[test]
    fn what_was_stored_is_used_only_if_it_is_of_this_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.sqlite");
        let connection = schema::open_for_writing(&path).unwrap();
        let size = || LogSize::load(&connection).unwrap().bytes;
        assert_eq!(size(), 0);
        let mut chunk = Chunk::after(0, Vec::new());
        for _ in 0..3 {
            let id = "x".repeat(98);
            let event = v1::Event {
                id,
                ..v1::Event::default()
            };
            chunk.push(&event);
            chunk = write_chunk(&connection, chunk, 1).unwrap();
        }
        assert_eq!(size(), 303);
        // One that is wrong, to tell where it comes from.
        LogSize { bytes: 1_000 }.save(&connection, 2).unwrap();
        assert_eq!(size(), 1_101);
        LogSize { bytes: 1_000 }.save(&connection, 3).unwrap();
        assert_eq!(size(), 1_000);
        connection
            .execute("DELETE FROM chunk WHERE last_seq = 1", [])
            .unwrap();
        assert_eq!(size(), 202, "another version removed events");
    }
}
