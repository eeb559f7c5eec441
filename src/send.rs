//! The core: from a request to one durable result for each destination.
//!
//! All edges (`SendSms`, `SendSmsBulk`, `StreamSms`, AMQP commands) send through [`SendCore`] or its trait [`Sender`]:
//!
//! 1. `plan` and `validate` check the request and assign ids.
//! 2. `core` admits it and makes a `call` with one `slot` for each destination.
//! 3. `idempotency` determines whether the ids were used before; `guards` refuse destinations.
//! 4. Messages wait in the `lanes` as batch items. The `dispatcher` sends batches in REST requests.
//! 5. `resolver` looks up sends without a usable response in the API's logs, and resends only what the logs do not have.
//! 6. `recorder` appends the results to the event log and settles the slots. The call replies when all of them are settled.
//!
//! Invariants: a REST request that was begun is awaited to its end even if its callers go away; no message is resent before it was
//! looked up in the API's logs (P2, docs/RELIABILITY.md); `send.queue_capacity` bounds the slots in progress (P9).
//! Neighbours: `grpc` and `commands` above; `events` and `infobip` below.

mod batch_item;
mod call;
mod core;
mod custody;
mod digest;
mod dispatcher;
pub mod guards;
mod idempotency;
mod lanes;
mod latency;
mod outcome;
mod places;
mod plan;
mod recorder;
pub mod refusal_note;
mod registry;
pub mod request;
mod resolver;
mod slot;
pub mod validate;

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

pub use self::core::{SendCore, SendHandle};

use self::{refusal_note::RefusalNote, request::RequestForm};
use crate::{
    message::{id::ApplicationName, reason::Reason, traceparent::Traceparent, violations},
    ops::metrics::Lane,
    proto::v1::{self, FieldViolation},
};

/// Maximum age of a send in doubt that is sent again (docs/RELIABILITY.md#how-a-send-stays-single). The API's logs go back 48 hours.
pub const MAX_RESEND_AGE: SignedDuration = SignedDuration::from_hours(24);

/// A request to send, from any edge.
#[derive(Debug, Clone)]
pub struct SendCommand {
    /// The owner of the messages and of their events.
    pub application: ApplicationName,
    /// The form in which the caller sent the request: violations name its fields.
    pub form: RequestForm,
    /// Not validated yet.
    pub request: v1::SendSmsBulkRequest,
    /// Mistakes that the edge found in what comes with the request. If there are any the request is invalid.
    pub violations: Vec<FieldViolation>,
    pub arrival: Arrival,
    /// The trace of the caller or publisher, for the events of the results.
    pub traceparent: Option<Traceparent>,
    /// What its queue tells of it. `None` for the request of a caller.
    pub delivery: Option<QueueDelivery>,
}

/// The lane in which the places of these messages are counted.
#[must_use]
pub fn lane_of(messages: &[v1::OutboundMessage]) -> Lane {
    let is_urgent = |message: &v1::OutboundMessage| message.priority() == v1::Priority::Urgent;
    if messages.iter().all(is_urgent) {
        Lane::Urgent
    } else {
        Lane::Normal
    }
}

/// The delivery of a command by its queue.
#[derive(Debug, Clone)]
pub struct QueueDelivery {
    /// Whether the command is still this process's.
    pub lease: Arc<dyn Lease>,
    /// A command without a result at this time is handed back ([`SendError::StillInDoubt`], [`SendError::Unavailable`]): the queue
    /// would take it back otherwise.
    pub hold_until: Instant,
    /// The time of publication, or of the first delivery if its publisher did not tell.
    pub published_at: Timestamp,
    /// A `send_at` before this time is a mistake: the time of publication, if its publisher told it. A command may wait in its queue
    /// for longer than until its `send_at`.
    pub send_at_not_before: Option<Timestamp>,
    /// Whether it shares a request with no other command, because an earlier attempt of it was refused.
    pub alone: bool,
    /// Notes how the API refused this attempt.
    pub refusal: Arc<RefusalNote>,
}

/// The hold of this process on the deliveries of a queue.
pub trait Lease: fmt::Debug + Send + Sync {
    /// Whether the queue may have given the command to another process: then nothing of it may be begun here.
    fn is_lost(&self) -> bool;
}

/// How long a command waits in its lane for the API, at least. Then it moves to a retry queue, because a broker closes the channel of
/// a consumer that does not acknowledge a delivery within 30 minutes.
const COMMAND_RETRY_FOR: Duration = Duration::from_secs(600);

/// Whether a request may have been tried before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The first attempt.
    First,
    /// The broker redelivered it: its messages are in doubt until they were looked up in the API's logs.
    Redelivered,
    /// A copy of a command that nobody is known to have tried, but whose original may have been delivered again: it is looked up once
    /// in the API's logs, and sent if they do not have it.
    LookUpFirst,
    /// The broker returned it because it had expired. It may have been tried before, which the broker does not tell: it is looked up,
    /// and never sent.
    Returned {
        /// When the broker returned it: a request that an earlier process began has ended one request timeout later.
        at: Timestamp,
    },
    /// The broker gave it up, because of its delivery limit, say. It may have been tried before: it is looked up, and never sent. What the
    /// logs do not have ends as [`SendError::NotSent`].
    GivenUp {
        /// When the broker gave it up.
        at: Timestamp,
    },
}

/// The results of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// API: `trackingProcessKey`.
    pub tracking_process_key: String,
    /// In the order of the messages and their destinations: one result for each destination, and one without `to` and
    /// `message_id` for each message without destinations. Each result is durable as an event, except those with a retryable
    /// refusal, which only `call` and `slot` make. The acknowledgement of a command relies on that.
    pub results: Vec<v1::SendResult>,
}

/// Why a request has no results.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SendError {
    /// The request is invalid.
    #[error("{}", violations::summary(.0))]
    Invalid(Vec<FieldViolation>),
    /// The id was used for other content.
    #[error("the id `{id}` was used before with other content: use a new id for a new message")]
    IdReused {
        /// The request or message id.
        id: String,
    },
    /// `send.queue_capacity` is reached.
    #[error("the bridge's queue is full: try again later")]
    QueueFull { retry_after: Duration },
    /// The API cannot be reached, or does not take requests now.
    #[error("the API is unavailable: {detail}")]
    Unavailable {
        /// The failure of the latest request.
        detail: String,
        retry_after: Duration,
    },
    /// HTTP 401 or 403 from the API: nothing was sent.
    #[error("the API refuses the bridge's credentials: {detail}")]
    CredentialsRefused {
        /// The response of the API.
        detail: String,
    },
    /// The caller withdrew it before it was in a REST request, or the delivery of its command was lost.
    #[error("cancelled before it was sent")]
    Withdrawn,
    /// Its queue had given it up ([`Arrival::GivenUp`]), and the API's logs do not have it.
    #[error("it was not sent: its queue had given it up, and the API's logs do not have it")]
    NotSent,
    /// It may have been sent, and nobody looks it up here any more. Only commands end so: their queue delivers them again, and they
    /// are looked up then.
    #[error(
        "the message may have been sent, and its command was handed back to its queue: repeat the call with the same ids"
    )]
    StillInDoubt,
    /// The process is shutting down.
    #[error("the bridge is shutting down: try another replica, or again in a moment")]
    ShuttingDown,
    /// The event log cannot be read or written now, so the bridge could not tell whether the ids were used before, or could not
    /// make results durable. Nothing was sent.
    #[error("nothing was sent, because the event log is unavailable: {0}")]
    LogUnreadable(String),
    /// The results could not be made durable. The messages may have been sent.
    #[error("the messages may have been sent, but their results are not stored: {0}")]
    LogUnavailable(String),
}

impl SendError {
    /// The stable reason (docs/ERRORS.md).
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Invalid(_) => Reason::InvalidRequest,
            Self::IdReused { .. } => Reason::IdReused,
            Self::QueueFull { .. } => Reason::QueueFull,
            Self::Unavailable { .. } => Reason::ApiUnavailable,
            Self::CredentialsRefused { .. } => Reason::ApiCredentialsRefused,
            Self::Withdrawn => Reason::Withdrawn,
            Self::NotSent => Reason::Returned,
            Self::StillInDoubt => Reason::OutcomeUnknown,
            Self::ShuttingDown => Reason::ShuttingDown,
            Self::LogUnreadable(_) | Self::LogUnavailable(_) => Reason::EventLogUnavailable,
        }
    }

    /// Whether the same call with the same ids may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Invalid(_) | Self::IdReused { .. } => false,
            // Wrong credentials are retryable, because the operator will correct them.
            Self::CredentialsRefused { .. }
            | Self::QueueFull { .. }
            | Self::Unavailable { .. }
            | Self::Withdrawn
            | Self::NotSent
            | Self::StillInDoubt
            | Self::ShuttingDown
            | Self::LogUnreadable(_)
            | Self::LogUnavailable(_) => true,
        }
    }

    /// Whether something may have been sent all the same.
    #[must_use]
    pub fn may_be_sent(&self) -> bool {
        matches!(self, Self::LogUnavailable(_) | Self::StillInDoubt)
    }

    /// The violations of an invalid request; empty for other errors.
    #[must_use]
    pub fn violations(&self) -> &[FieldViolation] {
        match self {
            Self::Invalid(violations) => violations,
            _ => &[],
        }
    }
}

/// Sends messages. A trait, so that edges can be tested without the API.
pub trait Sender: Send + Sync + 'static {
    /// Resolves when every destination has a result that is durable as an event. Dropping the future does not stop the send:
    /// it continues, and its results become events.
    ///
    /// # Errors
    /// [`SendError`] if the request as a whole has no results.
    fn send(&self, command: SendCommand) -> BoxFuture<'_, Result<Sent, SendError>>;

    /// So many processes send by the same account: each uses its part of the account's rates.
    fn counted_replicas(&self, _replicas: u32) {}

    /// Whether a command with this number of destinations would not be refused with [`SendError::QueueFull`] now.
    fn has_room(&self, _lane: Lane, _destinations: usize) -> bool {
        true
    }

    /// Withdraws the messages of commands whose delivery was lost, as far as no request has carried them. Their sends end.
    fn withdraw_lost(&self) {}
}
