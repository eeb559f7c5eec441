//! Out to the broker: sessions, the topology, publishing with confirms, and how bodies and properties are written.
//!
//! Invariants: publishing and consuming never share a connection (a broker alarm blocks a publishing connection's
//! acknowledgements too); nothing is said to be published before its confirm; a session that failed in any way is dropped
//! and a new one is built. Neighbours: `events` keeps its log here on the broker engine, `commands` consumes.

pub mod codec;
pub mod headers;
pub mod publisher;
pub mod session;
pub mod topology;

use std::time::Duration;

pub use self::{
    publisher::{Message, Publisher},
    session::{Endpoint, Session},
    topology::Topology,
};

/// Why something asked of the broker did not happen.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AmqpError {
    /// `amqp.url` is not a URL of a broker.
    #[error(
        "amqp.url is not the URL of a broker ({0}): it looks like amqp://user:password@host:5672/vhost"
    )]
    BadUrl(String),
    /// No connection could be made.
    #[error(
        "the broker at {address} can't be reached: {detail}; is it running, and is amqp.url right?"
    )]
    Unreachable {
        /// Host, port and virtual host.
        address: String,
        /// What happened.
        detail: String,
    },
    /// A queue or exchange is there already with other properties.
    #[error(
        "`{name}` is on the broker already, declared in another way: {detail}. Put the setting back, or delete `{name}` once \
         nothing in it is needed, or set another amqp.prefix"
    )]
    Conflict {
        /// The queue or exchange.
        name: String,
        /// What the broker said.
        detail: String,
    },
    /// The broker refused, or the session ended on the way.
    #[error("the broker's session failed: {0}")]
    Lost(String),
    /// The broker takes no messages now.
    #[error("the broker blocks publishers: it is low on memory or disk space")]
    Blocked,
    /// The broker said that it did not store a message.
    #[error("the broker refused to store the message (a full queue)")]
    Nacked,
    /// A message fits no queue.
    #[error("`{exchange}` has no queue for `{routing_key}`")]
    Unroutable {
        /// The exchange; empty for the default one.
        exchange: String,
        /// The routing key.
        routing_key: String,
    },
    /// No confirm came in time.
    #[error("the broker did not confirm within {0:?}")]
    TimedOut(Duration),
    /// The process ends.
    #[error("the connection is closed: the process is shutting down")]
    Closed,
}

impl From<lapin::Error> for AmqpError {
    fn from(error: lapin::Error) -> Self {
        Self::Lost(error.to_string())
    }
}
