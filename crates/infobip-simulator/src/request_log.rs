//! The request log: every request with its time, status and fault.
//!
//! Invariants: the log is bounded; it holds no bodies and no credentials. Neighbour: `http` writes it, `http::control` shows it.

use std::{collections::VecDeque, sync::Arc};

use serde::{Serialize, Serializer};

use crate::{dates::ApiDate, render};

/// A received request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestRecord {
    /// Sequence number, from 0.
    pub(crate) seq: u64,
    pub(crate) at: ApiDate,
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
    next_seq: u64,
    capacity: usize,
}

impl RequestLog {
    /// An empty log that keeps the latest `capacity` requests.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            records: VecDeque::new(),
            next_seq: 0,
            capacity,
        }
    }

    /// Appends a request and gives it a sequence number.
    pub(crate) fn add(&mut self, mut request: RequestRecord) {
        request.seq = self.next_seq;
        self.next_seq += 1;
        self.records.push_back(request);
        while self.records.len() > self.capacity {
            self.records.pop_front();
        }
    }

    /// The requests that are still stored, oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &RequestRecord> {
        self.records.iter()
    }

    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.next_seq = 0;
    }
}
