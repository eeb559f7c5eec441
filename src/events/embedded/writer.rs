//! The one thread that writes: it takes all that waits, writes it in one transaction, and answers after the fsync.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rusqlite::{Connection, params};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    super::{AppendError, Batch, NewEvent, Quarantined, SavedSubscription, Visibility},
    chunk::Chunk,
    schema::{self, kind},
};
use crate::{message::event_type::EventType, ops::metrics::Metrics};

/// Events that one transaction holds at most: enough to make the fsync cheap, few enough to answer soon.
const EVENTS_PER_COMMIT: usize = 2000;
/// Old events that one trim removes at most, so that appends do not wait long; another follows where more are old.
const EVENTS_PER_TRIM: i64 = 5_000;

type Reply = oneshot::Sender<Result<(), AppendError>>;

/// What the writer does.
pub(super) enum Job {
    /// Writes events.
    Append {
        /// In their order.
        events: Batch,
        /// Answered after the fsync.
        reply: Reply,
    },
    /// Keeps a body that can't be read.
    Quarantine {
        /// The body.
        body: Quarantined,
        /// Answered after the fsync.
        reply: Reply,
    },
    /// Saves a subscription's position.
    SaveSubscription {
        /// As it is to be found again.
        subscription: SavedSubscription,
        /// Answered after the fsync.
        reply: Reply,
    },
    /// Removes what is too old, a run of it.
    Trim {
        /// Answered with whether there is more of it.
        more: oneshot::Sender<bool>,
    },
}

/// The thread's state.
pub(super) struct Writer {
    connection: Connection,
    /// The newest durable event.
    head: watch::Sender<i64>,
    /// A chunk's memory, used again.
    buffer: Vec<u8>,
    healthy: Arc<AtomicBool>,
    retention_ms: i64,
    newest_ms: i64,
    more_to_trim: bool,
    metrics: Metrics,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        head: watch::Sender<i64>,
        healthy: Arc<AtomicBool>,
        retention: Duration,
        metrics: Metrics,
    ) -> Self {
        let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        Self {
            connection,
            head,
            buffer: Vec::new(),
            healthy,
            retention_ms,
            newest_ms: 0,
            more_to_trim: false,
            metrics,
        }
    }

    /// Runs until no sender is left and all that waited is written.
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
        let outcome = self.write(jobs);
        self.healthy.store(outcome.is_ok(), Ordering::Relaxed);
        let answer = match outcome {
            Ok(head) => {
                if head > *self.head.borrow() {
                    self.head.send_replace(head);
                }
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "the event log can't be written: is the disk full?");
                Err(AppendError::Unavailable(error.to_string()))
            }
        };
        for job in jobs.drain(..) {
            let reply = match job {
                Job::Append { events, reply } => {
                    // Before the answer: who asked has them for itself again.
                    drop(events);
                    reply
                }
                Job::Quarantine { reply, .. } | Job::SaveSubscription { reply, .. } => reply,
                Job::Trim { more } => {
                    let _ = more.send(answer.is_ok() && self.more_to_trim);
                    continue;
                }
            };
            // A caller that went away does not mind.
            let _ = reply.send(answer.clone());
        }
    }

    /// Writes all jobs in one transaction; gives the newest sequence number.
    fn write(&mut self, jobs: &[Job]) -> rusqlite::Result<i64> {
        self.newest_ms = self.newest_ms.max(jiff::Timestamp::now().as_millisecond());
        let oldest_ms = self.newest_ms.saturating_sub(self.retention_ms);
        let head = *self.head.borrow();
        let transaction = self.connection.transaction()?;
        let mut chunk = Chunk::after(head, std::mem::take(&mut self.buffer));
        // Counted when they are durable.
        let (mut appended, mut late): (Vec<(EventType, u64)>, _) = (Vec::new(), 0);
        for job in jobs {
            match job {
                Job::Append { events, .. } => {
                    for new in events.iter() {
                        match note(&transaction, new, chunk.last_seq() + 1)? {
                            Noted::New => {
                                chunk.push(&new.event);
                                match appended.last_mut() {
                                    Some((event_type, count)) if *event_type == new.event_type => {
                                        *count += 1;
                                    }
                                    _ => appended.push((new.event_type, 1)),
                                }
                            }
                            Noted::Known => {}
                            Noted::TooLate => late += 1,
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

/// How many events a job writes, for the size of a commit.
fn size(job: &Job) -> usize {
    match job {
        Job::Append { events, .. } => events.len(),
        Job::Quarantine { .. } | Job::SaveSubscription { .. } | Job::Trim { .. } => 1,
    }
}

/// What an event is to what the log knows.
enum Noted {
    /// It is to be appended.
    New,
    /// Its id was there.
    Known,
    /// It is pending, and its message has a final report.
    TooLate,
}

/// Notes an event's id under the sequence number that it is to get, unless the id is there, or the event is pending and its
/// message has a final report.
fn note(connection: &Connection, new: &NewEvent, seq: i64) -> rusqlite::Result<Noted> {
    let kind = if new.is_final_report() {
        kind::FINAL_REPORT
    } else if new.is_pending_report() {
        kind::PENDING_REPORT
    } else if new.result().is_some() {
        // Without a digest its message has an id of the bridge's own making, which comes once and nobody asks for.
        if new.digest.is_none() {
            return Ok(Noted::New);
        }
        kind::RESULT
    } else {
        kind::OTHER
    };
    if kind == kind::PENDING_REPORT {
        let mut final_report =
            connection.prepare_cached("SELECT 1 FROM known WHERE wire_id = ?1 AND kind = ?2")?;
        if final_report.exists(params![new.wire_id, kind::FINAL_REPORT])? {
            tracing::debug!(
                event_id = new.event.id,
                "a pending report came after a final one: dropped"
            );
            return Ok(Noted::TooLate);
        }
    }
    let id = uuid::Uuid::parse_str(&new.event.id).unwrap_or_else(|_| {
        uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, new.event.id.as_bytes())
    });
    let inserted = connection
        .prepare_cached(
            "INSERT INTO known (seq, wire_id, id, kind, digest) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (wire_id, id) DO NOTHING",
        )?
        .execute(params![
            seq,
            new.wire_id,
            id.as_bytes(),
            kind,
            new.digest.as_ref().map(<[u8; 16]>::as_slice),
        ])?;
    Ok(if inserted == 1 {
        Noted::New
    } else {
        Noted::Known
    })
}

/// Writes a chunk; gives the next one, empty.
fn write_chunk(connection: &Connection, chunk: Chunk, at_ms: i64) -> rusqlite::Result<Chunk> {
    let last_seq = chunk.last_seq();
    connection
        .prepare_cached(
            "INSERT INTO chunk (last_seq, first_seq, appended_at_ms, events) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![last_seq, chunk.first_seq, at_ms, chunk.events])?;
    Ok(Chunk::after(last_seq, chunk.events))
}

/// Removes chunks older than `oldest_ms`, as far as the oldest `events` events reach; says whether there are more.
fn trim(connection: &Connection, oldest_ms: i64, events: i64) -> rusqlite::Result<bool> {
    let Some(oldest) = schema::chunk_at_or_after(connection, 0)? else {
        return Ok(false);
    };
    // Appended times only grow with the sequence, so a run from the oldest on is enough.
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
    fn trims_follow_each_other_until_nothing_old_is_left() {
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
