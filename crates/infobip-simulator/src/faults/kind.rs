//! A fault as it is set and listed: the typed JSON of `/_sim/faults`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub(crate) enum Kind {
    /// The answer comes late, in real time: the request is carried out first, unless `before`.
    Latency {
        ms: u64,
        /// At most; else exactly `ms`.
        #[serde(default)]
        max_ms: Option<u64>,
        /// Waits before carrying out.
        #[serde(default)]
        before: bool,
    },
    /// Another status, with a body.
    Status {
        status: u16,
        /// Text as it is, anything else as JSON; none: the API's envelope for that status.
        #[serde(default)]
        body: Option<Value>,
        #[serde(default)]
        content_type: Option<String>,
        /// The request is carried out all the same.
        #[serde(default)]
        processed: bool,
    },
    /// A token bucket: 429 when it is empty.
    RateLimit {
        /// Tokens a virtual second.
        per_second: f64,
        /// Most tokens; else those of one second.
        #[serde(default)]
        burst: Option<f64>,
    },
    /// The connection is reset before the request is carried out.
    Reset {},
    /// A send is accepted, then the connection closes.
    AcceptThenDrop {
        /// It stays open without an answer instead.
        #[serde(default)]
        hold: bool,
    },
    /// The answer breaks off.
    Truncate {
        /// After so many bytes of the body; else half.
        #[serde(default)]
        bytes: Option<usize>,
    },
    Html {
        #[serde(default = "bad_gateway")]
        status: u16,
        /// The request is carried out all the same.
        #[serde(default)]
        processed: bool,
    },
    /// Read-once rows are consumed, then the connection is reset.
    ReadThenReset {},
    /// An accepted push comes twice.
    DuplicatePush {},
    /// Messages end, and their reports are pushed, before the send is answered.
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

/// A fault as it is set and listed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Fault {
    #[serde(default)]
    pub(crate) id: u64,
    #[serde(flatten)]
    pub(crate) kind: Kind,
    #[serde(default = "always")]
    pub(crate) probability: f64,
    /// How often it strikes, then never more; else always.
    #[serde(default)]
    pub(crate) count: Option<u64>,
    /// Beginning of the path it matches; else where it makes sense.
    #[serde(default)]
    pub(crate) path: Option<String>,
    #[serde(default)]
    pub(crate) matched: u64,
    /// Requests that it struck.
    #[serde(default)]
    pub(crate) struck: u64,
}

impl Kind {
    /// Whether the request ends otherwise than by its own answer: of several such faults the first one counts.
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
