//! Pulls: reads what the API gives only once, and makes its rows events.
//!
//! A response is durable in the raw store before it is split or answered; then a worker splits it, appends its events and removes it.
//! What a kill or an outage leaves over is split when the store can be read again. On the broker another replica may do that, so a pull
//! waits only for a short time until its rows are events.
//!
//! Invariants (P4 and P9, docs/RELIABILITY.md): nothing is read from the API while its response could not be stored; a response is kept
//! in memory until it is in the raw store; the same response always gives the same event ids, however often it is split. The raw store is
//! bounded: at most [`MAX_UNDER_WAY`] pulls are under way in a process, and none begins while its worker is behind or while
//! [`MAX_WAITING`] responses wait.
//! Neighbours: `worker` takes what is stored, `intake` splits and stores, `events::raw` is the store; `grpc` pulls.

mod worker;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::worker::{Progress, Worker};
use crate::{
    events::{
        AppendError, SharedEventLog,
        raw::{RawResponse, RawStore, RowKind},
    },
    infobip::{ApiError, ApiResponse, ReportsQuery, account::Account},
    intake::{Intake, Split},
    ops::{
        kill_point::{self, KillPoint},
        metrics::Metrics,
    },
    primitives::retry::{Backoff, RetryPolicy},
};

/// Pulls under way. A response is in memory until it is stored, and has up to `infobip.max_response_bytes`.
const MAX_UNDER_WAY: usize = 4;
/// How long a pull waits for one of these places, and until the store is open.
const PLACE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a pull whose response is stored waits until its rows are events. Where another replica makes them events, it waits in vain.
const EVENTS_TIMEOUT: Duration = Duration::from_millis(500);
/// Responses in the raw store, of all replicas together, beyond which nothing is pulled.
const MAX_WAITING: u64 = 200;
/// Their bytes, where the store knows them.
const MAX_WAITING_BYTES: u64 = 256 * 1024 * 1024;
/// The waits between attempts to write the raw store or the event log.
const STORE_RETRY: RetryPolicy =
    RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(2));

/// Why a pull failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PullError {
    /// Nothing was read from the API, or the process ends before what was read is stored.
    #[error(transparent)]
    Store(#[from] AppendError),
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The response cannot be read. It goes to quarantine.
    #[error("{0}")]
    Unreadable(String),
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Pulls(Arc<Inner>);

struct Inner {
    account: Arc<Account>,
    intake: Intake,
    log: SharedEventLog,
    store: Arc<dyn RawStore>,
    progress: Arc<Progress>,
    places: Arc<Semaphore>,
}

/// The task that turns stored responses into events. It ends when it is told to stop.
pub struct PullWorker {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Pulls {
    /// Starts the worker.
    #[must_use]
    pub fn start(
        account: Arc<Account>,
        intake: Intake,
        log: SharedEventLog,
        store: Arc<dyn RawStore>,
        metrics: &Metrics,
    ) -> (Self, PullWorker) {
        let progress = Arc::new(Progress::default());
        let stop = CancellationToken::new();
        let worker = Worker::new(
            intake.clone(),
            Arc::clone(&store),
            Arc::clone(&progress),
            stop.clone(),
        );
        let task = tokio::spawn(metrics.tasks().watch("pulls", worker.run()));
        let pulls = Self(Arc::new(Inner {
            account,
            intake,
            log,
            store,
            progress,
            places: Arc::new(Semaphore::new(MAX_UNDER_WAY)),
        }));
        (pulls, PullWorker { stop, task })
    }

    /// Why pulls are refused. `None` if they are not, as far as is known.
    #[must_use]
    pub fn outage(&self) -> Option<String> {
        self.0.progress.outage()
    }

    /// Pulls delivery reports. Must not be dropped before it ends: what it has read would be lost.
    ///
    /// # Errors
    /// [`PullError`]
    pub async fn reports(&self, query: &ReportsQuery) -> Result<Split, PullError> {
        let place = self.place().await?;
        let response = self.0.account.client.reports(query).await?;
        self.store(place, RowKind::Reports, response).await
    }

    /// Pulls received messages. As [`Pulls::reports`].
    ///
    /// # Errors
    /// [`PullError`]
    pub async fn received(&self, limit: u32) -> Result<Split, PullError> {
        let place = self.place().await?;
        let response = self.0.account.client.inbox(Some(limit)).await?;
        self.store(place, RowKind::Received, response).await
    }

    /// A place for a pull, once its response can be stored.
    async fn place(&self) -> Result<OwnedSemaphorePermit, AppendError> {
        let refused = |cause: &str| {
            AppendError::Unavailable(format!("{cause}; nothing was pulled from the API"))
        };
        if !self.0.log.is_ready() {
            let outage = self.0.log.outage();
            let cause = outage.as_deref().unwrap_or("it cannot be written");
            return Err(refused(cause));
        }
        // The place first: while it waits, the store may fail.
        let waiting = async {
            let place = Arc::clone(&self.0.places).acquire_owned().await;
            self.0.progress.opened().await;
            place.map_err(|_| AppendError::Closed)
        };
        let place = timeout(PLACE_TIMEOUT, waiting).await;
        if let Some(outage) = self.outage() {
            return Err(refused(&outage));
        }
        let place = place.unwrap_or_else(|_| Err(refused("earlier pulls are not events yet")))?;
        let waiting = self.0.store.waiting().await;
        let waiting = waiting.map_err(|error| refused(&error.cause()))?;
        if waiting.responses >= MAX_WAITING || waiting.bytes >= MAX_WAITING_BYTES {
            let responses = waiting.responses;
            return Err(refused(&format!(
                "{responses} earlier responses are not events yet"
            )));
        }
        Ok(place)
    }

    async fn store(
        &self,
        place: OwnedSemaphorePermit,
        rows: RowKind,
        response: ApiResponse,
    ) -> Result<Split, PullError> {
        let response = RawResponse {
            id: Uuid::now_v7(),
            rows,
            content_type: response.content_type,
            received_at: Timestamp::now(),
            body: response.body,
        };
        let stored = self.0.progress.expect(response.id, place);
        match self.keep(&response).await {
            Ok(()) => {
                kill_point::reached(KillPoint::RawStored);
                // Whoever takes it makes it events.
                let _ = timeout(EVENTS_TIMEOUT, stored.wait()).await;
            }
            Err(AppendError::TooLarge { bytes, .. }) => {
                tracing::warn!(
                    bytes,
                    "a response is too large for the raw store: its rows are in memory only until they are events"
                );
                self.store_events(&response).await?;
            }
            Err(error) => return Err(error.into()),
        }
        let split = self.0.intake.split(&response);
        match split.unreadable {
            Some(unreadable) => Err(PullError::Unreadable(unreadable)),
            None => Ok(split),
        }
    }

    /// Stores a response. Tries until the log is closed: the API does not give its rows again.
    async fn keep(&self, response: &RawResponse) -> Result<(), AppendError> {
        let mut backoff = Backoff::new(STORE_RETRY);
        loop {
            match self.0.store.keep(response).await {
                Err(error @ AppendError::Unavailable(_)) => {
                    if backoff.is_fresh() {
                        let id = response.id;
                        tracing::error!(%id, %error, "a response that was pulled cannot be stored: trying again; until then its rows are in memory only");
                    }
                    tokio::time::sleep(backoff.next_wait()).await;
                }
                Err(error @ AppendError::Closed) => {
                    let (id, bytes) = (response.id, response.body.len());
                    tracing::error!(%id, bytes, "a response that was pulled could not be stored before the end: its rows are lost");
                    return Err(error);
                }
                kept => return kept,
            }
        }
    }

    async fn store_events(&self, response: &RawResponse) -> Result<(), AppendError> {
        let mut split = self.0.intake.split(response);
        let mut backoff = Backoff::new(STORE_RETRY);
        loop {
            match self.0.intake.store_split(response, &mut split).await {
                Err(AppendError::Unavailable(_)) => {
                    tokio::time::sleep(backoff.next_wait()).await;
                }
                ended => return ended,
            }
        }
    }
}

impl PullWorker {
    /// Lets it finish the response that it has; aborts it at the deadline. What is left over stays in the raw store.
    pub async fn stop(mut self, deadline: Instant) {
        self.stop.cancel();
        if tokio::time::timeout_at(deadline, &mut self.task)
            .await
            .is_err()
        {
            self.task.abort();
            tracing::warn!(
                "a response that was pulled is not events yet: it stays in the raw store"
            );
        }
    }
}
