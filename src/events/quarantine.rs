//! The quarantine: what the API sent and nobody could read, whole bodies and single rows, until an operator decides.
//!
//! Invariants: [`Quarantine::add`] succeeds only after the body is durable; an id names one body as long as it is there, and the embedded
//! engine keeps an id once; a body leaves only because a [`Visitor`] says so, or, on the embedded engine, because it is too old, which is
//! logged and counted. What replaces a body is durable before the body is removed.
//! Neighbours: `intake` adds, and is the visitor; each engine of the event log has a quarantine.

use std::{borrow::Cow, collections::HashSet};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use super::AppendError;

/// Where authenticated bodies are kept that cannot be read.
pub trait Quarantine: Send + Sync + 'static {
    /// Stores a body. Durable on success.
    fn add(&self, body: Quarantined) -> BoxFuture<'_, Result<(), AppendError>>;

    /// A page of what is there, the oldest first, without the bytes.
    fn list(&self, page: ListPage, until: Instant) -> BoxFuture<'_, Result<Listed, VisitError>>;

    /// Shows a visitor what is there when the visit begins, the oldest first, until it is done or the time is up. Its future must not be
    /// dropped before it ends: on the broker that may change the order.
    fn visit<'a>(
        &'a self,
        wanted: Wanted,
        until: Instant,
        visitor: &'a mut dyn Visitor,
    ) -> BoxFuture<'a, Result<(), VisitError>>;

    /// Lets lists and visits end soon, because the process stops.
    fn end_visits(&self) {}
}

/// A body that could not be read, or one row of a body.
#[derive(Debug, Clone)]
pub struct Quarantined {
    pub id: Uuid,
    pub origin: Origin,
    pub content_type: String,
    /// The bytes as they came; of a pushed GET the query of its URL.
    pub body: Bytes,
    /// Why it could not be read, without any of its content.
    pub detail: String,
}

/// What processing a body again needs to know about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// `reports`, `inbound`, `clicks` or `lookups`; something else only if no bridge put it there.
    pub endpoint: Cow<'static, str>,
    pub source: Source,
    /// Whether it is one row of a body whose other rows were read.
    pub is_row: bool,
    /// Of a look-up: the application that the URL names. Empty: none.
    pub application: String,
    /// Of a look-up: what identifies its request. Empty: nothing outside of the body does.
    pub request: String,
}

/// How the bridge came to a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Source {
    /// An earlier version put it into quarantine.
    #[default]
    Unknown,
    /// Pushed by POST.
    Push,
    /// Pushed by GET.
    Query,
    /// The response of a pull.
    Pull,
}

impl Source {
    const NAMED: [(Self, &'static str); 3] = [
        (Self::Push, "push"),
        (Self::Query, "query"),
        (Self::Pull, "pull"),
    ];

    /// The name in the store. `None` if it is unknown.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        let named = Self::NAMED.iter().find(|(source, _)| *source == self);
        named.map(|(_, name)| *name)
    }

    #[must_use]
    pub fn parse(name: &str) -> Self {
        let named = Self::NAMED.iter().find(|(_, known)| *known == name);
        named.map(|(source, _)| *source).unwrap_or_default()
    }
}

/// A body in quarantine.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Without its bytes in a list.
    pub quarantined: Quarantined,
    /// `None`: no bridge put it there.
    pub came_at: Option<Timestamp>,
    /// The size of the body.
    pub bytes: usize,
}

/// Which page of a list.
#[derive(Debug, Clone)]
pub struct ListPage {
    /// Empty: the first.
    pub token: String,
    pub limit: usize,
}

#[derive(Debug)]
pub struct Listed {
    pub bodies: Vec<Kept>,
    /// Empty: there is no next page.
    pub next_token: String,
}

/// What a visitor wants to see.
#[derive(Debug, Clone)]
pub enum Wanted {
    All,
    /// At least these.
    Ids(HashSet<Uuid>),
}

impl Wanted {
    #[must_use]
    pub fn includes(&self, id: Uuid) -> bool {
        match self {
            Self::All => true,
            Self::Ids(ids) => ids.contains(&id),
        }
    }
}

/// Decides about bodies, one after the other.
pub trait Visitor: Send {
    /// # Errors
    /// Ends the visit; the body stays.
    fn see(&mut self, kept: Kept) -> BoxFuture<'_, Result<Verdict, VisitError>>;

    /// The body that was seen last is removed.
    fn removed(&mut self) {}

    /// Whether it needs no further body.
    fn is_done(&self) -> bool {
        false
    }
}

/// What becomes of a body.
#[derive(Debug)]
pub enum Verdict {
    Stays,
    /// It is removed after these are in quarantine.
    Replaced(Vec<Quarantined>),
}

/// Why the quarantine cannot be read, or a visit ended early.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VisitError {
    #[error("`page_token` is not a page token of this method")]
    BadPageToken,
    #[error(
        "the last body of the page before was removed or moved, or another program holds it: list from the beginning"
    )]
    PageTokenExpired,
    #[error(
        "another list, replay or discard of quarantined bodies is under way, here or on another replica"
    )]
    Busy,
    #[error("the quarantine cannot be read or written: {0}")]
    Unavailable(String),
    #[error("the time for the call was up")]
    TimeUp,
    #[error("this process is shutting down")]
    ShuttingDown,
}

impl From<AppendError> for VisitError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Closed => Self::ShuttingDown,
            error => Self::Unavailable(error.cause().into_owned()),
        }
    }
}
