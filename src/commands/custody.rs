//! Publishes a command again (to its own queue, a retry queue or `dead`) and acknowledges the delivery, or only acknowledges it.
//!
//! Invariants: a command is in at least one queue at any time, because its copy is confirmed before the delivery is
//! acknowledged (P5); no copy is published for a delivery of an ended session, because the broker delivers it again. A copy carries
//! attempts, first delivery, expiration, doubt, and the mark that it may have a twin (P2), in headers.
//! Neighbours: `republish` makes properties and headers; `handle` decides.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use lapin::{options::BasicAckOptions, types::AMQPValue};
use uuid::Uuid;

use super::{
    Context,
    command::Source,
    envelope::{Envelope, now_ms},
    invalid::{Invalid, command_key},
    lease::HeldDelivery,
    ledger::Key,
    reply::reply_dead,
    republish, returned,
};
use crate::{
    amqp::{
        AmqpError, Message, codec,
        headers::{
            APPLICATION, ATTEMPT, CAUSE, DETAIL, DIED_AT, EXPIRES_AT, FIRST_SEEN, IN_DOUBT,
            LETTER_ID, MAY_HAVE_TWIN, REASON, RETRY_DELAY, RETURNED, ROUTING_KEY, bounded_text,
            number, number_header,
        },
        session::RECONNECT,
        topology::{RETRY_DELAYS, delay_name},
    },
    events::{Batch, NewEvent},
    message::{
        cause::Cause,
        id::{ApplicationName, logged_id, uuid_text},
    },
    ops::kill_point::{self, KillPoint},
    primitives::{
        bounded_text::{MAX_TEXT_BYTES, cut},
        retry::Backoff,
    },
    proto::v1,
};

/// The largest `expiration` that the broker accepts.
const MAX_EXPIRATION_MS: i64 = u32::MAX as i64;
/// After this many sessions ended while a command was published, it is published without its publisher's headers.
const MAX_ENDED_SESSIONS: usize = 3;
/// Maximum time to wait for the consumers to stop before a command is requeued to its queue: the sender may refuse it because of
/// the shutdown while they still consume.
const CONSUMER_STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// How a command that cannot be carried out now is published again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Requeue {
    /// To a retry queue, for at least this time.
    Delayed(Duration),
    /// To its own queue, without another attempt, because the process shuts down.
    Unchanged,
}

/// Why there is no confirmed copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotRequeued {
    /// There is none. The delivery stays unacknowledged: the broker delivers it again.
    Untouched,
    /// Its confirm is missing.
    MayBeStored,
}

/// What the next delivery of a copy has to know.
pub(super) struct Copy {
    pub(super) body: Bytes,
    pub(super) requeue: Requeue,
    /// Whether an SMS may have been sent already.
    pub(super) may_be_sent: bool,
    /// A header that counts, if it changes: refusals or panics.
    pub(super) count: Option<(&'static str, i64)>,
}

impl Context {
    /// Publishes a copy of the command and acknowledges the delivery. `queue` is the queue that the copy ends up in.
    pub(super) async fn requeue(
        &self,
        queue: String,
        delivery: &HeldDelivery,
        copy: Copy,
        key: Option<&Key>,
    ) {
        let message = self.copied(queue, delivery, copy).await;
        if self.publish_until_confirmed(delivery, message).await {
            self.replace_by_copy(delivery, key).await;
        }
    }

    /// The same for a command of which no second copy may exist: it is not published again after it may have been stored.
    pub(super) async fn requeue_once(
        &self,
        queue: String,
        delivery: &HeldDelivery,
        copy: Copy,
        key: Option<&Key>,
    ) -> Result<(), NotRequeued> {
        let message = self.copied(queue, delivery, copy).await;
        let mut backoff = Backoff::new(RECONNECT);
        loop {
            let is_last = self.shutdown.is_cancelled();
            if !delivery.is_usable() {
                return Err(NotRequeued::Untouched);
            }
            // Without a session nothing was published.
            if self.commands.publisher.is_ready() {
                match self
                    .commands
                    .publisher
                    .publish_mandatory(message.clone())
                    .await
                {
                    Ok(()) => {
                        self.replace_by_copy(delivery, key).await;
                        return Ok(());
                    }
                    Err(error @ (AmqpError::Nacked | AmqpError::Unroutable { .. })) => {
                        tracing::debug!(%error, "a command could not be stored, trying again");
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a command may have been stored");
                        self.commands.metrics.command_twin();
                        return Err(NotRequeued::MayBeStored);
                    }
                }
            }
            if is_last {
                return Err(NotRequeued::Untouched);
            }
            tokio::select! {
                () = self.shutdown.cancelled() => {}
                () = tokio::time::sleep(backoff.next_wait()) => {}
            }
        }
    }

    /// Acknowledges a delivery whose copy is confirmed.
    async fn replace_by_copy(&self, delivery: &HeldDelivery, key: Option<&Key>) {
        kill_point::reached(KillPoint::CopyConfirmed);
        if !self.acknowledge(delivery, key).await {
            self.commands.metrics.command_twin();
        }
    }

    /// The copy of a command, for `queue`.
    async fn copied(&self, queue: String, delivery: &HeldDelivery, copy: Copy) -> Message {
        let Copy {
            body,
            requeue,
            may_be_sent,
            count,
        } = copy;
        let envelope = Envelope::new(delivery);
        tracing::debug!(
            request_id = logged_id(envelope.request_id()),
            queue,
            ?requeue,
            "a command is requeued"
        );
        let mut headers = republish::headers(delivery);
        headers.insert(FIRST_SEEN.into(), number(envelope.first_seen_ms()));
        headers.insert(ROUTING_KEY.into(), bounded_text(&envelope.routing_key()));
        // The acknowledgement of this delivery may fail after the copy was published, and so may the confirm of the copy.
        headers.insert(MAY_HAVE_TWIN.into(), AMQPValue::Boolean(true));
        if may_be_sent {
            headers.insert(IN_DOUBT.into(), AMQPValue::Boolean(true));
        }
        if let Some((name, count)) = count {
            headers.insert(name.into(), number(count));
        }
        if queue == self.commands.topology.returned() {
            let cause = returned::cause(&self.commands.topology, delivery);
            headers.insert(RETURNED.into(), bounded_text(&cause));
        }
        let bridge_user = self.commands.endpoint.username();
        let mut properties = republish::properties(delivery, bridge_user, &mut headers);
        if let Some(at) = envelope.expires_at_ms() {
            headers.insert(EXPIRES_AT.into(), number(at));
            let left = at.saturating_sub(now_ms()).max(1);
            // A retry queue would let a lapsed command go at once, and `returned` would drop it: the header is enough there.
            let may_expire =
                requeue == Requeue::Unchanged && queue != self.commands.topology.returned();
            if may_expire && left <= MAX_EXPIRATION_MS {
                properties = properties.with_expiration(codec::lossy_short(&left.to_string()));
            }
        }
        let exchange = match requeue {
            Requeue::Unchanged => {
                // While this process consumes, the broker would deliver the copy to it.
                if !self.have_consumers_stopped().await {
                    tracing::warn!("the sender shuts down, but the consumers of commands do not");
                }
                String::new()
            }
            Requeue::Delayed(at_least) => {
                let attempt = number_header(Some(&headers), ATTEMPT)
                    .unwrap_or_default()
                    .max(0);
                headers.insert(ATTEMPT.into(), number(attempt.saturating_add(1)));
                let delay = retry_delay(attempt, at_least);
                headers.insert(RETRY_DELAY.into(), bounded_text(&delay_name(delay)));
                self.commands.topology.retry()
            }
        };
        Message {
            exchange,
            routing_key: queue,
            properties: properties.with_headers(headers),
            body,
        }
    }

    /// Appends the event `command.invalid`, publishes the command to `dead`, replies, and acknowledges the delivery.
    pub(super) async fn dead_letter(
        &self,
        source: Source,
        delivery: &HeldDelivery,
        invalid: Invalid,
        key: Option<&Key>,
    ) {
        let body = Bytes::copy_from_slice(&delivery.data);
        self.dead_letter_with(source, delivery, body, invalid, key)
            .await;
    }

    /// The same with another body: what is left of the command.
    pub(super) async fn dead_letter_with(
        &self,
        source: Source,
        delivery: &HeldDelivery,
        body: Bytes,
        invalid: Invalid,
        key: Option<&Key>,
    ) {
        let invalid = invalid.bounded();
        let envelope = Envelope::new(delivery);
        let commands = &self.commands;
        let bridge_user = commands.endpoint.username();
        let application = envelope
            .application(commands)
            .unwrap_or_else(|_| ApplicationName::default_application());
        let request_id = envelope.request_id();
        let routing_key = cut(&envelope.routing_key(), MAX_TEXT_BYTES).into_owned();
        let cause = Cause::of(invalid.reason);
        let letter_id = uuid_text(Uuid::now_v7());
        invalid.log(&application, request_id, &letter_id);
        let mut headers = republish::headers(delivery);
        let properties = republish::properties(delivery, bridge_user, &mut headers);
        for (name, value) in [
            (REASON, invalid.reason.as_str()),
            (CAUSE, cause.as_str()),
            (LETTER_ID, &letter_id),
            (DETAIL, &invalid.detail),
            (APPLICATION, application.as_str()),
            (ROUTING_KEY, &routing_key),
        ] {
            headers.insert(name.into(), bounded_text(value));
        }
        headers.insert(DIED_AT.into(), number(now_ms()));
        if source == Source::Returned {
            // It may have waited there for days: the limits of time of its replay count from before that.
            let first_seen_ms = envelope.first_seen_ms().min(envelope.returned_ms());
            headers.insert(FIRST_SEEN.into(), number(first_seen_ms));
        }
        // An earlier delivery may be a letter already, or another version may have sent it.
        if envelope.history().may_be_sent(source) {
            headers.insert(IN_DOUBT.into(), AMQPValue::Boolean(true));
        }
        if let Some(at) = envelope.expires_at_ms() {
            // A letter has no `expiration`, and its replay shall not be sent too late.
            headers.insert(EXPIRES_AT.into(), number(at));
        }

        let reason = invalid.reason;
        let invalid = v1::InvalidCommand {
            reason: reason.into(),
            detail: invalid.detail,
            routing_key,
            violations: invalid.violations,
        };
        let event = NewEvent::invalid_command(
            &application,
            request_id,
            &command_key(delivery),
            invalid.clone(),
        )
        .caused_by(envelope.traceparent());
        if !self.append_until_durable(delivery, event).await {
            return;
        }
        let message = Message {
            exchange: String::new(),
            routing_key: commands.topology.dead(),
            properties: properties.with_headers(headers),
            body,
        };
        if self.publish_until_confirmed(delivery, message).await {
            kill_point::reached(KillPoint::CopyConfirmed);
            self.commands.metrics.dead_letter(reason);
            self.acknowledge(delivery, key).await;
            // Last, because the wait for its confirm would hold up the acknowledgement.
            reply_dead(self, delivery, request_id, &invalid).await;
        }
    }

    /// Waits until this process has stopped consuming; for a short time only.
    async fn have_consumers_stopped(&self) -> bool {
        let stopped = self.consumers_stopped.cancelled();
        tokio::time::timeout(CONSUMER_STOP_TIMEOUT, stopped)
            .await
            .is_ok()
    }

    /// Acknowledges the delivery. If that fails, the broker will deliver the command again, so the ledger remembers it.
    ///
    /// At shutdown it waits until the consumers are cancelled: each acknowledgement lets the broker deliver another command, which
    /// would be lost between the reply to the cancellation and the cancellation itself, and look tried.
    ///
    /// Returns whether it succeeded.
    pub(super) async fn acknowledge(&self, delivery: &HeldDelivery, key: Option<&Key>) -> bool {
        if self.shutdown.is_cancelled() {
            self.have_consumers_stopped().await;
        }
        let acknowledged = delivery.acker.ack(BasicAckOptions::default()).await;
        if matches!(acknowledged, Ok(true)) {
            return true;
        }
        match key {
            Some(key) => self.ledger.note_unacknowledged(key.clone()),
            None => tracing::debug!("a command without a request id could not be acknowledged"),
        }
        false
    }

    /// Appends an event. Returns `false` if that did not succeed before the session ended or the process shut down: the
    /// delivery must then not be acknowledged.
    pub(super) async fn append_until_durable(
        &self,
        delivery: &HeldDelivery,
        event: NewEvent,
    ) -> bool {
        self.append_all_until_durable(delivery, Arc::new(vec![event]))
            .await
    }

    /// The same with several events.
    pub(super) async fn append_all_until_durable(
        &self,
        delivery: &HeldDelivery,
        events: Batch,
    ) -> bool {
        self.retry_until_stored(delivery, "an event", || {
            let appending = self.commands.log.append(Arc::clone(&events));
            async move { appending.await.map_err(|error| error.to_string()) }
        })
        .await
    }

    /// Publishes a copy of the command. Returns `false` as [`Context::append_until_durable`] does.
    ///
    /// If the broker closes the connection because of the message, retries of it would fail all other publications too. Hence
    /// after [`MAX_ENDED_SESSIONS`] the message is published with the bridge's own headers alone. A missing confirm counts, because it
    /// also ends the session, and may come before the broker closes the connection.
    async fn publish_until_confirmed(&self, delivery: &HeldDelivery, message: Message) -> bool {
        let ended_sessions = AtomicUsize::new(0);
        let publishing = self.retry_until_stored(delivery, "a command", || {
            let mut message = message.clone();
            if ended_sessions.load(Ordering::Relaxed) >= MAX_ENDED_SESSIONS {
                tracing::warn!(
                    request_id = logged_id(Envelope::new(delivery).request_id()),
                    "the broker ended the session each time the command was published: it is published without the \
                     publisher's headers"
                );
                republish::drop_publisher_headers(&mut message.properties);
            }
            let ended_sessions = &ended_sessions;
            async move {
                let published = self.commands.publisher.publish_mandatory(message).await;
                if let Err(AmqpError::EndedInFlight(_) | AmqpError::TimedOut(_)) = published {
                    ended_sessions.fetch_add(1, Ordering::Relaxed);
                }
                published.map_err(|error| error.to_string())
            }
        });
        let is_confirmed = publishing.await;
        // The broker may have a copy whose confirm did not arrive, beside the confirmed one or the original.
        if ended_sessions.load(Ordering::Relaxed) > 0 {
            self.commands.metrics.command_twin();
        }
        is_confirmed
    }

    /// Tries until it succeeds, while the session of the delivery is open: another replica may have the command otherwise. After the
    /// shutdown begins there is one more try. Returns whether it succeeded; if not, the broker delivers the command again.
    async fn retry_until_stored<F>(
        &self,
        delivery: &HeldDelivery,
        what: &str,
        attempt: impl Fn() -> F,
    ) -> bool
    where
        F: Future<Output = Result<(), String>>,
    {
        let mut backoff = Backoff::new(RECONNECT);
        loop {
            let is_last = self.shutdown.is_cancelled();
            if !delivery.is_usable() {
                tracing::debug!("{what} is not stored: the broker redelivers the command");
                return false;
            }
            match attempt().await {
                Ok(()) => return true,
                Err(error) if is_last && delivery.is_usable() => {
                    tracing::warn!(
                        error,
                        "{what} could not be stored: the command stays in its queue"
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
}

/// The shortest delay of a retry queue that is at least `at_least` and at least that of the attempt; else the longest.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_delays_grow_with_attempts_and_requested_delays() {
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
