//! The adapter between `SendSmsRequest`, which has one message, and `SendSmsBulkRequest`, which the core works with.
//!
//! A request remembers the form in which its caller sent it: its response has the same form, and paths of violations name the
//! caller's fields. Neighbours: `grpc::services::sms` and `commands`; `validate` names the fields.

use std::fmt::Display;

use super::Sent;
use crate::proto::v1;

/// The form in which a caller sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestForm {
    /// `SendSmsRequest`
    Single,
    /// `SendSmsBulkRequest`
    Bulk,
}

impl RequestForm {
    /// The path of a field of a message as the caller knows it.
    #[must_use]
    pub fn message_field(self, index: usize, field: impl Display) -> String {
        match self {
            Self::Single => format!("message.{field}"),
            Self::Bulk => format!("messages[{index}].{field}"),
        }
    }
}

/// A request to send, with its form.
#[derive(Debug, Clone, PartialEq)]
pub struct SendRequest {
    pub form: RequestForm,
    /// A single request is a bulk with its message, or without messages if it has none.
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
    #[must_use]
    pub fn from_single(request: v1::SendSmsRequest) -> Self {
        Self {
            form: RequestForm::Single,
            bulk: v1::SendSmsBulkRequest {
                request_id: request.request_id,
                bulk_id: request.bulk_id,
                messages: request.message.into_iter().collect(),
                tracking: request.tracking,
            },
        }
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
            message.destinations.retain(|_| {
                results
                    .next()
                    .is_some_and(v1::SendResult::has_retryable_refusal)
            });
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
        let request = SendRequest::from_single(single());
        assert_eq!(request.bulk.request_id, "r1");
        assert_eq!(request.bulk.bulk_id, "b1");
        assert_eq!(request.bulk.messages, [message(&["41791234567"])]);
        assert_eq!(request.bulk.tracking, single().tracking);
        assert_eq!(
            request.into_message(),
            RequestMessage::Single(Box::new(single()))
        );
        let without_message = v1::SendSmsRequest::default();
        let request = SendRequest::from_single(without_message.clone());
        assert_eq!(
            request.into_message(),
            RequestMessage::Single(Box::new(without_message))
        );
    }

    #[test]
    fn paths_name_the_fields_of_the_form_that_the_caller_sent() {
        let path = |form: RequestForm| form.message_field(2, "destinations[1].to");
        assert_eq!(path(RequestForm::Single), "message.destinations[1].to");
        assert_eq!(path(RequestForm::Bulk), "messages[2].destinations[1].to");
    }

    #[test]
    fn responses_have_the_form_of_their_request() {
        let results = vec![result("41791234567", None)];
        let request = SendRequest::from_single(single());
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
