//! The labels of the metrics and their values, under the names that `/metrics` shows.
//!
//! Invariant: every label has a small closed set of values, and a gRPC method with another name counts as `unknown`. Neighbours: the other rooms count with the public types, [`super::Metrics`] puts them into sets.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use tonic::Code;

use crate::{message::event_type::EventType, proto};

/// Declares a label's values: each variant with its name.
macro_rules! label {
    ($(#[$doc:meta])* $label:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $label {
            $($(#[$variant_doc])* $variant,)+
        }

        impl EncodeLabelValue for $label {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
                EncodeLabelValue::encode(&match self { $(Self::$variant => $name,)+ }, encoder)
            }
        }
    };
}

label! {
    /// How a send ended.
    SendOutcome {
        /// Infobip took it.
        Accepted = "accepted",
        /// It was refused, here or there.
        Rejected = "rejected",
        /// Nobody knows.
        Unknown = "unknown",
    }
}

label! {
    /// What is asked of the API.
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
    /// What came of a request to the API (docs/RELIABILITY.md#how-a-send-stays-single).
    Classification {
        /// It did what was asked.
        Ok = "ok",
        /// It refused what was asked.
        Refused = "refused",
        /// It refused the credentials.
        CredentialsRefused = "credentials_refused",
        /// 429: nothing was done.
        RateLimited = "rate_limited",
        /// No connection: nothing went out.
        NotSent = "not_sent",
        /// It may have done it.
        InDoubt = "in_doubt",
    }
}

label! {
    /// What the look-up of a doubtful send led to.
    Resolution {
        /// The logs have it.
        Found = "found",
        /// The logs have it not: it was sent again, with the same id.
        Resent = "resent",
        /// Given up.
        Unknown = "unknown",
    }
}

label! {
    /// Where Infobip calls.
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
    /// What became of a body that Infobip sent.
    WebhookResult {
        /// Its events are durable.
        Stored = "stored",
        /// It can't be read and is kept.
        Quarantined = "quarantined",
        /// Neither could be done: it was answered with 503 and comes again.
        Unavailable = "unavailable",
        /// Not from Infobip: wrong secret or password.
        Unauthorized = "unauthorized",
        /// Too large or not a request that this endpoint takes.
        Refused = "refused",
    }
}

label! {
    /// A lane of sends.
    Lane {
        /// Overtakes.
        Urgent = "urgent",
        /// Everything else.
        Normal = "normal",
    }
}

/// A method of the gRPC server, `package.Service/Method`. What it does not have is `unknown`, as anybody can call anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrpcMethod(pub(super) &'static str);

impl GrpcMethod {
    /// By its name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(proto::methods().get(name).map_or("unknown", String::as_str))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabel {
    pub(super) outcome: SendOutcome,
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

/// A code as gRPC's documents write it.
pub(super) fn code_name(code: Code) -> &'static str {
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
