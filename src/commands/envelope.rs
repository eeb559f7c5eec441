//! The properties and headers of a delivery: its application, request id, routing key, expiration and earlier deliveries.
//!
//! A command that the bridge has republished carries them in headers (`amqp::headers`), because the broker removes or ignores
//! the original ones. Neighbours: `command` reads the body, `republish` writes the headers.

use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldTable},
};

use super::{Commands, command::Source, invalid::Invalid};
use crate::{
    amqp::headers::{
        ATTEMPT, EXPIRES_AT, FIRST_SEEN, IN_DOUBT, MAY_HAVE_TWIN, PANICS, REFUSALS, RETURNED,
        ROUTING_KEY, USER_ID, broker, death, number_header, property, text_header, text_value,
    },
    config::ApplicationFrom,
    message::{
        id::ApplicationName,
        reason::Reason,
        traceparent::{TRACEPARENT, Traceparent},
    },
};

pub(super) struct Envelope<'a> {
    delivery: &'a Delivery,
    headers: Option<&'a FieldTable>,
}

/// What is known of earlier deliveries of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct History {
    /// The broker delivered this very message before.
    pub(super) is_redelivered: bool,
    /// It is a copy of one that may have been sent.
    is_in_doubt: bool,
    /// It is a copy. Its original may be delivered again, and so may the same copy if its confirm was lost.
    pub(super) may_have_twin: bool,
}

impl History {
    /// Whether an earlier delivery may have been sent. What was delivered from the queue `returned` was not sent from there.
    pub(super) fn may_be_sent(self, source: Source) -> bool {
        self.is_in_doubt || self.is_redelivered && source != Source::Returned
    }
}

/// Why the broker dead-lettered a message.
pub(super) struct Death {
    /// `expired`, `delivery_limit`, `rejected` or `maxlen`.
    pub(super) reason: String,
    /// The queue in which it was.
    pub(super) queue: Option<String>,
    original_expiration: Option<String>,
    at_ms: Option<i64>,
    routing_key: Option<String>,
}

impl<'a> Envelope<'a> {
    pub(super) fn new(delivery: &'a Delivery) -> Self {
        Self {
            delivery,
            headers: delivery.properties.headers().as_ref(),
        }
    }

    pub(super) fn properties(&self) -> &'a BasicProperties {
        &self.delivery.properties
    }

    pub(super) fn body(&self) -> &'a [u8] {
        &self.delivery.data
    }

    /// The application of the publisher. A republished command has the original `user_id` in a header. The header counts only
    /// if the broker has verified that the bridge published the message.
    pub(super) fn application(&self, commands: &Commands) -> Result<ApplicationName, Invalid> {
        let name = match commands.application_from {
            ApplicationFrom::AppId => property(self.properties().app_id()).to_owned(),
            ApplicationFrom::UserId => {
                let user = property(self.properties().user_id());
                let original = if user == commands.endpoint.username() {
                    text_header(self.headers, USER_ID)
                } else {
                    None
                };
                original.unwrap_or_else(|| user.to_owned())
            }
        };
        if name.is_empty() {
            return Ok(ApplicationName::default_application());
        }
        commands.applications.named(&name).map_err(|error| {
            Invalid::new(
                Reason::InvalidApplication,
                format!("the application name {error}"),
            )
        })
    }

    /// The property `message_id`, which is not validated.
    pub(super) fn request_id(&self) -> &'a str {
        property(self.properties().message_id())
    }

    /// The trace of the publisher. Copies keep the header. An invalid one counts as none.
    pub(super) fn traceparent(&self) -> Option<Traceparent> {
        Traceparent::parse(&text_header(self.headers, TRACEPARENT)?)
    }

    /// The routing key with which the client published the command.
    pub(super) fn routing_key(&self) -> String {
        text_header(self.headers, ROUTING_KEY)
            .or_else(|| self.death().and_then(|death| death.routing_key))
            .unwrap_or_else(|| self.delivery.routing_key.to_string())
    }

    /// What is known of earlier deliveries of the command.
    pub(super) fn history(&self) -> History {
        let has_header = |name| {
            self.headers
                .is_some_and(|headers| headers.contains_key(name))
        };
        // From RabbitMQ 4.3 on the first does not count each delivery; the second one, which is new there, does.
        let counts = [broker::DELIVERY_COUNT, broker::ACQUIRED_COUNT];
        let was_counted = |name| number_header(self.headers, name).is_some_and(|count| count > 0);
        let is_redelivered = self.delivery.redelivered || counts.into_iter().any(was_counted);
        History {
            is_redelivered,
            is_in_doubt: has_header(IN_DOUBT),
            may_have_twin: has_header(MAY_HAVE_TWIN),
        }
    }

    /// How many times the command was put into a retry queue.
    pub(super) fn attempt(&self) -> i64 {
        number_header(self.headers, ATTEMPT).unwrap_or(0).max(0)
    }

    /// How many times the handler of the command panicked.
    pub(super) fn panics(&self) -> i64 {
        number_header(self.headers, PANICS).unwrap_or(0).max(0)
    }

    /// How many requests of the command alone the API refused; `None` if it was not refused before.
    pub(super) fn refusals(&self) -> Option<i64> {
        let refusals = number_header(self.headers, REFUSALS)?;
        Some(refusals.max(0))
    }

    /// The time of the first delivery, in milliseconds since 1970.
    pub(super) fn first_seen_ms(&self) -> i64 {
        number_header(self.headers, FIRST_SEEN).unwrap_or_else(now_ms)
    }

    /// The time of publication, in milliseconds since 1970; of the first delivery if its publisher did not tell.
    pub(super) fn published_ms(&self) -> i64 {
        self.told_published_ms()
            .unwrap_or_else(|| self.first_seen_ms())
    }

    /// The time of publication that the publisher told, in milliseconds since 1970: the property `timestamp`, but not later than the
    /// first delivery, because clocks differ.
    pub(super) fn told_published_ms(&self) -> Option<i64> {
        let at = (*self.properties().timestamp())?;
        // AMQP defines seconds, but some publishers write milliseconds.
        let ms = if at > 100_000_000_000 { at } else { at * 1000 };
        let told = i64::try_from(ms).ok()?;
        Some(told.min(self.first_seen_ms()))
    }

    /// When the broker returned it, in milliseconds since 1970. A copy of a returned command dies again in a retry queue: it was
    /// returned when it was first seen, at the latest.
    pub(super) fn returned_ms(&self) -> i64 {
        let died_ms = self.death().and_then(|death| death.at_ms);
        let is_copy = text_header(self.headers, RETURNED).is_some();
        returned_ms(died_ms, self.first_seen_ms(), is_copy, now_ms())
    }

    /// The time at which the command expires, in milliseconds since 1970. `None` if its publisher set no `expiration`.
    pub(super) fn expires_at_ms(&self) -> Option<i64> {
        if let Some(at) = number_header(self.headers, EXPIRES_AT) {
            return Some(at);
        }
        let expiration = self
            .properties()
            .expiration()
            .as_ref()
            .map(|expiration| expiration.as_str().to_owned())
            .or_else(|| self.death().and_then(|death| death.original_expiration))?;
        Some(self.published_ms().saturating_add(expiration.parse().ok()?))
    }

    /// The last dead-lettering by the broker.
    pub(super) fn death(&self) -> Option<Death> {
        let AMQPValue::FieldArray(deaths) = self.headers?.inner().get(broker::DEATH)? else {
            return None;
        };
        // The newest is the first.
        let AMQPValue::FieldTable(newest) = deaths.as_slice().first()? else {
            return None;
        };
        let routing_key = match newest.inner().get(death::ROUTING_KEYS) {
            Some(AMQPValue::FieldArray(keys)) => keys.as_slice().first().and_then(text_value),
            _ => None,
        };
        Some(Death {
            reason: text_header(Some(newest), death::REASON).unwrap_or_default(),
            queue: text_header(Some(newest), death::QUEUE),
            original_expiration: text_header(Some(newest), death::ORIGINAL_EXPIRATION),
            at_ms: match newest.inner().get(death::TIME) {
                Some(AMQPValue::Timestamp(seconds)) => {
                    let ms = seconds.checked_mul(1000);
                    ms.and_then(|ms| i64::try_from(ms).ok())
                }
                _ => None,
            },
            routing_key,
        })
    }
}

/// Not later than now, because the broker's clock may be ahead.
fn returned_ms(died_ms: Option<i64>, first_seen_ms: i64, is_copy: bool, now_ms: i64) -> i64 {
    let died_ms = died_ms.unwrap_or(first_seen_ms).min(now_ms);
    if is_copy {
        died_ms.min(first_seen_ms)
    } else {
        died_ms
    }
}

pub(super) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_was_returned_when_it_died_unless_it_is_a_copy_of_a_returned_one() {
        assert_eq!(returned_ms(Some(60), 0, false, 70), 60);
        assert_eq!(returned_ms(Some(60), 10, true, 70), 10);
        assert_eq!(returned_ms(None, 65, false, 70), 65);
        // The broker's clock is ahead.
        assert_eq!(returned_ms(Some(100), 0, false, 70), 70);
    }
}
