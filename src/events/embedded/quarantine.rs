//! The quarantine of the embedded engine: a table in the file of the log.
//!
//! Invariants: its size is bounded: a body that does not fit is refused, so that its sender repeats it; parts of a body that was there
//! take its place even then. What is older than the limit is removed, which is logged and counted.
//! Neighbours: `writer` writes, `events::quarantine` has the trait.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tokio::time::Instant;
use uuid::Uuid;

use super::{EmbeddedLog, writer::Job};
use crate::{
    events::{
        AppendError, ReadError,
        quarantine::{
            Kept, ListPage, Listed, Origin, Quarantine, Quarantined, Source, Verdict, VisitError,
            Visitor, Wanted,
        },
    },
    ops::metrics::Metrics,
};

/// The most that all bodies may take.
const MAX_BYTES: i64 = 256 * 1024 * 1024;
/// How long a body is kept at least: the retention of events, if that is longer.
pub(super) const AGE: Duration = Duration::from_hours(30 * 24);
/// Bodies that one step removes because they are too old.
const EXPIRED_AT_ONCE: i64 = 100;
/// What a row takes, in bytes, besides what is in it.
const SIZE: &str = "(length(body) + length(detail) + 512)";
const COLUMNS: &str =
    "key, came_at_ms, endpoint, content_type, detail, source, is_row, application, request";

/// Adds the columns of a version that could not replay to a file of one that could not, and an id where there was none. The earlier
/// version reads such a file too, so the version of the file stays.
pub(super) fn add_columns(connection: &Connection) -> rusqlite::Result<()> {
    for (name, of_type) in [
        ("source", "TEXT"),
        ("is_row", "INTEGER"),
        ("application", "TEXT"),
        ("request", "TEXT"),
    ] {
        if !connection.column_exists(None, "quarantine", name)? {
            let sql = format!("ALTER TABLE quarantine ADD COLUMN {name} {of_type}");
            connection.execute_batch(&sql)?;
        }
    }
    connection.execute_batch(
        "UPDATE quarantine SET key = randomblob(16) WHERE key IS NULL;
         CREATE INDEX IF NOT EXISTS quarantine_by_time ON quarantine (came_at_ms)",
    )
}

/// How much is in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    bodies: i64,
    bytes: i64,
    max_bytes: i64,
}

impl Usage {
    pub(super) fn of(file: &Connection) -> rusqlite::Result<Self> {
        let sql = format!("SELECT count(*), ifnull(sum({SIZE}), 0) FROM quarantine");
        file.query_row(&sql, [], |row| {
            Ok(Self {
                bodies: row.get(0)?,
                bytes: row.get(1)?,
                max_bytes: MAX_BYTES,
            })
        })
    }

    pub(super) fn report(&self, metrics: &Metrics) {
        metrics.quarantine_bodies(self.bodies);
        metrics.quarantine_bytes(self.bytes, self.max_bytes);
    }

    /// Adds a body that is not there yet. `false`: there is no space for it.
    pub(super) fn add(
        &mut self,
        file: &Connection,
        body: &Quarantined,
        at_ms: i64,
    ) -> rusqlite::Result<bool> {
        let mut added = *self;
        added.insert(file, body, at_ms)?;
        if added.bytes > self.max_bytes && added != *self {
            // Takes it back.
            let sql = "DELETE FROM quarantine WHERE key = ?1";
            file.prepare_cached(sql)?.execute([body.id.as_bytes()])?;
            return Ok(false);
        }
        *self = added;
        Ok(true)
    }

    /// Removes a body, if it is there, and puts these in its place.
    pub(super) fn replace(
        &mut self,
        file: &Connection,
        row: i64,
        parts: &[Quarantined],
    ) -> rusqlite::Result<()> {
        let sql = format!("DELETE FROM quarantine WHERE id = ?1 RETURNING came_at_ms, {SIZE}");
        let removed: Option<(i64, i64)> = file
            .prepare_cached(&sql)?
            .query_row([row], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((came_at_ms, bytes)) = removed else {
            return Ok(());
        };
        self.bodies -= 1;
        self.bytes -= bytes;
        for part in parts {
            self.insert(file, part, came_at_ms)?;
        }
        Ok(())
    }

    /// Removes some of the bodies that came before a time. Returns how many.
    pub(super) fn expire(&mut self, file: &Connection, before_ms: i64) -> rusqlite::Result<i64> {
        let sql = format!(
            "DELETE FROM quarantine WHERE id IN
                 (SELECT id FROM quarantine WHERE came_at_ms < ?1 ORDER BY came_at_ms LIMIT {EXPIRED_AT_ONCE})
             RETURNING {SIZE}"
        );
        let mut expiring = file.prepare_cached(&sql)?;
        let sizes = expiring.query_map([before_ms], |row| row.get::<_, i64>(0))?;
        let mut removed = 0;
        for size in sizes {
            self.bytes -= size?;
            removed += 1;
        }
        self.bodies -= removed;
        Ok(removed)
    }

    /// Whether more may be too old than one step removes.
    pub(super) fn is_more_expired(removed: i64) -> bool {
        removed >= EXPIRED_AT_ONCE
    }

    #[cfg(test)]
    pub(super) fn limited_to(self, max_bytes: i64) -> Self {
        Self { max_bytes, ..self }
    }

    fn insert(
        &mut self,
        file: &Connection,
        body: &Quarantined,
        at_ms: i64,
    ) -> rusqlite::Result<()> {
        let sql = format!(
            "INSERT OR IGNORE INTO quarantine ({COLUMNS}, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) RETURNING {SIZE}"
        );
        let origin = &body.origin;
        let size: Option<i64> = file
            .prepare_cached(&sql)?
            .query_row(
                params![
                    body.id.as_bytes(),
                    at_ms,
                    origin.endpoint,
                    body.content_type,
                    body.detail,
                    origin.source.name(),
                    origin.is_row,
                    origin.application,
                    origin.request,
                    body.body.as_ref(),
                ],
                |row| row.get(0),
            )
            .optional()?;
        if let Some(size) = size {
            self.bodies += 1;
            self.bytes += size;
        }
        Ok(())
    }
}

impl Quarantine for EmbeddedLog {
    fn add(&self, body: Quarantined) -> BoxFuture<'_, Result<(), AppendError>> {
        self.write(|reply| Job::Quarantine { body, reply }).boxed()
    }

    fn list(&self, page: ListPage, _until: Instant) -> BoxFuture<'_, Result<Listed, VisitError>> {
        async move {
            let after: i64 = match page.token.as_str() {
                "" => 0,
                token => token.parse().map_err(|_| VisitError::BadPageToken)?,
            };
            let limit = page.limit;
            let listed = self
                .readers
                .query(move |file| heads(file, after, limit + 1));
            let mut found = listed.await.map_err(unavailable)?;
            let has_more = found.len() > limit;
            found.truncate(limit);
            let next = found.last().filter(|_| has_more);
            Ok(Listed {
                next_token: next.map(|(row, _)| row.to_string()).unwrap_or_default(),
                bodies: found.into_iter().map(|(_, kept)| kept).collect(),
            })
        }
        .boxed()
    }

    fn visit<'a>(
        &'a self,
        wanted: Wanted,
        until: Instant,
        visitor: &'a mut dyn Visitor,
    ) -> BoxFuture<'a, Result<(), VisitError>> {
        async move {
            let rows = self.readers.query(move |file| rows(file, &wanted));
            for row in rows.await.map_err(unavailable)? {
                if visitor.is_done() {
                    break;
                }
                if Instant::now() >= until {
                    return Err(VisitError::TimeUp);
                }
                let found = self.readers.query(move |file| whole(file, row));
                let Some(kept) = found.await.map_err(unavailable)? else {
                    continue;
                };
                if let Verdict::Replaced(parts) = visitor.see(kept).await? {
                    let replaced =
                        self.write(|reply| Job::ReplaceQuarantined { row, parts, reply });
                    replaced.await?;
                    visitor.removed();
                }
            }
            Ok(())
        }
        .boxed()
    }
}

fn unavailable(error: ReadError) -> VisitError {
    VisitError::Unavailable(error.cause())
}

/// The rows that a visitor wants to see.
fn rows(file: &Connection, wanted: &Wanted) -> rusqlite::Result<Vec<i64>> {
    let Wanted::Ids(ids) = wanted else {
        let mut all = file.prepare_cached("SELECT id FROM quarantine ORDER BY id")?;
        return all.query_map([], |row| row.get(0))?.collect();
    };
    let mut one = file.prepare_cached("SELECT id FROM quarantine WHERE key = ?1")?;
    let mut rows = Vec::new();
    for id in ids {
        let row: Option<i64> = one
            .query_row([id.as_bytes()], |row| row.get(0))
            .optional()?;
        rows.extend(row);
    }
    rows.sort_unstable();
    Ok(rows)
}

/// Bodies without their bytes, and their rows.
fn heads(file: &Connection, after: i64, limit: usize) -> rusqlite::Result<Vec<(i64, Kept)>> {
    let sql = format!(
        "SELECT {COLUMNS}, length(body), id FROM quarantine WHERE id > ?1 ORDER BY id LIMIT ?2"
    );
    let mut query = file.prepare_cached(&sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let found = query.query_map(params![after, limit], |row| {
        let bytes: i64 = row.get(9)?;
        let bytes = usize::try_from(bytes).unwrap_or_default();
        let kept = kept(row, Bytes::new(), bytes)?;
        Ok((row.get(10)?, kept))
    })?;
    found.collect()
}

fn whole(file: &Connection, row: i64) -> rusqlite::Result<Option<Kept>> {
    let sql = format!("SELECT {COLUMNS}, body FROM quarantine WHERE id = ?1");
    file.prepare_cached(&sql)?
        .query_row([row], |row| {
            let body = Bytes::from(row.get::<_, Vec<u8>>(9)?);
            let bytes = body.len();
            kept(row, body, bytes)
        })
        .optional()
}

fn kept(row: &Row<'_>, body: Bytes, bytes: usize) -> rusqlite::Result<Kept> {
    let endpoint: String = row.get(2)?;
    let source: Option<String> = row.get(5)?;
    let text = |column: usize| -> rusqlite::Result<String> {
        Ok(row.get::<_, Option<String>>(column)?.unwrap_or_default())
    };
    Ok(Kept {
        quarantined: Quarantined {
            id: Uuid::from_bytes(row.get(0)?),
            origin: Origin {
                endpoint: endpoint.into(),
                source: source.as_deref().map(Source::parse).unwrap_or_default(),
                is_row: row.get::<_, Option<bool>>(6)?.unwrap_or_default(),
                application: text(7)?,
                request: text(8)?,
            },
            content_type: row.get(3)?,
            detail: row.get(4)?,
            body,
        },
        came_at: Timestamp::from_millisecond(row.get(1)?).ok(),
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::embedded::schema;

    fn body(id: u128, bytes: usize) -> Quarantined {
        Quarantined {
            id: Uuid::from_u128(id),
            origin: Origin::default(),
            content_type: "text/plain".into(),
            body: vec![b'x'; bytes].into(),
            detail: String::new(),
        }
    }

    fn quarantine() -> (tempfile::TempDir, Connection, Usage) {
        let folder = tempfile::tempdir().unwrap();
        let file = schema::open_for_writing(&folder.path().join("events.sqlite")).unwrap();
        let usage = Usage::of(&file).unwrap();
        (folder, file, usage)
    }

    fn ids(file: &Connection) -> Vec<u128> {
        let heads = heads(file, 0, 100).unwrap();
        let ids = heads.into_iter().map(|(_, kept)| kept.quarantined.id);
        ids.map(|id| id.as_u128()).collect()
    }

    #[test]
    fn a_body_that_does_not_fit_is_refused_unless_it_is_there() {
        let (_folder, file, mut usage) = quarantine();
        usage.max_bytes = 10_000;
        assert!(usage.add(&file, &body(1, 4000), 1).unwrap());
        assert!(usage.add(&file, &body(2, 4000), 2).unwrap());
        for _ in 0..2 {
            assert!(!usage.add(&file, &body(3, 4000), 3).unwrap());
            assert!(usage.add(&file, &body(1, 4000), 4).unwrap());
        }
        assert_eq!(ids(&file), [1, 2]);
        // What takes the place of a body is not refused: the rest of it is events already.
        usage.replace(&file, 1, &[body(4, 9000)]).unwrap();
        assert_eq!(ids(&file), [2, 4]);
        assert!(!usage.add(&file, &body(3, 0), 3).unwrap());
        let row = 2;
        usage.replace(&file, row, &[]).unwrap();
        usage.replace(&file, row, &[body(5, 1)]).unwrap();
        assert_eq!(ids(&file), [4], "it was replaced before");
        let counted = Usage::of(&file).unwrap();
        assert_eq!((usage.bodies, usage.bytes), (counted.bodies, counted.bytes));
    }

    #[test]
    fn old_bodies_are_removed_in_steps() {
        let (_folder, file, mut usage) = quarantine();
        for id in 0..250_u32 {
            assert!(usage.add(&file, &body(id.into(), 1), id.into()).unwrap());
        }
        for left in [100, 100, 49, 0] {
            let removed = usage.expire(&file, 249).unwrap();
            assert_eq!(removed, left);
            assert_eq!(Usage::is_more_expired(removed), left == 100);
        }
        assert_eq!((ids(&file), usage), (vec![249], Usage::of(&file).unwrap()));
    }

    #[test]
    fn a_part_keeps_the_time_of_its_body() {
        let (_folder, file, mut usage) = quarantine();
        usage.add(&file, &body(1, 1), 1_000).unwrap();
        usage.replace(&file, 1, &[body(2, 1)]).unwrap();
        let (_, part) = heads(&file, 0, 1).unwrap().remove(0);
        assert_eq!(part.came_at, Timestamp::from_millisecond(1_000).ok());
    }

    #[test]
    fn bodies_of_an_earlier_version_get_an_id() {
        let (folder, file, _) = quarantine();
        let statements = "ALTER TABLE quarantine DROP COLUMN source;
            ALTER TABLE quarantine DROP COLUMN is_row;
            ALTER TABLE quarantine DROP COLUMN application;
            ALTER TABLE quarantine DROP COLUMN request;
            INSERT INTO quarantine (came_at_ms, endpoint, content_type, detail, body)
            VALUES (1, 'reports', 'a/b', 'd', x'78'), (2, 'clicks', 'a/b', 'd', x'79')";
        file.execute_batch(statements).unwrap();
        drop(file);
        let again = || schema::open_for_writing(&folder.path().join("events.sqlite")).unwrap();
        let found = ids(&again());
        assert_eq!((found.len(), found == ids(&again())), (2, true));
        assert_ne!(found[0], found[1]);
        let kept = whole(&again(), 1).unwrap().unwrap();
        assert_eq!(kept.quarantined.origin.source, Source::Unknown);
        assert_eq!(kept.quarantined.body.as_ref(), b"x");
    }
}
