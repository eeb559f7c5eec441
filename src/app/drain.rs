//! A running bridge and its shutdown, in the order of P8 (docs/RELIABILITY.md#p8-shutdown-loses-nothing).

use std::time::Duration;

use tokio::{
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{AppError, broker::Broker};
use crate::{events::SharedEventLog, ops::readiness::Readiness, pull::PullWorker, send::SendCore};

/// How long the event log, and then the publisher, may take to close after the grace period.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct Running {
    pub(super) sender: SendCore,
    /// Consumes commands. `None` without a broker.
    pub(super) consumers: Option<JoinHandle<()>>,
    pub(super) pull_worker: PullWorker,
    /// The gRPC and the webhook server. Neither ends before it is stopped, unless it fails.
    pub(super) servers: JoinSet<Result<(), AppError>>,
    /// Tasks of single calls.
    pub(super) tasks: TaskTracker,
    /// Stops the gRPC server and the consumers of commands.
    pub(super) closing: CancellationToken,
    pub(super) stop_http: CancellationToken,
    pub(super) admin: JoinHandle<()>,
    pub(super) stop_admin: CancellationToken,
    pub(super) readiness: Readiness,
    pub(super) log: SharedEventLog,
    pub(super) broker: Option<Broker>,
}

impl Running {
    /// Stops all parts. What has not ended by `deadline` is aborted; then the event log and the publisher are closed.
    pub(super) async fn drain(mut self, deadline: Instant) {
        self.readiness.end();
        self.closing.cancel();
        self.sender.drain(deadline).await;
        // Consumers end after the sender, because they acknowledge a delivery only after its results are durable.
        if let Some(consumers) = self.consumers
            && tokio::time::timeout_at(deadline, consumers).await.is_err()
        {
            tracing::warn!(
                "commands were still in flight at the end of the grace period: the broker will redeliver them"
            );
        }
        self.tasks.close();
        let _ = tokio::time::timeout_at(deadline, self.tasks.wait()).await;
        // Pulls are calls, so no response is stored after them.
        self.pull_worker.stop(deadline).await;
        // Webhooks are served until here: Infobip retries a report that it could not push, but late.
        self.stop_http.cancel();
        // All responses are sent. Connections that clients keep open end with the grace period.
        let all_ended = async { while self.servers.join_next().await.is_some() {} };
        if tokio::time::timeout_at(deadline, all_ended).await.is_err() {
            tracing::warn!("connections were still open at the end of the grace period");
            self.servers.shutdown().await;
        }
        close("the event log", self.log.close(), deadline).await;
        if let Some(broker) = self.broker {
            close("the publisher", broker.publisher.close(), deadline).await;
        }
        // Probes are answered until the end.
        self.stop_admin.cancel();
        let _ = self.admin.await;
    }
}

/// Waits for `closing` until `deadline`, but at least [`CLOSING_TIMEOUT`].
async fn close(what: &str, closing: impl Future<Output = ()>, deadline: Instant) {
    let latest = deadline.max(Instant::now() + CLOSING_TIMEOUT);
    if tokio::time::timeout_at(latest, closing).await.is_err() {
        tracing::warn!("{what} did not close in time: the process ends without waiting for it");
    }
}
