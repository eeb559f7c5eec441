//! Moving a command to another queue: published with a confirm there, then acknowledged here.
//!
//! Invariants: a command is in at least one queue at any moment; a moved command carries what must not be lost on the way
//! (attempts, first sight, its deadline, doubt) in headers, as the broker's own are removed or ignored.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use lapin::{
    BasicProperties,
    message::Delivery,
    options::BasicAckOptions,
    types::{AMQPValue, FieldTable},
};
use sha2::{Digest as _, Sha256};

use super::{
    Context,
    command::{Envelope, Invalid, now_ms},
    headers::{
        self, APPLICATION, ATTEMPT, DETAIL, DIED_AT, EXPIRES_AT, FIRST_SEEN, IN_DOUBT, REASON,
        ROUTING_KEY, USER_ID,
    },
    ledger::Key,
};
use crate::{
    amqp::{
        AmqpError, Message, codec,
        frame::{MAX_TEXT_BYTES, bounded_text, cut},
        session::RECONNECT,
        topology::{RETRY_DELAY_HEADER, RETRY_DELAYS, delay_name},
    },
    events::NewEvent,
    message::id::ApplicationName,
    primitives::retry::Backoff,
    proto::v1,
    send::Arrival,
};

/// The longest `expiration` that the broker takes.
const LONGEST_EXPIRATION_MS: i64 = u32::MAX as i64;
/// After so many sessions that ended while a command was on its way, it is published without its publisher's headers.
const MAX_ENDED_SESSIONS: usize = 3;

/// How much earlier than the edge the sender may hear that the process ends.
const INTAKE_END: Duration = Duration::from_secs(3);

/// Where a command goes that can't be carried out now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Back {
    /// To a retry queue, for at least so long.
    Later(Duration),
    /// To its queue, as if it had not been taken.
    Untouched,
}

impl Context {
    /// Puts a command back and acknowledges it. `doubt`: something may have been sent.
    pub(super) async fn put_back(
        &self,
        queue: &str,
        delivery: &Delivery,
        body: Bytes,
        back: Back,
        doubt: Arrival,
        key: Option<&Key>,
    ) {
        let envelope = Envelope::new(delivery);
        let mut headers = headers::copied(delivery);
        headers.insert(FIRST_SEEN.into(), number(envelope.first_seen_ms()));
        headers.insert(ROUTING_KEY.into(), bounded_text(&envelope.routing_key()));
        if doubt == Arrival::Redelivered {
            headers.insert(IN_DOUBT.into(), AMQPValue::Boolean(true));
        }
        let mut properties = self.own_properties(delivery, &mut headers);
        if let Some(at) = envelope.lapses_at_ms() {
            headers.insert(EXPIRES_AT.into(), number(at));
            let left = at.saturating_sub(now_ms()).clamp(1, LONGEST_EXPIRATION_MS);
            properties = properties.with_expiration(codec::lossy_short(&left.to_string()));
        }
        let exchange = match back {
            Back::Untouched => {
                // Earlier it would only be delivered to this process again.
                let ended = self.intake_ended.cancelled();
                if tokio::time::timeout(INTAKE_END, ended).await.is_err() {
                    tracing::warn!("the sender shuts down, but the commands' edge does not");
                }
                String::new()
            }
            Back::Later(at_least) => {
                let attempt = codec::number_header(Some(&headers), ATTEMPT)
                    .unwrap_or_default()
                    .max(0);
                headers.insert(ATTEMPT.into(), number(attempt.saturating_add(1)));
                let delay = retry_delay(attempt, at_least);
                headers.insert(RETRY_DELAY_HEADER.into(), bounded_text(&delay_name(delay)));
                self.commands.topology.retry()
            }
        };
        let message = Message {
            exchange,
            routing_key: queue.to_owned(),
            properties: properties.with_headers(headers),
            body,
        };
        if self.moved(delivery, message).await {
            self.acknowledge(delivery, key).await;
        }
    }

    /// Says that a command is invalid, lays it into `dead`, and acknowledges it.
    pub(super) async fn bury(&self, delivery: &Delivery, invalid: Invalid, key: Option<&Key>) {
        let invalid = invalid.bounded();
        let envelope = Envelope::new(delivery);
        let commands = &self.commands;
        let application = envelope
            .application(commands.application_from, commands.endpoint.username())
            .unwrap_or_else(|_| ApplicationName::default_application());
        let request_id = envelope.request_id();
        let routing_key = cut(&envelope.routing_key(), MAX_TEXT_BYTES).into_owned();
        tracing::warn!(
            %application,
            request_id,
            reason = %invalid.reason,
            "a command is invalid and goes to the dead letters"
        );
        let mut headers = headers::copied(delivery);
        let mut properties = self.own_properties(delivery, &mut headers);
        for (name, value) in [
            (REASON, invalid.reason.as_str()),
            (DETAIL, &invalid.detail),
            (APPLICATION, application.as_str()),
            (ROUTING_KEY, &routing_key),
        ] {
            headers.insert(name.into(), bounded_text(value));
        }
        headers.insert(DIED_AT.into(), number(now_ms()));
        properties = properties.with_headers(headers);

        let event = NewEvent::invalid_command(
            &application,
            &request_id,
            &hex::encode(Sha256::digest(&delivery.data)),
            v1::InvalidCommand {
                reason: invalid.reason.into(),
                detail: invalid.detail,
                routing_key,
                violations: invalid.violations,
            },
        );
        if !self.appended(delivery, event).await {
            return;
        }
        let message = Message {
            exchange: String::new(),
            routing_key: commands.topology.dead(),
            properties,
            body: Bytes::copy_from_slice(&delivery.data),
        };
        if self.moved(delivery, message).await {
            self.acknowledge(delivery, key).await;
        }
    }

    /// Acknowledges; remembers the command where that failed, as the broker will deliver it again.
    pub(super) async fn acknowledge(&self, delivery: &Delivery, key: Option<&Key>) {
        let acknowledged = delivery.acker.ack(BasicAckOptions::default()).await;
        match (acknowledged, key) {
            (Ok(true), Some(key)) => self.ledger.note_acknowledged(key),
            (Ok(true), None) => {}
            (Ok(false) | Err(_), Some(key)) => self.ledger.note_unacknowledged(key.clone()),
            (Ok(false) | Err(_), None) => {
                tracing::debug!("a command without a request id could not be acknowledged");
            }
        }
    }

    /// Makes an event durable; `false` where the delivery came back to the broker meanwhile, or the process ends.
    pub(super) async fn appended(&self, delivery: &Delivery, event: NewEvent) -> bool {
        let events = Arc::new(vec![event]);
        self.insist(delivery, "an event", || {
            let appending = self.commands.log.append(Arc::clone(&events));
            async move { appending.await.map_err(|error| error.to_string()) }
        })
        .await
    }

    /// Publishes a copy of a command or its dead letter; `false` as for `appended`.
    ///
    /// A message that the broker answers by closing the connection would end everybody's publications for ever: after a few
    /// sessions that ended with it, it is published with the bridge's own headers alone.
    async fn moved(&self, delivery: &Delivery, message: Message) -> bool {
        let ended_sessions = AtomicUsize::new(0);
        self.insist(delivery, "a command", || {
            let mut message = message.clone();
            if ended_sessions.load(Ordering::Relaxed) >= MAX_ENDED_SESSIONS {
                tracing::warn!(
                    request_id = Envelope::new(delivery).request_id(),
                    "the broker's session ended each time a command was moved: its publisher's headers are left out"
                );
                strip(&mut message.properties);
            }
            let ended_sessions = &ended_sessions;
            async move {
                let published = self.commands.publisher.publish_mandatory(message).await;
                if let Err(AmqpError::EndedInFlight(_)) = published {
                    ended_sessions.fetch_add(1, Ordering::Relaxed);
                }
                published.map_err(|error| error.to_string())
            }
        })
        .await
    }

    /// Tries until it succeeds, as long as the delivery is ours. At shutdown it is tried once more; then the broker
    /// delivers it again.
    async fn insist<F>(&self, delivery: &Delivery, what: &str, attempt: impl Fn() -> F) -> bool
    where
        F: Future<Output = Result<(), String>>,
    {
        let mut backoff = Backoff::new(RECONNECT);
        loop {
            let last = self.shutdown.is_cancelled();
            match attempt().await {
                Ok(()) => return true,
                Err(error) if last || !delivery.acker.usable() => {
                    tracing::warn!(
                        error,
                        "{what} could not be stored: the broker keeps the command"
                    );
                    return false;
                }
                Err(error) => tracing::debug!(error, "{what} could not be stored, trying again"),
            }
            tokio::select! {
                () = self.shutdown.cancelled() => {}
                () = tokio::time::sleep(backoff.next_wait()) => {}
            }
        }
    }

    /// The properties of a command that the bridge publishes again: the publisher's, but for the user, which moves to a
    /// header, and the expiration.
    fn own_properties(&self, delivery: &Delivery, headers: &mut FieldTable) -> BasicProperties {
        let original = &delivery.properties;
        let bridge_user = self.commands.endpoint.username();
        let mut own = codec::properties(
            original
                .content_type()
                .as_ref()
                .map_or(codec::JSON, |content_type| content_type.as_str()),
        );
        if let Some(user) = original.user_id() {
            if user.as_str() != bridge_user {
                headers.insert(USER_ID.into(), bounded_text(user.as_str()));
            }
            own = own.with_user_id(codec::lossy_short(bridge_user));
        }
        if let Some(value) = original.message_id() {
            own = own.with_message_id(value.clone());
        }
        if let Some(value) = original.correlation_id() {
            own = own.with_correlation_id(value.clone());
        }
        if let Some(value) = original.reply_to() {
            own = own.with_reply_to(value.clone());
        }
        if let Some(value) = original.app_id() {
            own = own.with_app_id(value.clone());
        }
        if let Some(value) = original.kind() {
            own = own.with_type(value.clone());
        }
        if let Some(value) = original.content_encoding() {
            own = own.with_content_encoding(value.clone());
        }
        if let Some(value) = original.timestamp() {
            own = own.with_timestamp(*value);
        }
        if let Some(value) = original.priority() {
            own = own.with_priority(*value);
        }
        own
    }
}

fn strip(properties: &mut BasicProperties) {
    if let Some(headers) = properties.headers() {
        let own = headers::without_foreign(headers);
        *properties = std::mem::take(properties).with_headers(own);
    }
}

/// Longer with each attempt, and at least as long as asked for, as far as there is a queue with such a wait.
fn retry_delay(attempt: i64, at_least: Duration) -> Duration {
    let longest = RETRY_DELAYS[RETRY_DELAYS.len() - 1];
    let by_attempt = usize::try_from(attempt)
        .ok()
        .and_then(|attempt| RETRY_DELAYS.get(attempt))
        .copied()
        .unwrap_or(longest);
    RETRY_DELAYS
        .into_iter()
        .find(|delay| *delay >= by_attempt.max(at_least))
        .unwrap_or(longest)
}

fn number(value: i64) -> AMQPValue {
    AMQPValue::LongLongInt(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_with_attempts_and_with_what_was_asked() {
        let seconds =
            |attempt, at_least| retry_delay(attempt, Duration::from_secs(at_least)).as_secs();
        assert_eq!(seconds(0, 0), 1);
        assert_eq!(seconds(1, 0), 10);
        assert_eq!(seconds(2, 0), 60);
        assert_eq!(seconds(i64::MAX, 0), 60);
        assert_eq!(seconds(0, 5), 10);
        assert_eq!(seconds(0, 3600), 60);
    }
}
