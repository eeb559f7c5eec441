//! The request log: every request with its time, status and fault.
//!
//! Invariants: the log is bounded; it holds no bodies and no credentials. Neighbour: `http` writes it, `http::control` shows it.

use std::{collections::VecDeque, sync::Arc};

use serde::{Serialize, Serializer};

use crate::{dates::ApiDate, render};

/// A request that came in.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Recorded {
    /// Its number, from 0.
    pub(crate) seq: u64,
    pub(crate) at: ApiDate,
    #[serde(serialize_with = "method")]
    pub(crate) method: http::Method,
    pub(crate) path: Box<str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) query: Box<str>,
    /// HTTP status; `None` if a fault broke the connection.
    pub(crate) status: Option<u16>,
    /// Whether the request was processed.
    pub(crate) processed: bool,
    /// The fault that affected it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<&'static str>,
    /// Ids of the messages that it sent or that its response reported. If a fault prevented a send, the ids in the request.
    #[serde(serialize_with = "render::ids", skip_serializing_if = "Vec::is_empty")]
    pub(crate) message_ids: Vec<Arc<str>>,
}

fn method<S: Serializer>(method: &http::Method, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(method.as_str())
}

#[derive(Debug)]
pub(crate) struct Requests {
    recorded: VecDeque<Recorded>,
    next: u64,
    most: usize,
}

impl Requests {
    /// An empty log that keeps the latest `most` requests.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            recorded: VecDeque::new(),
            next: 0,
            most,
        }
    }

    /// Appends a request and numbers it.
    pub(crate) fn add(&mut self, mut request: Recorded) {
        request.seq = self.next;
        self.next += 1;
        self.recorded.push_back(request);
        while self.recorded.len() > self.most {
            self.recorded.pop_front();
        }
    }

    /// The requests that are still stored, oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Recorded> {
        self.recorded.iter()
    }

    pub(crate) fn clear(&mut self) {
        self.recorded.clear();
        self.next = 0;
    }
}
