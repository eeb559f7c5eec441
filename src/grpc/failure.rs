//! Every error that a caller can hear, mapped to a gRPC status in one table (docs/ERRORS.md is its picture).
//!
//! Each status carries `google.rpc` details: ErrorInfo with a stable reason and the domain `smsbridge` always, BadRequest
//! with all mistakes at once (as many as a status can carry: `bounds`), RetryInfo where waiting helps.

mod bounds;

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::auth::Denied;
use crate::{
    events::{
        AppendError, ReadError,
        subscription::{AttachError, VisibilityDiffers},
    },
    infobip::ApiError,
    message::reason::Reason,
    proto::v1::{self, FieldViolation},
    send::SendError,
};

/// The domain of every ErrorInfo.
pub const DOMAIN: &str = "smsbridge";
/// When to try again where nothing better is known.
const SOON: Duration = Duration::from_secs(1);

/// What a caller can hear.
#[derive(Debug, Clone)]
pub enum Failure {
    /// A send was not done.
    Send(SendError),
    /// The API did not do what was asked.
    Api(ApiError),
    /// What the API answered can't be read.
    UnreadableAnswer(String),
    /// The quota of log requests is used up.
    LogQuota {
        /// When it is not.
        retry_after: Duration,
    },
    /// The event log can't be read so.
    Read(ReadError),
    /// A subscription has listeners of another visibility.
    SubscriptionVisibility(VisibilityDiffers),
    /// The event log can't be written.
    Append(AppendError),
    /// The request is wrong.
    Invalid(Vec<FieldViolation>),
    /// The caller's deadline is about to pass.
    Deadline {
        /// Whether something may have been done.
        in_doubt: bool,
        /// Of which messages.
        message_ids: Vec<String>,
    },
    /// The caller may not do this, or not now.
    Denied(Denied),
    /// As many calls as `grpc.max_concurrent_calls` allows are under way, or of health as it answers at once.
    Overloaded {
        /// Whether the call was one of health.
        is_health: bool,
    },
    /// The request is no message of this method.
    Unreadable {
        /// What is wrong with it.
        detail: String,
    },
    /// A message is larger than `grpc.max_message_bytes`.
    MessageTooLarge {
        /// The limit.
        max_message_bytes: usize,
    },
    /// The request is compressed.
    EncodingUnknown {
        /// With what.
        detail: String,
    },
    /// There is no such service or method.
    MethodUnknown,
    /// Something must be configured first.
    NotConfigured {
        /// The key.
        key: &'static str,
        /// What it is needed for.
        detail: &'static str,
    },
    /// The method is part of the contract, but not of this version.
    NotBuilt {
        /// What works instead.
        detail: &'static str,
    },
}

impl Failure {
    /// One wrong field.
    pub fn invalid(field: &str, description: impl ToString) -> Self {
        Self::Invalid(vec![FieldViolation {
            field: field.to_owned(),
            description: description.to_string(),
        }])
    }
}

impl From<Failure> for v1::Refusal {
    /// For one of several things that a call asked for.
    fn from(failure: Failure) -> Self {
        let retryable = matches!(
            failure,
            Failure::Api(ApiError::NotSent { .. } | ApiError::RateLimited { .. })
        );
        let row = row(failure);
        Self {
            reason: row.reason.into(),
            detail: row.message,
            retryable,
            violations: row.violations,
        }
    }
}

/// A row of the table.
struct Row {
    code: Code,
    reason: Reason,
    message: String,
    retry_after: Option<Duration>,
    violations: Vec<FieldViolation>,
    metadata: Vec<(&'static str, String)>,
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

/// The table.
fn row(failure: Failure) -> Row {
    match failure {
        Failure::Invalid(violations) => invalid_row(violations),
        Failure::Send(error) => send_row(error),
        Failure::Api(error) => api_row(error),
        Failure::UnreadableAnswer(detail) => Row::new(
            Code::Unavailable,
            Reason::ApiAnswerUnreadable,
            format!("the API's answer can't be read: {detail}"),
        )
        .retry_after(SOON),
        Failure::LogQuota { retry_after } => Row::new(
            Code::ResourceExhausted,
            Reason::LogQuotaExhausted,
            "the API's quota of log requests a minute is used up: ask again later",
        )
        .retry_after(retry_after),
        Failure::Read(error) => read_row(&error),
        Failure::SubscriptionVisibility(differs) => Row::new(
            Code::FailedPrecondition,
            Reason::SubscriptionVisibilityDiffers,
            &differs,
        )
        .with("subscription", &differs.name),
        Failure::Append(error) => {
            Row::new(Code::Unavailable, Reason::EventLogUnavailable, error).retry_after(SOON)
        }
        Failure::Deadline {
            in_doubt,
            message_ids,
        } => {
            let message = match (in_doubt, message_ids.is_empty()) {
                (false, _) => "the deadline passed before anything was sent: nothing will be",
                (true, false) => {
                    "the deadline passed while the request was under way: its outcome becomes an event; repeat the call with the same ids to learn it"
                }
                (true, true) => {
                    "the deadline passed while the request was under way: it may have been done all the same"
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
                "as many checks or watches of health as are answered at once are under way: end some, or try again later"
            } else {
                "as many calls as grpc.max_concurrent_calls allows are under way: nothing was done, try again later"
            },
        )
        .retry_after(SOON),
        Failure::Unreadable { detail } => Row::new(
            Code::InvalidArgument,
            Reason::UnreadableRequest,
            format!("the request can't be read: {detail}"),
        ),
        Failure::MessageTooLarge { max_message_bytes } => Row::new(
            Code::ResourceExhausted,
            Reason::MessageTooLarge,
            format!("a message has more than the {max_message_bytes} bytes that grpc.max_message_bytes allows: split it"),
        )
        .with("max_message_bytes", max_message_bytes),
        Failure::EncodingUnknown { detail } => Row::new(
            Code::Unimplemented,
            Reason::UnsupportedEncoding,
            format!("{detail}: send it uncompressed"),
        ),
        Failure::MethodUnknown => Row::new(
            Code::Unimplemented,
            Reason::MethodUnknown,
            "there is no such service or method here: compare the caller's proto files with reflection",
        ),
        Failure::NotConfigured { key, detail } => Row::new(
            Code::FailedPrecondition,
            Reason::NotConfigured,
            format!("{detail}: set {key}"),
        )
        .with("key", key),
        Failure::NotBuilt { detail } => Row::new(
            Code::Unimplemented,
            Reason::NotBuiltYet,
            format!("not part of this version: {detail}"),
        ),
    }
}

fn invalid_row(violations: Vec<FieldViolation>) -> Row {
    let summary = summary(&violations);
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
        // Of a message that two calls share; the one whose deadline took it back hears that.
        SendError::Withdrawn | SendError::ShuttingDown => {
            Row::new(Code::Unavailable, reason, message).retry_after(SOON)
        }
        SendError::LogUnreadable(_) => Row::new(Code::Unavailable, reason, message)
            .retry_after(SOON)
            .with("in_doubt", false),
        SendError::LogUnavailable(_) => {
            // The API may have the messages: with the same ids a repeated call does not send them twice.
            Row::new(Code::Unavailable, reason, message)
                .retry_after(SOON)
                .with("in_doubt", true)
        }
    }
}

fn api_row(error: ApiError) -> Row {
    let message = error.to_string();
    match error {
        ApiError::NotSent { .. } => {
            Row::new(Code::Unavailable, Reason::ApiUnavailable, message).retry_after(SOON)
        }
        ApiError::RateLimited { retry_after } => {
            Row::new(Code::ResourceExhausted, Reason::ApiRateLimited, message)
                .retry_after(retry_after.unwrap_or(SOON))
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
                .map(|(field, what)| FieldViolation {
                    field,
                    description: what.join("; "),
                })
                .collect();
            Row::new(code, reason, message)
                .violations(violations)
                .with("http_status", http_status)
        }
        ApiError::InDoubt { .. } => Row::new(Code::Unavailable, Reason::ApiAnswerLost, message)
            .retry_after(SOON)
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

fn read_row(error: &ReadError) -> Row {
    match error {
        ReadError::BadCursor { .. } => Row::new(Code::InvalidArgument, Reason::BadCursor, error),
        ReadError::OutOfRange { oldest_cursor, .. } => {
            Row::new(Code::OutOfRange, Reason::CursorTooOld, error)
                .with("oldest_cursor", oldest_cursor)
        }
        ReadError::NoSubscriptions => Row::new(
            Code::Unimplemented,
            Reason::NotBuiltYet,
            format!("{error}: read with StreamEvents and keep the cursor"),
        ),
        ReadError::Unavailable(_) => {
            Row::new(Code::Unavailable, Reason::EventLogUnavailable, error).retry_after(SOON)
        }
    }
}

fn summary(violations: &[FieldViolation]) -> String {
    match violations {
        [only] => format!("{} {}", only.field, only.description),
        all => format!(
            "the request has {} mistakes; the details name them, the first ones where they are many",
            all.len()
        ),
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let row = row(failure);
        let metadata: HashMap<String, String> = row
            .metadata
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        let mut details = ErrorDetails::with_error_info(row.reason.as_str(), DOMAIN, metadata);
        if !row.violations.is_empty() {
            let violations = row
                .violations
                .into_iter()
                .map(|violation| {
                    tonic_types::FieldViolation::new(violation.field, violation.description)
                })
                .collect::<Vec<_>>();
            details.set_bad_request(violations);
        }
        if let Some(retry_after) = row.retry_after {
            details.set_retry_info(Some(retry_after));
        }
        Status::with_error_details(row.code, row.message, details)
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<AttachError> for Failure {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::Log(error) => Self::Read(error),
            AttachError::VisibilityDiffers(differs) => Self::SubscriptionVisibility(differs),
        }
    }
}

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Self {
        Self::Append(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_status_is_longer_than_clients_take() {
        let long = "\u{e4}".repeat(20_000);
        let violation = FieldViolation {
            field: long.clone(),
            description: long.clone(),
        };
        for failure in [
            Failure::Invalid(vec![violation.clone(); 10_000]),
            Failure::Invalid(vec![violation]),
            Failure::Read(ReadError::BadCursor {
                cursor: long.clone(),
            }),
            Failure::Send(SendError::IdReused { id: long.clone() }),
            Failure::Send(SendError::Unavailable {
                detail: long.clone(),
                retry_after: SOON,
            }),
            Failure::Deadline {
                in_doubt: true,
                message_ids: vec!["x".repeat(128); 10_000],
            },
        ] {
            let response: http::Response<()> = Status::from(failure.clone()).into_http();
            let bytes: usize = response
                .headers()
                .iter()
                .map(|(name, value)| name.as_str().len() + value.len() + 32)
                .sum();
            let reason = row(failure).reason;
            assert!(bytes < 7_500, "{reason}: {bytes} bytes");
        }
    }
}
