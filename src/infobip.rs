//! The client of the Infobip SMS HTTP API: requests, responses, and the meaning of every outcome.
//!
//! [`Client`] sends one request per call and classifies the outcome once ([`ApiError`]); it never retries, callers decide
//! that. An [`Account`](account::Account) adds what all users of the client share: the breaker and the rates of [`pacing`]. [`wire`] reads
//! and writes bodies, of pulls and of pushes. [`limits`] lists the limits of the API.
//!
//! Invariants: a request that may have reached the API is never reported as not sent; a malformed row does not affect the
//! other rows of its body; errors contain no phone number, text or credential.
//! Neighbours: `send`, `intake` and `grpc` call this module; `message` has the ids and the code tables.

pub mod account;
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
    error::{ApiError, refused_credentials},
    wire::{
        send::{BatchKind, OutboundBatch, OutboundRow, WireDestination, estimated_bytes},
        send_response::{SendResponse, SendRow},
    },
};
