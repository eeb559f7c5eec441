//! Begins and ends walks, one at a time in this process, and parks the walk of a list until its next page.
//!
//! Invariants: whoever walks holds the lock of the desk until the letters are given back; a parked list ends after [`IDLE`], at shutdown,
//! or when another call needs its letters. Neighbours: `dead_letters` runs its calls here, `walk` takes letters and gives them back.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{DeadLettersError, walk::Walk};
use crate::{
    amqp::{Endpoint, Publisher, Topology},
    ops::metrics::Metrics,
};

/// How long a list holds its letters for the next page.
const IDLE: Duration = Duration::from_secs(10);
/// The longest wait for another list, replay or discard: longer than [`IDLE`], and than a walk through a hundred thousand letters takes.
const WAIT_FOR_LOCK: Duration = Duration::from_secs(60);

pub(super) struct Desk {
    pub(super) endpoint: Endpoint,
    pub(super) topology: Topology,
    pub(super) publisher: Arc<Publisher>,
    pub(super) metrics: Metrics,
    /// Cancelled at shutdown.
    pub(super) closing: CancellationToken,
    pub(super) tasks: TaskTracker,
    /// Held by the one that walks.
    pub(super) parked: Arc<Mutex<Option<Parked>>>,
}

/// What the one that walks holds.
pub(super) type DeskGuard = OwnedMutexGuard<Option<Parked>>;

/// A list that waits for its next page.
pub(super) struct Parked {
    token: String,
    walk: Walk,
}

impl Desk {
    /// Runs a call on a walk that begins at the oldest letter.
    pub(super) async fn on_walk<R>(
        self: &Arc<Self>,
        until: Instant,
        call: impl AsyncFnOnce(&mut Walk) -> Result<R, DeadLettersError>,
    ) -> Result<R, DeadLettersError> {
        let mut parked = self.lock(until).await?;
        self.give_back(parked.take()).await;
        let mut walk = self.begin(until).await?;
        let ended = call(&mut walk).await;
        self.finish(walk, parked);
        ended
    }

    /// Waits until nobody else of this process walks.
    pub(super) async fn lock(&self, until: Instant) -> Result<DeskGuard, DeadLettersError> {
        let until = until.min(Instant::now() + WAIT_FOR_LOCK);
        let waiting = timeout_at(until, Arc::clone(&self.parked).lock_owned()).await;
        let parked = waiting.map_err(|_| DeadLettersError::Busy)?;
        self.check_time(until)?;
        Ok(parked)
    }

    pub(super) async fn begin(&self, until: Instant) -> Result<Walk, DeadLettersError> {
        let until = until.min(Instant::now() + WAIT_FOR_LOCK);
        tokio::select! {
            () = self.closing.cancelled() => Err(DeadLettersError::ShuttingDown),
            begun = Walk::begin(&self.endpoint, &self.topology, until) => Ok(begun?),
        }
    }

    pub(super) fn check_time(&self, until: Instant) -> Result<(), DeadLettersError> {
        if self.closing.is_cancelled() {
            return Err(DeadLettersError::ShuttingDown);
        }
        match Instant::now() < until {
            true => Ok(()),
            false => Err(DeadLettersError::TimeUp),
        }
    }

    /// Keeps the walk of a list for the page of this token.
    pub(super) fn park(self: &Arc<Self>, mut desk: DeskGuard, token: String, walk: Walk) {
        self.end_when_idle(token.clone());
        *desk = Some(Parked { token, walk });
    }

    /// The walk that is parked for the page of this token. One that is parked for another page ends.
    pub(super) async fn unpark(&self, desk: &mut DeskGuard, token: &str) -> Option<Walk> {
        match desk.take() {
            Some(parked) if parked.token == token => Some(parked.walk),
            other => {
                self.give_back(other).await;
                None
            }
        }
    }

    /// Ends the list of this token if nobody has asked for its next page in time.
    fn end_when_idle(self: &Arc<Self>, token: String) {
        let this = Arc::clone(self);
        self.tasks.spawn(async move {
            tokio::select! {
                () = this.closing.cancelled() => {}
                () = tokio::time::sleep(IDLE) => {}
            }
            let mut parked = this.parked.lock().await;
            if parked.as_ref().is_some_and(|parked| parked.token == token) {
                this.give_back(parked.take()).await;
            }
        });
    }

    /// Ends a parked list.
    async fn give_back(&self, parked: Option<Parked>) {
        if let Some(Parked { walk, .. }) = parked {
            self.end(walk).await;
        }
    }

    /// Ends a walk after its call was answered: the next one waits for that.
    pub(super) fn finish(self: &Arc<Self>, walk: Walk, desk: DeskGuard) {
        let this = Arc::clone(self);
        self.tasks.spawn(async move {
            this.end(walk).await;
            drop(desk);
        });
    }

    async fn end(&self, walk: Walk) {
        if let Err(error) = walk.end(&self.closing).await {
            tracing::debug!(%error, "the session of a walk ended, which gave its dead letters back");
        }
    }
}
