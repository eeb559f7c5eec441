//! The core: from a request to one durable result for each destination.
//!
//! Every way in (`SendSms`, `SendSmsBulk`, `StreamSms`, AMQP commands) goes through [`Sender`].

pub mod guards;

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::{
    message::id::ApplicationName,
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
    /// One result for each destination, in the order of the messages and their destinations. All are durable as events,
    /// but those with a retryable refusal, of which nothing was attempted.
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
    #[error("the API can't be reached: {detail}")]
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
    /// The process ends.
    #[error("the bridge is shutting down: try another replica, or again in a moment")]
    ShuttingDown,
    /// The results can't be made durable.
    #[error("the event log can't be written: {0}")]
    LogUnavailable(String),
}

/// Sends. A trait so that edges can be tried without the API.
pub trait Sender: Send + Sync + 'static {
    /// Resolves when every destination has a result that is durable as an event. Dropping the future does not stop the
    /// send: what was begun finishes and becomes events.
    fn send(&self, command: SendCommand) -> BoxFuture<'_, Result<Sent, SendError>>;
}
