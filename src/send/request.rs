//! The adapter between `SendSmsRequest`, which has one message, and `SendSmsBulkRequest`, which the core works with.
//!
//! A request remembers the form in which its caller sent it: its response has the same form, and paths of violations name the
//! caller's fields. Neighbours: `grpc::services::sms` and `commands`.

use std::borrow::Cow;

use super::Sent;
use crate::proto::v1::{self, FieldViolation};

/// The path of the only message of a single request, as the core names it.
const FIRST_MESSAGE: &str = "messages[0]";

/// The form in which a caller sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestForm {
    /// `SendSmsRequest`
    Single,
    /// `SendSmsBulkRequest`
    Bulk,
}

impl RequestForm {
    /// The path of a field as the caller knows it. `path` is one of `SendSmsBulkRequest`.
    #[must_use]
    pub fn field_path(self, path: &str) -> Cow<'_, str> {
        match (self, path.strip_prefix(FIRST_MESSAGE)) {
            (Self::Single, Some(rest)) => Cow::Owned(format!("message{rest}")),
            _ => Cow::Borrowed(path),
        }
    }

    /// Replaces the paths of violations by those that the caller knows.
    pub fn rename_fields(self, violations: &mut [FieldViolation]) {
        for violation in violations {
            if let Cow::Owned(renamed) = self.field_path(&violation.field) {
                violation.field = renamed;
            }
        }
    }
}

/// A request to send, with its form.
#[derive(Debug, Clone, PartialEq)]
pub struct SendRequest {
    pub form: RequestForm,
    /// A single request is a bulk with one message.
    pub bulk: v1::SendSmsBulkRequest,
}

/// A request as its caller encodes it.
#[derive(Debug, Clone, PartialEq)]
pub enum RequestMessage {
    Single(Box<v1::SendSmsRequest>),
    Bulk(v1::SendSmsBulkRequest),
}

/// A response in the form of its request.
#[derive(Debug, Clone, PartialEq)]
pub enum SendResponse {
    Single(v1::SendSmsResponse),
    Bulk(v1::SendSmsBulkResponse),
}

impl SendRequest {
    /// `None` if the request has no message.
    #[must_use]
    pub fn from_single(request: v1::SendSmsRequest) -> Option<Self> {
        Some(Self {
            form: RequestForm::Single,
            bulk: v1::SendSmsBulkRequest {
                request_id: request.request_id,
                bulk_id: request.bulk_id,
                messages: vec![request.message?],
                tracking: request.tracking,
            },
        })
    }

    #[must_use]
    pub fn from_bulk(bulk: v1::SendSmsBulkRequest) -> Self {
        Self {
            form: RequestForm::Bulk,
            bulk,
        }
    }

    /// Keeps only the destinations of which nothing was attempted: those with a retryable refusal.
    pub fn retain_retryable(&mut self, sent: &Sent) {
        let mut results = sent.results.iter();
        for message in &mut self.bulk.messages {
            if message.destinations.is_empty() {
                // A message without destinations has one result, which is final.
                results.next();
            }
            message
                .destinations
                .retain(|_| results.next().is_some_and(is_retryable));
        }
        self.bulk
            .messages
            .retain(|message| !message.destinations.is_empty());
    }

    /// The request in its form. A single request has its first message.
    #[must_use]
    pub fn into_message(self) -> RequestMessage {
        match self.form {
            RequestForm::Single => RequestMessage::Single(Box::new(v1::SendSmsRequest {
                request_id: self.bulk.request_id,
                message: self.bulk.messages.into_iter().next(),
                tracking: self.bulk.tracking,
                bulk_id: self.bulk.bulk_id,
            })),
            RequestForm::Bulk => RequestMessage::Bulk(self.bulk),
        }
    }

    /// The response in the form of the request.
    #[must_use]
    pub fn response(&self, sent: Sent) -> SendResponse {
        let bulk_id = self.bulk.bulk_id.clone();
        match self.form {
            RequestForm::Single => SendResponse::Single(single_response(bulk_id, sent)),
            RequestForm::Bulk => SendResponse::Bulk(bulk_response(bulk_id, sent)),
        }
    }
}

/// The response to a single request. It has one result for each destination of the message.
#[must_use]
pub fn single_response(bulk_id: String, sent: Sent) -> v1::SendSmsResponse {
    v1::SendSmsResponse {
        bulk_id,
        results: sent.results,
        tracking_process_key: sent.tracking_process_key,
    }
}

/// The response to a bulk.
#[must_use]
pub fn bulk_response(bulk_id: String, sent: Sent) -> v1::SendSmsBulkResponse {
    v1::SendSmsBulkResponse {
        bulk_id,
        results: sent.results,
        tracking_process_key: sent.tracking_process_key,
    }
}

/// Whether the destination can be sent again: nothing was attempted, or a repetition with the same ids is looked up first.
#[must_use]
pub fn is_retryable(result: &v1::SendResult) -> bool {
    result
        .refusal
        .as_ref()
        .is_some_and(|refusal| refusal.retryable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(numbers: &[&str]) -> v1::OutboundMessage {
        let destination = |to: &&str| v1::Destination {
            to: (*to).to_owned(),
            ..Default::default()
        };
        v1::OutboundMessage {
            destinations: numbers.iter().map(destination).collect(),
            ..Default::default()
        }
    }

    fn single() -> v1::SendSmsRequest {
        v1::SendSmsRequest {
            request_id: "r1".into(),
            message: Some(message(&["41791234567"])),
            tracking: Some(Box::default()),
            bulk_id: "b1".into(),
        }
    }

    fn result(to: &str, retryable: Option<bool>) -> v1::SendResult {
        v1::SendResult {
            to: to.into(),
            refusal: retryable.map(|retryable| {
                Box::new(v1::Refusal {
                    retryable,
                    ..Default::default()
                })
            }),
            ..Default::default()
        }
    }

    fn sent(results: Vec<v1::SendResult>) -> Sent {
        Sent {
            tracking_process_key: "t1".into(),
            results,
        }
    }

    #[test]
    fn a_single_request_is_a_bulk_of_one_message_and_can_be_encoded_again() {
        let request = SendRequest::from_single(single()).unwrap();
        assert_eq!(request.bulk.request_id, "r1");
        assert_eq!(request.bulk.bulk_id, "b1");
        assert_eq!(request.bulk.messages, [message(&["41791234567"])]);
        assert_eq!(request.bulk.tracking, single().tracking);
        assert_eq!(
            request.into_message(),
            RequestMessage::Single(Box::new(single()))
        );
        let without_message = v1::SendSmsRequest::default();
        assert_eq!(SendRequest::from_single(without_message), None);
    }

    #[test]
    fn paths_name_the_fields_of_the_form_that_the_caller_sent() {
        for (path, as_sent) in [
            ("messages[0]", "message"),
            (
                "messages[0].destinations[2].to",
                "message.destinations[2].to",
            ),
            ("request_id", "request_id"),
        ] {
            assert_eq!(RequestForm::Single.field_path(path), as_sent);
            assert_eq!(RequestForm::Bulk.field_path(path), path);
        }
        let mut violations = [FieldViolation {
            field: "messages[0].from".into(),
            description: "is too long".into(),
        }];
        RequestForm::Single.rename_fields(&mut violations);
        assert_eq!(violations[0].field, "message.from");
    }

    #[test]
    fn responses_have_the_form_of_their_request() {
        let results = vec![result("41791234567", None)];
        let request = SendRequest::from_single(single()).unwrap();
        assert_eq!(
            request.response(sent(results.clone())),
            SendResponse::Single(v1::SendSmsResponse {
                bulk_id: "b1".into(),
                results: results.clone(),
                tracking_process_key: "t1".into(),
            })
        );
        let bulk = SendRequest::from_bulk(request.bulk);
        assert_eq!(
            bulk.response(sent(results.clone())),
            SendResponse::Bulk(v1::SendSmsBulkResponse {
                bulk_id: "b1".into(),
                results,
                tracking_process_key: "t1".into(),
            })
        );
    }

    #[test]
    fn only_destinations_with_a_retryable_refusal_are_retained() {
        let mut request = SendRequest::from_bulk(v1::SendSmsBulkRequest {
            messages: vec![message(&["1", "2", "3"]), message(&[]), message(&["4"])],
            ..Default::default()
        });
        request.retain_retryable(&sent(vec![
            result("1", None),
            result("2", Some(true)),
            result("3", Some(false)),
            result("", Some(false)),
            result("4", Some(true)),
        ]));
        assert_eq!(request.bulk.messages, [message(&["2"]), message(&["4"])]);
    }
}
