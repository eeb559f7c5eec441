//! The event log: every result, report, received message, click and number look-up, durable and in order; and the stores beside it.
//!
//! An engine gives its stores as one [`Storage`]: the log, the journal of begun sends ([`SendJournal`]), the quarantine
//! ([`Quarantine`]), the raw store of pulls ([`raw::RawStore`]), and the subscriptions ([`SubscriptionStore`]), which the broker
//! engine has not got. Who needs one of them gets that one.
//!
//! Invariants: [`EventLog::append`] succeeds only after the events are durable (fsync or publisher confirm, P5); the embedded
//! engine stores each event id once.
//! Neighbours: `send`, `intake` and `commands` append, `grpc` reads, `app` chooses the engine.

pub mod broker;
pub mod embedded;
pub mod filter;
pub mod message_events;
pub mod new_event;
pub mod quarantine;
pub mod raw;
mod send_journal;
pub mod subscription;

use std::{borrow::Cow, pin::Pin, sync::Arc};

use futures_util::{future::BoxFuture, stream::Stream};

use self::raw::RawStore;
pub use self::{
    filter::Filter,
    message_events::{MessageEvents, MessageKey},
    new_event::NewEvent,
    quarantine::{Quarantine, Quarantined},
    send_journal::{
        BeginSends, ContentDigest, EarlierSend, EarlierSends, RecordedSend, SendJournal,
    },
    subscription::store::{SavedSubscription, SubscriptionKey, SubscriptionStore, Visibility},
};
use crate::proto::v1;

/// Batches of events, oldest first, each event with its cursor.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Vec<v1::Event>, ReadError>> + Send>>;

/// The stores of an engine. Cheap to clone.
#[derive(Clone)]
pub struct Storage {
    pub log: SharedEventLog,
    pub journal: Arc<dyn SendJournal>,
    pub quarantine: Arc<dyn Quarantine>,
    pub raw: Arc<dyn RawStore>,
    /// `None`: the engine has no subscriptions.
    pub subscriptions: Option<Arc<dyn SubscriptionStore>>,
}

/// The events in their order.
pub trait EventLog: Send + Sync + 'static {
    /// Makes the events durable, in their order. After an error some of them may be durable; appending the same events again
    /// is safe, because their ids are the same.
    fn append(&self, events: Batch) -> BoxFuture<'_, Result<(), AppendError>>;

    /// As [`EventLog::read`], for a reader that wants the events of these applications only; an empty list stands for all. The engine
    /// may leave out others, and need not.
    fn read_applications(
        &self,
        start: Start,
        end_at_head: bool,
        applications: Vec<String>,
    ) -> BoxFuture<'_, Result<EventStream, ReadError>>;

    /// Reads from `start`. With `end_at_head` the stream ends at the event that was the newest one at the call; without it the
    /// stream waits for new events.
    fn read(
        &self,
        start: Start,
        end_at_head: bool,
    ) -> BoxFuture<'_, Result<EventStream, ReadError>> {
        self.read_applications(start, end_at_head, Vec::new())
    }

    /// Finds the events of a message, from a time on.
    fn find_message(
        &self,
        message: MessageKey,
        since: Option<jiff::Timestamp>,
    ) -> BoxFuture<'_, Result<MessageEvents, ReadError>>;

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

/// Why events were not made durable.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The disk or the broker failed or did not answer in time. Retrying is safe.
    #[error("cannot write the event log: {0}")]
    Unavailable(String),
    /// An event is too large for the log. A retry fails in the same way.
    #[error("an event has {bytes} bytes: the event log takes at most {max}")]
    TooLarge { bytes: usize, max: usize },
    /// The quarantine has no space for a body. Retrying is safe, and helps after an operator made space.
    #[error("the quarantine is full: replay or discard what is in it (smsbridge quarantine)")]
    QuarantineFull,
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
            Self::TooLarge { .. } | Self::QuarantineFull => self.to_string().into(),
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
