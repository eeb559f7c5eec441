//! The event log: every result, report, received message, click and number look-up, durable and in order.
//!
//! Two engines implement one trait, [`EventLog`].
//!
//! Invariants: [`EventLog::append`] succeeds only after the events are durable (fsync or publisher confirm, P5); the embedded
//! engine stores each event id once.
//! Neighbours: `send`, `intake` and `commands` append, `grpc` reads, `app` chooses the engine.

pub mod broker;
pub mod embedded;
pub mod filter;
pub mod new_event;
pub mod raw;
pub mod subscription;

use std::{borrow::Cow, pin::Pin, sync::Arc};

use futures_util::{future::BoxFuture, stream::Stream};
use uuid::Uuid;

pub use self::{filter::Filter, new_event::NewEvent};
use crate::proto::v1;

/// Batches of events, oldest first, each event with its cursor.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Vec<v1::Event>, ReadError>> + Send>>;

/// An engine of the event log.
pub trait EventLog: Send + Sync + 'static {
    /// Makes the events durable, in their order. After an error some of them may be durable; appending the same events again
    /// is safe, because their ids are the same.
    fn append(&self, events: Batch) -> BoxFuture<'_, Result<(), AppendError>>;

    /// Reads from `start`. With `end_at_head` the stream ends at the event that was the newest one at the call; without it the
    /// stream waits for new events.
    fn read(
        &self,
        start: Start,
        end_at_head: bool,
    ) -> BoxFuture<'_, Result<EventStream, ReadError>>;

    /// As [`EventLog::read`], for a reader that wants the events of these applications only; an empty list stands for all. The engine
    /// may leave out others, and need not.
    fn read_applications(
        &self,
        start: Start,
        end_at_head: bool,
        _applications: Vec<String>,
    ) -> BoxFuture<'_, Result<EventStream, ReadError>> {
        self.read(start, end_at_head)
    }

    /// Begins sends whose ids their callers can repeat (P2): returns earlier sends with the same ids, as far as the log
    /// still has them, and records that the new ones may be sent from now on.
    fn begin_sends(&self, begin: BeginSends) -> BoxFuture<'_, Result<EarlierSends, ReadError>>;

    /// Ends begun sends: the log has their results, or nothing was sent.
    fn end_sends(&self, _sends: &[(String, ContentDigest)]) {}

    /// Stores an authenticated body that cannot be read. Durable on success.
    fn quarantine(&self, body: Quarantined) -> BoxFuture<'_, Result<(), AppendError>>;

    /// The cursor of the newest event.
    ///
    /// # Errors
    /// [`ReadError::NoSubscriptions`] if the engine has no subscriptions.
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

    /// The number of subscriptions of an application.
    fn count_subscriptions(&self, _application: String) -> BoxFuture<'_, Result<usize, ReadError>> {
        Box::pin(std::future::ready(Err(ReadError::NoSubscriptions)))
    }

    /// Deletes the subscriptions of an application that nobody has used since.
    fn forget_subscriptions(
        &self,
        _application: String,
        _unused_since: jiff::Timestamp,
    ) -> BoxFuture<'_, Result<(), AppendError>> {
        Box::pin(std::future::ready(Err(AppendError::Closed)))
    }

    /// Saves the cursor of a saved subscription. Durable on success.
    fn save_position(
        &self,
        _key: SubscriptionKey,
        _cursor: String,
    ) -> BoxFuture<'_, Result<(), AppendError>> {
        Box::pin(std::future::ready(Err(AppendError::Closed)))
    }

    /// Saves a subscription. Durable on success.
    fn save_subscription(
        &self,
        _subscription: SavedSubscription,
    ) -> BoxFuture<'_, Result<(), AppendError>> {
        Box::pin(std::future::ready(Err(AppendError::Closed)))
    }

    /// Whether the log can be written now, as far as the engine knows: the last write succeeded, or there is a session with the
    /// broker. Cheap: asked before each send.
    fn is_ready(&self) -> bool;

    /// Why the log cannot be written now; `None` if it can.
    fn outage(&self) -> Option<String>;

    /// Writes what is queued and ends the engine's tasks.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Events to append. Shared, so that a caller can retry the append, or use the events after it.
pub type Batch = Arc<Vec<NewEvent>>;

pub type SharedEventLog = Arc<dyn EventLog>;

/// Where a reader starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// After the event with this cursor.
    After(String),
    /// At the first event not older than this.
    Since(jiff::Timestamp),
    /// At the first event after the call.
    Now,
}

#[derive(Debug, Clone, Default)]
pub struct BeginSends {
    /// The wire ids and the digests of the content.
    pub sends: Vec<(String, ContentDigest)>,
    /// Wire ids that the same request would have had with another number of destinations.
    pub conflicting_ids: Vec<String>,
}

/// What the log knows about the ids of sends that begin.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EarlierSends {
    /// One entry for each send.
    pub sends: Vec<Option<EarlierSend>>,
    /// Whether one of the conflicting ids was sent, or was begun and has not ended.
    pub conflicting_id: bool,
}

/// An earlier send with the same id.
#[derive(Debug, Clone, PartialEq)]
pub enum EarlierSend {
    /// The send has a result.
    Done(Box<RecordedSend>),
    /// The send was begun and has not ended: its process was killed, or its result could not be made durable. The API may
    /// have it.
    Interrupted {
        at: jiff::Timestamp,
        digest: ContentDigest,
    },
}

/// The result of an earlier send.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedSend {
    pub digest: ContentDigest,
    pub result: Box<v1::SendResult>,
}

/// A digest of the content of a send: detects an id that is repeated with different content.
pub type ContentDigest = [u8; 16];

/// The name of a subscription in its application.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SubscriptionKey {
    pub application: String,
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

/// A subscription as the log stores it.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedSubscription {
    pub key: SubscriptionKey,
    /// Whose events it receives. `None`: saved by a version that did not store it; the next subscriber decides.
    pub visibility: Option<Visibility>,
    pub filter: Option<v1::EventFilter>,
    /// Every event up to this one is acknowledged or was not wanted.
    pub cursor: String,
}

/// An authenticated body that could not be read.
#[derive(Clone)]
pub struct Quarantined {
    /// Identifies the body if it may be quarantined again: the embedded engine keeps it once. `None`: each is its own.
    pub key: Option<Uuid>,
    /// `reports`, `inbound`, `clicks` or `lookups`.
    pub endpoint: &'static str,
    pub content_type: String,
    pub body: bytes::Bytes,
    pub detail: String,
}

/// Why events were not made durable.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The disk or the broker failed or did not answer in time. Retrying is safe.
    #[error("cannot write the event log: {0}")]
    Unavailable(String),
    /// An event is too large for the log. A retry fails in the same way.
    #[error("an event has {bytes} bytes: the event log takes at most {max}")]
    TooLarge { bytes: usize, max: usize },
    /// The log is closed because the process shuts down.
    #[error("the event log is closed: the process is shutting down")]
    Closed,
}

impl AppendError {
    /// The cause, for an error text that names the event log itself.
    #[must_use]
    pub fn cause(&self) -> Cow<'_, str> {
        match self {
            Self::Unavailable(cause) => cause.into(),
            Self::TooLarge { .. } => self.to_string().into(),
            Self::Closed => "the process is shutting down".into(),
        }
    }
}

/// Why events could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// Not a cursor of this log.
    #[error("`{cursor}` is not a cursor of this event log")]
    BadCursor { cursor: String },
    /// The log no longer has the events after the cursor.
    #[error(
        "the log no longer has the events after cursor `{cursor}`: the oldest event comes after cursor `{oldest_cursor}`"
    )]
    OutOfRange {
        cursor: String,
        /// Reading after this cursor starts at the oldest event.
        oldest_cursor: String,
    },
    /// The engine has no subscriptions.
    #[error("this event engine has no subscriptions yet")]
    NoSubscriptions,
    /// The disk or the broker failed or did not answer in time.
    #[error("cannot read the event log: {0}")]
    Unavailable(String),
}

impl ReadError {
    /// The cause, for an error text that names the event log itself.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Self::Unavailable(cause) => cause.clone(),
            other => other.to_string(),
        }
    }
}
