//! A session is a value: a connection that stands, or does not exist.
//!
//! lapin's recovery is off, as it hides outages: on any error a session is dropped and a new one is built, with a backoff
//! that [`Backoff`] spreads so that replicas do not come back in step.

use std::{fmt, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection, ConnectionProperties, Event,
    options::{BasicQosOptions, ConfirmSelectOptions},
    uri::AMQPUri,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::AmqpError;
use crate::primitives::retry::RetryPolicy;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long closing may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the broker is asked whether it lives, where the URL does not say (`?heartbeat=`).
const HEARTBEAT_SECONDS: u16 = 15;

/// How long to wait before connecting again.
pub const RECONNECT: RetryPolicy =
    RetryPolicy::new(Duration::from_millis(200), Duration::from_secs(10));

/// Where the broker is.
#[derive(Clone)]
pub struct Endpoint {
    uri: AMQPUri,
    address: String,
}

impl Endpoint {
    /// Reads `amqp.url`.
    ///
    /// # Errors
    /// [`AmqpError::BadUrl`], which never holds the URL, as that holds a password.
    pub fn parse(url: &SecretString) -> Result<Self, AmqpError> {
        let mut uri: AMQPUri = url.expose_secret().parse().map_err(AmqpError::BadUrl)?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        let address = format!(
            "{}:{} (vhost {})",
            uri.authority.host, uri.authority.port, uri.vhost
        );
        Ok(Self { uri, address })
    }

    /// Whom the bridge connects as.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.uri.authority.userinfo.username
    }

    /// Host, port and virtual host.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// A connection that stands.
pub struct Session {
    connection: Connection,
    ended: CancellationToken,
    _watch: AbortOnDropHandle<()>,
}

impl Session {
    /// Connects. `purpose` is in the connection's name, as operators see it on the broker.
    ///
    /// # Errors
    /// [`AmqpError::Unreachable`].
    pub async fn open(endpoint: &Endpoint, purpose: &str) -> Result<Self, AmqpError> {
        let unreachable = |detail: String| AmqpError::Unreachable {
            address: endpoint.address.clone(),
            detail,
        };
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("smsbridge {purpose} {}", std::process::id()).into());
        let connecting = Connection::connect_uri(endpoint.uri.clone(), properties);
        let connection = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| unreachable(format!("no answer within {CONNECT_TIMEOUT:?}")))?
            .map_err(|error| unreachable(error.to_string()))?;

        let ended = CancellationToken::new();
        let mut events = connection.events_listener();
        let watched = ended.clone();
        let watch = tokio::spawn(async move {
            let _ended = watched.drop_guard();
            while let Some(event) = events.next().await {
                match event {
                    Event::Error(error) => {
                        tracing::debug!(%error, "the broker's session ended");
                        return;
                    }
                    Event::ConnectionBlocked(reason) => {
                        tracing::warn!(%reason, "the broker blocks publishers");
                    }
                    Event::ConnectionUnblocked => {
                        tracing::info!("the broker takes messages again");
                    }
                    _ => {}
                }
            }
        });
        Ok(Self {
            connection,
            ended,
            _watch: AbortOnDropHandle::new(watch),
        })
    }

    /// A channel that gets `prefetch` unacknowledged deliveries at most.
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

    /// A channel whose publications are confirmed.
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

    /// Whether the broker takes messages from it now.
    #[must_use]
    pub fn takes_messages(&self) -> bool {
        self.stands() && !self.connection.status().blocked()
    }

    /// Whether it still stands.
    #[must_use]
    pub fn stands(&self) -> bool {
        !self.ended.is_cancelled() && self.connection.status().connected()
    }

    /// Whether the broker blocks it.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Ends it for all that use it: something on it failed.
    pub fn give_up(&self) {
        self.ended.cancel();
    }

    /// Resolves when it no longer stands.
    pub async fn ended(&self) {
        // The broker may close the connection without an error.
        let mut look = tokio::time::interval(Duration::from_secs(1));
        while self.stands() {
            tokio::select! {
                () = self.ended.cancelled() => return,
                _ = look.tick() => {}
            }
        }
    }

    /// Closes it, as politely as time allows.
    pub async fn close(&self) {
        let closing = self.connection.close(200, "done".into());
        if tokio::time::timeout(CLOSE_TIMEOUT, closing).await.is_err() {
            tracing::debug!("the broker did not answer the close");
        }
        self.ended.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_never_shows_its_password() {
        let endpoint = Endpoint::parse(&"amqp://me:secret@broker.example:5673/sms".into()).unwrap();
        assert_eq!(format!("{endpoint:?}"), "broker.example:5673 (vhost sms)");
        let error = Endpoint::parse(&"http://me:secret@broker.example".into()).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
