//! The table: each [`Failure`] with its code, reason, text and details. docs/ERRORS.md is its description.

use std::time::Duration;

use tonic::Code;

use super::{DeadLettersProblem, Failure, bounds};
use crate::{
    events::ReadError,
    grpc::auth::Denied,
    infobip::ApiError,
    message::{reason::Reason, violations},
    proto::v1::FieldViolation,
    send::SendError,
};

/// The RetryInfo of errors whose cause tells no delay.
pub(super) const DEFAULT_RETRY_DELAY: Duration = Duration::from_secs(1);

/// That of a call that somebody else's walk through the dead letters refuses.
const DEAD_LETTERS_RETRY_DELAY: Duration = Duration::from_secs(5);

pub(super) struct Row {
    pub(super) code: Code,
    pub(super) reason: Reason,
    pub(super) message: String,
    pub(super) retry_after: Option<Duration>,
    pub(super) violations: Vec<FieldViolation>,
    pub(super) metadata: Vec<(&'static str, String)>,
}

impl Row {
    fn new(code: Code, reason: Reason, message: impl ToString) -> Self {
        Self {
            code,
            reason,
            message: bounds::message(message.to_string()),
            retry_after: None,
            violations: Vec::new(),
            metadata: Vec::new(),
        }
    }

    fn retry_after(self, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..self
        }
    }

    fn violations(self, violations: Vec<FieldViolation>) -> Self {
        Self {
            violations: bounds::violations(violations),
            ..self
        }
    }

    fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.metadata.push((key, bounds::value(value.to_string())));
        self
    }

    fn with_ids(mut self, key: &'static str, ids: &[String]) -> Self {
        self.metadata.push((key, bounds::ids(ids)));
        self
    }
}

pub(super) fn row(failure: Failure) -> Row {
    match failure {
        Failure::Invalid(violations) => invalid_row(violations),
        Failure::Send(error) => send_row(error),
        Failure::Api(error) => api_row(error),
        Failure::UnreadableResponse(detail) => Row::new(
            Code::Unavailable,
            Reason::ApiAnswerUnreadable,
            format!("the API's response can't be read: {detail}"),
        )
        .retry_after(DEFAULT_RETRY_DELAY),
        Failure::LogQuotaExhausted { retry_after } => Row::new(
            Code::ResourceExhausted,
            Reason::LogQuotaExhausted,
            "the API's quota of log requests per minute is used up: try again later",
        )
        .retry_after(retry_after),
        Failure::Read(error) => read_row(&error),
        Failure::SubscriptionVisibility(differs) => Row::new(
            Code::FailedPrecondition,
            Reason::SubscriptionVisibilityDiffers,
            &differs,
        )
        .with("subscription", &differs.name),
        Failure::SubscriptionLimit(detail) => {
            Row::new(Code::ResourceExhausted, Reason::SubscriptionLimit, detail)
        }
        Failure::EventStreamLimit { max } => Row::new(
            Code::ResourceExhausted,
            Reason::Overloaded,
            format!("the application has {max} streams of events: end some, or try again later"),
        )
        .retry_after(DEFAULT_RETRY_DELAY),
        Failure::Append(error) => {
            Row::new(Code::Unavailable, Reason::EventLogUnavailable, error).retry_after(DEFAULT_RETRY_DELAY)
        }
        Failure::Deadline {
            in_doubt,
            message_ids,
        } => {
            let message = match (in_doubt, message_ids.is_empty()) {
                (false, _) => "the deadline passed before anything was sent: nothing will be sent",
                (true, false) => {
                    "the deadline passed while the request was in flight: its messages may have been sent. Repeat the call if it has ids (nothing is sent twice), or read the events of its messages"
                }
                (true, true) => {
                    "the deadline passed while the request was in flight: it may have been carried out"
                }
            };
            Row::new(Code::DeadlineExceeded, Reason::DeadlineExceeded, message)
                .with("in_doubt", in_doubt)
                .with_ids("message_ids", &message_ids)
                .with("message_count", message_ids.len())
        }
        Failure::Denied(denied) => denied_row(&denied),
        Failure::Overloaded { is_health } => Row::new(
            Code::ResourceExhausted,
            Reason::Overloaded,
            if is_health {
                "too many health checks or watches are in flight: end some, or try again later"
            } else {
                "grpc.max_concurrent_calls calls are in flight: nothing was done, try again later"
            },
        )
        .retry_after(DEFAULT_RETRY_DELAY),
        Failure::UnreadableRequest { detail } => Row::new(
            Code::InvalidArgument,
            Reason::UnreadableRequest,
            format!("the request can't be read: {detail}"),
        ),
        Failure::MessageTooLarge { max_message_bytes } => Row::new(
            Code::ResourceExhausted,
            Reason::MessageTooLarge,
            format!("a message has more than {max_message_bytes} bytes (grpc.max_message_bytes): split it"),
        )
        .with("max_message_bytes", max_message_bytes),
        Failure::UnsupportedEncoding { detail } => Row::new(
            Code::Unimplemented,
            Reason::UnsupportedEncoding,
            format!("{detail}: use gzip, or send it uncompressed"),
        ),
        Failure::MethodUnknown => Row::new(
            Code::Unimplemented,
            Reason::MethodUnknown,
            "no such service or method: compare the caller's proto files with reflection",
        ),
        Failure::NotConfigured { key, detail } => Row::new(
            Code::FailedPrecondition,
            Reason::NotConfigured,
            format!("{detail}: set {key}"),
        )
        .with("key", key),
        Failure::MessageNotFound {
            message_id,
            application,
        } => Row::new(
            Code::NotFound,
            Reason::MessageNotFound,
            format!(
                "the event log has no event of the message `{message_id}` of the application `{application}`: it is not sent yet, its \
                 events are older than the log, or the id is another one. ListSmsLogs reads the API's logs"
            ),
        ),
        Failure::MessageSearch { searched } => Row::new(
            Code::DeadlineExceeded,
            Reason::DeadlineExceeded,
            format!(
                "the events of the message were not found within {} s: name a later `since`, or read them with StreamEvents",
                searched.as_secs_f32().round()
            ),
        )
        .with("in_doubt", false),
        Failure::DeadLetters { problem, detail } => dead_letters_row(problem, &detail),
        Failure::Unimplemented { detail } => Row::new(
            Code::Unimplemented,
            Reason::NotBuiltYet,
            format!("not part of this version: {detail}"),
        ),
    }
}

fn invalid_row(violations: Vec<FieldViolation>) -> Row {
    let summary = violations::summary(&violations);
    let mistakes = violations.len();
    Row::new(Code::InvalidArgument, Reason::InvalidRequest, summary)
        .violations(violations)
        .with("mistakes", mistakes)
}

fn send_row(error: SendError) -> Row {
    let reason = error.reason();
    let message = error.to_string();
    match error {
        SendError::Invalid(violations) => invalid_row(violations),
        SendError::IdReused { id } => Row::new(Code::AlreadyExists, reason, message).with("id", id),
        SendError::QueueFull { retry_after } => {
            Row::new(Code::ResourceExhausted, reason, message).retry_after(retry_after)
        }
        SendError::Unavailable { retry_after, .. } => {
            Row::new(Code::Unavailable, reason, message).retry_after(retry_after)
        }
        SendError::CredentialsRefused { .. } => Row::new(Code::FailedPrecondition, reason, message),
        // The other of two calls that share a message: the one whose deadline passed gets DEADLINE_EXCEEDED.
        SendError::Withdrawn | SendError::ShuttingDown => {
            Row::new(Code::Unavailable, reason, message).retry_after(DEFAULT_RETRY_DELAY)
        }
        // The call shared a message with a command that its queue had given up.
        SendError::NotSent => {
            Row::new(Code::Unavailable, Reason::Withdrawn, message).retry_after(DEFAULT_RETRY_DELAY)
        }
        SendError::LogUnreadable(_) => Row::new(Code::Unavailable, reason, message)
            .retry_after(DEFAULT_RETRY_DELAY)
            .with("in_doubt", false),
        SendError::LogUnavailable(_) | SendError::StillInDoubt => {
            // The API may have accepted the messages.
            Row::new(Code::Unavailable, reason, message)
                .retry_after(DEFAULT_RETRY_DELAY)
                .with("in_doubt", true)
        }
    }
}

fn api_row(error: ApiError) -> Row {
    let message = error.to_string();
    match error {
        ApiError::NotSent { .. } => Row::new(Code::Unavailable, Reason::ApiUnavailable, message)
            .retry_after(DEFAULT_RETRY_DELAY),
        ApiError::RateLimited { retry_after } => {
            Row::new(Code::ResourceExhausted, Reason::ApiRateLimited, message)
                .retry_after(retry_after.unwrap_or(DEFAULT_RETRY_DELAY))
        }
        ApiError::CredentialsRefused { http_status, .. } => Row::new(
            Code::FailedPrecondition,
            Reason::ApiCredentialsRefused,
            message,
        )
        .with("http_status", http_status),
        ApiError::Refused {
            http_status,
            validation_errors,
            ..
        } => {
            let (code, reason) = match http_status {
                404 => (Code::NotFound, Reason::ApiNotFound),
                400 | 413 | 422 => (Code::InvalidArgument, Reason::ApiRefused),
                _ => (Code::FailedPrecondition, Reason::ApiRefused),
            };
            let violations = validation_errors
                .into_iter()
                .map(|(field, problems)| FieldViolation {
                    field,
                    description: problems.join("; "),
                })
                .collect();
            Row::new(code, reason, message)
                .violations(violations)
                .with("http_status", http_status)
        }
        ApiError::InDoubt { .. } => Row::new(Code::Unavailable, Reason::ApiAnswerLost, message)
            .retry_after(DEFAULT_RETRY_DELAY)
            .with("in_doubt", true),
    }
}

fn denied_row(denied: &Denied) -> Row {
    match denied {
        Denied::CredentialsMissing { .. } => {
            Row::new(Code::Unauthenticated, Reason::CredentialsMissing, denied)
        }
        Denied::TokenInvalid | Denied::CertificateUnusable(_) => {
            Row::new(Code::Unauthenticated, Reason::CredentialsInvalid, denied)
        }
        Denied::ApplicationInvalid(_) => {
            Row::new(Code::InvalidArgument, Reason::InvalidApplication, denied)
        }
        Denied::MethodNotAllowed { method, .. } => {
            Row::new(Code::PermissionDenied, Reason::MethodNotAllowed, denied)
                .with("method", method)
        }
        Denied::QuotaExceeded { retry_after, .. } => {
            Row::new(Code::ResourceExhausted, Reason::QuotaExceeded, denied)
                .retry_after(*retry_after)
        }
    }
}

fn dead_letters_row(problem: DeadLettersProblem, detail: &str) -> Row {
    match problem {
        DeadLettersProblem::NotFound => {
            Row::new(Code::NotFound, Reason::DeadLetterNotFound, detail)
        }
        DeadLettersProblem::PageTokenExpired => {
            Row::new(Code::FailedPrecondition, Reason::PageTokenExpired, detail)
        }
        DeadLettersProblem::Busy => Row::new(Code::Unavailable, Reason::DeadLettersBusy, detail)
            .retry_after(DEAD_LETTERS_RETRY_DELAY),
        DeadLettersProblem::BrokerUnavailable => {
            Row::new(Code::Unavailable, Reason::BrokerUnavailable, detail)
                .retry_after(DEFAULT_RETRY_DELAY)
        }
        DeadLettersProblem::TimeUp => {
            Row::new(Code::DeadlineExceeded, Reason::DeadlineExceeded, detail)
                .with("in_doubt", false)
        }
    }
}

fn read_row(error: &ReadError) -> Row {
    match error {
        ReadError::BadCursor { .. } => Row::new(Code::InvalidArgument, Reason::BadCursor, error),
        ReadError::OutOfRange { oldest_cursor, .. } => {
            Row::new(Code::OutOfRange, Reason::CursorTooOld, error)
                .with("oldest_cursor", oldest_cursor)
        }
        ReadError::Unavailable(_) => {
            Row::new(Code::Unavailable, Reason::EventLogUnavailable, error)
                .retry_after(DEFAULT_RETRY_DELAY)
        }
    }
}
