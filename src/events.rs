//! The event log: every result, report, received message, click and finished look-up, durable and in order.
//!
//! Two engines behind one trait: [`EventLog`]. Invariants: [`EventLog::append`] returns only when the events are durable
//! (fsync or confirm), and an event whose id the log has already is not there twice on the embedded engine (but for results of
//! messages whose ids the bridge made, which come once by themselves). Neighbours:
//! `send` and `intake` append, `grpc` reads, `app` chooses the engine.

pub mod broker;
pub mod embedded;
pub mod filter;
pub mod new_event;
pub mod subscription;

use std::{pin::Pin, sync::Arc};

use futures_util::{future::BoxFuture, stream::Stream};

pub use self::{filter::Filter, new_event::NewEvent};
use crate::proto::v1;

/// Events as a reader gets them, in batches, oldest first, each with its cursor.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Vec<v1::Event>, ReadError>> + Send>>;

/// A log of events. Both engines implement it.
pub trait EventLog: Send + Sync + 'static {
    /// Makes the events durable, in their order. When it returns `Ok`, they are; when it returns an error, some of them may
    /// be: appending the same events again does no harm, as their ids are the same.
    fn append(&self, events: Batch) -> BoxFuture<'_, Result<(), AppendError>>;

    /// Reads from `start`. With `end_at_head` the stream ends where the log ended at the call, else it waits for more.
    fn read(
        &self,
        start: Start,
        end_at_head: bool,
    ) -> BoxFuture<'_, Result<EventStream, ReadError>>;

    /// Begins sends whose ids their callers may repeat: says what came of earlier ones with the same ids, as far as the log
    /// remembers ("Applications and ids": same id, same content: the earlier result), and remembers from now on that these
    /// may have been sent.
    fn begin_sends(&self, begin: BeginSends) -> BoxFuture<'_, Result<EarlierSends, ReadError>>;

    /// Says of sends that were begun that the log has their results, or that nothing was attempted.
    fn end_sends(&self, _sends: &[(String, ContentDigest)]) {}

    /// Keeps an authenticated body that cannot be read, durably.
    fn quarantine(&self, body: Quarantined) -> BoxFuture<'_, Result<(), AppendError>>;

    /// The cursor of the newest event.
    ///
    /// # Errors
    /// [`ReadError::NoSubscriptions`] where the engine has none.
    fn head_cursor(&self) -> Result<String, ReadError> {
        Err(ReadError::NoSubscriptions)
    }

    /// A subscription as it was last saved.
    fn find_subscription(
        &self,
        _key: SubscriptionKey,
    ) -> BoxFuture<'_, Result<Option<SavedSubscription>, ReadError>> {
        Box::pin(std::future::ready(Err(ReadError::NoSubscriptions)))
    }

    /// Saves a subscription, durably.
    fn save_subscription(
        &self,
        _subscription: SavedSubscription,
    ) -> BoxFuture<'_, Result<(), AppendError>> {
        Box::pin(std::future::ready(Err(AppendError::Closed)))
    }

    /// Whether the log can be written now: what readiness asks.
    fn is_ready(&self) -> bool;

    /// Writes what is buffered and ends the engine's tasks.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Events to append. Shared, since who appends them may have to try again, or goes on with what they hold.
pub type Batch = Arc<Vec<NewEvent>>;

/// The log as its users hold it.
pub type SharedEventLog = Arc<dyn EventLog>;

/// Where a reader begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// After the event with this cursor.
    After(String),
    /// At the first event not older than this.
    Since(jiff::Timestamp),
    /// With what comes after the call.
    Now,
}

/// Sends that are about to begin.
#[derive(Debug, Clone, Default)]
pub struct BeginSends {
    /// The wire ids, and what is to be sent.
    pub sends: Vec<(String, ContentDigest)>,
    /// Wire ids that the same request would have had with another number of destinations.
    pub conflicting_ids: Vec<String>,
}

/// What the log knows of the ids of sends that begin.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EarlierSends {
    /// One entry for each of them.
    pub sends: Vec<Option<EarlierSend>>,
    /// Whether one of the other shapes was sent, or was begun and did not end.
    pub conflicting_id: bool,
}

/// An earlier send with the same id.
#[derive(Debug, Clone, PartialEq)]
pub enum EarlierSend {
    /// It has a result.
    Done(Box<RecordedSend>),
    /// It was begun and did not end: its process was killed, or its result could not be made durable. The API may have it.
    Interrupted {
        /// When it was begun.
        at: jiff::Timestamp,
        /// What was to be sent.
        digest: ContentDigest,
    },
}

/// The result of an earlier send, as the log remembers it.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedSend {
    /// What was sent: equal content has an equal digest.
    pub digest: ContentDigest,
    /// The result.
    pub result: Box<v1::SendResult>,
}

/// A digest over what a request asks for, so that a repeated id with other content is noticed.
pub type ContentDigest = [u8; 16];

/// The name of a subscription in its application.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SubscriptionKey {
    /// Whose it is.
    pub application: String,
    /// Its name there.
    pub name: String,
}

/// Whose events a subscription receives: what the caller that made it may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// The events of every application.
    AllApplications,
    /// The events of the subscription's own application.
    OwnApplication,
}

impl SubscriptionKey {
    /// The only application whose events the subscription receives; `None`: it receives those of all.
    #[must_use]
    pub fn visible(&self, visibility: Visibility) -> Option<&str> {
        match visibility {
            Visibility::AllApplications => None,
            Visibility::OwnApplication => Some(&self.application),
        }
    }
}

/// A subscription as the log keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedSubscription {
    /// Which one.
    pub key: SubscriptionKey,
    /// Whose events it receives. `None`: saved by a version that did not keep it; the next listener decides.
    pub visibility: Option<Visibility>,
    /// Which events it wants.
    pub filter: Option<v1::EventFilter>,
    /// All events up to this one are done.
    pub cursor: String,
}

/// An authenticated body that could not be read.
#[derive(Clone)]
pub struct Quarantined {
    /// `reports`, `inbound`, `clicks` or `lookups`.
    pub endpoint: &'static str,
    /// As it came.
    pub content_type: String,
    /// As it came.
    pub body: bytes::Bytes,
    /// Why it could not be read.
    pub detail: String,
}

/// Why events were not made durable.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The disk or the broker refused or did not answer in time. Trying again is safe.
    #[error("the event log can't be written: {0}")]
    Unavailable(String),
    /// The log is closed: the process ends.
    #[error("the event log is closed: the process is shutting down")]
    Closed,
}

/// Why events can't be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// Not a cursor of this log.
    #[error("`{cursor}` is not a cursor of this event log")]
    BadCursor {
        /// What was given.
        cursor: String,
    },
    /// The log no longer has what follows the cursor.
    #[error(
        "the log no longer has what follows cursor `{cursor}`: it begins after cursor `{oldest_cursor}`"
    )]
    OutOfRange {
        /// What was given.
        cursor: String,
        /// Where the log begins: reading after it gives the oldest event.
        oldest_cursor: String,
    },
    /// The engine has no subscriptions.
    #[error("this event engine has no subscriptions yet")]
    NoSubscriptions,
    /// The disk or the broker refused or did not answer in time.
    #[error("the event log can't be read: {0}")]
    Unavailable(String),
}
