//! A full disk: the log takes nothing but responses of pulls, and makes itself whole as soon as that is possible.
//!
//! To remove events, SQLite needs space. It has that of the reserve, which is given back before the log takes anything again. Only what may
//! go anyway is removed: events older than the retention, those above the limit of the size, old ids. Where there is none, the log waits
//! until somebody frees space.
//! Neighbours: `maintenance` asks for a probe while the log is out, `reserve` is the space, `trim` removes.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, ffi};

use super::{Job, Reading, Writer, is_due, wal};
use crate::events::AppendError;

/// For the log, `/ready` and callers.
pub(super) const CAUSE: &str = "the disk is full: free space on it, or let events go earlier (events.retention, events.max_bytes)";
/// How long one attempt removes events. The next one goes on.
const REMOVAL: Duration = Duration::from_secs(2);
/// Events and ids that one step removes: it must have room in the smallest reserve.
pub(super) const EVENTS_PER_TRIM: i64 = 400;
/// Pages that are moved at once to give others back to the disk. They need their space in the write-ahead log for a moment.
const PAGES_PER_STEP: u32 = 256;
/// Space that is given back to the disk at least, if there is so much: the reserve, and some for the next commits.
const MAX_STEPS: usize = 64;

/// Whether an error says that the disk is full.
pub(super) fn is_cause(error: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(error, _) = error else {
        return false;
    };
    error.code == ErrorCode::DiskFull || error.extended_code == ffi::SQLITE_IOERR_SHMSIZE
}

impl Writer {
    /// Takes the reserve when the log is opened. Without one the disk counts as full.
    pub(super) fn take_reserve(&mut self) {
        if let Err(error) = self.reserve.keep(false) {
            tracing::warn!(%error, "the event log has no reserve of space");
            self.is_full = true;
            self.health.failed(CAUSE);
        }
    }

    /// Refuses what comes, except for responses of pulls: the API does not give their rows again.
    pub(super) fn commit_on_full_disk(&mut self, jobs: &mut Vec<Job>) {
        let is_raw = |job: &mut Job| matches!(job, Job::KeepRaw { .. });
        let raw: Vec<Job> = jobs.extract_if(.., is_raw).collect();
        if !raw.is_empty() {
            self.reserve.release();
            let kept = self.write(&raw);
            let kept = kept.map_err(|error| AppendError::Unavailable(error.to_string()));
            self.reply(raw.into_iter(), &kept);
        }
        if jobs.iter().any(|job| matches!(job, Job::Probe)) {
            self.heal();
        }
        self.more_to_trim = false;
        let refused = Err(AppendError::Unavailable(CAUSE.to_owned()));
        self.reply(jobs.drain(..), &refused);
    }

    /// Removes what may go, takes the reserve back, and tries whether there is space for commits.
    fn heal(&mut self) {
        let began = Instant::now();
        match self.make_whole(began) {
            Ok(true) => {
                if self.has_removed {
                    tracing::info!("the disk was full: what may go is removed from the event log");
                }
                self.is_full = false;
                self.has_removed = false;
                self.failed_bytes = 0;
                self.health.succeeded(began);
            }
            Ok(false) => self.health.failed(CAUSE),
            Err(error) if is_cause(&error) => self.health.failed(CAUSE),
            Err(error) => self.health.failed(&error.to_string()),
        }
    }

    fn make_whole(&mut self, began: Instant) -> rusqlite::Result<bool> {
        while self.may_remove()? {
            if began.elapsed() > REMOVAL {
                return Ok(false);
            }
            self.reserve.release();
            // What it takes is free for the next step.
            let _ = wal::empty(&self.connection);
            let (more, _) = tokio::sync::oneshot::channel();
            self.write(&[Job::Trim { more }])?;
            self.has_removed = true;
        }
        if !self.reserve.is_kept() {
            self.give_back(began)?;
            if self.reserve.keep(self.has_removed).is_err() {
                return Ok(false);
            }
        }
        self.write(&[Job::Probe])?;
        Ok(true)
    }

    fn may_remove(&self) -> rusqlite::Result<bool> {
        let now = Reading::now();
        if self.max_bytes.is_some_and(|most| self.size.bytes > most) {
            return Ok(true);
        }
        Ok(self.clock.is_settled(now) && is_due(&self.connection, self.before(now))?)
    }

    /// Gives pages without content back to the disk.
    fn give_back(&self, began: Instant) -> rusqlite::Result<()> {
        for _ in 0..MAX_STEPS {
            if began.elapsed() > 2 * REMOVAL {
                break;
            }
            // The write-ahead log may be long; it takes the space of the database until then. A reader may be in the way.
            let _ = wal::empty(&self.connection);
            if free_pages(&self.connection)? == 0 {
                break;
            }
            let sql = format!("PRAGMA incremental_vacuum({PAGES_PER_STEP})");
            let mut vacuum = self.connection.prepare(&sql)?;
            let mut steps = vacuum.query([])?;
            while steps.next()?.is_some() {}
        }
        wal::empty(&self.connection).map(drop)
    }
}

fn free_pages(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "freelist_count", |row| row.get(0))
}
