//! The gRPC edge. A call passes `transport`, `middleware`, [`auth`] and `services`; [`failure`] is the one table of errors;
//! `server` puts them together.
//!
//! Invariants: a handler answers a little before its caller's deadline; what reads destructively or sends runs in a task of
//! its own, as a handler's future is dropped when its caller goes away; a caller sees its own application's rows only.
//! Neighbours: `send`, `intake`, `events` and `infobip` below; `app` binds and drains it.

pub mod auth;
pub mod failure;
mod middleware;
mod server;
mod services;
mod transport;

use std::sync::Arc;

use secrecy::SecretString;
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::server::{GrpcServer, ServeError};
use self::{failure::Failure, middleware::deadline::Deadline};
use crate::{
    events::{SharedEventLog, subscription::Subscriptions},
    infobip::{Client, pacing::LogQuota},
    intake::Intake,
    message::id::check_caller_id,
    ops::metrics::Metrics,
    send::{SendCore, SendError},
};

/// What the services stand on. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// Sends.
    pub sender: SendCore,
    /// The event log.
    pub log: SharedEventLog,
    /// The API.
    pub client: Client,
    /// The quota of log requests.
    pub log_quota: Arc<LogQuota>,
    /// From the API's rows to events.
    pub intake: Intake,
    /// Subscriptions that have listeners.
    pub subscriptions: Subscriptions,
    /// Where the API pushes the answers to asynchronous look-ups. It has credentials in it.
    pub lookups_url: Option<SecretString>,
    /// What is counted.
    pub metrics: Metrics,
    /// Cancelled when the process ends: streams that follow end then.
    pub closing: CancellationToken,
    /// Work that goes on when its caller went away; awaited at shutdown.
    pub tasks: TaskTracker,
}

/// Answers a little before the deadline. For calls that change nothing, or whose repetition is the caller's to decide.
async fn in_time<T>(
    deadline: Deadline,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match deadline.wait(work).await {
        Some(done) => done,
        None => Err(Failure::Deadline {
            in_doubt: true,
            message_ids: Vec::new(),
        }),
    }
}

/// What came of work that goes on when its caller went away.
async fn finished<T>(work: JoinHandle<Result<T, Failure>>) -> Result<T, Failure> {
    work.await
        .unwrap_or(Err(Failure::Send(SendError::ShuttingDown)))
}

/// A caller's message id; `~` is in those that the bridge derived.
fn caller_id<'a>(field: &str, id: &'a str) -> Result<&'a str, Failure> {
    check_caller_id(&id.replace('~', "-")).map_err(|error| Failure::invalid(field, error))?;
    Ok(id)
}
