//! The raw store of the embedded engine: a table in the file of the log.
//!
//! Neighbours: `writer` writes, `events::raw` has the trait.

use std::path::Path;

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{EmbeddedLog, schema, writer::Job};
use crate::events::{
    AppendError, ReadError,
    raw::{RawResponse, RawStore, RowKind, Waiting},
};

/// What is taken next.
#[derive(Default)]
pub(super) struct Taking {
    /// The row that was taken last.
    last: Mutex<i64>,
    /// Notified after each new row.
    kept: Notify,
}

impl RawStore for EmbeddedLog {
    fn keep(&self, response: &RawResponse) -> BoxFuture<'_, Result<(), AppendError>> {
        let response = response.clone();
        async move {
            self.write(|reply| Job::KeepRaw { response, reply }).await?;
            self.taking.kept.notify_one();
            Ok(())
        }
        .boxed()
    }

    fn open(&self) -> BoxFuture<'_, Result<(), AppendError>> {
        *self.taking.last.lock() = 0;
        std::future::ready(Ok(())).boxed()
    }

    fn take(&self) -> BoxFuture<'_, Result<RawResponse, AppendError>> {
        async move {
            loop {
                let last = *self.taking.last.lock();
                let found = self.readers.query(move |file| after(file, last)).await;
                let found = found.map_err(|error| match error {
                    ReadError::Unavailable(cause) => AppendError::Unavailable(cause),
                    other => AppendError::Unavailable(other.to_string()),
                })?;
                if let Some((seq, response)) = found {
                    *self.taking.last.lock() = seq;
                    return Ok(response);
                }
                self.taking.kept.notified().await;
            }
        }
        .boxed()
    }

    fn remove(&self, id: Uuid) -> BoxFuture<'_, Result<(), AppendError>> {
        self.write(move |reply| Job::RemoveRaw { id, reply })
            .boxed()
    }

    fn waiting(&self) -> BoxFuture<'_, Result<Waiting, AppendError>> {
        async move {
            let counted = self.readers.query(count).await;
            counted.map_err(|error| AppendError::Unavailable(error.cause()))
        }
        .boxed()
    }

    /// The log closes the file.
    fn close(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}

fn count(file: &Connection) -> rusqlite::Result<Waiting> {
    let sql = "SELECT count(*), coalesce(sum(length(body)), 0) FROM raw";
    file.query_row(sql, [], |row| {
        let (responses, bytes): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok(Waiting {
            responses: responses.unsigned_abs(),
            bytes: bytes.unsigned_abs(),
        })
    })
}

/// The responses that an embedded log in this folder has, for a process that uses another engine. `None` if it has none, or cannot be read.
pub(super) fn left_over(path: &Path) -> Option<u64> {
    let file = path.is_file().then(|| schema::open_for_reading(path))?;
    let waiting = file.and_then(|file| count(&file)).ok()?;
    (waiting.responses > 0).then_some(waiting.responses)
}

/// The oldest response after a row.
fn after(file: &Connection, seq: i64) -> rusqlite::Result<Option<(i64, RawResponse)>> {
    file.query_row(
        "SELECT seq, id, rows, content_type, received_at_ms, body FROM raw WHERE seq > ?1 ORDER BY seq LIMIT 1",
        [seq],
        |row| {
            let kind: String = row.get(2)?;
            let body: Vec<u8> = row.get(5)?;
            let response = RawResponse {
                id: Uuid::from_bytes(row.get(1)?),
                // Only the names of kinds are written.
                rows: RowKind::parse(&kind).ok_or(rusqlite::Error::InvalidQuery)?,
                content_type: row.get(3)?,
                received_at: Timestamp::from_millisecond(row.get(4)?)
                    .map_err(|_| rusqlite::Error::InvalidQuery)?,
                body: Bytes::from(body),
            };
            Ok((row.get(0)?, response))
        },
    )
    .optional()
}

/// Adds a response. One that is there stays as it is.
pub(super) fn insert(file: &Connection, response: &RawResponse) -> rusqlite::Result<()> {
    file.prepare_cached(
        "INSERT OR IGNORE INTO raw (id, rows, content_type, received_at_ms, body)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        response.id.as_bytes(),
        response.rows.as_str(),
        response.content_type,
        response.received_at.as_millisecond(),
        response.body.as_ref()
    ])?;
    Ok(())
}

pub(super) fn delete(file: &Connection, id: Uuid) -> rusqlite::Result<()> {
    file.prepare_cached("DELETE FROM raw WHERE id = ?1")?
        .execute([id.as_bytes()])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{events::EventLog, ops::metrics::Metrics};

    #[tokio::test]
    async fn responses_that_another_engine_would_not_find_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(EmbeddedLog::left_over(folder.path()), None, "no log");
        let open = || EmbeddedLog::open(folder.path(), Duration::from_hours(1), Metrics::new());
        let log = open().unwrap();
        let response = RawResponse {
            id: Uuid::now_v7(),
            rows: RowKind::Reports,
            content_type: String::new(),
            received_at: Timestamp::now(),
            body: Bytes::from_static(b"{}"),
        };
        assert_eq!(log.waiting().await.unwrap(), Waiting::default());
        log.keep(&response).await.unwrap();
        let one = Waiting {
            responses: 1,
            bytes: 2,
        };
        assert_eq!(log.waiting().await.unwrap(), one);
        EventLog::close(&log).await;
        drop(log);
        assert_eq!(EmbeddedLog::left_over(folder.path()), Some(1));
        let log = open().unwrap();
        log.remove(response.id).await.unwrap();
        EventLog::close(&log).await;
        drop(log);
        assert_eq!(EmbeddedLog::left_over(folder.path()), None);
    }
}
