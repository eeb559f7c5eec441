//! The message store: all accepted and rejected messages in order of arrival, with indexes by id, bulk id and time.
//!
//! Invariants: a row's number never changes and is never reused; rows of one request are adjacent; every index refers only
//! to stored rows. When a limit is exceeded, the oldest rows are evicted and counted. Neighbour: `state` owns the store.

mod message;
mod message_state;
mod unread;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use crate::{config::Bounds, phones::Phones};

pub(crate) use self::{
    message::{Bulk, FinalReport, Message, Phase, RowId, ShortenedText},
    message_state::{MessageCounts, MessageState, StateCounts, StatusCounts},
};

/// The stored messages, indexed by id, send time, bulk and unread report.
#[derive(Debug)]
pub(crate) struct MessageStore {
    /// The message of row `first_row + index`.
    rows: VecDeque<Message>,
    first_row: RowId,
    by_id: HashMap<Arc<str>, RowsWithId>,
    /// Rows by send time.
    by_sent: BTreeSet<(i64, RowId)>,
    bulks: HashMap<Arc<str>, Bulk>,
    /// Rows with an unread final report, in the order of these reports.
    unread_reports: BTreeMap<u64, RowId>,
    next_unread_seq: u64,
    estimated_bytes: usize,
    bounds: Bounds,
    pub(crate) counts: MessageCounts,
    /// Number of evicted rows.
    pub(crate) evicted: u64,
    /// Number of evicted rows without a final status.
    pub(crate) evicted_unfinished: u64,
}

/// The rows with one message id: several only if the `forget_ids` fault accepted a duplicate.
#[derive(Debug)]
enum RowsWithId {
    One(RowId),
    Many(Vec<RowId>),
}

impl RowsWithId {
    fn as_slice(&self) -> &[RowId] {
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
            first_row: 0,
            by_id: HashMap::new(),
            by_sent: BTreeSet::new(),
            bulks: HashMap::new(),
            unread_reports: BTreeMap::new(),
            next_unread_seq: 0,
            estimated_bytes: 0,
            bounds,
            counts: MessageCounts::default(),
            evicted: 0,
            evicted_unfinished: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn estimated_bytes(&self) -> usize {
        self.estimated_bytes
    }

    /// Whether a message with this id is stored.
    pub(crate) fn contains_id(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// Adds a message and evicts the oldest ones beyond the limits.
    pub(crate) fn add(&mut self, mut message: Message, phones: &mut Phones) -> RowId {
        let row = self.first_row + self.rows.len() as u64;
        match self.by_id.get_mut(&message.id) {
            None => {
                self.by_id.insert(message.id.clone(), RowsWithId::One(row));
            }
            Some(RowsWithId::Many(rows)) => rows.push(row),
            Some(rows @ RowsWithId::One(_)) => {
                *rows = RowsWithId::Many(rows.as_slice().iter().copied().chain([row]).collect());
            }
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
        self.estimated_bytes += message.estimated_bytes;
        self.counts.add(&message);
        if message.has_number()
            && let Some((phone, older)) = phones.add_sent(&message.to, row, message.state())
        {
            message.phone = Some(phone);
            message.older_of_phone = older;
        }
        self.rows.push_back(message);
        while self.rows.len() > self.bounds.messages.max(1)
            || (self.estimated_bytes > self.bounds.message_bytes && self.rows.len() > 1)
        {
            self.evict(phones);
        }
        row
    }

    /// Removes the oldest message.
    fn evict(&mut self, phones: &mut Phones) {
        let message = self
            .rows
            .pop_front()
            .expect("more rows are stored than the limits allow");
        let row = self.first_row;
        self.first_row += 1;
        self.estimated_bytes -= message.estimated_bytes;
        self.counts.remove(message.state(), message.status);
        phones.evict_sent(&message);
        self.evicted += 1;
        self.evicted_unfinished += u64::from(message.phase != Phase::Final);
        self.by_sent.remove(&(message.sent_at_ms, row));
        if let Some(seq) = message.unread_seq {
            self.unread_reports.remove(&seq);
        }
        let id_unused = match self.by_id.get_mut(&message.id) {
            Some(RowsWithId::Many(rows)) => {
                rows.retain(|other| *other != row);
                rows.is_empty()
            }
            _ => true,
        };
        if id_unused {
            self.by_id.remove(&message.id);
        }
        let bulk = self
            .bulks
            .get_mut(&message.bulk_id)
            .expect("the bulk of a stored message is stored");
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

    /// The message of a row, if it is still stored.
    pub(crate) fn get(&self, row: RowId) -> Option<&Message> {
        self.rows
            .get(usize::try_from(row.checked_sub(self.first_row)?).ok()?)
    }

    /// Mutable access. Fields that an index or a count uses (ids, `sent_at_ms`, `unread_seq`, `status`, `phase`) must not be
    /// changed through it.
    pub(crate) fn get_mut(&mut self, row: RowId) -> Option<&mut Message> {
        self.rows
            .get_mut(usize::try_from(row.checked_sub(self.first_row)?).ok()?)
    }

    /// Changes the status or the phase of a message, and counts it.
    pub(crate) fn change(
        &mut self,
        row: RowId,
        phones: &mut Phones,
        change: impl FnOnce(&mut Message),
    ) {
        let Some(message) = self.get_mut(row) else {
            return;
        };
        let before = (message.state(), message.status);
        change(message);
        let (after, phone) = ((message.state(), message.status), message.phone);
        if before == after {
            return;
        }
        self.counts.states.add(after.0);
        self.counts.statuses.add(after.1);
        self.counts.remove(before.0, before.1);
        if let Some(phone) = phone.and_then(|id| phones.get_mut(id)) {
            phone.states.add(after.0);
            phone.states.remove(before.0);
        }
    }

    /// Changes the send time of a message.
    pub(crate) fn set_sent_at(&mut self, row: RowId, sent_at_ms: i64) {
        let Some(message) = self.get_mut(row) else {
            return;
        };
        let before = std::mem::replace(&mut message.sent_at_ms, sent_at_ms);
        self.by_sent.remove(&(before, row));
        self.by_sent.insert((sent_at_ms, row));
    }

    /// The rows with a message id.
    pub(crate) fn with_id(&self, id: &str) -> &[RowId] {
        self.by_id.get(id).map_or(&[], RowsWithId::as_slice)
    }

    /// The messages of a request, by its bulk id.
    pub(crate) fn bulk(&self, id: &str) -> Option<&Bulk> {
        self.bulks.get(id)
    }

    pub(crate) fn bulk_mut(&mut self, id: &str) -> Option<&mut Bulk> {
        self.bulks.get_mut(id)
    }

    /// The stored rows, oldest first.
    pub(crate) fn rows(&self) -> std::ops::Range<RowId> {
        self.first_row..self.first_row + self.rows.len() as u64
    }

    /// Messages by time of sending, latest first, from `since_ms` to `until_ms`, both included.
    pub(crate) fn by_sent(&self, since_ms: i64, until_ms: i64) -> impl Iterator<Item = &Message> {
        let range = (since_ms <= until_ms).then(|| {
            self.by_sent
                .range((since_ms, RowId::MIN)..=(until_ms, RowId::MAX))
                .rev()
        });
        range
            .into_iter()
            .flatten()
            .filter_map(|(_, row)| self.get(*row))
    }
}
