//! The client of the broker: sessions, the topology, publishing with confirms, encoding of bodies and properties.
//!
//! Invariants: publishing and consuming never share a connection, because a broker alarm blocks a publishing connection and
//! with it acknowledgements; a publication succeeds only after its confirm; after any error a session is dropped and replaced.
//! Neighbours: the broker engine of `events` publishes and reads events, `commands` consumes and republishes commands.

pub mod codec;
mod connect_error;
mod endpoint;
pub mod event_body;
pub mod frame;
pub mod headers;
pub mod publisher;
pub mod session;
pub mod status;
pub mod topology;
pub mod walk;

use std::time::Duration;

use lapin::{
    ErrorKind,
    protocol::{AMQPErrorKind, AMQPHardError},
};

pub use self::{
    endpoint::Endpoint,
    publisher::{Message, Publisher},
    session::Session,
    topology::Topology,
};
use crate::config::{BROKER_URL_REMEDY, BrokerUrlError};

/// Why an operation on the broker failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AmqpError {
    /// `amqp.url` is not a URL of a broker.
    #[error("amqp.url {0}; {BROKER_URL_REMEDY}")]
    BadUrl(#[from] BrokerUrlError),
    /// No connection could be established.
    #[error(
        "the broker at {address} cannot be reached: {detail}; is it running, and are host and port of amqp.url right?"
    )]
    Unreachable {
        /// Host, port and virtual host.
        address: String,
        detail: String,
    },
    /// The broker was reached, but refuses the connection.
    #[error("the broker at {address}: {problem}")]
    Refused {
        /// `login`, `vhost`, `tls` or `refused`.
        cause: &'static str,
        /// Host, port and virtual host.
        address: String,
        /// With the remedy.
        problem: String,
    },
    /// None of several nodes gave a session.
    #[error("no node of the broker can be used: {detail}")]
    NoNode {
        /// As [`AmqpError::cause`], if it is the same for all nodes.
        cause: &'static str,
        /// What each node said.
        detail: String,
    },
    /// A queue or exchange exists with different arguments.
    #[error("cannot declare: {}", topology::conflict::explain(.name, .detail))]
    Conflict {
        name: String,
        /// The text of the broker.
        detail: String,
    },
    /// The broker's user lacks a permission that a declaration or a binding needs.
    #[error("cannot declare: {problem}")]
    NoPermission {
        /// With the remedy.
        problem: String,
    },
    /// The operator owns the topology, and something is missing in it.
    #[error("cannot declare: {problem}")]
    Missing {
        /// With the remedy.
        problem: String,
    },
    /// A declaration failed for a reason that may end: the broker has no majority, shuts down, or does not answer.
    #[error("cannot declare `{name}`: {detail}")]
    Undeclared { name: String, detail: String },
    /// Why an ended session ended: made by `Session::end`.
    #[error("the session with the broker at {address} ended: {detail}")]
    Ended {
        /// Host, port and virtual host.
        address: String,
        detail: String,
    },
    /// The broker refused the operation, or the session ended during it.
    #[error("the session with the broker failed: {0}")]
    Lost(String),
    /// The session ended before the broker confirmed the message. The message may be the cause.
    #[error("the session with the broker ended before it confirmed the message: {0}")]
    EndedInFlight(String),
    /// The broker has a resource alarm and blocks publishers.
    #[error("the broker blocks publishers: it is low on memory or disk space")]
    Blocked,
    /// The broker did not store the message.
    #[error("the broker refused to store the message (a full queue)")]
    Nacked,
    /// No queue is bound for the message.
    #[error("exchange `{exchange}` has no queue for routing key `{routing_key}`")]
    Unroutable {
        /// The exchange; empty for the default one.
        exchange: String,
        routing_key: String,
    },
    /// No confirm arrived in time.
    #[error("the broker did not confirm within {0:?}")]
    TimedOut(Duration),
    /// The process shuts down.
    #[error("the connection is closed: the process is shutting down")]
    Closed,
}

impl AmqpError {
    /// What kind of outage it is. A session that ended and a broker that cannot be reached are one.
    fn cause(&self) -> &'static str {
        match self {
            Self::Refused { cause, .. } | Self::NoNode { cause, .. } => cause,
            Self::Conflict { .. } => "conflict",
            Self::NoPermission { .. } => "permission",
            Self::Missing { .. } => "missing",
            Self::Undeclared { .. } => "declaration",
            _ => "away",
        }
    }

    /// Whether every node of a cluster would answer an attempt to open a session with it.
    fn is_of_every_node(&self) -> bool {
        matches!(
            self,
            Self::Conflict { .. }
                | Self::NoPermission { .. }
                | Self::Missing { .. }
                | Self::Refused {
                    cause: "login" | "vhost",
                    ..
                }
        )
    }

    /// Without the address and the remedy, for a text that has the errors of several nodes.
    fn short(&self) -> String {
        match self {
            Self::Unreachable { detail, .. } => format!("cannot be reached: {detail}"),
            Self::Refused { problem, .. } => problem.clone(),
            other => other.to_string(),
        }
    }
}

impl From<lapin::Error> for AmqpError {
    fn from(error: lapin::Error) -> Self {
        Self::Lost(said(&error))
    }
}

/// What an error says. RabbitMQ ends a session with an internal error where it delivers a message of an AMQP 1.0 publisher that it cannot
/// convert, or converts it to what is no AMQP 0.9.1. It names neither the message nor the queue.
fn said(error: &lapin::Error) -> String {
    let is_unreadable = match error.kind() {
        ErrorKind::ParsingError(_) => true,
        ErrorKind::ProtocolError(protocol) => {
            matches!(
                protocol.kind(),
                AMQPErrorKind::Hard(AMQPHardError::INTERNALERROR)
            )
        }
        _ => false,
    };
    match is_unreadable {
        true => format!(
            "{error}; if this comes again and again, a message in a queue of commands cannot be delivered: \
             docs/RABBITMQ.md#amqp-10"
        ),
        false => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    #[test]
    fn an_internal_error_of_the_broker_names_the_message_that_may_be_its_cause() {
        let of = |kind: AMQPHardError| {
            let error = AMQPError::new(kind.into(), "INTERNAL_ERROR".into());
            AmqpError::from(lapin::Error::from(ErrorKind::ProtocolError(error))).to_string()
        };
        let hint = "docs/RABBITMQ.md#amqp-10";
        assert!(of(AMQPHardError::INTERNALERROR).contains(hint));
        assert!(!of(AMQPHardError::CONNECTIONFORCED).contains(hint));
    }
}
