//! Sessions: established connections to the broker.
//!
//! Invariant: a session never reconnects. lapin's recovery is off because it hides outages; after any error the owner drops
//! the session and opens a new one with the backoff of [`RECONNECT`].

mod socket;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection, ConnectionProperties, ConnectionStatus, Event,
    options::{BasicQosOptions, ConfirmSelectOptions},
    uri::AMQPUri,
};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::socket::{EndOnDrop, Socket};
use super::{
    AmqpError,
    connect_error::{connect_error, unreachable},
    endpoint::{Endpoint, Node},
    said,
};
use crate::{
    config::tls::{BrokerTls, BrokerTlsPaths},
    primitives::retry::RetryPolicy,
};

/// Timeout of closing a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a blocked session is asked whether it still is.
const BLOCKED_CHECK: Duration = Duration::from_millis(200);

/// The backoff before connecting again.
pub const RECONNECT: RetryPolicy =
    RetryPolicy::new(Duration::from_millis(200), Duration::from_secs(10));

/// What the broker last said about publishers.
#[derive(Debug, Clone, Copy, Default)]
enum Alarm {
    #[default]
    Never,
    Blocked,
    EndedAt(Instant),
}

/// Whether a session has ended, for users that must not keep it open.
#[derive(Clone)]
pub struct SessionState {
    ended: CancellationToken,
    connection: ConnectionStatus,
}

impl SessionState {
    /// As [`Session::is_open`].
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.ended.is_cancelled() && self.connection.connected()
    }
}

/// An established connection.
pub struct Session {
    connection: Connection,
    socket: Socket,
    address: Arc<str>,
    ended: CancellationToken,
    /// The error that ended it.
    cause: Arc<OnceLock<String>>,
    alarm: Arc<Mutex<Alarm>>,
    _watch: AbortOnDropHandle<()>,
}

impl Session {
    /// Connects with the first node of a round that takes the connection. `purpose` becomes part of the connection name that
    /// operators see on the broker.
    ///
    /// # Errors
    /// [`AmqpError::Unreachable`], [`AmqpError::Refused`], or [`AmqpError::NoNode`] if there are several nodes.
    pub async fn open(endpoint: &Endpoint, purpose: &'static str) -> Result<Self, AmqpError> {
        let mut round = endpoint.round(purpose);
        loop {
            match Self::open_at(endpoint, round.node(), purpose).await {
                Ok(session) => {
                    round.succeeded(&session);
                    return Ok(session);
                }
                Err(error) => round.failed(error)?,
            }
        }
    }

    /// Connects with this node.
    pub(super) async fn open_at(
        endpoint: &Endpoint,
        node: &Node,
        purpose: &str,
    ) -> Result<Self, AmqpError> {
        let Node { uri, address, .. } = node;
        let timeout = endpoint.connect_timeout();
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("smsbridge {purpose} {}", std::process::id()).into());
        let socket = Socket::default();
        let unopened = EndOnDrop::new(&socket);
        let tls = read_tls(endpoint.tls())
            .await
            .map_err(|problem| AmqpError::Refused {
                cause: "tls",
                address: address.to_string(),
                problem,
            })?;
        let connecting = socket.connect(AMQPUri::clone(uri), properties, tls);
        let connection = tokio::time::timeout(timeout, connecting)
            .await
            .map_err(|_| unreachable(address, format!("no answer within {timeout:?}")))?
            .map_err(|error| connect_error(uri, address, &error))?;
        unopened.keep();

        let ended = CancellationToken::new();
        let mut events = connection.events_listener();
        let watched = ended.clone();
        let cause = Arc::new(OnceLock::new());
        let noted = Arc::clone(&cause);
        let alarm = Arc::new(Mutex::new(Alarm::Never));
        let noted_alarm = Arc::clone(&alarm);
        let watch = tokio::spawn(async move {
            let _ended = watched.drop_guard();
            while let Some(event) = events.next().await {
                match event {
                    Event::Error(error) => {
                        let _ = noted.set(said(&error));
                        return;
                    }
                    Event::ConnectionBlocked(reason) => {
                        *noted_alarm.lock() = Alarm::Blocked;
                        tracing::warn!(%reason, "the broker blocks publishers");
                    }
                    Event::ConnectionUnblocked => {
                        *noted_alarm.lock() = Alarm::EndedAt(Instant::now());
                        tracing::info!("the broker accepts messages again");
                    }
                    _ => {}
                }
            }
        });
        Ok(Self {
            connection,
            socket,
            address: Arc::clone(address),
            ended,
            cause,
            alarm,
            _watch: AbortOnDropHandle::new(watch),
        })
    }

    /// Host, port and virtual host of its node.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Opens a channel with a prefetch limit.
    ///
    /// # Errors
    /// [`AmqpError::Lost`].
    pub async fn consuming_channel(&self, prefetch: u16) -> Result<Channel, AmqpError> {
        let channel = self.connection.create_channel().await?;
        channel
            .basic_qos(prefetch, BasicQosOptions::default())
            .await?;
        Ok(channel)
    }

    /// Opens a channel in confirm mode.
    ///
    /// # Errors
    /// [`AmqpError::Lost`].
    pub async fn publishing_channel(&self) -> Result<Channel, AmqpError> {
        let channel = self.connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(channel)
    }

    /// Whether the session is open and the broker accepts messages.
    #[must_use]
    pub fn accepts_messages(&self) -> bool {
        self.is_open() && !self.connection.status().blocked()
    }

    /// Whether the session has not ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.ended.is_cancelled() && self.connection.status().connected()
    }

    /// Its state, which outlives it.
    #[must_use]
    pub fn state(&self) -> SessionState {
        SessionState {
            ended: self.ended.clone(),
            connection: self.connection.status().clone(),
        }
    }

    /// Whether the broker blocks this connection because of a resource alarm.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Whether the broker blocks this connection, or did so within `period`. A confirm that is missing then is no sign that the
    /// session does not work.
    #[must_use]
    pub fn was_blocked_within(&self, period: Duration) -> bool {
        let alarm = *self.alarm.lock();
        self.is_blocked()
            || match alarm {
                Alarm::Never => false,
                Alarm::Blocked => true,
                Alarm::EndedAt(at) => at.elapsed() < period,
            }
    }

    /// Waits until the broker does not block the connection, or the connection has ended: lapin writes nothing to a blocked one,
    /// so that it cannot be closed either.
    pub async fn unblocked(&self) {
        let mut check = tokio::time::interval(BLOCKED_CHECK);
        while self.connection.status().connected() && self.is_blocked() {
            check.tick().await;
        }
    }

    /// Marks the session as ended for all its users, because an operation on it failed.
    pub fn give_up(&self) {
        self.ended.cancel();
    }

    /// The same, and notes why, unless a cause is known.
    pub fn give_up_because(&self, why: String) {
        let _ = self.cause.set(why);
        self.give_up();
    }

    /// Waits until the session has ended.
    pub async fn ended(&self) {
        // If the broker closes the connection without an error, nothing cancels `ended`, so the state is also checked every second.
        let mut check = tokio::time::interval(Duration::from_secs(1));
        while self.is_open() {
            tokio::select! {
                () = self.ended.cancelled() => return,
                _ = check.tick() => {}
            }
        }
    }

    /// Why the session ended.
    #[must_use]
    pub fn end(&self) -> AmqpError {
        let cause = self.cause.get();
        AmqpError::Ended {
            address: self.address.to_string(),
            detail: cause
                .map_or("an operation on it failed", String::as_str)
                .to_owned(),
        }
    }

    /// Closes the connection; waits for the broker's reply for a short time, and does without it then.
    pub async fn close(&self) {
        let closing = self.connection.close(200, "done".into());
        if tokio::time::timeout(CLOSE_TIMEOUT, closing).await.is_err() {
            tracing::debug!("the broker did not confirm the close");
            self.socket.end();
        }
        self.ended.cancel();
    }
}

/// Reads the TLS files, which may have changed since the last connection. The error is for people.
async fn read_tls(paths: &Arc<BrokerTlsPaths>) -> Result<BrokerTls, String> {
    let paths = Arc::clone(paths);
    let reading = tokio::task::spawn_blocking(move || paths.read()).await;
    let read = reading.map_err(|error| error.to_string())?;
    read.map_err(|mistakes| {
        let problems = mistakes
            .iter()
            .map(|one| format!("`{}`: {}; {}", one.key, one.problem, one.remedy));
        problems.collect::<Vec<_>>().join("; ")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_endpoint_connects_to_an_ipv6_address() {
        let endpoint = |port| Endpoint::parse(&format!("amqp://u:p@[::1]:{port}/sms").into());
        let address = endpoint(5673).unwrap().address().to_owned();
        assert_eq!(address, "[::1]:5673 (vhost sms)");

        let Ok(listener) = tokio::net::TcpListener::bind("[::1]:0").await else {
            println!("skipped: this machine has no IPv6");
            return;
        };
        let endpoint = endpoint(listener.local_addr().unwrap().port()).unwrap();
        let (accepted, opened) =
            tokio::join!(async { listener.accept().await.unwrap().1 }, async {
                Session::open(&endpoint, "test").await.err()
            });
        assert!(accepted.is_ipv6());
        assert!(opened.is_some(), "the listener is not a broker");
    }
}
