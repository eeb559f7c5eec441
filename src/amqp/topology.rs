//! The names of the exchanges and queues that the bridge needs, and their declaration on the broker.
//!
//! The bridge declares all of them in every new session, so that deleted ones are created again, unless an operator owns them
//! (`amqp.topology`); `smsbridge topology` prints them.
//! Neighbours: `definitions` has their arguments and bindings, `declare` declares them, `passive` checks that they exist, `permission`
//! and `conflict` explain a refusal.

pub(super) mod conflict;
mod declare;
mod definitions;
mod passive;
mod permission;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lapin::types::ShortString;
use parking_lot::Mutex;

use self::declare::Differing;
pub use self::definitions::{Binding, Destination, Exchange, Queue};
use super::AmqpError;
use crate::config::{self, TopologyMode};

/// The delays of the retry queues.
pub const RETRY_DELAYS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(60),
];

/// The exchanges and queues whose names begin with `prefix`, and their bindings.
#[derive(Debug, Clone)]
pub struct Topology {
    prefix: String,
    mode: TopologyMode,
    stream_retention: Duration,
    /// The queues that exist with other arguments and are used as they are. Shared by clones.
    differing: Arc<Mutex<BTreeMap<String, Differing>>>,
}

impl Topology {
    #[must_use]
    pub fn new(amqp: &config::Amqp) -> Self {
        Self {
            prefix: amqp.prefix.clone(),
            mode: amqp.topology,
            stream_retention: amqp.stream_retention,
            differing: Arc::default(),
        }
    }

    /// Whether a name is one of the bridge's own, or reserved for it.
    #[must_use]
    pub fn owns(&self, name: &str) -> bool {
        let rest = name.strip_prefix(&self.prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    fn name(&self, rest: &str) -> String {
        format!("{}.{rest}", self.prefix)
    }

    /// The exchange that commands are published to.
    #[must_use]
    pub fn commands(&self) -> String {
        self.name("commands")
    }

    /// The alternate exchange of `commands`, and its queue: get commands with an unknown routing key.
    #[must_use]
    pub fn unroutable(&self) -> String {
        self.name("unroutable")
    }

    /// The queue of commands that are sent with normal priority.
    #[must_use]
    pub fn send_normal(&self) -> String {
        self.name("send.normal")
    }

    /// The queue of commands that are sent before normal ones.
    #[must_use]
    pub fn send_urgent(&self) -> String {
        self.name("send.urgent")
    }

    /// The queue of commands that look numbers up.
    #[must_use]
    pub fn lookup(&self) -> String {
        self.name("lookup")
    }

    /// The exchange of delayed retries. A message's header [`RETRY_DELAY`](super::headers::RETRY_DELAY) selects the retry queue; its routing key is the
    /// queue that it returns to after the delay.
    #[must_use]
    pub fn retry(&self) -> String {
        self.name("retry")
    }

    /// The queue of commands that the broker dead-lettered (expired, delivery limit) or could not route.
    #[must_use]
    pub fn returned(&self) -> String {
        self.name("returned")
    }

    /// The queue of dead letters.
    #[must_use]
    pub fn dead(&self) -> String {
        self.name("dead")
    }

    /// The exclusive queue of the one that walks through the dead letters: a lock. It is declared by its holder only.
    #[must_use]
    pub fn dead_lock(&self) -> String {
        self.name("lock.dead")
    }

    /// The exchange of all events.
    #[must_use]
    pub fn events(&self) -> String {
        self.name("events")
    }

    /// The stream that stores all events, and the exchange in front of it.
    #[must_use]
    pub fn events_log(&self) -> String {
        self.name("events.log")
    }

    /// The queue of responses to pulls whose rows are not events yet.
    #[must_use]
    pub fn intake(&self) -> String {
        self.name("intake")
    }

    /// The alternate exchange of the exchange [`events_log`](Self::events_log), and its queue: get events while the stream is not bound
    /// to that one.
    #[must_use]
    pub fn events_unrouted(&self) -> String {
        self.name("events.unrouted")
    }

    /// The queue of authenticated webhook bodies that cannot be read.
    #[must_use]
    pub fn quarantine(&self) -> String {
        self.name("quarantine")
    }

    /// The exclusive queue of the one that walks through the quarantine, as [`dead_lock`](Self::dead_lock).
    #[must_use]
    pub fn quarantine_lock(&self) -> String {
        self.name("lock.quarantine")
    }

    fn retry_queue(&self, delay: Duration) -> String {
        self.name(&format!("retry.{}", delay_name(delay)))
    }
}

/// A delay as it is written in queue names and headers, such as `10s`.
#[must_use]
pub fn delay_name(delay: Duration) -> String {
    format!("{}s", delay.as_secs())
}

/// Converts a name or routing key to an AMQP short string.
///
/// # Errors
/// [`AmqpError::Lost`] if it is longer than 255 bytes.
pub(super) fn short(name: &str) -> Result<ShortString, AmqpError> {
    ShortString::try_new(name)
        .map_err(|_| AmqpError::Lost(format!("`{name}` is longer than 255 bytes")))
}
