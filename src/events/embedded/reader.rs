//! Reads the embedded log in bounded batches, on blocking threads and on connections of its own.

use std::{path::PathBuf, sync::Arc};

use futures_util::stream;
use jiff::Timestamp;
use parking_lot::Mutex;
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::watch;

use super::{
    super::{
        ContentDigest, EarlierSend, EventStream, ReadError, RecordedSend, SavedSubscription,
        SubscriptionKey, Visibility,
    },
    chunk::encoded_events,
    cursor::LogId,
    schema::{self, kind},
};
use crate::proto::v1::{self, event::Payload};

/// Maximum number of events in one batch of a reader.
const EVENTS_PER_BATCH: usize = 256;
/// A batch of this size is full, because source payloads can be long and each reader holds one.
const BYTES_PER_BATCH: usize = 1024 * 1024;
/// Idle connections that are kept open. More are opened on demand.
const KEPT_CONNECTIONS: usize = 3;

/// Consecutive events that were read at once.
struct Batch {
    /// The first sequence number of the oldest chunk that was found.
    first: Option<i64>,
    events: Vec<v1::Event>,
    /// The last sequence number that it covers.
    last: i64,
}

/// Where a reader is in the log.
#[derive(Clone, Copy)]
pub(super) struct Position {
    /// The next event is the one after this sequence number.
    pub(super) after: i64,
    /// Whether the next event may be a later one, because the reader asked for no particular one. Otherwise that is a gap: the
    /// events in between were removed before they were read.
    pub(super) may_skip: bool,
}

/// A pool of read-only connections.
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

    /// The oldest sequence number in the log, or the one after `head` if the log is empty.
    pub(super) async fn oldest(self: &Arc<Self>, head: i64) -> Result<i64, ReadError> {
        let found = self
            .query(|connection| schema::chunk_at_or_after(connection, 0))
            .await?;
        Ok(found.map_or(head + 1, |chunk| chunk.first_seq))
    }

    /// The sequence number before the first event that was appended at `at_ms` or later.
    pub(super) async fn before(self: &Arc<Self>, at_ms: i64, head: i64) -> Result<i64, ReadError> {
        self.query(move |connection| schema::seq_before(connection, at_ms, head))
            .await
    }

    /// See [`super::super::SubscriptionStore::find`].
    pub(super) async fn find_subscription(
        self: &Arc<Self>,
        key: SubscriptionKey,
    ) -> Result<Option<SavedSubscription>, ReadError> {
        self.query(move |connection| {
            let row: Option<(Option<Vec<u8>>, String, Option<bool>)> = connection
                .query_row(
                    "SELECT filter, cursor, sees_all FROM subscription WHERE application = ?1 AND name = ?2",
                    params![key.application, key.name],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                )
                .optional()?;
            Ok(row.map(|(filter, cursor, sees_all)| SavedSubscription {
                key,
                visibility: sees_all.map(|sees_all| {
                    if sees_all {
                        Visibility::AllApplications
                    } else {
                        Visibility::OwnApplication
                    }
                }),
                filter: filter.and_then(|filter| v1::EventFilter::decode(filter.as_slice()).ok()),
                cursor,
            }))
        })
        .await
    }

    /// See [`super::super::SubscriptionStore::count`].
    pub(super) async fn count_subscriptions(
        self: &Arc<Self>,
        application: String,
    ) -> Result<usize, ReadError> {
        self.query(move |connection| {
            let sql = "SELECT count(*) FROM subscription WHERE application = ?1";
            let count: u32 = connection.query_row(sql, [application], |row| row.get(0))?;
            Ok(count as usize)
        })
        .await
    }

    /// One batch of the events after `after`.
    async fn after(
        self: &Arc<Self>,
        id: LogId,
        after: i64,
        end: Option<i64>,
    ) -> Result<Batch, ReadError> {
        self.query(move |connection| {
            let end = end.unwrap_or(i64::MAX);
            let mut first = None;
            let mut query = connection.prepare_cached(
                "SELECT first_seq, last_seq, events FROM chunk WHERE last_seq > ?1 ORDER BY last_seq",
            )?;
            let mut chunks = query.query(params![after])?;
            let mut events = Vec::new();
            let mut last = after;
            let mut bytes = 0;
            'chunks: while let Some(chunk) = chunks.next()? {
                let (first_seq, last_seq): (i64, i64) = (chunk.get(0)?, chunk.get(1)?);
                // Only the oldest events are ever removed, so the other chunks follow without a gap.
                first.get_or_insert(first_seq);
                let encoded = chunk.get_ref(2)?.as_blob().unwrap_or_default();
                for (seq, event) in encoded_events(first_seq, encoded) {
                    if seq <= after {
                        continue;
                    }
                    let is_full = events.len() >= EVENTS_PER_BATCH || bytes >= BYTES_PER_BATCH;
                    if seq > end || is_full {
                        break 'chunks;
                    }
                    last = seq;
                    bytes += event.len();
                    match v1::Event::decode(event) {
                        Ok(mut event) => {
                            event.cursor = id.cursor(seq);
                            events.push(event);
                        }
                        Err(error) => {
                            tracing::error!(seq, %error, "skipped an event that cannot be decoded");
                        }
                    }
                }
                // Continue after a damaged chunk.
                last = last.max(last_seq.min(end));
            }
            Ok(Batch {
                first,
                events,
                last,
            })
        })
        .await
    }

    pub(super) async fn query<R: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Connection) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, ReadError> {
        let readers = Arc::clone(self);
        match tokio::task::spawn_blocking(move || readers.read(query)).await {
            Ok(result) => result.map_err(|error| unavailable(&error)),
            Err(_) => Err(ReadError::Unavailable(
                "the reading task panicked".to_owned(),
            )),
        }
    }

    /// Runs a query on one of the connections. Blocks.
    pub(super) fn read<R>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<R>,
    ) -> rusqlite::Result<R> {
        let idle = || self.idle.lock();
        let kept = idle().pop();
        let connection = match kept {
            Some(connection) => connection,
            None => schema::open_for_reading(&self.path)?,
        };
        let result = query(&connection);
        let mut idle = idle();
        if result.is_ok() && idle.len() < KEPT_CONNECTIONS {
            idle.push(connection);
        }
        result
    }
}

pub(super) fn unavailable(error: &rusqlite::Error) -> ReadError {
    ReadError::Unavailable(error.to_string())
}

/// An earlier send that its caller can repeat. If its result was removed with the old events, it is in doubt: the API's logs may
/// have it.
pub(super) fn find_send(
    connection: &Connection,
    wire_id: &str,
) -> rusqlite::Result<Option<EarlierSend>> {
    let found: Option<(Option<ContentDigest>, i64)> = connection
        .prepare_cached(
            "SELECT digest, seq FROM known WHERE wire_id = ?1 AND kind = ?2
             ORDER BY seq DESC LIMIT 1",
        )?
        .query_row(params![wire_id, kind::RESULT], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((Some(digest), seq)) = found else {
        return Ok(None);
    };
    if let Some(result) = result(connection, seq)? {
        let recorded = RecordedSend { digest, result };
        return Ok(Some(EarlierSend::Done(Box::new(recorded))));
    }
    let is_removed: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM trimmed WHERE last_seq >= ?1)")?
        .query_row([seq], |row| row.get(0))?;
    if !is_removed {
        return Ok(None);
    }
    // One step may remove events of several days. None of them is older than what the step before removed; the age of the first step's
    // is not known, so they count as too old to be sent again.
    let appended_after_ms: Option<i64> = connection
        .prepare_cached(
            "SELECT appended_at_ms FROM trimmed WHERE last_seq < ?1 ORDER BY last_seq DESC LIMIT 1",
        )?
        .query_row([seq], |row| row.get(0))
        .optional()?;
    let at = Timestamp::from_millisecond(appended_after_ms.unwrap_or(0)).unwrap_or_default();
    Ok(Some(EarlierSend::Interrupted { at, digest }))
}

/// The result in the event with this sequence number.
fn result(connection: &Connection, seq: i64) -> rusqlite::Result<Option<Box<v1::SendResult>>> {
    Ok(
        event(connection, seq)?.and_then(|event| match event.payload? {
            Payload::Result(result) => Some(result),
            _ => None,
        }),
    )
}

/// The event with this sequence number, without its cursor. `None` if it was removed.
pub(super) fn event(connection: &Connection, seq: i64) -> rusqlite::Result<Option<v1::Event>> {
    let mut query = connection.prepare_cached(
        "SELECT first_seq, events FROM chunk WHERE last_seq >= ?1 ORDER BY last_seq LIMIT 1",
    )?;
    let mut chunks = query.query(params![seq])?;
    let Some(chunk) = chunks.next()? else {
        return Ok(None);
    };
    let encoded = chunk.get_ref(1)?.as_blob().unwrap_or_default();
    let event = encoded_events(chunk.get(0)?, encoded).find(|(of, _)| *of == seq);
    Ok(event.and_then(|(_, event)| v1::Event::decode(event).ok()))
}

/// Streams the events after a position, up to `end` or without end. Ends with [`ReadError::OutOfRange`] where events are removed
/// before they are read.
pub(super) fn stream(
    readers: Arc<Readers>,
    id: LogId,
    head: watch::Receiver<i64>,
    position: Position,
    end: Option<i64>,
) -> EventStream {
    let state = (readers, head, position);
    Box::pin(stream::try_unfold(
        state,
        move |(readers, mut head, position)| async move {
            let Position { after, may_skip } = position;
            loop {
                if end.is_some_and(|end| after >= end) {
                    return Ok(None);
                }
                let head_now = *head.borrow_and_update();
                if after < head_now {
                    let batch = readers.after(id, after, end).await?;
                    // If there is no chunk, every event up to the head was removed.
                    let oldest = batch.first.unwrap_or(head_now + 1);
                    if oldest > after + 1 && !may_skip {
                        return Err(ReadError::OutOfRange {
                            cursor: id.cursor(after),
                            oldest_cursor: id.cursor(oldest - 1),
                        });
                    }
                    if batch.last > after {
                        let next = Position {
                            after: batch.last,
                            may_skip: false,
                        };
                        return Ok(Some((batch.events, (readers, head, next))));
                    }
                    if end.is_some() {
                        return Ok(None);
                    }
                }
                // The writer has ended: the process shuts down.
                if head.changed().await.is_err() {
                    return Ok(None);
                }
            }
        },
    ))
}
