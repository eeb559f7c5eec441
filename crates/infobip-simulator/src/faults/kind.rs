//! The JSON format of `/_sim/faults`.
//!
//! Neighbour: `faults` decides when a fault strikes.

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub(crate) enum Kind {
    /// Delays the response in real time, after the request is processed unless `before` is set.
    Latency {
        ms: u64,
        /// Maximum delay; default: exactly `ms`.
        #[serde(default)]
        max_ms: Option<u64>,
        /// Waits before carrying out.
        #[serde(default)]
        before: bool,
    },
    /// Another status, with a body.
    Status {
        status: u16,
        /// A string is sent as it is, anything else as JSON; `None`: the API's error envelope for that status.
        #[serde(default)]
        body: Option<Value>,
        #[serde(default)]
        content_type: Option<String>,
        /// Process the request nevertheless.
        #[serde(default)]
        processed: bool,
    },
    /// A token bucket: 429 when it is empty.
    RateLimit {
        /// Tokens a virtual second.
        per_second: f64,
        /// Capacity of the bucket; default: the tokens of one second.
        #[serde(default)]
        burst: Option<f64>,
    },
    /// Resets the connection before the request is processed.
    Reset {},
    /// Accepts a send, then closes the connection without a response.
    AcceptThenDrop {
        /// Keep the connection open without a response instead.
        #[serde(default)]
        hold: bool,
    },
    /// The answer breaks off.
    Truncate {
        /// Length of the body that is sent; default: half.
        #[serde(default)]
        bytes: Option<usize>,
    },
    Html {
        #[serde(default = "bad_gateway")]
        status: u16,
        /// Process the request nevertheless.
        #[serde(default)]
        processed: bool,
    },
    /// Consumes read-once rows, then resets the connection.
    ReadThenReset {},
    /// An accepted push comes twice.
    DuplicatePush {},
    /// Finishes messages and pushes their reports before the send is answered.
    EarlyPush {},
    /// The logs show messages later.
    LogLag {
        /// Virtual milliseconds after acceptance.
        ms: i64,
    },
    /// No memory of duplicate ids.
    ForgetIds {},
}

fn bad_gateway() -> u16 {
    502
}

fn always() -> f64 {
    1.0
}

/// One configured fault with its counters.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Fault {
    #[serde(default)]
    pub(crate) id: u64,
    #[serde(flatten)]
    pub(crate) kind: Kind,
    /// Probability, 0 to 1, that a matching request is affected.
    #[serde(default = "always")]
    pub(crate) probability: f64,
    /// Maximum number of affected requests; default: no limit.
    #[serde(default)]
    pub(crate) count: Option<u64>,
    /// Path prefix that it matches; default: every path for which the kind is meaningful.
    #[serde(default)]
    pub(crate) path: Option<String>,
    #[serde(default)]
    pub(crate) matched: u64,
    /// Requests that it affected.
    #[serde(default)]
    pub(crate) struck: u64,
}

impl Kind {
    /// Whether this kind replaces the normal response. Only the first such fault applies to a request.
    pub(crate) fn ends_request(&self) -> bool {
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
