//! Begins and ends walks, one at a time in this process, and parks the walk of a list until its next page.
//!
//! Invariants: whoever walks holds the lock of the desk until the messages are given back; a parked list ends after [`IDLE`], at shutdown,
//! or when another call needs its messages. Neighbours: calls run here, `walk` takes messages and gives them back, `page` reads pages.

use std::{sync::Arc, time::Duration};

use lapin::message::Delivery;
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Walk, WalkError, Walked,
    page::{Page, PageRequest, Place, Seen},
};
use crate::amqp::{Endpoint, Topology};

/// How long a list holds its messages for the next page.
const IDLE: Duration = Duration::from_secs(10);
/// The longest wait for another list, replay or discard: longer than [`IDLE`], and than a walk through a hundred thousand messages takes.
const WAIT_FOR_LOCK: Duration = Duration::from_secs(60);

/// Its futures must not be dropped before they end: a dropped one ends its session, which gives the messages back in any order.
pub struct Desk {
    endpoint: Endpoint,
    topology: Topology,
    walked: Walked,
    /// Cancelled at shutdown.
    closing: CancellationToken,
    tasks: TaskTracker,
    /// Held by the one that walks.
    parked: Arc<Mutex<Option<Parked>>>,
}

/// What the one that walks holds.
type DeskGuard = OwnedMutexGuard<Option<Parked>>;

/// A list that waits for its next page.
struct Parked {
    token: String,
    walk: Walk,
}

impl Desk {
    /// `tasks` are awaited at shutdown, after `closing` is cancelled.
    #[must_use]
    pub fn new(
        endpoint: Endpoint,
        topology: Topology,
        walked: Walked,
        closing: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            endpoint,
            topology,
            walked,
            closing,
            tasks,
            parked: Arc::default(),
        }
    }

    /// Runs a call on a walk that begins at the oldest message.
    ///
    /// # Errors
    /// Those of the call, and [`WalkError`].
    pub async fn on_walk<R, E: From<WalkError>>(
        self: &Arc<Self>,
        until: Instant,
        call: impl AsyncFnOnce(&mut Walk) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut parked = self.lock(until).await?;
        self.give_back(parked.take()).await;
        let mut walk = self.begin(until).await?;
        let ended = call(&mut walk).await;
        self.finish(walk, parked);
        ended
    }

    /// A page of a list, whose messages stay in the queue.
    ///
    /// # Errors
    /// [`WalkError`].
    pub async fn page<T>(
        self: &Arc<Self>,
        request: &PageRequest,
        until: Instant,
        token: impl Fn(&Place) -> String,
        see: impl FnMut(&Delivery) -> Seen<T>,
    ) -> Result<Page<T>, WalkError> {
        let mut parked = self.lock(until).await?;
        let (mut walk, is_new) = match self.unpark(&mut parked, &request.token).await {
            Some(walk) => (walk, false),
            None => (self.begin(until).await?, true),
        };
        let page = request.read(&mut walk, is_new, until, token, see).await;
        let next = page.as_ref().map_or("", |page| &page.next_token);
        let can_go_on = !walk.is_exhausted() && !self.closing.is_cancelled();
        match !next.is_empty() && can_go_on {
            true => self.park(parked, next.to_owned(), walk),
            false => self.finish(walk, parked),
        }
        page
    }

    /// # Errors
    /// If the process stops, or it is too late.
    pub fn check_time(&self, until: Instant) -> Result<(), WalkError> {
        if self.closing.is_cancelled() {
            return Err(WalkError::ShuttingDown);
        }
        match Instant::now() < until {
            true => Ok(()),
            false => Err(WalkError::TimeUp),
        }
    }

    /// Waits until nobody else of this process walks.
    async fn lock(&self, until: Instant) -> Result<DeskGuard, WalkError> {
        let until = until.min(Instant::now() + WAIT_FOR_LOCK);
        let waiting = timeout_at(until, Arc::clone(&self.parked).lock_owned()).await;
        let parked = waiting.map_err(|_| WalkError::Busy)?;
        self.check_time(until)?;
        Ok(parked)
    }

    async fn begin(&self, until: Instant) -> Result<Walk, WalkError> {
        let until = until.min(Instant::now() + WAIT_FOR_LOCK);
        tokio::select! {
            () = self.closing.cancelled() => Err(WalkError::ShuttingDown),
            begun = Walk::begin(&self.endpoint, &self.topology, &self.walked, until) => begun,
        }
    }

    /// Keeps the walk of a list for the page of this token.
    fn park(self: &Arc<Self>, mut desk: DeskGuard, token: String, walk: Walk) {
        self.end_when_idle(token.clone());
        *desk = Some(Parked { token, walk });
    }

    /// The walk that is parked for the page of this token. One that is parked for another page ends.
    async fn unpark(&self, desk: &mut DeskGuard, token: &str) -> Option<Walk> {
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
    fn finish(self: &Arc<Self>, walk: Walk, desk: DeskGuard) {
        let this = Arc::clone(self);
        self.tasks.spawn(async move {
            this.end(walk).await;
            drop(desk);
        });
    }

    async fn end(&self, walk: Walk) {
        if let Err(error) = walk.end(&self.closing).await {
            let queue = &self.walked.queue;
            tracing::debug!(%error, queue, "the session of a walk ended, which gave its messages back");
        }
    }
}
