//! The core: from a request to one durable result for each destination.
//!
//! Every way in (`SendSms`, `SendSmsBulk`, `StreamSms`, AMQP commands) goes through [`Sender`]: a request is checked
//! (`validate`), becomes a call with one slot for each destination (`call`), whose ids may have been used before (`idempotency`),
//! and parts that wait in lanes (`lanes`); the
//! `dispatcher` puts parts into REST requests and classifies each outcome once; what is in doubt is resolved in the API's
//! logs (`in_doubt`). Results are appended to the event log before anybody hears them.
//!
//! Invariants: a REST request that was begun is followed to its end whoever went away; no message goes out a second time
//! before the logs were asked for it (P2, docs/RELIABILITY.md); everything that waits is bounded by `send.queue_capacity`.
//! Neighbours: `infobip` below; `grpc` and `commands` above; `events` beside it.

mod call;
mod core;
mod dispatcher;
mod idempotency;
mod in_doubt;
mod lanes;
mod outcome;
mod plan;
mod recorder;
mod registry;
pub mod request;
pub mod validate;

pub mod guards;

use std::time::Duration;

use futures_util::future::BoxFuture;

pub use self::core::{Api, Begun, SendCore};

use crate::{
    message::{id::ApplicationName, reason::Reason},
    proto::v1::{self, FieldViolation},
};

/// A request to send, from any edge.
#[derive(Debug, Clone)]
pub struct SendCommand {
    /// Whose it is.
    pub application: ApplicationName,
    /// What is to be sent.
    pub request: v1::SendSmsBulkRequest,
    /// Whether it may have been tried before.
    pub arrival: Arrival,
}

/// Whether a request may have been tried before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Never seen.
    First,
    /// A broker delivered it again: its messages are in doubt until the logs say otherwise.
    Redelivered,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// API: `trackingProcessKey`.
    pub tracking_process_key: String,
    /// In the order of the messages and their destinations: one result for each destination, and one without `to` and
    /// `message_id` for each message without destinations. Each is durable as an event, except those with a retryable
    /// refusal: of these nothing was attempted. Whoever acknowledges a command relies on that; `call` is the only place that
    /// makes results that are not durable.
    pub results: Vec<v1::SendResult>,
}

/// Why nothing was attempted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SendError {
    /// The request is wrong.
    #[error("the request is invalid: {} mistakes", .0.len())]
    Invalid(Vec<FieldViolation>),
    /// The id was used for another content.
    #[error("the id `{id}` was used before with other content: use a new id for a new message")]
    IdReused {
        /// The request or message id.
        id: String,
    },
    /// Too much waits already.
    #[error("the bridge's queue is full: try again later")]
    QueueFull {
        /// When to try again.
        retry_after: Duration,
    },
    /// The API can't be reached, or does not take requests now.
    #[error("the API is unavailable: {detail}")]
    Unavailable {
        /// What happened.
        detail: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The API refuses the bridge's credentials.
    #[error("the API refuses the bridge's credentials: {detail}")]
    CredentialsRefused {
        /// What the API said.
        detail: String,
    },
    /// Its caller took it back before a request carried it.
    #[error("it was taken back before it was sent")]
    Withdrawn,
    /// The process ends.
    #[error("the bridge is shutting down: try another replica, or again in a moment")]
    ShuttingDown,
    /// It can't be known whether the ids were used before, so nothing was sent.
    #[error("the event log can't be read, so nothing was sent: {0}")]
    LogUnreadable(String),
    /// The results can't be made durable.
    #[error("the event log can't be written: {0}")]
    LogUnavailable(String),
}

impl SendError {
    /// The stable reason, as in docs/ERRORS.md.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Invalid(_) => Reason::InvalidRequest,
            Self::IdReused { .. } => Reason::IdReused,
            Self::QueueFull { .. } => Reason::QueueFull,
            Self::Unavailable { .. } => Reason::ApiUnavailable,
            Self::CredentialsRefused { .. } => Reason::ApiCredentialsRefused,
            Self::Withdrawn => Reason::Withdrawn,
            Self::ShuttingDown => Reason::ShuttingDown,
            Self::LogUnreadable(_) | Self::LogUnavailable(_) => Reason::EventLogUnavailable,
        }
    }

    /// Whether the same call with the same ids may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Invalid(_) | Self::IdReused { .. } => false,
            // Once the operator has corrected them.
            Self::CredentialsRefused { .. }
            | Self::QueueFull { .. }
            | Self::Unavailable { .. }
            | Self::Withdrawn
            | Self::ShuttingDown
            | Self::LogUnreadable(_)
            | Self::LogUnavailable(_) => true,
        }
    }

    /// The mistakes of an invalid request.
    #[must_use]
    pub fn violations(&self) -> &[FieldViolation] {
        match self {
            Self::Invalid(violations) => violations,
            _ => &[],
        }
    }
}

/// Sends. A trait so that edges can be tried without the API.
pub trait Sender: Send + Sync + 'static {
    /// Resolves when every destination has a result that is durable as an event. Dropping the future does not stop the
    /// send: what was begun finishes and becomes events.
    fn send(&self, command: SendCommand) -> BoxFuture<'_, Result<Sent, SendError>>;
}
