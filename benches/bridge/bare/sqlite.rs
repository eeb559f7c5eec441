//! Bare SQLite beside the embedded engine: the rows of a file that a bridge has written, written again in the same transactions, or read.
//!
//! Each commit of the bridge ends in a chunk that is not full ([`MAX_EVENTS`], [`MAX_BYTES`]), because only the next commit could have
//! filled it: so the file tells which rows were one transaction.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, params};

use super::{Stopwatch, due, measure, measure_each, print_each};
use crate::load::Measured;

/// A chunk with so many events is full: `events::embedded::chunk`.
const MAX_EVENTS: i64 = 256;
/// A chunk with so many bytes is full.
const MAX_BYTES: usize = 128 * 1024;

/// The rows of a chunk, and of the ids of its events.
struct Rows {
    first_seq: i64,
    last_seq: i64,
    appended_at_ms: i64,
    events: Vec<u8>,
    known: Vec<(i64, String, Vec<u8>, i64)>,
}

impl Rows {
    fn ends_commit(&self) -> bool {
        self.last_seq - self.first_seq + 1 < MAX_EVENTS && self.events.len() < MAX_BYTES
    }
}

/// The events and the commits in the log of a folder.
pub struct Commits {
    pub events: u64,
    pub commits: u64,
}

impl Commits {
    pub fn of(folder: &Path) -> Self {
        let connection = open(&folder.join("events.sqlite"));
        let sql = "SELECT ifnull(sum(last_seq - first_seq + 1), 0),
                count(*) FILTER (WHERE last_seq - first_seq + 1 < ?1 AND length(events) < ?2) FROM chunk";
        let row = connection.query_row(sql, params![MAX_EVENTS, MAX_BYTES as i64], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        });
        let (events, commits) = row.unwrap();
        Self {
            events: events as u64,
            commits: commits as u64,
        }
    }
}

/// Writes the rows of the log in a folder again, to a new file beside it.
pub fn writing(folder: &Path, events: u64) -> Measured {
    let beside = tempfile::tempdir().unwrap();
    let arguments = ["sqlite-write", text(folder), text(beside.path())];
    measure(&arguments, events)
}

/// Reads the rows of the log in a folder.
pub fn reading(folder: &Path, events: u64) -> Measured {
    measure(&["sqlite-read", text(folder)], events)
}

/// Writes single events at a pace, each in a transaction. Returns how long each took, from when it was due.
pub fn writing_singly(folder: &Path, per_second: u64, seconds: f64) -> Vec<Duration> {
    let beside = tempfile::tempdir().unwrap();
    let (per_second, seconds) = (per_second.to_string(), seconds.to_string());
    let (from, to) = (text(folder), text(beside.path()));
    measure_each(&["sqlite-single", from, to, &per_second, &seconds])
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn open(path: &Path) -> Connection {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

/// The peer of [`writing`].
pub(super) fn write(source: &str, folder: &str) {
    let source = open(&Path::new(source).join("events.sqlite"));
    let rows = rows(&source);
    let connection = create(&source, folder);
    let stopwatch = Stopwatch::start();
    let mut is_open = false;
    for rows in &rows {
        if !is_open {
            connection.execute_batch("BEGIN").unwrap();
            is_open = true;
        }
        insert(&connection, rows);
        if rows.ends_commit() {
            connection.execute_batch("COMMIT").unwrap();
            is_open = false;
        }
    }
    if is_open {
        connection.execute_batch("COMMIT").unwrap();
    }
    stopwatch.stop();
}

/// The peer of [`reading`].
pub(super) fn read(source: &str) {
    let source = open(&Path::new(source).join("events.sqlite"));
    let stopwatch = Stopwatch::start();
    let mut query = source
        .prepare("SELECT last_seq, events FROM chunk ORDER BY last_seq")
        .unwrap();
    let mut chunks = query.query([]).unwrap();
    let mut bytes = 0;
    while let Some(chunk) = chunks.next().unwrap() {
        bytes += chunk.get_ref(1).unwrap().as_blob().unwrap().len();
    }
    assert!(bytes > 0);
    stopwatch.stop();
}

/// The peer of [`writing_singly`].
pub(super) async fn single(source: &str, folder: &str, per_second: &str, seconds: &str) {
    let source = open(&Path::new(source).join("events.sqlite"));
    let mut rows = rows(&source).swap_remove(0);
    let connection = create(&source, folder);
    rows.known.truncate(1);
    rows.events
        .truncate(rows.events.len() / (rows.last_seq - rows.first_seq + 1) as usize);
    let mut took = Vec::new();
    for (number, due) in (1_i64..).zip(due(per_second, seconds)) {
        tokio::time::sleep_until(due.into()).await;
        (rows.first_seq, rows.last_seq) = (number, number);
        let (seq, wire_id, ..) = &mut rows.known[0];
        (*seq, *wire_id) = (number, format!("default.bench-{number:012}"));
        connection.execute_batch("BEGIN").unwrap();
        insert(&connection, &rows);
        connection.execute_batch("COMMIT").unwrap();
        took.push(due.elapsed());
    }
    print_each(&took);
}

/// A new file with the tables of the log and the pragmas of its writer.
fn create(source: &Connection, folder: &str) -> Connection {
    let connection = Connection::open(Path::new(folder).join("bare.sqlite")).unwrap();
    connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
        .unwrap();
    connection
        .pragma_update(None, "synchronous", "FULL")
        .unwrap();
    connection.pragma_update(None, "cache_size", -2048).unwrap();
    let mut query = source
        .prepare("SELECT sql FROM sqlite_master WHERE name IN ('chunk', 'known', 'known_by_message') ORDER BY rowid")
        .unwrap();
    let tables = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
    for table in tables {
        connection.execute_batch(&table.unwrap()).unwrap();
    }
    connection
}

fn insert(connection: &Connection, rows: &Rows) {
    let mut known = connection
        .prepare_cached("INSERT INTO known (seq, wire_id, id, kind) VALUES (?1, ?2, ?3, ?4)")
        .unwrap();
    for (seq, wire_id, id, kind) in &rows.known {
        known.execute(params![seq, wire_id, id, kind]).unwrap();
    }
    connection
        .prepare_cached(
            "INSERT INTO chunk (last_seq, first_seq, appended_at_ms, events) VALUES (?1, ?2, ?3, ?4)",
        )
        .unwrap()
        .execute(params![rows.last_seq, rows.first_seq, rows.appended_at_ms, rows.events])
        .unwrap();
}

/// All rows of a log, in the order in which they were written.
fn rows(source: &Connection) -> Vec<Rows> {
    let mut chunks = source
        .prepare("SELECT first_seq, last_seq, appended_at_ms, events FROM chunk ORDER BY last_seq")
        .unwrap();
    let mut known = source
        .prepare(
            "SELECT seq, wire_id, id, kind FROM known WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq",
        )
        .unwrap();
    let chunks = chunks.query_map([], |row| {
        let (first_seq, last_seq) = (row.get(0)?, row.get(1)?);
        let known = known.query_map([first_seq, last_seq], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
        Ok(Rows {
            first_seq,
            last_seq,
            appended_at_ms: row.get(2)?,
            events: row.get(3)?,
            known: known.collect::<rusqlite::Result<_>>()?,
        })
    });
    chunks.unwrap().collect::<rusqlite::Result<_>>().unwrap()
}
