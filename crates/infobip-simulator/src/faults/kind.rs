//! The kinds of faults in the JSON format of `/_sim/faults`, and the requests that each kind is for.
//!
//! Neighbour: `faults` decides whether a fault affects a request.

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub(crate) enum FaultKind {
    /// Delays the response in real time, after the request is processed unless `before` is set.
    Latency {
        ms: u64,
        /// Maximum delay; default: exactly `ms`.
        #[serde(default)]
        max_ms: Option<u64>,
        /// Whether the delay is before processing.
        #[serde(default)]
        before: bool,
    },
    /// Responds with another status and body.
    Status {
        status: u16,
        /// A string is sent as it is, anything else as JSON; `None`: the API's error envelope for that status.
        #[serde(default)]
        body: Option<Value>,
        #[serde(default)]
        content_type: Option<String>,
        /// Whether the request is processed nevertheless.
        #[serde(default)]
        processed: bool,
    },
    /// A token bucket: 429 when it is empty.
    RateLimit {
        /// Tokens per virtual second.
        per_second: f64,
        /// Capacity of the bucket; default: the tokens of one second.
        #[serde(default)]
        burst: Option<f64>,
    },
    /// Resets the connection before the request is processed. With a path that a push's URL has, its attempt fails as well.
    Reset {},
    /// Accepts a send, then closes the connection without a response.
    AcceptThenDrop {
        /// Whether the connection stays open without a response instead.
        #[serde(default)]
        hold: bool,
    },
    /// Cuts off the response body.
    Truncate {
        /// Length of the body that is sent; default: half.
        #[serde(default)]
        bytes: Option<usize>,
    },
    /// Responds with a proxy's HTML page.
    Html {
        #[serde(default = "bad_gateway")]
        status: u16,
        /// Whether the request is processed nevertheless.
        #[serde(default)]
        processed: bool,
    },
    /// Consumes read-once rows, then resets the connection.
    ReadThenReset {},
    /// Sends an accepted push a second time.
    DuplicatePush {},
    /// Finishes messages and pushes their reports before the send is answered.
    EarlyPush {},
    /// Delays when the logs show messages.
    LogLag {
        /// Virtual milliseconds after acceptance.
        ms: i64,
    },
    /// Accepts message ids that were used before.
    ForgetIds {},
}

fn bad_gateway() -> u16 {
    502
}

fn certain() -> f64 {
    1.0
}

/// One configured fault with its counters.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Fault {
    #[serde(default)]
    pub(crate) id: u64,
    #[serde(flatten)]
    pub(crate) kind: FaultKind,
    /// Probability, 0 to 1, that a matching request is affected.
    #[serde(default = "certain")]
    pub(crate) probability: f64,
    /// Maximum of `struck`; default: no limit.
    #[serde(default)]
    pub(crate) count: Option<u64>,
    /// Prefix of the paths to which the fault applies; default: every path for which the kind is meaningful.
    #[serde(default)]
    pub(crate) path: Option<String>,
    /// Requests or pushes that it matched.
    #[serde(default)]
    pub(crate) matched: u64,
    /// Requests or pushes that it affected.
    #[serde(default)]
    pub(crate) struck: u64,
}

impl Fault {
    /// Whether a path begins with the fault's prefix.
    pub(super) fn matches_path(&self, path: &str) -> bool {
        self.path
            .as_ref()
            .is_none_or(|prefix| path.starts_with(prefix.as_str()))
    }
}

impl FaultKind {
    /// Whether this kind is meaningful for a request.
    pub(super) fn applies_to(&self, method: &Method, path: &str) -> bool {
        match self {
            Self::AcceptThenDrop { .. }
            | Self::EarlyPush {}
            | Self::LogLag { .. }
            | Self::ForgetIds {} => is_send(method, path),
            Self::ReadThenReset {} => {
                path.starts_with("/sms/1/reports") || path.starts_with("/sms/1/inbox/reports")
            }
            Self::DuplicatePush {} => false,
            Self::Latency { .. }
            | Self::Status { .. }
            | Self::RateLimit { .. }
            | Self::Reset {}
            | Self::Truncate { .. }
            | Self::Html { .. } => true,
        }
    }

    /// Whether this kind replaces the normal response. Only the first such fault applies to a request.
    pub(super) fn replaces_response(&self) -> bool {
        !matches!(
            self,
            Self::Latency { .. }
                | Self::DuplicatePush {}
                | Self::EarlyPush {}
                | Self::LogLag { .. }
                | Self::ForgetIds {}
        )
    }
}

/// Whether a request sends messages.
fn is_send(method: &Method, path: &str) -> bool {
    (method == Method::POST
        && (path.starts_with("/sms/1/text/") || path.starts_with("/sms/1/binary/")))
        || path.starts_with("/sms/1/text/query")
}
