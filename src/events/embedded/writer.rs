//! The writer thread: takes all queued jobs, writes them in one transaction, and replies after the fsync (group commit).
//!
//! Invariants: a job gets its reply after the commit that contains it; an event id is written once; a pending report is not
//! written after a final one of the same message (P6).

mod registration;
mod trim;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use prost::Message as _;
use rusqlite::{Connection, params};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use self::{
    registration::{Registration, register},
    trim::{Before, correct_stamps, trim},
};
use super::{
    super::{AppendError, Batch, Quarantined, SavedSubscription, SubscriptionKey, Visibility},
    MEMORY,
    chunk::Chunk,
    health::Health,
    log_clock::{LogClock, Reading},
    quarantine::{self, Usage},
    raw_store,
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
    /// Removes the body of a row of the quarantine, and puts its parts there.
    ReplaceQuarantined {
        row: i64,
        parts: Vec<Quarantined>,
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

pub(super) struct Writer {
    connection: Connection,
    /// The sequence number of the newest durable event.
    head: watch::Sender<i64>,
    /// The buffer of the last chunk, for reuse.
    buffer: Vec<u8>,
    health: Arc<Health>,
    clock: LogClock,
    retention_ms: i64,
    /// How long ids are remembered.
    memory_ms: i64,
    more_to_trim: bool,
    quarantine: Usage,
    quarantine_age_ms: i64,
    /// The size of the largest commit that failed since the last one that succeeded.
    failed_bytes: usize,
    metrics: Metrics,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        quarantine: Usage,
        head: watch::Sender<i64>,
        health: Arc<Health>,
        retention: Duration,
        clock: LogClock,
        metrics: Metrics,
    ) -> Self {
        // A retention too long for an `i64` keeps everything.
        let milliseconds = |period: Duration| i64::try_from(period.as_millis()).unwrap_or(i64::MAX);
        quarantine.report(&metrics);
        Self {
            connection,
            head,
            buffer: Vec::new(),
            health,
            clock,
            retention_ms: milliseconds(retention),
            memory_ms: milliseconds(retention.max(MEMORY)),
            more_to_trim: false,
            quarantine,
            quarantine_age_ms: milliseconds(retention.max(quarantine::AGE)),
            failed_bytes: 0,
            metrics,
        }
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
        let began = Instant::now();
        let outcome = self.write(jobs);
        let mut refused = Vec::new();
        let result = match outcome {
            Ok(Written {
                head,
                refused: no_space,
            }) => {
                refused = no_space;
                self.health.succeeded(began);
                self.failed_bytes = 0;
                if head > *self.head.borrow() {
                    self.head.send_replace(head);
                }
                Ok(())
            }
            Err(error) => {
                self.health.failed(&error);
                self.failed_bytes = self.failed_bytes.max(jobs.iter().map(bytes).sum());
                Err(AppendError::Unavailable(error.to_string()))
            }
        };
        for (index, job) in jobs.drain(..).enumerate() {
            let reply = match job {
                Job::Append { events, reply } => {
                    // Drop our clone before replying, so that the caller's `Arc` is unique again and can be unwrapped without copying.
                    drop(events);
                    reply
                }
                Job::Quarantine { reply, .. }
                | Job::ReplaceQuarantined { reply, .. }
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
            let _ = reply.send(match refused.contains(&index) {
                true => Err(AppendError::QuarantineFull),
                false => result.clone(),
            });
        }
    }

    /// Writes all jobs in one transaction.
    fn write(&mut self, jobs: &[Job]) -> rusqlite::Result<Written> {
        let now = Reading::now();
        let mut at_ms = self.clock.stamp(now);
        let mut is_corrected = false;
        let head = *self.head.borrow();
        let transaction = self.connection.transaction()?;
        let mut chunk = Chunk::after(head, std::mem::take(&mut self.buffer));
        // The metrics are updated after the commit, so these counts are collected first.
        let (mut appended, mut late): (Vec<(EventType, u64)>, _) = (Vec::new(), 0);
        let mut quarantine = self.quarantine;
        let (mut refused, mut expired) = (Vec::new(), 0);
        for (index, job) in jobs.iter().enumerate() {
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
                            chunk = write_chunk(&transaction, chunk, at_ms)?;
                        }
                    }
                }
                Job::Quarantine { body, .. } => {
                    if !quarantine.add(&transaction, body, at_ms)? {
                        refused.push(index);
                    }
                }
                Job::ReplaceQuarantined { row, parts, .. } => {
                    quarantine.replace(&transaction, *row, parts)?;
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
                    let before = Before {
                        events_ms: now.wall_ms.saturating_sub(self.retention_ms),
                        ids_ms: now.wall_ms.saturating_sub(self.memory_ms),
                    };
                    let before_ms = now.wall_ms.saturating_sub(self.quarantine_age_ms);
                    let removed = quarantine.expire(&transaction, before_ms)?;
                    expired += removed;
                    self.more_to_trim = trim(&transaction, before, EVENTS_PER_TRIM)?
                        || Usage::is_more_expired(removed);
                }
            }
        }
        if !chunk.is_empty() {
            chunk = write_chunk(&transaction, chunk, at_ms)?;
        }
        transaction.commit()?;
        if is_corrected {
            self.clock.corrected(now);
        }
        for (event_type, count) in appended {
            self.metrics.events_appended(event_type, count);
        }
        for _ in 0..late {
            self.metrics.late_pending_dropped();
        }
        if quarantine != self.quarantine {
            self.quarantine = quarantine;
            quarantine.report(&self.metrics);
        }
        if expired > 0 {
            self.metrics.quarantine_expired(expired.unsigned_abs());
            tracing::warn!(
                bodies = expired,
                "bodies were removed from quarantine because nobody replayed or discarded them for 30 days, or as long as \
                 events.retention: they are lost"
            );
        }
        let head = chunk.last_seq();
        self.buffer = chunk.events;
        Ok(Written { head, refused })
    }
}

/// What a transaction did.
struct Written {
    /// The newest sequence number.
    head: i64,
    /// The jobs whose body the quarantine has no space for.
    refused: Vec<usize>,
}

/// The share of a job in [`EVENTS_PER_COMMIT`].
fn size(job: &Job) -> usize {
    match job {
        Job::Append { events, .. } => events.len(),
        Job::Quarantine { .. }
        | Job::ReplaceQuarantined { .. }
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
        Job::ReplaceQuarantined { parts, .. } => parts.iter().map(|part| part.body.len()).sum(),
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
        events::NewEvent, events::embedded::schema, events::quarantine::Origin,
        message::id::ApplicationName, proto::v1,
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
        let quarantine = Usage::of(&connection).unwrap();
        let mut writer = Writer::new(
            connection,
            quarantine,
            head,
            Arc::clone(&health),
            Duration::from_secs(3600),
            LogClock::new(None, Reading::now()),
            Metrics::new(),
        );
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

    /// The other jobs of the same commit are written.
    #[test]
    fn only_the_body_that_does_not_fit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.sqlite");
        let connection = schema::open_for_writing(&path).unwrap();
        let (head, head_now) = watch::channel(0);
        let health = Arc::new(Health::new(path));
        let mut writer = Writer::new(
            connection,
            Usage::of(&schema_of(&folder)).unwrap().limited_to(2_500),
            head,
            Arc::clone(&health),
            Duration::from_secs(3600),
            LogClock::new(None, Reading::now()),
            Metrics::new(),
        );
        let body = |bytes: usize| Quarantined {
            id: Uuid::now_v7(),
            origin: Origin::default(),
            content_type: String::new(),
            body: vec![b'x'; bytes].into(),
            detail: String::new(),
        };
        let (mut jobs, mut replies) = (Vec::new(), Vec::new());
        for bytes in [1_000, 1_000, 100] {
            let (reply, told) = oneshot::channel();
            let body = body(bytes);
            jobs.push(Job::Quarantine { body, reply });
            replies.push(told);
        }
        let (reply, told) = oneshot::channel();
        let application = ApplicationName::default_application();
        let result = Box::new(v1::SendResult::default());
        let event = NewEvent::send_result(&application, "", None, result, jiff::Timestamp::now());
        let events = Arc::new(vec![event]);
        jobs.push(Job::Append { events, reply });
        replies.push(told);
        writer.commit(&mut jobs);
        let told = replies.into_iter().map(|mut told| told.try_recv().unwrap());
        let told: Vec<_> = told.collect();
        assert!(
            matches!(
                told[..],
                [Ok(()), Err(AppendError::QuarantineFull), Ok(()), Ok(())]
            ),
            "{told:?}"
        );
        assert!(health.is_ok());
        assert_eq!(*head_now.borrow(), 1);
    }

    fn schema_of(folder: &tempfile::TempDir) -> Connection {
        schema::open_for_reading(&folder.path().join("events.sqlite")).unwrap()
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
        let quarantine = Usage::of(&connection).unwrap();
        Writer::new(
            connection,
            quarantine,
            head,
            Arc::new(Health::new(path)),
            Duration::from_secs(60),
            LogClock::new(Some(at_ms), now),
            Metrics::new(),
        )
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
