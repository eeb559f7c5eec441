//! The writer thread: takes all queued jobs, writes them in one transaction, and replies after the fsync (group commit).
//!
//! Invariants: a job gets its reply after the commit that contains it; an event id is written once; a pending report is not
//! written after a final one of the same message (P6).

mod registration;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::{Connection, params};
use tokio::sync::{mpsc, oneshot, watch};

use self::registration::{Registration, register};
use super::{
    super::{AppendError, Batch, Quarantined, SavedSubscription, Visibility},
    chunk::Chunk,
    health::Health,
    schema,
};
use crate::{message::event_type::EventType, ops::metrics::Metrics};

/// Maximum number of events in one transaction: enough to share the cost of the fsync, few enough to keep the latency low.
const EVENTS_PER_COMMIT: usize = 2000;
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
    SaveSubscription {
        subscription: SavedSubscription,
        reply: Reply,
    },
    /// Removes up to [`EVENTS_PER_TRIM`] events that are older than the retention.
    Trim {
        /// Replies whether more old events are left.
        more: oneshot::Sender<bool>,
    },
    /// Writes as much as an event does, and leaves nothing: shows whether the log can be written again.
    Probe,
}

pub(super) struct Writer {
    connection: Connection,
    /// The sequence number of the newest durable event.
    head: watch::Sender<i64>,
    /// The buffer of the last chunk, for reuse.
    buffer: Vec<u8>,
    health: Arc<Health>,
    retention_ms: i64,
    newest_ms: i64,
    more_to_trim: bool,
    metrics: Metrics,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        head: watch::Sender<i64>,
        health: Arc<Health>,
        retention: Duration,
        metrics: Metrics,
    ) -> Self {
        // A retention too long for an `i64` keeps everything.
        let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        Self {
            connection,
            head,
            buffer: Vec::new(),
            health,
            retention_ms,
            newest_ms: 0,
            more_to_trim: false,
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
        let result = match outcome {
            Ok(head) => {
                self.health.succeeded(began);
                if head > *self.head.borrow() {
                    self.head.send_replace(head);
                }
                Ok(())
            }
            Err(error) => {
                self.health.failed(&error);
                Err(AppendError::Unavailable(error.to_string()))
            }
        };
        for job in jobs.drain(..) {
            let reply = match job {
                Job::Append { events, reply } => {
                    // Drop our clone before replying, so that the caller's `Arc` is unique again and can be unwrapped without copying.
                    drop(events);
                    reply
                }
                Job::Quarantine { reply, .. } | Job::SaveSubscription { reply, .. } => reply,
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

    /// Writes all jobs in one transaction; returns the newest sequence number.
    fn write(&mut self, jobs: &[Job]) -> rusqlite::Result<i64> {
        self.newest_ms = self.newest_ms.max(jiff::Timestamp::now().as_millisecond());
        let oldest_ms = self.newest_ms.saturating_sub(self.retention_ms);
        let head = *self.head.borrow();
        let transaction = self.connection.transaction()?;
        let mut chunk = Chunk::after(head, std::mem::take(&mut self.buffer));
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
                            chunk = write_chunk(&transaction, chunk, self.newest_ms)?;
                        }
                    }
                }
                Job::Quarantine { body, .. } => {
                    transaction
                        .prepare_cached(
                            "INSERT INTO quarantine (came_at_ms, endpoint, content_type, detail, body)
                             VALUES (?1, ?2, ?3, ?4, ?5)",
                        )?
                        .execute(params![
                            self.newest_ms,
                            body.endpoint,
                            body.content_type,
                            body.detail,
                            body.body.as_ref()
                        ])?;
                }
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
                            self.newest_ms,
                            subscription
                                .visibility
                                .map(|visibility| visibility == Visibility::AllApplications)
                        ])?;
                }
                Job::Probe => probe(&transaction)?,
                Job::Trim { .. } => {
                    self.more_to_trim = trim(&transaction, oldest_ms, EVENTS_PER_TRIM)?;
                }
            }
        }
        if !chunk.is_empty() {
            chunk = write_chunk(&transaction, chunk, self.newest_ms)?;
        }
        transaction.commit()?;
        for (event_type, count) in appended {
            self.metrics.events_appended(event_type, count);
        }
        for _ in 0..late {
            self.metrics.late_pending_dropped();
        }
        let head = chunk.last_seq();
        self.buffer = chunk.events;
        Ok(head)
    }
}

/// The share of a job in [`EVENTS_PER_COMMIT`].
fn size(job: &Job) -> usize {
    match job {
        Job::Append { events, .. } => events.len(),
        Job::Quarantine { .. } | Job::SaveSubscription { .. } | Job::Trim { .. } | Job::Probe => 1,
    }
}

/// Adds and removes a chunk of one page at least, so that the transaction needs space on the disk.
fn probe(connection: &Connection) -> rusqlite::Result<()> {
    const NO_SEQ: i64 = -1;
    connection.execute(
        "INSERT INTO chunk (last_seq, first_seq, appended_at_ms, events) VALUES (?1, ?1, 0, zeroblob(65536))",
        [NO_SEQ],
    )?;
    connection.execute("DELETE FROM chunk WHERE last_seq = ?1", [NO_SEQ])?;
    Ok(())
}

/// Writes a chunk; returns the next one, empty.
fn write_chunk(connection: &Connection, chunk: Chunk, at_ms: i64) -> rusqlite::Result<Chunk> {
    let last_seq = chunk.last_seq();
    connection
        .prepare_cached(
            "INSERT INTO chunk (last_seq, first_seq, appended_at_ms, events) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![last_seq, chunk.first_seq, at_ms, chunk.events])?;
    Ok(Chunk::after(last_seq, chunk.events))
}

/// Removes chunks older than `oldest_ms`, at most about `events` events; returns whether more old ones are left.
fn trim(connection: &Connection, oldest_ms: i64, events: i64) -> rusqlite::Result<bool> {
    let Some(oldest) = schema::chunk_at_or_after(connection, 0)? else {
        return Ok(false);
    };
    // Append times grow with the sequence numbers, so the old chunks are the first ones.
    let newest_old: Option<i64> = connection
        .prepare_cached(
            "SELECT max(last_seq) FROM chunk WHERE last_seq < ?1 AND appended_at_ms < ?2",
        )?
        .query_row(
            params![oldest.first_seq.saturating_add(events), oldest_ms],
            |row| row.get(0),
        )?;
    let Some(newest_old) = newest_old else {
        return Ok(false);
    };
    for sql in [
        "DELETE FROM chunk WHERE last_seq <= ?1",
        "DELETE FROM known WHERE seq <= ?1",
        "UPDATE log SET head = max(head, ?1)",
    ] {
        connection.prepare_cached(sql)?.execute([newest_old])?;
    }
    let left = schema::chunk_at_or_after(connection, 0)?;
    Ok(left.is_some_and(|left| left.appended_at_ms < oldest_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1;

    #[test]
    fn repeated_trims_remove_all_old_events() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.sqlite");
        let connection = schema::open_for_writing(&path).unwrap();
        let mut chunk = Chunk::after(0, Vec::new());
        // Four chunks of ten events, appended at 1, 2, 3 and 4 ms.
        for at_ms in 1..=4 {
            for _ in 0..10 {
                chunk.push(&v1::Event::default());
            }
            chunk = write_chunk(&connection, chunk, at_ms).unwrap();
        }
        let oldest = || {
            schema::chunk_at_or_after(&connection, 0)
                .unwrap()
                .map(|chunk| chunk.first_seq)
        };
        assert!(trim(&connection, 4, 25).unwrap(), "one more is old");
        assert_eq!(oldest(), Some(21));
        assert!(!trim(&connection, 4, 25).unwrap());
        assert_eq!(oldest(), Some(31));
        assert!(!trim(&connection, 4, 25).unwrap(), "the last is not old");
        assert!(!trim(&connection, 5, 25).unwrap());
        assert_eq!(oldest(), None);
        assert_eq!(schema::head(&connection).unwrap(), 40, "numbers only grow");
    }
}
