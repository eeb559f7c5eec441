//! The embedded engine of the event log: an SQLite file in `events.data_dir`, written by one thread in group commits.
//!
//! Invariants: an append returns after the fsync of its transaction (P5); each event id is in the log once (the bridge makes
//! the ids of other results itself, so they are unique); a pending report is not written after a final one of the same
//! message (P6); sequence numbers only grow, so that cursors stay valid. A lock file keeps other processes out of the folder.
//! Neighbours: `events` has the trait, `app` opens it.

mod chunk;
mod cursor;
mod health;
mod log_clock;
mod lookup_batcher;
mod maintenance;
mod message;
mod private;
mod raw_store;
mod reader;
mod recent;
mod reserve;
mod schema;
mod send_journal;
mod subscriptions;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use self::{
    cursor::LogId,
    health::Health,
    log_clock::{LogClock, Reading},
    lookup_batcher::LookupBatcher,
    raw_store::Taking,
    reader::{Position, Readers},
    recent::Recent,
    reserve::Reserve,
    send_journal::JournalFile,
    writer::{Head, Job, Writer},
};
use super::{
    AppendError, Batch, BeginSends, ContentDigest, EarlierSends, EventLog, EventStream,
    MessageEvents, MessageKey, Quarantine, Quarantined, ReadError, SendJournal, Start, Storage,
};
use crate::ops::{kill_point, metrics::Metrics};

/// The name of the file in the folder.
const FILE: &str = "events.sqlite";
/// The name of the task that writes.
const WRITER: &str = "event log";

/// Length of the queue to the writer. Callers wait while it is full.
const MAX_QUEUED_JOBS: usize = 1024;
/// How long ids, final reports and begun sends are at least remembered, however short the retention is: the API repeats pushes for
/// 41.5 hours, and its logs tell the outcome of a send for 48.
const MEMORY: Duration = Duration::from_hours(48);

/// Why the embedded log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be created or written.
    #[error("cannot use the folder {path} for events (events.data_dir): {source}")]
    Folder {
        path: PathBuf,
        source: std::io::Error,
    },
    /// Another process uses the folder.
    #[error(
        "the folder {path} (events.data_dir) is in use by another smsbridge: stop that one or choose another folder"
    )]
    InUse { path: PathBuf },
    /// The file is damaged, has another version, or is not a database.
    #[error(
        "cannot open the event log {path}: {detail}; move the file away to start with an empty log"
    )]
    Database { path: PathBuf, detail: String },
}

/// How much of the log is kept. The ids of what is removed are remembered for longer ([`MEMORY`]).
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    pub age: Duration,
    /// The bytes of all events. `None`: no limit.
    pub bytes: Option<u64>,
}

impl From<Duration> for Retention {
    fn from(age: Duration) -> Self {
        Self { age, bytes: None }
    }
}

pub struct EmbeddedLog {
    id: LogId,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    head: watch::Receiver<i64>,
    readers: Arc<Readers>,
    lookups: Arc<LookupBatcher>,
    health: Arc<Health>,
    taking: Taking,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
    trimmer: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl EmbeddedLog {
    /// How many responses of pulls wait in the log of this folder, which another engine does not find. `None` if there are none, or it
    /// cannot be read.
    #[must_use]
    pub fn left_over(folder: &Path) -> Option<u64> {
        raw_store::left_over(&folder.join(FILE))
    }

    /// Opens the log in a folder, or creates it. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// [`OpenError`] if the folder or the file cannot be used.
    pub fn open(
        folder: &Path,
        retention: impl Into<Retention>,
        metrics: Metrics,
    ) -> Result<Self, OpenError> {
        let retention = retention.into();
        let in_folder = |source| OpenError::Folder {
            path: folder.to_owned(),
            source,
        };
        private::create_folder(folder).map_err(in_folder)?;
        let lock = private::create_file(&folder.join("lock")).map_err(in_folder)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(OpenError::InUse {
                    path: folder.to_owned(),
                });
            }
            Err(std::fs::TryLockError::Error(source)) => return Err(in_folder(source)),
        }

        let path = folder.join(FILE);
        let in_database = |error: rusqlite::Error| OpenError::Database {
            path: path.clone(),
            detail: error.to_string(),
        };
        let mut reserve = Reserve::find(folder.join("reserve"));
        let (connection, journal) = match open_files(folder, &path, retention.age) {
            // The disk may be full: the files need a little space.
            Err(_) if reserve.is_kept() => {
                reserve.release();
                open_files(folder, &path, retention.age)?
            }
            opened => opened?,
        };
        let id = schema::log_id(&connection).map_err(in_database)?;
        let head_seq = schema::head(&connection).map_err(in_database)?;
        let newest_ms = schema::newest_stamp(&connection).map_err(in_database)?;

        let (jobs, waiting) = mpsc::channel(MAX_QUEUED_JOBS);
        let (head_sender, head) = watch::channel(head_seq);
        let health = Arc::new(Health::new(path.clone()));
        let recent = Arc::new(Recent::default());
        let writer = Writer::new(
            connection,
            Head {
                newest: head_sender,
                recent: Arc::clone(&recent),
            },
            Arc::clone(&health),
            retention,
            reserve,
            LogClock::new(newest_ms, Reading::now()),
            metrics.clone(),
        )
        .map_err(in_database)?;
        let guard = metrics.tasks().guard(WRITER);
        let thread = std::thread::Builder::new()
            .name("event-log".to_owned())
            .spawn(move || {
                let _guard = guard;
                kill_point::panic_if_named(WRITER);
                writer.run(waiting);
                // Unlocked explicitly: a child process that another thread has just forked has the file open too, until its `exec`,
                // and would keep the folder locked after the file is closed here.
                let _ = lock.unlock();
            })
            .map_err(in_folder)?;
        let trimming = maintenance::run(jobs.downgrade(), Arc::clone(&health));
        let trimmer = tokio::spawn(metrics.tasks().watch("event log maintenance", trimming));
        let readers = Arc::new(Readers::new(path, recent));
        Ok(Self {
            id,
            jobs: Mutex::new(Some(jobs)),
            head,
            lookups: LookupBatcher::new(Arc::clone(&readers), journal),
            readers,
            health,
            taking: Taking::default(),
            writer: Mutex::new(Some(thread)),
            trimmer: Mutex::new(Some(trimmer)),
        })
    }

    /// All stores of the engine.
    #[must_use]
    pub fn storage(self) -> Storage {
        let log = Arc::new(self);
        Storage {
            journal: Arc::clone(&log) as _,
            quarantine: Arc::clone(&log) as _,
            raw: Arc::clone(&log) as _,
            subscriptions: Some(Arc::clone(&log) as _),
            log,
        }
    }

    fn jobs(&self) -> Option<mpsc::Sender<Job>> {
        self.jobs.lock().clone()
    }

    async fn write<R>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<R, AppendError>>) -> Job,
    ) -> Result<R, AppendError> {
        let jobs = self.jobs().ok_or(AppendError::Closed)?;
        let (reply, result) = oneshot::channel();
        jobs.send(job(reply))
            .await
            .map_err(|_| AppendError::Closed)?;
        result.await.map_err(|_| AppendError::Closed)?
    }
}

impl EventLog for EmbeddedLog {
    fn append(&self, events: Batch) -> BoxFuture<'_, Result<(), AppendError>> {
        self.write(|reply| Job::Append { events, reply }).boxed()
    }

    /// Every event: the readers of an application pass over those of others.
    fn read_applications(
        &self,
        start: Start,
        end_at_head: bool,
        _applications: Vec<String>,
    ) -> BoxFuture<'_, Result<EventStream, ReadError>> {
        async move {
            let head = *self.head.borrow();
            // A reader that starts at a time takes the oldest event if an older one was removed.
            let may_skip = matches!(start, Start::Since(_));
            let after = match start {
                Start::Now => head,
                Start::After(cursor) => {
                    let seq = self.id.parse_cursor(&cursor, head)?;
                    let oldest = self.readers.oldest(head).await?;
                    // The log must still have the event after the cursor.
                    if seq + 1 < oldest {
                        let oldest_cursor = self.id.cursor(oldest - 1);
                        return Err(ReadError::OutOfRange {
                            cursor,
                            oldest_cursor,
                        });
                    }
                    seq
                }
                Start::Since(time) => self.readers.before(time.as_millisecond(), head).await?,
            };
            let end = end_at_head.then_some(head);
            Ok(reader::stream(
                Arc::clone(&self.readers),
                self.id,
                self.head.clone(),
                Position { after, may_skip },
                end,
            ))
        }
        .boxed()
    }

    fn find_message(
        &self,
        message: MessageKey,
        since: Option<Timestamp>,
    ) -> BoxFuture<'_, Result<MessageEvents, ReadError>> {
        let id = self.id;
        let find = move |connection: &_| message::find(connection, id, &message, since);
        self.readers.query(find).boxed()
    }

    fn is_ready(&self) -> bool {
        self.health.is_ok()
            && self
                .jobs
                .lock()
                .as_ref()
                .is_some_and(|jobs| !jobs.is_closed())
    }

    fn outage(&self) -> Option<String> {
        match self.jobs.lock().as_ref() {
            None => Some(AppendError::Closed.to_string()),
            Some(jobs) if jobs.is_closed() => Some("its writing thread has ended".to_owned()),
            Some(_) => self.health.outage(),
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            let take = |slot: &Mutex<Option<_>>| slot.lock().take();
            drop(take(&self.jobs));
            let trimmer = self.trimmer.lock().take();
            if let Some(trimmer) = trimmer {
                trimmer.abort();
                let _ = trimmer.await;
            }
            let writer = self.writer.lock().take();
            if let Some(writer) = writer {
                // All senders are dropped, so the thread ends after the last job.
                let _ = tokio::task::spawn_blocking(move || writer.join()).await;
            }
        }
        .boxed()
    }
}

impl SendJournal for EmbeddedLog {
    fn begin(&self, begin: BeginSends) -> BoxFuture<'_, Result<EarlierSends, ReadError>> {
        self.lookups.find(begin).boxed()
    }

    fn end(&self, sends: &[(String, ContentDigest)]) {
        self.lookups.journal.end(sends);
    }
}

impl Quarantine for EmbeddedLog {
    fn add(&self, body: Quarantined) -> BoxFuture<'_, Result<(), AppendError>> {
        self.write(|reply| Job::Quarantine { body, reply }).boxed()
    }
}

/// Opens the database and the journal of begun sends.
fn open_files(
    folder: &Path,
    path: &Path,
    retention: Duration,
) -> Result<(Connection, JournalFile), OpenError> {
    let in_folder = |source| OpenError::Folder {
        path: folder.to_owned(),
        source,
    };
    private::create_database(path).map_err(in_folder)?;
    let connection = schema::open_for_writing(path).map_err(|error| OpenError::Database {
        path: path.to_owned(),
        detail: error.to_string(),
    })?;
    let oldest = Timestamp::now() - retention.max(MEMORY);
    // If the lookup fails, the send counts as not ended. That costs a lookup in the API's logs at most.
    let is_known = |wire_id: &str| matches!(reader::find_send(&connection, wire_id), Ok(Some(_)));
    let journal =
        JournalFile::open(folder.join("sends.begun"), oldest, is_known).map_err(in_folder)?;
    Ok((connection, journal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_log_whose_writer_has_ended_is_not_ready() {
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(folder.path(), Duration::from_secs(60), Metrics::new());
        let log = log.unwrap();
        assert!(log.is_ready());
        let (jobs, of_ended_writer) = mpsc::channel(1);
        drop(of_ended_writer);
        let kept = log.jobs.lock().replace(jobs);
        assert!(!log.is_ready());
        assert!(log.outage().is_some());
        *log.jobs.lock() = kept;
        log.close().await;
    }

    #[tokio::test]
    async fn a_closed_log_leaves_its_folder_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let open = || EmbeddedLog::open(folder.path(), Duration::from_secs(60), Metrics::new());
        let first = open().unwrap();
        assert!(matches!(open(), Err(OpenError::InUse { .. })));
        first.close().await;
        open().unwrap().close().await;
        // `first` lives until here: a task that still holds a closed log does not lock the folder.
        drop(first);
    }
}
