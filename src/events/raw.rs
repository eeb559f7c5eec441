//! The raw store: responses of destructive reads, as they came, until their rows are events.
//!
//! The API gives each row once. So a response is durable here before it is split, and what is left over after a kill or an outage is
//! split later (P4, docs/RELIABILITY.md).
//!
//! Invariants: [`RawStore::keep`] succeeds only after the response is durable; only [`RawStore::remove`] removes it. A response may be
//! taken more than once, so who takes it must be idempotent; its id stays the same.
//! Neighbours: `pull` keeps and takes; each engine of the event log has a raw store.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use uuid::Uuid;

use super::AppendError;

/// Where responses of pulls are durable until their rows are events.
pub trait RawStore: Send + Sync + 'static {
    /// Stores a response. Durable on success. After an error it may be stored; keeping it again is safe.
    fn keep(&self, response: &RawResponse) -> BoxFuture<'_, Result<(), AppendError>>;

    /// Makes [`RawStore::take`] possible: opens the session with the broker.
    fn open(&self) -> BoxFuture<'_, Result<(), AppendError>>;

    /// Waits for a response that was not taken since [`RawStore::open`], the oldest first. Its future may be dropped.
    fn take(&self) -> BoxFuture<'_, Result<RawResponse, AppendError>>;

    /// Resolves when somebody else may get the response that was taken last: it is not this process's any more.
    fn lost(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// What is stored and not removed, as far as the store can count it. Cheap: asked before each pull.
    fn waiting(&self) -> BoxFuture<'_, Result<Waiting, AppendError>>;

    /// Removes the response that was taken last.
    fn remove(&self, id: Uuid) -> BoxFuture<'_, Result<(), AppendError>>;

    /// Ends what [`RawStore::open`] opened.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// What waits in a raw store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    pub responses: u64,
    /// 0 if the store does not know.
    pub bytes: u64,
}

/// A response that the API does not give again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawResponse {
    pub id: Uuid,
    pub rows: RowKind,
    pub content_type: String,
    /// To the second, on the broker.
    pub received_at: Timestamp,
    pub body: Bytes,
}

/// What the rows of a response are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    Reports,
    Received,
}

impl RowKind {
    /// The name in the raw store, and that of the endpoint in quarantine.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reports => "reports",
            Self::Received => "inbound",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Reports, Self::Received]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}
