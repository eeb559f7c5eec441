//! The one thread that writes: it takes all that waits, writes it in one transaction, and answers after the fsync.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use prost::Message;
use rusqlite::{Connection, params};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    super::{AppendError, NewEvent, Quarantined, SavedSubscription},
    schema::{self, kind},
};
use crate::ops::metrics::Metrics;

/// Events that one transaction holds at most: enough to make the fsync cheap, few enough to answer soon.
const EVENTS_PER_COMMIT: usize = 2000;
/// Old events that one trim removes at most, so that appends do not wait long.
const EVENTS_PER_TRIM: i64 = 5000;

type Reply = oneshot::Sender<Result<(), AppendError>>;

/// What the writer does.
pub(super) enum Job {
    /// Writes events.
    Append {
        /// In their order.
        events: Vec<NewEvent>,
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
    /// Removes what is too old.
    Trim,
}

/// The thread's state.
pub(super) struct Writer {
    connection: Connection,
    head: watch::Sender<i64>,
    healthy: Arc<AtomicBool>,
    retention_ms: i64,
    newest_ms: i64,
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
            healthy,
            retention_ms,
            newest_ms: 0,
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
                if let Some(head) = head {
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
            match job {
                // A caller that went away does not mind.
                Job::Append { reply, .. }
                | Job::Quarantine { reply, .. }
                | Job::SaveSubscription { reply, .. } => {
                    let _ = reply.send(answer.clone());
                }
                Job::Trim => {}
            }
        }
    }

    /// Writes all jobs in one transaction; gives the new head where it moved.
    fn write(&mut self, jobs: &[Job]) -> rusqlite::Result<Option<i64>> {
        self.newest_ms = self.newest_ms.max(jiff::Timestamp::now().as_millisecond());
        let oldest_ms = self.newest_ms.saturating_sub(self.retention_ms);
        let transaction = self.connection.transaction()?;
        let mut head = None;
        // Counted when they are durable.
        let (mut appended, mut late) = (Vec::new(), 0);
        for job in jobs {
            match job {
                Job::Append { events, .. } => {
                    for event in events {
                        match insert(&transaction, event, self.newest_ms)? {
                            Inserted::At(seq) => {
                                head = Some(seq);
                                appended.push(event.event.r#type.as_str());
                            }
                            Inserted::Known => {}
                            Inserted::TooLate => late += 1,
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
                    let filter = subscription.filter.as_ref().map(Message::encode_to_vec);
                    transaction
                        .prepare_cached(
                            "INSERT OR REPLACE INTO subscription (application, name, filter, cursor, used_at_ms)
                             VALUES (?1, ?2, ?3, ?4, ?5)",
                        )?
                        .execute(params![
                            subscription.key.application,
                            subscription.key.name,
                            filter,
                            subscription.cursor,
                            self.newest_ms
                        ])?;
                }
                Job::Trim => trim(&transaction, oldest_ms)?,
            }
        }
        transaction.commit()?;
        for event_type in appended {
            self.metrics.event_appended(event_type);
        }
        for _ in 0..late {
            self.metrics.late_pending_dropped();
        }
        Ok(head)
    }
}

/// How many events a job writes, for the size of a commit.
fn size(job: &Job) -> usize {
    match job {
        Job::Append { events, .. } => events.len(),
        Job::Quarantine { .. } | Job::SaveSubscription { .. } | Job::Trim => 1,
    }
}

/// What became of an event.
enum Inserted {
    /// It got this sequence number.
    At(i64),
    /// Its id was there.
    Known,
    /// It is pending, and its message has a final report.
    TooLate,
}

/// Writes an event unless its id is there, or it is pending and its message has a final report.
fn insert(connection: &Connection, new: &NewEvent, at_ms: i64) -> rusqlite::Result<Inserted> {
    let kind = if new.is_final_report() {
        kind::FINAL_REPORT
    } else if new.is_pending_report() {
        kind::PENDING_REPORT
    } else if new.event.r#type.starts_with("send.") {
        kind::RESULT
    } else {
        kind::OTHER
    };
    if kind == kind::PENDING_REPORT {
        let mut final_report =
            connection.prepare_cached("SELECT 1 FROM event WHERE wire_id = ?1 AND kind = ?2")?;
        if final_report.exists(params![new.wire_id, kind::FINAL_REPORT])? {
            tracing::debug!(
                event_id = new.event.id,
                "a pending report came after a final one: dropped"
            );
            return Ok(Inserted::TooLate);
        }
    }
    let id = uuid::Uuid::parse_str(&new.event.id).unwrap_or_else(|_| {
        uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, new.event.id.as_bytes())
    });
    let wire_id = (!new.wire_id.is_empty()).then_some(&new.wire_id);
    let inserted = connection
        .prepare_cached(
            "INSERT INTO event (id, appended_at_ms, kind, wire_id, digest, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            id.as_bytes(),
            at_ms,
            kind,
            wire_id,
            new.digest.as_ref().map(<[u8; 16]>::as_slice),
            new.event.encode_to_vec()
        ])?;
    Ok(if inserted == 1 {
        Inserted::At(connection.last_insert_rowid())
    } else {
        Inserted::Known
    })
}

fn trim(connection: &Connection, oldest_ms: i64) -> rusqlite::Result<()> {
    let Some((first, _)) = schema::event_at_or_after(connection, 0)? else {
        return Ok(());
    };
    // Appended times only grow with the sequence, so a run from the oldest on is enough.
    connection
        .prepare_cached("DELETE FROM event WHERE seq < ?1 AND appended_at_ms < ?2")?
        .execute(params![first.saturating_add(EVENTS_PER_TRIM), oldest_ms])?;
    Ok(())
}
