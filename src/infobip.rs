//! Out to the Infobip HTTP API: requests, answers, and what an answer means.
//!
//! [`Client`] makes one request at a time and says once what came of it ([`CallError`]): it never retries, whoever calls it
//! decides that. [`wire`] reads bodies, whether a pull brought them or a push. [`pacing`] holds the account's budgets.
//!
//! Invariants: a request that may have reached the API is never called unsent; one bad row never spoils its batch; no
//! number, text or credential stands in an error. Neighbours: `send` and `intake` stand on this, `message` has the codes.

mod client;
mod convert;
mod error;
pub mod limits;
pub mod pacing;
pub mod wire;
mod xml;

pub use self::{
    client::{
        ApiResponse, BulkSchedule, Client, ClientBuildError, InboxLogsQuery, LogsQuery,
        ReportsQuery,
    },
    error::CallError,
    wire::{
        send::{BatchKind, OutboundBatch, OutboundRow, WireDestination},
        send_response::{SendResponse, SendRow},
    },
};
