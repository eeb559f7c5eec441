//! The stable reasons of all errors and refusals: one spelling for gRPC, AMQP and events. `docs/ERRORS.md` explains each.
//!
//! Invariant: programs depend on these spellings, so a variant is never renamed after 1.0.
//! Neighbours: `grpc::failure` gives a reason its status code; `send` and `commands` choose one for each refusal.

use std::fmt;

macro_rules! reasons {
    ($($variant:ident = $text:literal,)+) => {
        /// Why a call, a destination or a command was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $(#[doc = concat!("`", $text, "`")] $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of the declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The spelling in `ErrorInfo.reason`, `Refusal.reason` and the header `smsbridge-reason`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

reasons! {
    InvalidRequest = "INVALID_REQUEST",
    UnreadableRequest = "UNREADABLE_REQUEST",
    MessageTooLarge = "MESSAGE_TOO_LARGE",
    UnsupportedEncoding = "UNSUPPORTED_ENCODING",
    MethodUnknown = "METHOD_UNKNOWN",
    InvalidApplication = "INVALID_APPLICATION",
    BadCursor = "BAD_CURSOR",
    CursorTooOld = "CURSOR_TOO_OLD",
    SubscriptionVisibilityDiffers = "SUBSCRIPTION_VISIBILITY_DIFFERS",
    SubscriptionLimit = "SUBSCRIPTION_LIMIT",
    IdReused = "ID_REUSED",
    CredentialsMissing = "CREDENTIALS_MISSING",
    CredentialsInvalid = "CREDENTIALS_INVALID",
    MethodNotAllowed = "METHOD_NOT_ALLOWED",
    QuotaExceeded = "QUOTA_EXCEEDED",
    QueueFull = "QUEUE_FULL",
    Overloaded = "OVERLOADED",
    LogQuotaExhausted = "LOG_QUOTA_EXHAUSTED",
    ApiRateLimited = "API_RATE_LIMITED",
    ApiRefused = "API_REFUSED",
    ApiNotFound = "API_NOT_FOUND",
    ApiCredentialsRefused = "API_CREDENTIALS_REFUSED",
    ApiUnavailable = "API_UNAVAILABLE",
    ApiAnswerLost = "API_ANSWER_LOST",
    ApiAnswerUnreadable = "API_ANSWER_UNREADABLE",
    EventLogUnavailable = "EVENT_LOG_UNAVAILABLE",
    ShuttingDown = "SHUTTING_DOWN",
    DeadlineExceeded = "DEADLINE_EXCEEDED",
    Withdrawn = "WITHDRAWN",
    NotConfigured = "NOT_CONFIGURED",
    MessageNotFound = "MESSAGE_NOT_FOUND",
    DeadLetterNotFound = "DEAD_LETTER_NOT_FOUND",
    DeadLettersBusy = "DEAD_LETTERS_BUSY",
    QuarantinedNotFound = "QUARANTINED_NOT_FOUND",
    QuarantineBusy = "QUARANTINE_BUSY",
    PageTokenExpired = "PAGE_TOKEN_EXPIRED",
    BrokerUnavailable = "BROKER_UNAVAILABLE",
    NotBuiltYet = "NOT_BUILT_YET",
    Expired = "EXPIRED",
    SenderNotAllowed = "SENDER_NOT_ALLOWED",
    CountryNotAllowed = "COUNTRY_NOT_ALLOWED",
    NumberCapReached = "NUMBER_CAP_REACHED",
    OutcomeUnknown = "OUTCOME_UNKNOWN",
    RedeliveredWithoutRequestId = "REDELIVERED_WITHOUT_REQUEST_ID",
    InvalidRequestId = "INVALID_REQUEST_ID",
    UnknownType = "UNKNOWN_TYPE",
    Unroutable = "UNROUTABLE",
    AttemptLimit = "ATTEMPT_LIMIT",
    DeliveryLimit = "DELIVERY_LIMIT",
    Returned = "RETURNED",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.as_str().to_owned()
    }
}
