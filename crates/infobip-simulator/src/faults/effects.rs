//! The effects of faults on the processing of a request and on its response.
//!
//! Neighbours: `faults` chooses the faults; `http` and `acceptance` carry out their effects.

use serde_json::Value;

use super::{bucket::TokenBucket, kind::FaultKind};
use crate::random::SeededRandom;

/// The combined effects of all faults that apply to a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct FaultEffects {
    /// Delay before processing, in real milliseconds.
    pub(crate) delay_before_ms: u64,
    /// Delay between processing and response, in real milliseconds.
    pub(crate) delay_after_ms: u64,
    /// The name of the fault that replaces the response, and how it does.
    pub(crate) response_fault: Option<(&'static str, ResponseFault)>,
    pub(crate) send_faults: SendFaults,
}

/// How a fault replaces the normal response.
#[derive(Debug, Clone)]
pub(crate) enum ResponseFault {
    /// The connection is reset.
    Reset {
        /// Whether the request is processed before.
        processed: bool,
    },
    /// The request is processed, but there is no response.
    NoResponse {
        /// Whether the connection stays open; else it is closed.
        hold: bool,
    },
    /// The response body is cut off.
    Truncate {
        /// Length sent; `None`: half of the body.
        bytes: Option<usize>,
    },
    /// Another response is sent.
    Substitute {
        status: u16,
        /// Content type and body; `None`: the API's error envelope.
        body: Option<(String, String)>,
        /// Whether the request is processed nevertheless.
        processed: bool,
    },
}

impl ResponseFault {
    /// Whether the request is processed.
    pub(crate) fn processes_request(&self) -> bool {
        match self {
            Self::Reset { processed } | Self::Substitute { processed, .. } => *processed,
            Self::NoResponse { .. } | Self::Truncate { .. } => true,
        }
    }
}

/// Faults that change how messages are accepted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SendFaults {
    /// Accept message ids that were used before.
    pub(crate) forget_ids: bool,
    /// Finish messages and push their reports before the request is answered.
    pub(crate) early_push: bool,
    /// Delay before the logs show the messages, in virtual milliseconds.
    pub(crate) log_lag_ms: i64,
}

/// Applies a fault. Returns false if it had no effect, such as a rate limit with tokens left.
pub(super) fn apply(
    kind: &FaultKind,
    bucket: &mut TokenBucket,
    random: &mut SeededRandom,
    now_ms: i64,
    effects: &mut FaultEffects,
) -> bool {
    let response_fault = match kind {
        FaultKind::Latency { ms, max_ms, before } => {
            let delay_ms = random.in_range(*ms, max_ms.unwrap_or(*ms));
            let total_ms = if *before {
                &mut effects.delay_before_ms
            } else {
                &mut effects.delay_after_ms
            };
            *total_ms += delay_ms;
            return true;
        }
        FaultKind::EarlyPush {} => {
            effects.send_faults.early_push = true;
            return true;
        }
        FaultKind::LogLag { ms } => {
            effects.send_faults.log_lag_ms = effects.send_faults.log_lag_ms.max(*ms);
            return true;
        }
        FaultKind::ForgetIds {} => {
            effects.send_faults.forget_ids = true;
            return true;
        }
        FaultKind::DuplicatePush {} => return false,
        FaultKind::RateLimit { per_second, burst } => {
            if bucket.try_take(*per_second, burst.unwrap_or(per_second.max(1.0)), now_ms) {
                return false;
            }
            (
                "rate_limit",
                ResponseFault::Substitute {
                    status: 429,
                    body: None,
                    processed: false,
                },
            )
        }
        FaultKind::Status {
            status,
            body,
            content_type,
            processed,
        } => {
            let body = body.as_ref().map(|body| {
                let (default, text) = match body {
                    Value::String(text) => ("text/plain;charset=UTF-8", text.clone()),
                    other => ("application/json;charset=UTF-8", other.to_string()),
                };
                (
                    content_type.clone().unwrap_or_else(|| default.to_owned()),
                    text,
                )
            });
            (
                "status",
                ResponseFault::Substitute {
                    status: *status,
                    body,
                    processed: *processed,
                },
            )
        }
        FaultKind::Html { status, processed } => {
            let page = format!(
                "<html>\r\n<head><title>{status}</title></head>\r\n<body><h1>{status}</h1></body>\r\n</html>\r\n"
            );
            let body = Some(("text/html".to_owned(), page));
            (
                "html",
                ResponseFault::Substitute {
                    status: *status,
                    body,
                    processed: *processed,
                },
            )
        }
        FaultKind::Reset {} => ("reset", ResponseFault::Reset { processed: false }),
        FaultKind::ReadThenReset {} => {
            ("read_then_reset", ResponseFault::Reset { processed: true })
        }
        FaultKind::AcceptThenDrop { hold } => (
            "accept_then_drop",
            ResponseFault::NoResponse { hold: *hold },
        ),
        FaultKind::Truncate { bytes } => ("truncate", ResponseFault::Truncate { bytes: *bytes }),
    };
    effects.response_fault = Some(response_fault);
    true
}
