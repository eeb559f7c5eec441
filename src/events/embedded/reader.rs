//! Reading the embedded log: connections of their own, off the runtime's threads, in bounded batches.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::stream;
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::watch;

use super::{
    super::{
        ContentDigest, EventStream, ReadError, RecordedSend, SavedSubscription, SubscriptionKey,
    },
    cursor::LogId,
    schema::{self, kind},
};
use crate::proto::v1::{self, event::Payload};

/// Events that a reader holds at once at most.
const EVENTS_PER_BATCH: i64 = 256;
/// Connections that are kept open; more are opened while they are needed.
const KEPT_CONNECTIONS: usize = 3;

/// Connections for reading.
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// The oldest sequence number there is, or the one after `head` in an empty log.
    pub(super) async fn oldest(self: &Arc<Self>, head: i64) -> Result<i64, ReadError> {
        let found = self
            .query(|connection| schema::event_at_or_after(connection, 0))
            .await?;
        Ok(found.map_or(head + 1, |(seq, _)| seq))
    }

    /// The sequence number before the first event that was appended at `at_ms` or later.
    pub(super) async fn before(self: &Arc<Self>, at_ms: i64, head: i64) -> Result<i64, ReadError> {
        self.query(move |connection| {
            // Appended times grow with the sequence: a binary search needs no index of its own.
            let (mut low, mut high) = (0, head);
            while low < high {
                let middle = low + (high - low) / 2;
                match schema::event_at_or_after(connection, middle + 1)? {
                    Some((seq, appended)) if appended < at_ms => low = seq,
                    _ => high = middle,
                }
            }
            Ok(low)
        })
        .await
    }

    /// See [`super::super::EventLog::find_sends`].
    pub(super) async fn find_sends(
        self: &Arc<Self>,
        wire_ids: Vec<String>,
    ) -> Result<Vec<Option<RecordedSend>>, ReadError> {
        self.query(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT digest, body FROM event WHERE wire_id = ?1 AND kind = ?2
                 ORDER BY seq DESC LIMIT 1",
            )?;
            wire_ids
                .iter()
                .map(|wire_id| {
                    let row: Option<(Option<ContentDigest>, Vec<u8>)> = query
                        .query_row(params![wire_id, kind::RESULT], |row| {
                            Ok((row.get(0)?, row.get(1)?))
                        })
                        .optional()?;
                    Ok(row.and_then(|(digest, body)| recorded_send(digest?, &body)))
                })
                .collect()
        })
        .await
    }

    /// See [`super::super::EventLog::find_subscription`].
    pub(super) async fn find_subscription(
        self: &Arc<Self>,
        key: SubscriptionKey,
    ) -> Result<Option<SavedSubscription>, ReadError> {
        self.query(move |connection| {
            let row: Option<(Option<Vec<u8>>, String)> = connection
                .query_row(
                    "SELECT filter, cursor FROM subscription WHERE application = ?1 AND name = ?2",
                    params![key.application, key.name],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?;
            Ok(row.map(|(filter, cursor)| SavedSubscription {
                key,
                filter: filter.and_then(|filter| v1::EventFilter::decode(filter.as_slice()).ok()),
                cursor,
            }))
        })
        .await
    }

    /// The events after `after`, at most a batch of them.
    async fn after(
        self: &Arc<Self>,
        id: LogId,
        after: i64,
        end: Option<i64>,
    ) -> Result<(Vec<v1::Event>, i64), ReadError> {
        self.query(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT seq, body FROM event WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3",
            )?;
            let mut rows =
                query.query(params![after, end.unwrap_or(i64::MAX), EVENTS_PER_BATCH])?;
            let mut events = Vec::new();
            let mut last = after;
            while let Some(row) = rows.next()? {
                last = row.get(0)?;
                let body = row.get_ref(1)?;
                match v1::Event::decode(body.as_blob().unwrap_or_default()) {
                    Ok(mut event) => {
                        event.cursor = id.cursor(last);
                        events.push(event);
                    }
                    Err(error) => {
                        tracing::error!(seq = last, %error, "an event can't be decoded: skipped");
                    }
                }
            }
            Ok((events, last))
        })
        .await
    }

    async fn query<R: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Connection) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, ReadError> {
        let readers = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let idle = readers
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            let connection = match idle {
                Some(connection) => connection,
                None => schema::open_for_reading(&readers.path)?,
            };
            let result = query(&connection);
            let mut idle = readers.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if result.is_ok() && idle.len() < KEPT_CONNECTIONS {
                idle.push(connection);
            }
            result
        })
        .await;
        match done {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => Err(ReadError::Unavailable(error.to_string())),
            Err(_) => Err(ReadError::Unavailable("the reading task ended".to_owned())),
        }
    }
}

fn recorded_send(digest: ContentDigest, body: &[u8]) -> Option<RecordedSend> {
    match v1::Event::decode(body).ok()?.payload? {
        Payload::Result(result) => Some(RecordedSend { digest, result }),
        _ => None,
    }
}

/// Reads on from `after`, to `end` or for ever.
pub(super) fn stream(
    readers: Arc<Readers>,
    id: LogId,
    head: watch::Receiver<i64>,
    after: i64,
    end: Option<i64>,
) -> EventStream {
    let state = (readers, head, after);
    Box::pin(stream::try_unfold(
        state,
        move |(readers, mut head, after)| async move {
            loop {
                if end.is_some_and(|end| after >= end) {
                    return Ok(None);
                }
                let head_now = *head.borrow_and_update();
                if after < head_now {
                    let (events, last) = readers.after(id, after, end).await?;
                    if last > after {
                        return Ok(Some((events, (readers, head, last))));
                    }
                    if end.is_some() {
                        return Ok(None);
                    }
                }
                // The writer is gone: the process ends.
                if head.changed().await.is_err() {
                    return Ok(None);
                }
            }
        },
    ))
}
