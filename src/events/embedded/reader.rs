//! Reads the embedded log in bounded batches, on blocking threads and on connections of its own; what is new from memory.
//!
//! Invariant: at most [`CONNECTIONS`] reads are under way; others wait for them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures_util::stream;
use jiff::Timestamp;
use parking_lot::Mutex;
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

use super::{
    super::{ContentDigest, EarlierSend, EventStream, ReadError, RecordedSend},
    chunk::encoded_events,
    cursor::LogId,
    recent::Recent,
    schema::{self, kind},
};
use crate::proto::v1::{self, event::Payload};

/// Maximum number of events in one batch of a reader.
const EVENTS_PER_BATCH: usize = 256;
/// A batch of this size is full, because source payloads can be long and each reader holds one.
const BYTES_PER_BATCH: usize = 1024 * 1024;
/// Reads under way at once, each with a connection.
const CONNECTIONS: usize = 4;
/// How long a read waits for one of them.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Consecutive events that were read at once.
struct Batch {
    /// The first sequence number of the oldest chunk that was found.
    first: Option<i64>,
    events: Vec<v1::Event>,
    /// The last sequence number that it covers.
    last: i64,
    bytes: usize,
}

impl Batch {
    fn after(after: i64) -> Self {
        Self {
            first: None,
            events: Vec::new(),
            last: after,
            bytes: 0,
        }
    }

    /// Adds the events of the next chunk up to `end`; returns whether there is room for more.
    fn add(
        &mut self,
        id: LogId,
        (first_seq, last_seq): (i64, i64),
        encoded: &[u8],
        end: i64,
    ) -> bool {
        // Only the oldest events are ever removed, so the other chunks follow without a gap.
        self.first.get_or_insert(first_seq);
        let after = self.last;
        for (seq, event) in encoded_events(first_seq, encoded) {
            if seq <= after {
                continue;
            }
            let is_full = self.events.len() >= EVENTS_PER_BATCH || self.bytes >= BYTES_PER_BATCH;
            if seq > end || is_full {
                return false;
            }
            self.last = seq;
            self.bytes += event.len();
            match v1::Event::decode(event) {
                Ok(mut event) => {
                    event.cursor = id.cursor(seq);
                    self.events.push(event);
                }
                Err(error) => {
                    tracing::error!(seq, %error, "skipped an event that cannot be decoded");
                }
            }
        }
        // Continue after a damaged chunk.
        self.last = self.last.max(last_seq.min(end));
        true
    }
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
    recent: Arc<Recent>,
    idle: Mutex<Vec<Connection>>,
    places: Arc<Semaphore>,
    #[cfg(test)]
    counts: tests::Counts,
}

impl Readers {
    pub(super) fn new(path: PathBuf, recent: Arc<Recent>) -> Self {
        Self {
            path,
            recent,
            idle: Mutex::new(Vec::new()),
            places: Arc::new(Semaphore::new(CONNECTIONS)),
            #[cfg(test)]
            counts: tests::Counts::default(),
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

    /// One batch of the events after `after`.
    async fn after(
        self: &Arc<Self>,
        id: LogId,
        after: i64,
        end: Option<i64>,
    ) -> Result<Batch, ReadError> {
        let end = end.unwrap_or(i64::MAX);
        if let Some(recent) = self.recent.after(after) {
            let mut batch = Batch::after(after);
            for chunk in recent {
                if !batch.add(id, (chunk.first_seq, chunk.last_seq), &chunk.events, end) {
                    break;
                }
            }
            return Ok(batch);
        }
        self.query(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT first_seq, last_seq, events FROM chunk WHERE last_seq > ?1 ORDER BY last_seq",
            )?;
            let mut chunks = query.query(params![after])?;
            let mut batch = Batch::after(after);
            while let Some(chunk) = chunks.next()? {
                let encoded = chunk.get_ref(2)?.as_blob().unwrap_or_default();
                if !batch.add(id, (chunk.get(0)?, chunk.get(1)?), encoded, end) {
                    break;
                }
            }
            Ok(batch)
        })
        .await
    }

    pub(super) async fn query<R: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Connection) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, ReadError> {
        let place = timeout(CONNECTION_TIMEOUT, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            return Err(ReadError::Unavailable(
                "other readers keep its connections busy".to_owned(),
            ));
        };
        let readers = Arc::clone(self);
        let reading = move || {
            // It ends with the read, although nobody may wait for that any more.
            let _place = place;
            readers.read(query)
        };
        match tokio::task::spawn_blocking(reading).await {
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
        #[cfg(test)]
        self.counts.read();
        let idle = || self.idle.lock();
        let kept = idle().pop();
        let connection = match kept {
            Some(connection) => connection,
            None => {
                #[cfg(test)]
                self.counts.opened();
                schema::open_for_reading(&self.path)?
            }
        };
        let result = query(&connection);
        let mut idle = idle();
        if result.is_ok() && idle.len() < CONNECTIONS {
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

#[cfg(test)]
pub(super) mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use futures_util::StreamExt as _;

    use super::*;
    use crate::{
        events::{EventLog as _, NewEvent, Start, embedded::EmbeddedLog},
        message::id::ApplicationName,
        ops::metrics::Metrics,
    };

    #[derive(Default)]
    pub(in super::super) struct Counts {
        reads: AtomicUsize,
        opened: AtomicUsize,
    }

    impl Counts {
        pub(super) fn read(&self) {
            self.reads.fetch_add(1, Ordering::Relaxed);
        }

        pub(super) fn opened(&self) {
            self.opened.fetch_add(1, Ordering::Relaxed);
        }

        fn get(&self) -> (usize, usize) {
            let get = |count: &AtomicUsize| count.load(Ordering::Relaxed);
            (get(&self.reads), get(&self.opened))
        }
    }

    fn result(n: usize) -> NewEvent {
        let result = Box::new(v1::SendResult {
            message_id: n.to_string(),
            ..v1::SendResult::default()
        });
        let application = ApplicationName::default_application();
        NewEvent::send_result(&application, "", None, result, Timestamp::now())
    }

    /// Before there were chunks in memory, they made 10,000 reads.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn five_hundred_followers_need_no_read_for_each_commit() {
        const FOLLOWERS: usize = 500;
        const COMMITS: usize = 20;
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(folder.path(), Duration::from_secs(60), Metrics::new());
        let log = log.unwrap();
        let mut followers = Vec::new();
        for _ in 0..FOLLOWERS {
            followers.push(log.read(Start::Now, false).await.unwrap());
        }
        for n in 0..COMMITS {
            let waiting = followers.iter_mut().map(|follower| follower.next());
            let (appended, batches) = tokio::join!(
                log.append(Arc::new(vec![result(n)])),
                futures_util::future::join_all(waiting),
            );
            appended.unwrap();
            for batch in batches {
                assert_eq!(batch.unwrap().unwrap().len(), 1);
            }
        }
        let (reads, opened) = log.readers.counts.get();
        assert!(reads <= COMMITS, "{reads} reads, {opened} connections");
        drop(followers);
        log.close().await;
    }

    /// They are behind what is in memory.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn five_hundred_readers_share_a_few_connections() {
        let folder = tempfile::tempdir().unwrap();
        let open = || EmbeddedLog::open(folder.path(), Duration::from_secs(60), Metrics::new());
        let log = open().unwrap();
        log.append(Arc::new((0..100).map(result).collect()))
            .await
            .unwrap();
        log.close().await;
        let log = Arc::new(open().unwrap());
        let reading = (0..500).map(|_| {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                let start = Start::Since(Timestamp::UNIX_EPOCH);
                let mut events = log.read(start, true).await.unwrap();
                events.next().await.unwrap().unwrap().len()
            })
        });
        for read in futures_util::future::join_all(reading).await {
            assert_eq!(read.unwrap(), 100);
        }
        let (reads, opened) = log.readers.counts.get();
        assert!(reads >= 1_000 && opened <= CONNECTIONS, "{reads} {opened}");
        log.close().await;
    }
}
