//! Commands that can never be carried out: the reason, a detail for people, the invalid fields, and what tells one from another.

use lapin::message::Delivery;
use sha2::{Digest as _, Sha256};

use crate::{
    amqp::headers::property,
    message::{
        cause::Cause,
        id::{ApplicationName, logged_id},
        reason::Reason,
        violations,
    },
    primitives::{
        bounded_text::bounded,
        masked_text::{mask_quoted, position},
    },
    proto::v1::FieldViolation,
};

/// Maximum number of violations in the event of an invalid command. The detail has their total number.
const MAX_VIOLATIONS: usize = 100;

/// Why a command is dead-lettered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Invalid {
    pub(super) reason: Reason,
    /// For people.
    pub(super) detail: String,
    pub(super) violations: Vec<FieldViolation>,
}

impl Invalid {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            violations: Vec::new(),
        }
    }

    /// The body of an AMQP 1.0 message that is a value or a sequence (docs/RABBITMQ.md#amqp-10).
    pub(super) fn not_a_data_section() -> Self {
        Self::new(
            Reason::UnknownType,
            "the body is a value or a sequence of AMQP 1.0: publish one data section, and the type in the message annotation x-basic-type",
        )
    }

    /// A request with mistakes. The detail has the first ones.
    pub(super) fn request(reason: Reason, violations: Vec<FieldViolation>) -> Self {
        Self {
            reason,
            detail: violations::summary(&violations),
            violations,
        }
    }

    /// Logs that the command becomes a dead letter. A mistake of its publisher is no warning for the operator.
    pub(super) fn log(&self, application: &ApplicationName, request_id: &str, letter_id: &str) {
        let request_id = logged_id(request_id);
        let cause = Cause::of(self.reason).as_str();
        let (reason, detail) = (self.reason.as_str(), self.logged_detail());
        match Cause::of(self.reason) {
            Cause::Caller => tracing::info!(
                %application, request_id, letter_id, cause, reason, detail,
                "dead-lettering an invalid command"
            ),
            Cause::GivenUp => tracing::warn!(
                %application, request_id, letter_id, cause, reason, detail,
                "dead-lettering a command that was given up"
            ),
        }
    }

    /// The detail without what may be a number or a text of the publisher. Of a body that cannot be read, only the position is
    /// certain to be neither.
    fn logged_detail(&self) -> String {
        match self.reason {
            Reason::UnreadableRequest | Reason::UnknownType => {
                position(&self.detail).unwrap_or_default().to_owned()
            }
            _ => mask_quoted(&self.detail),
        }
    }

    /// Bounds the number of violations and the length of every text, because texts may quote the publisher's data.
    pub(super) fn bounded(mut self) -> Self {
        let shorten = |text: &mut String| *text = bounded(std::mem::take(text));
        shorten(&mut self.detail);
        self.violations.truncate(MAX_VIOLATIONS);
        for violation in &mut self.violations {
            shorten(&mut violation.field);
            shorten(&mut violation.description);
        }
        self
    }
}

/// What the id of the event derives from, beside application and request id: the same for each delivery of a command, and different for
/// publications that differ in `correlation_id`, `reply_to` or `timestamp`.
pub(super) fn command_key(delivery: &Delivery) -> String {
    let properties = &delivery.properties;
    let mut digest = Sha256::new();
    digest.update(&delivery.data);
    // With a request id, a repeated publication is the same command.
    if property(properties.message_id()).is_empty() {
        let timestamp = properties.timestamp().map(|at| at.to_string());
        let told = [
            property(properties.correlation_id()),
            property(properties.reply_to()),
            timestamp.as_deref().unwrap_or_default(),
        ];
        for text in told {
            digest.update(text.len().to_be_bytes());
            digest.update(text);
        }
    }
    hex::encode(digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{commands::encoding::Encoding, proto::v1::SendSmsRequest};

    #[test]
    fn what_a_publisher_wrote_is_not_logged() {
        let logged = |body: &str| {
            let read = Encoding::Json.decode::<SendSmsRequest>(body.as_bytes());
            let invalid = read.unwrap_err();
            assert!(invalid.detail.len() > 30, "{invalid:?}");
            invalid.logged_detail()
        };
        for (body, position) in [
            (r#"{"message": {"text": 4711}}"#, "line 1 column 25"),
            (
                r#"{"message": {"priority": "Dear Anna"}}"#,
                "line 1 column 36",
            ),
            (r#"{"Dear Anna": 1}"#, "line 1 column 12"),
            ("{\n \"message\": true}", "line 2 column 16"),
        ] {
            assert_eq!(logged(body), position);
        }
        let unknown = "unknown command type `Dear Anna at line 47 column 11`: use another";
        let invalid = Invalid::new(Reason::UnknownType, unknown);
        assert_eq!(invalid.logged_detail(), "");
        let invalid = Invalid::new(Reason::UnreadableRequest, "not protobuf: Dear Anna");
        assert_eq!(invalid.logged_detail(), "");
        let unroutable = "no queue is bound for the routing key `4711`: use sms.send";
        let invalid = Invalid::new(Reason::Unroutable, unroutable);
        assert_eq!(
            invalid.logged_detail(),
            "no queue is bound for the routing key …: use sms.send"
        );
    }
}
