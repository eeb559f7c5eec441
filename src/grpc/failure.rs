//! Every error that a caller can get. [`status_table`] maps each to a gRPC status; docs/ERRORS.md describes them.
//!
//! Each status carries `google.rpc` details: always ErrorInfo with a stable reason and the domain `smsbridge`; BadRequest with
//! the invalid fields, as many as fit into a status ([`bounds`]); RetryInfo if waiting helps.

mod bounds;
mod status_table;

use std::{collections::HashMap, time::Duration};

use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::auth::Denied;
use crate::{
    events::{
        AppendError, ReadError,
        quarantine::VisitError,
        subscription::{AttachError, VisibilityDiffers},
    },
    infobip::{ApiError, account::LogsError},
    intake::QuarantineError,
    proto::v1::FieldViolation,
    query::{logs::LogsPageError, lookup::LookupError},
    send::SendError,
};

/// The domain of every ErrorInfo.
pub const DOMAIN: &str = "smsbridge";

/// Why a call failed.
#[derive(Debug, Clone)]
pub enum Failure {
    Send(SendError),
    /// A request to the API failed.
    Api(ApiError),
    /// The API's response can't be decoded; the text tells why.
    UnreadableResponse(String),
    LogQuotaExhausted {
        retry_after: Duration,
    },
    /// The event log can't be read from the requested position, or not now.
    Read(ReadError),
    /// The subscription has subscribers with another visibility.
    SubscriptionVisibility(VisibilityDiffers),
    /// The application has as many subscriptions as it may have.
    SubscriptionLimit(String),
    /// The application has as many streams of events as it may have.
    EventStreamLimit {
        max: usize,
    },
    /// The event log can't be written.
    Append(AppendError),
    /// The request has invalid fields.
    Invalid(Vec<FieldViolation>),
    /// The caller's deadline is about to pass.
    Deadline {
        /// Whether something may have been done.
        in_doubt: bool,
        /// The ids of the messages of a send. Empty for other calls.
        message_ids: Vec<String>,
    },
    /// Authentication failed, the credentials do not allow the call, or a quota is used up.
    Denied(Denied),
    /// `grpc.max_concurrent_calls` calls are in flight, or as many of the health service as its own limits allow.
    Overloaded {
        /// Whether the call was one of the health service.
        is_health: bool,
    },
    /// The bytes do not decode to the request of the method.
    UnreadableRequest {
        detail: String,
    },
    MessageTooLarge {
        max_message_bytes: usize,
    },
    /// The request is compressed, and not by gzip.
    UnsupportedEncoding {
        detail: String,
    },
    /// There is no such service or method.
    MethodUnknown,
    /// The method needs a setting.
    NotConfigured {
        key: &'static str,
        /// Why the method needs it.
        detail: &'static str,
    },
    /// The event log has no event of a message.
    MessageNotFound {
        message_id: String,
        application: String,
    },
    /// The events of a message were not found in this time.
    MessageSearch {
        searched: Duration,
    },
    /// The dead letters cannot be read, or not as asked for.
    DeadLetters {
        problem: DeadLettersProblem,
        /// For people.
        detail: String,
    },
    /// The quarantine cannot be read, or not as asked for.
    Quarantine(QuarantineError),
    /// What the method is about belongs to no application, so only who may see all of them may call it.
    NeedsAllApplications {
        /// Without its service.
        method: &'static str,
    },
    /// The method is in the contract and not in this version.
    Unimplemented {
        /// What works instead.
        detail: &'static str,
    },
}

/// Why a call about dead letters failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLettersProblem {
    NotFound,
    PageTokenExpired,
    /// Somebody else reads or changes them.
    Busy,
    BrokerUnavailable,
    /// The deadline is about to pass, and nothing was done.
    TimeUp,
}

impl Failure {
    /// One invalid field.
    pub fn invalid(field: &str, description: impl ToString) -> Self {
        Self::Invalid(vec![FieldViolation {
            field: field.to_owned(),
            description: description.to_string(),
        }])
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let row = status_table::row(failure);
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
            details.set_retry_info(Some(rounded_up(retry_after)));
        }
        Status::with_error_details(row.code, row.message, details)
    }
}

/// The delay in whole milliseconds, or in tenths of a second from one second on: clients show it to people.
fn rounded_up(delay: Duration) -> Duration {
    let unit_ms: u128 = if delay < Duration::from_secs(1) {
        1
    } else {
        100
    };
    let ms = delay.as_nanos().div_ceil(unit_ms * 1_000_000) * unit_ms;
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
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

impl From<LogsError> for Failure {
    fn from(error: LogsError) -> Self {
        match error {
            LogsError::QuotaExhausted { retry_after } => Self::LogQuotaExhausted { retry_after },
            LogsError::Api(error) => Self::Api(error),
        }
    }
}

impl From<LogsPageError> for Failure {
    fn from(error: LogsPageError) -> Self {
        match error {
            LogsPageError::Invalid(violation) => Self::Invalid(vec![violation]),
            LogsPageError::Logs(error) => error.into(),
            LogsPageError::Unreadable(error) => Self::UnreadableResponse(error.to_string()),
        }
    }
}

impl From<LookupError> for Failure {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Api(error) => Self::Api(error),
            LookupError::DeadlinePassed => Self::Deadline {
                in_doubt: true,
                message_ids: Vec::new(),
            },
        }
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
            too_many @ AttachError::TooMany => Self::SubscriptionLimit(too_many.to_string()),
        }
    }
}

impl From<QuarantineError> for Failure {
    fn from(error: QuarantineError) -> Self {
        match error {
            QuarantineError::Invalid(violations) => Self::Invalid(violations),
            QuarantineError::Visit(VisitError::ShuttingDown) => Self::Send(SendError::ShuttingDown),
            error => Self::Quarantine(error),
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
    use super::{status_table::DEFAULT_RETRY_DELAY, *};

    #[test]
    fn delays_are_rounded_up() {
        for (delay, rounded) in [(0, 0), (1, 1_000_000), (498_255_271, 499_000_000)] {
            let delay = Duration::from_nanos(delay);
            assert_eq!(rounded_up(delay), Duration::from_nanos(rounded));
        }
        let delay = Duration::from_nanos(4_271_645_355);
        assert_eq!(rounded_up(delay), Duration::from_millis(4_300));
    }

    #[test]
    fn no_status_exceeds_the_header_limit_of_clients() {
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
                retry_after: DEFAULT_RETRY_DELAY,
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
            let reason = status_table::row(failure).reason;
            assert!(bytes < 7_500, "{reason}: {bytes} bytes");
        }
    }
}
