//! The writer thread: takes all queued jobs, writes them in one transaction, and replies after the fsync (group commit).
//!
//! Invariants: a job gets its reply after the commit that contains it; an event id is written once; a pending report is not
//! written after a final one of the same message (P6); on a full disk nothing but responses of pulls is written until the log has its
//! reserve again (`full_disk`).

mod full_disk;
mod registration;
mod size;
mod trim;
mod wal;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use prost::Message as _;
use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use self::{
    registration::{Registration, register},
    size::LogSize,
    trim::{Before, Removed, correct_stamps, is_due, trim, trim_bytes},
    wal::Wal,
};
use super::{
    super::{AppendError, Batch, Quarantined, SavedSubscription, SubscriptionKey, Visibility},
    MEMORY, Retention,
    chunk::Chunk,
    health::Health,
    log_clock::{LogClock, Reading},
    raw_store,
    recent::{Recent, RecentChunk},
    reserve::Reserve,
};
use crate::{events::raw::RawResponse, message::event_type::EventType, ops::metrics::Metrics};

/// Maximum number of events in one transaction: enough to share the cost of the fsync, few enough to keep the latency low.
const EVENTS_PER_COMMIT: usize = 2000;
/// The least size of a probe.
const MIN_PROBE_BYTES: usize = 1024 * 1024;
/// The most that an event adds to a commit besides its own bytes: its row, and its entry in the index.
const EVENT_ROW_BYTES: usize = 1024;
/// Maximum number of events that one trim removes, so that it does not delay appends for long. More trims follow while old events are left.
const EVENTS_PER_TRIM: i64 = 5_000;
/// About the most bytes that one trim by size removes; after a commit that adds more, twice as many.
const BYTES_PER_TRIM: u64 = 16 * 1024 * 1024;

type Reply = oneshot::Sender<Result<(), AppendError>>;

pub(super) enum Job {
    Append {
        events: Batch,
        reply: Reply,
    },
    Quarantine {
        body: Quarantined,
        reply: Reply,
    },
    KeepRaw {
        response: RawResponse,
        reply: Reply,
    },
    RemoveRaw {
        id: Uuid,
        reply: Reply,
    },
    SaveSubscription {
        subscription: SavedSubscription,
        reply: Reply,
    },
    SavePosition {
        key: SubscriptionKey,
        cursor: String,
        reply: Reply,
    },
    ForgetSubscriptions {
        application: String,
        unused_since_ms: i64,
        reply: Reply,
    },
    /// Removes up to [`EVENTS_PER_TRIM`] events that are older than the retention.
    Trim {
        /// Replies whether more old events are left.
        more: oneshot::Sender<bool>,
    },
    /// Writes as much as the commit that failed, and leaves nothing: shows whether the log can be written again.
    Probe,
}

/// What readers see of the writer's commits.
pub(super) struct Head {
    /// The sequence number of the newest durable event.
    pub(super) newest: watch::Sender<i64>,
    pub(super) recent: Arc<Recent>,
}

pub(super) struct Writer {
    connection: Connection,
    head: Head,
    /// The buffer of the last chunk, for reuse.
    buffer: Vec<u8>,
    health: Arc<Health>,
    clock: LogClock,
    retention_ms: i64,
    max_bytes: Option<u64>,
    size: LogSize,
    saved_size: LogSize,
    /// How long ids are remembered.
    memory_ms: i64,
    more_to_trim: bool,
    /// The size of the largest commit that failed since the last one that succeeded.
    failed_bytes: usize,
    reserve: Reserve,
    /// A commit found no space since the log was last made whole.
    is_full: bool,
    /// Something was removed since.
    has_removed: bool,
    wal: Wal,
    metrics: Metrics,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        head: Head,
        health: Arc<Health>,
        retention: Retention,
        reserve: Reserve,
        clock: LogClock,
        metrics: Metrics,
    ) -> rusqlite::Result<Self> {
        // A retention too long for an `i64` keeps everything.
        let milliseconds = |period: Duration| i64::try_from(period.as_millis()).unwrap_or(i64::MAX);
        let size = LogSize::load(&connection)?;
        metrics.event_log_bytes(size.bytes);
        let mut writer = Self {
            wal: Wal::of(&connection),
            connection,
            head,
            buffer: Vec::new(),
            health,
            clock,
            retention_ms: milliseconds(retention.age),
            max_bytes: retention.bytes,
            size,
            saved_size: size,
            memory_ms: milliseconds(retention.age.max(MEMORY)),
            more_to_trim: false,
            failed_bytes: 0,
            reserve,
            is_full: false,
            has_removed: false,
            metrics,
        };
        writer.take_reserve();
        Ok(writer)
    }

    /// Runs until every sender is dropped and all queued jobs are written.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut taken = Vec::new();
        while let Some(job) = jobs.blocking_recv() {
            let mut events = size(&job);
            taken.push(job);
            while events < EVENTS_PER_COMMIT {
                let Ok(job) = jobs.try_recv() else { break };
                events += size(&job);
                taken.push(job);
            }
            self.commit(&mut taken);
        }
    }

    fn commit(&mut self, jobs: &mut Vec<Job>) {
        if self.is_full {
            return self.commit_on_full_disk(jobs);
        }
        let began = Instant::now();
        let result = match self.write(jobs) {
            Ok(()) => {
                self.health.succeeded(began);
                self.failed_bytes = 0;
                self.wal.bound(&self.connection);
                Ok(())
            }
            Err(error) => {
                self.failed_bytes = self.failed_bytes.max(jobs.iter().map(bytes).sum());
                if full_disk::is_cause(&error) {
                    self.is_full = true;
                    self.health.failed(full_disk::CAUSE);
                    return self.commit_on_full_disk(jobs);
                }
                self.health.failed(&error.to_string());
                Err(AppendError::Unavailable(error.to_string()))
            }
        };
        self.reply(jobs.drain(..), &result);
    }

    fn reply(&self, jobs: impl Iterator<Item = Job>, result: &Result<(), AppendError>) {
        for job in jobs {
            let reply = match job {
                Job::Append { events, reply } => {
                    // Drop our clone before replying, so that the caller's `Arc` is unique again and can be unwrapped without copying.
                    drop(events);
                    reply
                }
                Job::Quarantine { reply, .. }
                | Job::KeepRaw { reply, .. }
                | Job::RemoveRaw { reply, .. }
                | Job::SaveSubscription { reply, .. }
                | Job::SavePosition { reply, .. }
                | Job::ForgetSubscriptions { reply, .. } => reply,
                Job::Trim { more } => {
                    let _ = more.send(result.is_ok() && self.more_to_trim);
                    continue;
                }
                Job::Probe => continue,
            };
            // If the caller has gone away, sending its reply fails harmlessly.
            let _ = reply.send(result.clone());
        }
    }

    /// What is old now.
    fn before(&self, now: Reading) -> Before {
        Before {
            events_ms: now.wall_ms.saturating_sub(self.retention_ms),
            ids_ms: now.wall_ms.saturating_sub(self.memory_ms),
        }
    }

    /// Writes all jobs in one transaction, and moves the head to the newest sequence number.
    fn write(&mut self, jobs: &[Job]) -> rusqlite::Result<()> {
        let now = Reading::now();
        let before = self.before(now);
        let mut at_ms = self.clock.stamp(now);
        let mut is_corrected = false;
        let head = *self.head.newest.borrow();
        // At once, because SQLite does not wait for another writer where a transaction has read before it writes.
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior)?;
        let mut chunk = Chunk::after(head, std::mem::take(&mut self.buffer));
        // The log itself has one.
        let mut written = (self.head.newest.receiver_count() > 1).then(Vec::new);
        let mut size = self.size;
        let mut is_trim = false;
        let events_per_trim = if self.is_full {
            full_disk::EVENTS_PER_TRIM
        } else {
            EVENTS_PER_TRIM
        };
        // The metrics are updated after the commit, so these counts are collected first.
        let (mut appended, mut late): (Vec<(EventType, u64)>, _) = (Vec::new(), 0);
        for job in jobs {
            match job {
                Job::Append { events, .. } => {
                    for new in events.iter() {
                        match register(&transaction, new, chunk.last_seq() + 1)? {
                            Registration::New => {
                                chunk.push(&new.event);
                                match appended.last_mut() {
                                    Some((event_type, count)) if *event_type == new.event_type => {
                                        *count += 1;
                                    }
                                    _ => appended.push((new.event_type, 1)),
                                }
                            }
                            Registration::Known => {}
                            Registration::TooLate => late += 1,
                        }
                        if chunk.is_full() {
                            size.add(chunk.events.len());
                            written
                                .iter_mut()
                                .for_each(|written| written.push(copy(&chunk)));
                            chunk = write_chunk(&transaction, chunk, at_ms)?;
                        }
                    }
                }
                Job::Quarantine { body, .. } => {
                    transaction
                        .prepare_cached(
                            "INSERT OR IGNORE INTO quarantine (came_at_ms, endpoint, content_type, detail, body, key)
                             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                        )?
                        .execute(params![
                            at_ms,
                            body.endpoint,
                            body.content_type,
                            body.detail,
                            body.body.as_ref(),
                            body.key.as_ref().map(Uuid::as_bytes)
                        ])?;
                }
                Job::KeepRaw { response, .. } => raw_store::insert(&transaction, response)?,
                Job::RemoveRaw { id, .. } => raw_store::delete(&transaction, *id)?,
                Job::SaveSubscription { subscription, .. } => {
                    let filter = subscription
                        .filter
                        .as_ref()
                        .map(prost::Message::encode_to_vec);
                    transaction
                        .prepare_cached(
                            "INSERT OR REPLACE INTO subscription
                                 (application, name, filter, cursor, used_at_ms, sees_all)
                             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                        )?
                        .execute(params![
                            subscription.key.application,
                            subscription.key.name,
                            filter,
                            subscription.cursor,
                            at_ms,
                            subscription
                                .visibility
                                .map(|visibility| visibility == Visibility::AllApplications)
                        ])?;
                }
                Job::SavePosition { key, cursor, .. } => {
                    transaction
                        .prepare_cached(
                            "UPDATE subscription SET cursor = ?3, used_at_ms = ?4
                             WHERE application = ?1 AND name = ?2",
                        )?
                        .execute(params![key.application, key.name, cursor, at_ms])?;
                }
                Job::ForgetSubscriptions {
                    application,
                    unused_since_ms,
                    ..
                } => {
                    transaction
                        .prepare_cached(
                            "DELETE FROM subscription WHERE application = ?1 AND used_at_ms < ?2",
                        )?
                        .execute(params![application, unused_since_ms])?;
                }
                Job::Probe => probe(&transaction, self.failed_bytes.max(MIN_PROBE_BYTES))?,
                Job::Trim { .. } if !self.clock.is_settled(now) => self.more_to_trim = false,
                Job::Trim { .. } if !is_corrected && self.clock.is_ahead(now) => {
                    let wall_ms = now.wall_ms;
                    is_corrected = !correct_stamps(&transaction, wall_ms, EVENTS_PER_TRIM)?;
                    if is_corrected {
                        at_ms = wall_ms;
                    }
                    self.more_to_trim = true;
                }
                Job::Trim { .. } => {
                    size.remove(trim(&transaction, before, events_per_trim)?.bytes);
                    self.more_to_trim = is_due(&transaction, before)?;
                }
            }
            is_trim |= matches!(job, Job::Trim { .. });
        }
        if !chunk.is_empty() {
            size.add(chunk.events.len());
            written
                .iter_mut()
                .for_each(|written| written.push(copy(&chunk)));
            chunk = write_chunk(&transaction, chunk, at_ms)?;
        }
        let mut above_limit = Removed::default();
        if let Some(max_bytes) = self.max_bytes.filter(|max_bytes| size.bytes > *max_bytes) {
            let added = size.bytes.saturating_sub(self.size.bytes);
            // Somewhat less than the limit, so that the next commits need not remove anything.
            let excess = size.bytes - (max_bytes - max_bytes / 16);
            let bytes = excess.min(BYTES_PER_TRIM.max(added.saturating_mul(2)));
            // What is appended now can be read at least until the next commit.
            above_limit = trim_bytes(&transaction, head, bytes, events_per_trim)?;
            size.remove(above_limit.bytes);
            self.more_to_trim |= is_trim && above_limit.events > 0 && size.bytes > max_bytes;
        }
        let is_saved = (is_trim && size != self.saved_size) || above_limit.events > 0;
        if is_saved {
            size.save(&transaction, chunk.last_seq())?;
        }
        transaction.commit()?;
        if is_saved {
            self.saved_size = size;
        }
        self.size = size;
        self.metrics.event_log_bytes(size.bytes);
        self.metrics.events_removed_by_size(above_limit.events);
        if is_corrected {
            self.clock.corrected(now);
        }
        for (event_type, count) in appended {
            self.metrics.events_appended(event_type, count);
        }
        for _ in 0..late {
            self.metrics.late_pending_dropped();
        }
        match written {
            Some(written) => self.head.recent.add(written.into_iter()),
            None => self.head.recent.clear(),
        }
        let newest = chunk.last_seq();
        self.buffer = chunk.events;
        if newest > head {
            self.head.newest.send_replace(newest);
        }
        Ok(())
    }
}

/// The share of a job in [`EVENTS_PER_COMMIT`].
fn size(job: &Job) -> usize {
    match job {
        Job::Append { events, .. } => events.len(),
        Job::Quarantine { .. }
        | Job::KeepRaw { .. }
        | Job::RemoveRaw { .. }
        | Job::SaveSubscription { .. }
        | Job::SavePosition { .. }
        | Job::ForgetSubscriptions { .. }
        | Job::Trim { .. }
        | Job::Probe => 1,
    }
}

/// About how many bytes a job writes. A probe has the size of what failed before.
fn bytes(job: &Job) -> usize {
    match job {
        Job::Append { events, .. } => events
            .iter()
            .map(|new| new.event.encoded_len() + EVENT_ROW_BYTES)
            .sum(),
        Job::Quarantine { body, .. } => body.body.len(),
        Job::KeepRaw { response, .. } => response.body.len(),
        Job::RemoveRaw { .. }
        | Job::SaveSubscription { .. }
        | Job::SavePosition { .. }
        | Job::ForgetSubscriptions { .. }
        | Job::Trim { .. }
        | Job::Probe => 0,
    }
}

/// Adds and removes a chunk of this size, so that the transaction needs that space on the disk. A smaller one would succeed on a
/// nearly full disk, and the next commit would fail again.
fn probe(connection: &Connection, bytes: usize) -> rusqlite::Result<()> {
    const NO_SEQ: i64 = -1;
    // Without `secure_delete`, SQLite does not write the pages of a row that the same transaction also deletes.
    set_secure_delete(connection, true)?;
    let outcome = connection
        .execute(
            "INSERT INTO chunk (last_seq, first_seq, appended_at_ms, events) VALUES (?1, ?1, 0, zeroblob(?2))",
            params![NO_SEQ, i64::try_from(bytes).unwrap_or(i64::MAX)],
        )
        .and_then(|_| connection.execute("DELETE FROM chunk WHERE last_seq = ?1", [NO_SEQ]));
    set_secure_delete(connection, false)?;
    outcome.map(|_| ())
}

fn set_secure_delete(connection: &Connection, on: bool) -> rusqlite::Result<()> {
    connection.pragma_update(None, "secure_delete", on)
}

fn copy(chunk: &Chunk) -> RecentChunk {
    RecentChunk {
        first_seq: chunk.first_seq,
        last_seq: chunk.last_seq(),
        events: chunk.events.as_slice().into(),
    }
}

/// Writes a chunk; returns the next one, empty.
pub(super) fn write_chunk(
    connection: &Connection,
    chunk: Chunk,
    at_ms: i64,
) -> rusqlite::Result<Chunk> {
    let last_seq = chunk.last_seq();
    connection
        .prepare_cached(
            "INSERT INTO chunk (last_seq, first_seq, appended_at_ms, events) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![last_seq, chunk.first_seq, at_ms, chunk.events])?;
    Ok(Chunk::after(last_seq, chunk.events))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        events::NewEvent, events::embedded::schema, message::id::ApplicationName, proto::v1,
    };

    /// A disk that is nearly full takes small commits: the log is out of service until one of the size that failed fits.
    #[tokio::test]
    async fn a_probe_needs_as_much_space_as_the_commit_that_failed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.sqlite");
        let connection = schema::open_for_writing(&path).unwrap();
        let limit = |connection: &Connection, more_pages: i64| {
            let pages: i64 = connection
                .pragma_query_value(None, "page_count", |row| row.get(0))
                .unwrap();
            connection
                .pragma_update(None, "max_page_count", pages + more_pages)
                .unwrap();
        };
        // With pages of 4 KiB: 800 KiB, less than the smallest probe.
        limit(&connection, 200);
        let health = Arc::new(Health::new(path));
        let (head, _) = watch::channel(0);
        let mut writer = Writer::new(
            connection,
            Head {
                newest: head,
                recent: Arc::default(),
            },
            Arc::clone(&health),
            Duration::from_secs(3600).into(),
            Reserve::find(folder.path().join("reserve")),
            LogClock::new(None, Reading::now()),
            Metrics::new(),
        )
        .unwrap();
        let large = Box::new(v1::SendResult {
            message_id: "x".repeat(2_000_000),
            ..v1::SendResult::default()
        });
        let application = ApplicationName::default_application();
        let event = NewEvent::send_result(&application, "", None, large, jiff::Timestamp::now());
        let (reply, _) = oneshot::channel();
        let events = Arc::new(vec![event]);
        writer.commit(&mut vec![Job::Append { events, reply }]);
        assert!(!health.is_ok());
        for (more_pages, expected) in [(200, false), (400, false), (2_000, true)] {
            limit(&writer.connection, more_pages);
            writer.commit(&mut vec![Job::Probe]);
            assert_eq!(health.is_ok(), expected, "{more_pages} pages");
        }
    }

    /// A writer of a log that has one event, stamped three hours before `now`.
    fn writer_of_old_event(folder: &tempfile::TempDir, now: Reading) -> Writer {
        let path = folder.path().join("events.sqlite");
        let connection = schema::open_for_writing(&path).unwrap();
        let mut chunk = Chunk::after(0, Vec::new());
        chunk.push(&v1::Event::default());
        let at_ms = now.wall_ms - 3 * 3_600_000;
        write_chunk(&connection, chunk, at_ms).unwrap();
        let (head, _) = watch::channel(1);
        Writer::new(
            connection,
            Head {
                newest: head,
                recent: Arc::default(),
            },
            Arc::new(Health::new(path)),
            Duration::from_secs(60).into(),
            Reserve::find(folder.path().join("reserve")),
            LogClock::new(Some(at_ms), now),
            Metrics::new(),
        )
        .unwrap()
    }

    fn has_events_after_a_trim(writer: &mut Writer) -> bool {
        let (more, _) = oneshot::channel();
        writer.commit(&mut vec![Job::Trim { more }]);
        let oldest = schema::chunk_at_or_after(&writer.connection, 0);
        oldest.unwrap().is_some()
    }

    /// The clock may be wrong, and right again in a minute.
    #[test]
    fn a_log_that_seems_to_be_old_is_not_removed_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let now = Reading::now();
        let mut writer = writer_of_old_event(&folder, now);
        assert!(has_events_after_a_trim(&mut writer));
        // As after an hour: the clock is trusted.
        writer.clock = LogClock::new(Some(now.wall_ms), now);
        assert!(!has_events_after_a_trim(&mut writer));
    }
}
