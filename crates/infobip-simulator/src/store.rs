//! The message store: all accepted or rejected messages in order of arrival, with indexes by id, bulk id and time.
//!
//! Invariants: a row's number never changes and is never reused; rows of one request are adjacent; every index refers only
//! to stored rows. When a limit is exceeded, the oldest rows are evicted and counted. Neighbour: `state` owns the store.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use crate::{config::Bounds, draft::Content, networks::Network};

/// The number of a message's row.
pub(crate) type Row = u64;

/// The phase of a message's life cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waiting for its send time.
    Scheduled,
    Sent,
    /// Has its last status.
    Final,
}

/// A message to one destination.
#[derive(Debug)]
pub(crate) struct Message {
    /// Its id, the caller's or generated.
    pub(crate) id: Arc<str>,
    /// The id of its request.
    pub(crate) bulk_id: Arc<str>,
    pub(crate) to: Box<str>,
    /// The content, shared with the other destinations.
    pub(crate) content: Arc<Content>,
    /// The text with this message's own short links, if it has any.
    pub(crate) own_text: Option<Arc<str>>,
    /// Key of its tracking process.
    pub(crate) process_key: Option<Arc<str>>,
    /// Whether it was accepted; else it was rejected at once.
    pub(crate) accepted: bool,
    pub(crate) accepted_at_ms: i64,
    /// When it was or will be sent.
    pub(crate) sent_at_ms: i64,
    /// When the status last changed.
    pub(crate) done_at_ms: i64,
    /// When the logs start to show it.
    pub(crate) visible_at_ms: i64,
    pub(crate) status: u16,
    pub(crate) error: u16,
    /// Where it is in its life.
    pub(crate) phase: Phase,
    /// Incremented by each reschedule: timers of an earlier schedule are ignored.
    pub(crate) schedule: u32,
    /// The network of its number.
    pub(crate) network: Option<&'static Network>,
    /// Price of each part in millionths.
    pub(crate) price_micros: u64,
    /// How often a handset got it.
    pub(crate) handset_deliveries: u32,
    /// Its place among the unread reports.
    pub(crate) unread: Option<u64>,
    pub(crate) bytes: usize,
}

/// A request's messages, and its schedule if it has one.
#[derive(Debug, Default)]
pub(crate) struct Bulk {
    ranges: VecDeque<(Row, u64)>,
    /// Whether it was scheduled: the bulk endpoints find only scheduled bulks.
    pub(crate) scheduled: bool,
    /// Paused by its owner.
    pub(crate) paused: bool,
    /// Cancelled by its owner.
    pub(crate) canceled: bool,
}

impl Bulk {
    /// Its rows, oldest first.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.ranges
            .iter()
            .flat_map(|(first, count)| *first..first + count)
    }
}

#[derive(Debug)]
pub(crate) struct MessageStore {
    rows: VecDeque<Message>,
    first: Row,
    by_id: HashMap<Arc<str>, Rows>,
    by_sent: BTreeSet<(i64, Row)>,
    bulks: HashMap<Arc<str>, Bulk>,
    unread: BTreeMap<u64, Row>,
    next_unread: u64,
    bytes: usize,
    bounds: Bounds,
    /// Number of evicted rows.
    pub(crate) evicted: u64,
    /// Number of evicted rows without a final status.
    pub(crate) evicted_unfinished: u64,
}

#[derive(Debug)]
enum Rows {
    One(Row),
    Many(Vec<Row>),
}

impl Rows {
    fn as_slice(&self) -> &[Row] {
        match self {
            Self::One(row) => std::slice::from_ref(row),
            Self::Many(rows) => rows,
        }
    }
}

impl MessageStore {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            rows: VecDeque::new(),
            first: 0,
            by_id: HashMap::new(),
            by_sent: BTreeSet::new(),
            bulks: HashMap::new(),
            unread: BTreeMap::new(),
            next_unread: 0,
            bytes: 0,
            bounds,
            evicted: 0,
            evicted_unfinished: 0,
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether an id was seen.
    pub(crate) fn knows(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// Adds a message and evicts the oldest ones beyond the limits.
    pub(crate) fn add(&mut self, message: Message) -> Row {
        let row = self.first + self.rows.len() as u64;
        match self.by_id.get_mut(&message.id) {
            None => {
                self.by_id.insert(message.id.clone(), Rows::One(row));
            }
            Some(Rows::Many(rows)) => rows.push(row),
            Some(one) => *one = Rows::Many(one.as_slice().iter().copied().chain([row]).collect()),
        }
        self.by_sent.insert((message.sent_at_ms, row));
        let bulk = match self.bulks.get_mut(&message.bulk_id) {
            Some(bulk) => bulk,
            None => self.bulks.entry(message.bulk_id.clone()).or_default(),
        };
        match bulk.ranges.back_mut() {
            Some((first, count)) if *first + *count == row => *count += 1,
            _ => bulk.ranges.push_back((row, 1)),
        }
        self.bytes += message.bytes;
        self.rows.push_back(message);
        while self.rows.len() > self.bounds.messages.max(1)
            || (self.bytes > self.bounds.message_bytes && self.rows.len() > 1)
        {
            self.evict();
        }
        row
    }

    fn evict(&mut self) {
        let Some(message) = self.rows.pop_front() else {
            return;
        };
        let row = self.first;
        self.first += 1;
        self.bytes -= message.bytes;
        self.evicted += 1;
        self.evicted_unfinished += u64::from(message.phase != Phase::Final);
        self.by_sent.remove(&(message.sent_at_ms, row));
        if let Some(seq) = message.unread {
            self.unread.remove(&seq);
        }
        let last = match self.by_id.get_mut(&message.id) {
            Some(Rows::Many(rows)) => {
                rows.retain(|other| *other != row);
                rows.is_empty()
            }
            _ => true,
        };
        if last {
            self.by_id.remove(&message.id);
        }
        if let Some(bulk) = self.bulks.get_mut(&message.bulk_id) {
            // The oldest row is the first of its bulk.
            match bulk.ranges.front_mut() {
                Some((first, count)) if *count > 1 => {
                    *first += 1;
                    *count -= 1;
                }
                _ => {
                    bulk.ranges.pop_front();
                }
            }
            if bulk.ranges.is_empty() {
                self.bulks.remove(&message.bulk_id);
            }
        }
    }

    /// The message of a row, if it is still there.
    pub(crate) fn get(&self, row: Row) -> Option<&Message> {
        self.rows
            .get(usize::try_from(row.checked_sub(self.first)?).ok()?)
    }

    /// Mutable access. Fields that an index uses (ids, `sent_at_ms`, `unread`) must not be changed through it.
    pub(crate) fn get_mut(&mut self, row: Row) -> Option<&mut Message> {
        self.rows
            .get_mut(usize::try_from(row.checked_sub(self.first)?).ok()?)
    }

    /// Changes the send time of a message.
    pub(crate) fn set_sent_at(&mut self, row: Row, sent_at_ms: i64) {
        let Some(message) = self.get_mut(row) else {
            return;
        };
        let before = std::mem::replace(&mut message.sent_at_ms, sent_at_ms);
        self.by_sent.remove(&(before, row));
        self.by_sent.insert((sent_at_ms, row));
    }

    /// The rows with an id: several if the `forget_ids` fault accepted a duplicate.
    pub(crate) fn with_id(&self, id: &str) -> &[Row] {
        self.by_id.get(id).map(Rows::as_slice).unwrap_or_default()
    }

    /// A request by its bulk id.
    pub(crate) fn bulk(&self, id: &str) -> Option<&Bulk> {
        self.bulks.get(id)
    }

    /// The same, to change it.
    pub(crate) fn bulk_mut(&mut self, id: &str) -> Option<&mut Bulk> {
        self.bulks.get_mut(id)
    }

    /// The stored rows, oldest first.
    pub(crate) fn rows(&self) -> std::ops::Range<Row> {
        self.first..self.first + self.rows.len() as u64
    }

    /// Messages by time of sending, latest first, from `since_ms` to `until_ms`, both included.
    pub(crate) fn by_sent(&self, since_ms: i64, until_ms: i64) -> impl Iterator<Item = &Message> {
        let range = (since_ms <= until_ms).then(|| {
            self.by_sent
                .range((since_ms, Row::MIN)..=(until_ms, Row::MAX))
                .rev()
        });
        range
            .into_iter()
            .flatten()
            .filter_map(|(_, row)| self.get(*row))
    }

    /// Marks the final report of a message as unread.
    pub(crate) fn mark_unread(&mut self, row: Row) {
        let seq = self.next_unread;
        if let Some(message) = self.get_mut(row) {
            message.unread = Some(seq);
            self.next_unread += 1;
            self.unread.insert(seq, row);
        }
    }

    /// Takes up to `limit` matching unread reports not older than `oldest_ms`, oldest first. Each report is returned once.
    pub(crate) fn take_unread(
        &mut self,
        bulk_ids: &[&str],
        message_ids: &[&str],
        oldest_ms: i64,
        limit: usize,
    ) -> Vec<Row> {
        let mut rows: Vec<Row> = match (message_ids, bulk_ids) {
            ([], []) => {
                // Unread reports past the retention period are dropped; the oldest come first.
                while let Some((seq, row)) =
                    self.unread.first_key_value().map(|(seq, row)| (*seq, *row))
                {
                    if self
                        .get(row)
                        .is_some_and(|message| message.done_at_ms >= oldest_ms)
                    {
                        break;
                    }
                    self.unread.remove(&seq);
                    if let Some(message) = self.get_mut(row) {
                        message.unread = None;
                    }
                }
                self.unread.values().take(limit).copied().collect()
            }
            ([], bulk_ids) => bulk_ids
                .iter()
                .filter_map(|id| self.bulk(id))
                .flat_map(Bulk::rows)
                .collect(),
            (message_ids, _) => message_ids
                .iter()
                .flat_map(|id| self.with_id(id))
                .copied()
                .collect(),
        };
        rows.retain(|row| {
            self.get(*row).is_some_and(|message| {
                message.unread.is_some()
                    && message.done_at_ms >= oldest_ms
                    && (bulk_ids.is_empty() || bulk_ids.contains(&&*message.bulk_id))
            })
        });
        rows.sort_by_key(|row| self.get(*row).and_then(|message| message.unread));
        // An id may be given twice.
        rows.dedup();
        rows.truncate(limit);
        for row in &rows {
            if let Some(seq) = self.get_mut(*row).and_then(|message| message.unread.take()) {
                self.unread.remove(&seq);
            }
        }
        rows
    }

    /// How many reports nobody has read.
    pub(crate) fn unread(&self) -> usize {
        self.unread.len()
    }
}
