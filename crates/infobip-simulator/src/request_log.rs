//! The request log: every request with its time, status and fault; of the latest ones the bodies; counts of all.
//!
//! Invariants: the log is bounded, in requests and in bytes of bodies; it holds no header but the content types, and no body that has
//! credentials. Neighbours: `http` writes it, `http::control` shows it.

mod exchange;
mod rate;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde::{Serialize, Serializer};

use self::rate::RequestRate;
use crate::{dates::ApiDate, render};

pub(crate) use self::exchange::{Exchange, KeptBody};

/// Requests whose bodies are kept, and the size of all these bodies.
const MAX_EXCHANGES: usize = 500;
const MAX_EXCHANGE_BYTES: usize = 8 << 20;
/// Kinds of refusals that are counted.
const MAX_REFUSALS: usize = 200;

/// A received request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestRecord {
    /// Sequence number, from 0.
    pub(crate) seq: u64,
    pub(crate) at: ApiDate,
    pub(crate) at_ms: i64,
    #[serde(serialize_with = "serialize_method")]
    pub(crate) method: http::Method,
    pub(crate) path: Box<str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) query: Box<str>,
    /// HTTP status; `None` if a fault prevented the response.
    pub(crate) status: Option<u16>,
    /// Whether the request was processed.
    pub(crate) processed: bool,
    /// The fault that replaced its response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<&'static str>,
    /// Ids of the messages that it sent or that its response reported. If a fault prevented a send, the ids in the request.
    #[serde(
        serialize_with = "render::serialize_ids",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) message_ids: Vec<Arc<str>>,
    /// Why it was refused, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<Box<Refusal>>,
}

impl RequestRecord {
    /// A copy with the first of its message ids.
    pub(crate) fn with_ids(&self, max_ids: usize) -> Self {
        let ids = &self.message_ids;
        Self {
            message_ids: ids[..ids.len().min(max_ids)].to_vec(),
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            refused: self.refused.clone(),
            ..*self
        }
    }
}

/// Why a request was refused.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Refusal {
    /// The `messageId` of the error, or the fault.
    pub(crate) reason: String,
    pub(crate) text: String,
}

/// How often requests were refused with a status and for a reason.
#[derive(Debug, Serialize)]
pub(crate) struct RefusalCount<'a> {
    status: Option<u16>,
    reason: &'a str,
    /// The text of the latest of them.
    text: &'a str,
    count: u64,
}

fn serialize_method<S: Serializer>(
    method: &http::Method,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(method.as_str())
}

#[derive(Debug)]
pub(crate) struct RequestLog {
    records: VecDeque<RequestRecord>,
    /// The bodies of the latest requests, by sequence number.
    exchanges: VecDeque<(u64, Exchange)>,
    exchange_bytes: usize,
    next_seq: u64,
    refusals: BTreeMap<(Option<u16>, String), (String, u64)>,
    refused: u64,
    pub(crate) rate: RequestRate,
    capacity: usize,
}

impl RequestLog {
    /// An empty log that keeps the latest `capacity` requests.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            records: VecDeque::new(),
            exchanges: VecDeque::new(),
            exchange_bytes: 0,
            next_seq: 0,
            refusals: BTreeMap::new(),
            refused: 0,
            rate: RequestRate::default(),
            capacity,
        }
    }

    /// Appends a request with its bodies, and gives it a sequence number.
    pub(crate) fn add(&mut self, mut request: RequestRecord, exchange: Exchange) {
        request.seq = self.next_seq;
        self.next_seq += 1;
        self.rate.count();
        if let Some(refusal) = &request.refused {
            self.refused += 1;
            self.count_refusal(request.status, refusal);
        }
        self.exchange_bytes += exchange.bytes();
        self.exchanges.push_back((request.seq, exchange));
        while self.exchanges.len() > MAX_EXCHANGES.min(self.capacity)
            || self.exchange_bytes > MAX_EXCHANGE_BYTES
        {
            if let Some((_, oldest)) = self.exchanges.pop_front() {
                self.exchange_bytes -= oldest.bytes();
            }
        }
        self.records.push_back(request);
        while self.records.len() > self.capacity {
            self.records.pop_front();
        }
    }

    fn count_refusal(&mut self, status: Option<u16>, refusal: &Refusal) {
        let key = (status, refusal.reason.clone());
        if self.refusals.len() >= MAX_REFUSALS && !self.refusals.contains_key(&key) {
            return;
        }
        let (text, count) = self.refusals.entry(key).or_default();
        text.clone_from(&refusal.text);
        *count += 1;
    }

    /// The requests that are still stored, oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &RequestRecord> {
        self.records.iter()
    }

    pub(crate) fn get(&self, seq: u64) -> Option<&RequestRecord> {
        let first = self.records.front()?.seq;
        self.records
            .get(usize::try_from(seq.checked_sub(first)?).ok()?)
    }

    /// The bodies of a request, if they are kept.
    pub(crate) fn exchange(&self, seq: u64) -> Option<&Exchange> {
        let (first, _) = self.exchanges.front()?;
        let index = usize::try_from(seq.checked_sub(*first)?).ok()?;
        self.exchanges.get(index).map(|(_, exchange)| exchange)
    }

    /// The requests recorded at `at_ms` or later, oldest first. They are recorded in the order of time.
    pub(crate) fn since(&self, at_ms: i64) -> impl Iterator<Item = &RequestRecord> {
        let start = self.records.partition_point(|record| record.at_ms < at_ms);
        self.records.range(start..)
    }

    /// Number of requests since the start, and of those that were refused.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.next_seq, self.refused)
    }

    pub(crate) fn refusals(&self) -> Vec<RefusalCount<'_>> {
        self.refusals
            .iter()
            .map(|((status, reason), (text, count))| RefusalCount {
                status: *status,
                reason,
                text,
                count: *count,
            })
            .collect()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.capacity);
    }
}
