//! The labels of the metrics and their values.
//!
//! Invariant: every label has a small fixed set of values; a gRPC method that does not exist counts as `unknown`. Neighbours:
//! other modules pass the public types, and [`super::Metrics`] builds label sets of them.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use tonic::Code;

use crate::{
    message::{cause::Cause, event_type::EventType, reason::Reason},
    proto,
};

/// Declares a label as an enum: each variant with its value in `/metrics`.
macro_rules! label {
    ($(#[$doc:meta])* $label:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $label {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $label {
            /// Every value, in the order of the declaration.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$variant,)+];

            /// The number of values.
            pub const COUNT: usize = [$(Self::$variant,)+].len();

            /// The position among the values, from 0.
            #[must_use]
            pub const fn index(self) -> usize {
                self as usize
            }

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        impl fmt::Display for $label {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl EncodeLabelValue for $label {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
                EncodeLabelValue::encode(&self.as_str(), encoder)
            }
        }
    };
}

label! {
    /// The result of a send.
    SendOutcome {
        /// Accepted by Infobip.
        Accepted = "accepted",
        /// Rejected by the bridge or by Infobip.
        Rejected = "rejected",
        /// Still in doubt when look-ups ended.
        Unknown = "unknown",
    }
}

label! {
    /// The result of a number that was to be looked up.
    LookupOutcome {
        /// The API answered.
        Answered = "answered",
        /// It may have been looked up, and paid for, and there is no answer.
        Unknown = "unknown",
        /// Its command expired before it was asked.
        Expired = "expired",
    }
}

label! {
    /// An endpoint of the API.
    Endpoint {
        /// `/sms/1/text/advanced`, `/sms/1/binary/advanced`.
        Send = "send",
        /// `/sms/1/reports`.
        Reports = "reports",
        /// `/sms/1/logs`.
        Logs = "logs",
        /// `/sms/1/inbox/reports`.
        Inbox = "inbox",
        /// `/sms/1/inbox/logs`.
        InboxLogs = "inbox_logs",
        /// `/number/1/query`, `/number/1/notify`.
        Lookup = "lookup",
        /// `/sms/1/preview`.
        Preview = "preview",
        /// `/sms/1/bulks`, `/sms/1/bulks/status`.
        Bulks = "bulks",
        /// `/ct/1/log/end`.
        Conversion = "conversion",
        /// `/account/1/balance`.
        Balance = "balance",
    }
}

label! {
    /// How the outcome of a request to the API is classified (docs/RELIABILITY.md#how-a-send-stays-single).
    Classification {
        /// The API did what was requested.
        Ok = "ok",
        /// The API rejected the request.
        Refused = "refused",
        /// The API rejected the credentials.
        CredentialsRefused = "credentials_refused",
        /// 429: nothing was done.
        RateLimited = "rate_limited",
        /// No connection, so nothing was sent.
        NotSent = "not_sent",
        /// The API may have done it.
        InDoubt = "in_doubt",
    }
}

label! {
    /// How a send in doubt was resolved.
    Resolution {
        /// Found in the API's logs.
        Found = "found",
        /// Not in the API's logs, so it was sent again with the same id.
        Resent = "resent",
        /// Not resolved in time.
        Unknown = "unknown",
        /// Not in the API's logs, and rejected for a reason of the bridge.
        Rejected = "rejected",
        /// Handed back to the queue of its command.
        HandedBack = "handed_back",
    }
}

label! {
    /// A webhook that Infobip calls.
    Webhook {
        /// `/reports`.
        Reports = "reports",
        /// `/inbound`.
        Inbound = "inbound",
        /// `/clicks`.
        Clicks = "clicks",
        /// `/lookups`.
        Lookups = "lookups",
    }
}

label! {
    /// How a request to a webhook ended.
    WebhookResult {
        /// Its events are durable.
        Stored = "stored",
        /// Unreadable; stored as it is.
        Quarantined = "quarantined",
        /// Could not be stored; answered with 503, so Infobip sends it again.
        Unavailable = "unavailable",
        /// Wrong secret, password or signature, or a client that may not push.
        Unauthorized = "unauthorized",
        /// Too large, or not a valid request for this webhook.
        Refused = "refused",
    }
}

label! {
    /// A lane of sends; urgent ones overtake normal ones.
    Lane {
        Urgent = "urgent",
        Normal = "normal",
    }
}

label! {
    /// A connection to the broker that the bridge keeps open.
    AmqpConnection {
        /// Publishes events, replies, retries and dead letters.
        Publisher = "publisher",
        /// Consumes commands.
        Commands = "commands",
    }
}

label! {
    /// Files that are reloaded when they change.
    ReloadedFiles {
        /// `grpc.tokens_file`.
        Tokens = "tokens",
        /// `grpc.tls_cert_file`, `grpc.tls_key_file`, `grpc.tls_client_ca_file`.
        Tls = "tls",
    }
}

/// A method of the gRPC server, `package.Service/Method`, or `unknown` if it does not exist: clients can call any name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrpcMethod(pub(super) &'static str);

impl GrpcMethod {
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(proto::methods().get(name).map_or("unknown", String::as_str))
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        self.0
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabel {
    pub(super) outcome: SendOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LookupLabel {
    pub(super) outcome: LookupOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) endpoint: Endpoint,
    pub(super) classification: Classification,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct EndpointLabel {
    pub(super) endpoint: Endpoint,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ResolutionLabel {
    pub(super) resolution: Resolution,
}

impl EncodeLabelValue for EventType {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

impl EncodeLabelValue for Reason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

impl EncodeLabelValue for Cause {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DeadLetterLabels {
    pub(super) cause: Cause,
    pub(super) reason: Reason,
}

impl DeadLetterLabels {
    pub(super) fn of(reason: Reason) -> Self {
        Self {
            cause: Cause::of(reason),
            reason,
        }
    }
}

label! {
    /// What an operator did with a dead letter or a quarantined body.
    LetterEnd {
        /// Published again as a command, or processed again.
        Replayed = "replayed",
        /// Deleted.
        Discarded = "discarded",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LetterEndLabel {
    pub(super) action: LetterEnd,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ConnectionLabel {
    pub(super) connection: AmqpConnection,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FilesLabel {
    pub(super) files: ReloadedFiles,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TypeLabel {
    pub(super) r#type: EventType,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct WebhookLabels {
    pub(super) endpoint: Webhook,
    pub(super) result: WebhookResult,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CallLabels {
    pub(super) method: &'static str,
    pub(super) code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct MethodLabel {
    pub(super) method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LaneLabel {
    pub(super) lane: Lane,
}

/// The name of a code in the gRPC documentation.
#[must_use]
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
