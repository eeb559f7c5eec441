//! The gRPC edge. A call passes `transport`, `middleware`, [`auth`] and `services`; [`failure`] maps every error to a status;
//! `server` puts them together.
//!
//! Invariants: a handler answers a little before its caller's deadline; a send and a destructive read run in tasks of their
//! own, because a handler's future is dropped when the caller goes away; a caller sees its own application's rows only.
//! Neighbours: `send`, `query`, `intake`, `pull`, `events` and `infobip` below; `app` binds and drains it.

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

use self::{failure::Failure, middleware::deadline::Deadline};
pub use self::{
    server::{GrpcServer, ServeError},
    services::admin::DeadLetterDesk,
};
use crate::{
    events::{SharedEventLog, subscription::Subscriptions},
    infobip::account::Account,
    intake::{Intake, QuarantineDesk},
    message::id::check_caller_id,
    ops::metrics::Metrics,
    pull::Pulls,
    query::Query,
    send::{SendCore, SendError},
};

/// The parts of the process that the services use. Cheap to clone.
#[derive(Clone)]
pub struct ServiceContext {
    pub sender: SendCore,
    pub log: SharedEventLog,
    /// The account at the API.
    pub account: Arc<Account>,
    /// The read side: look-ups and logs.
    pub query: Arc<Query>,
    pub intake: Intake,
    pub quarantine: QuarantineDesk,
    /// Destructive reads.
    pub pulls: Pulls,
    /// `None`: the engine of the event log has none.
    pub subscriptions: Option<Subscriptions>,
    /// `None` without a broker.
    pub dead_letters: Option<Arc<dyn DeadLetterDesk>>,
    /// The URL to which the API pushes the results of asynchronous look-ups. It contains credentials.
    pub lookups_url: Option<SecretString>,
    pub metrics: Metrics,
    /// Cancelled at shutdown: ends streams that follow the event log.
    pub closing: CancellationToken,
    /// Tasks that continue when their caller goes away; awaited at shutdown.
    pub tasks: TaskTracker,
}

/// The result of `work`, or an error a little before the deadline, when `work` is dropped. For reads and for changes that the
/// caller may repeat.
async fn in_time<T>(
    deadline: Deadline,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match deadline.wait(work).await {
        Some(result) => result,
        None => Err(Failure::Deadline {
            in_doubt: true,
            message_ids: Vec::new(),
        }),
    }
}

/// The result of a task in [`ServiceContext::tasks`].
async fn joined<T>(task: JoinHandle<Result<T, Failure>>) -> Result<T, Failure> {
    task.await
        .unwrap_or(Err(Failure::Send(SendError::ShuttingDown)))
}

/// Checks a message id. It may contain `~`, as the ids that the bridge derives do.
fn caller_id<'a>(field: &str, id: &'a str) -> Result<&'a str, Failure> {
    check_caller_id(&id.replace('~', "-")).map_err(|error| Failure::invalid(field, error))?;
    Ok(id)
}
