//! The worker: takes stored responses, makes their rows events, and removes them.
//!
//! Invariants: a response is removed only after its events are durable; one that was made events and could not be removed is not
//! appended again by this process; while one cannot be made events, no other is taken, and pulls are refused.
//! Neighbours: `pull` waits here until its rows are events.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::STORE_RETRY;
use crate::{
    events::{
        AppendError,
        raw::{RawResponse, RawStore},
    },
    intake::Intake,
    primitives::retry::{Backoff, RetryPolicy},
};

/// The waits before the store is opened again.
const REOPEN: RetryPolicy = RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(5));
/// Responses that are remembered after they became events.
const REMEMBERED: usize = 64;
/// Pulls are refused while a response takes longer than this.
const BUSY_LIMIT: Duration = Duration::from_secs(3);
/// Attempts to open the store after which its outage is logged, unless the log is out too.
const FAILURES_TO_LOG: u32 = 3;

/// What the worker does, for pulls.
#[derive(Default)]
pub(super) struct Progress {
    state: watch::Sender<State>,
    /// The pulls of this process whose rows are not events yet.
    expected: Mutex<HashMap<Uuid, Expected>>,
}

#[derive(Debug, Clone, Default)]
enum State {
    /// The store was not opened yet.
    #[default]
    Opening,
    Waiting,
    Busy {
        since: Instant,
    },
    Failing {
        cause: String,
    },
}

struct Expected {
    _place: OwnedSemaphorePermit,
    stored: oneshot::Sender<()>,
}

/// A pull that waits until its rows are events.
pub(super) struct Stored<'a> {
    progress: &'a Progress,
    id: Uuid,
    stored: oneshot::Receiver<()>,
}

impl Progress {
    /// Why responses do not become events.
    pub(super) fn outage(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Opening => Some("the raw store of pulls is not open yet".to_owned()),
            State::Waiting => None,
            State::Busy { since } => (since.elapsed() > BUSY_LIMIT)
                .then(|| "an earlier response is not events yet".to_owned()),
            State::Failing { cause } => Some(cause.clone()),
        }
    }

    /// Waits until the store was opened, or that failed.
    pub(super) async fn opened(&self) {
        let is_known = |state: &State| !matches!(state, State::Opening);
        // Fails only if the worker is gone.
        let _ = self.state.subscribe().wait_for(is_known).await;
    }

    /// Holds the place until the rows are events, or the pull no longer waits.
    pub(super) fn expect(&self, id: Uuid, place: OwnedSemaphorePermit) -> Stored<'_> {
        let (stored, told) = oneshot::channel();
        let expected = Expected {
            _place: place,
            stored,
        };
        self.expected.lock().insert(id, expected);
        Stored {
            progress: self,
            id,
            stored: told,
        }
    }

    fn stored(&self, id: Uuid) {
        let expected = self.expected.lock().remove(&id);
        if let Some(expected) = expected {
            // The pull may have gone on.
            let _ = expected.stored.send(());
        }
    }
}

impl Stored<'_> {
    pub(super) async fn wait(mut self) {
        // Fails only if the worker is gone.
        let _ = (&mut self.stored).await;
    }
}

impl Drop for Stored<'_> {
    fn drop(&mut self) {
        self.progress.expected.lock().remove(&self.id);
    }
}

pub(super) struct Worker {
    intake: Intake,
    store: Arc<dyn RawStore>,
    progress: Arc<Progress>,
    stop: CancellationToken,
    /// Became events lately.
    done: VecDeque<Uuid>,
}

/// Why the worker does not go on.
enum End {
    Stopped,
    Failed(AppendError),
}

impl From<AppendError> for End {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Closed => Self::Stopped,
            error => Self::Failed(error),
        }
    }
}

impl Worker {
    pub(super) fn new(
        intake: Intake,
        store: Arc<dyn RawStore>,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            intake,
            store,
            progress,
            stop,
            done: VecDeque::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut failures = 0;
        loop {
            let Err(end) = self.work(&mut failures).await;
            let End::Failed(error) = end else { break };
            failures += 1;
            if failures == FAILURES_TO_LOG && self.intake.is_ready() {
                tracing::warn!(%error, "the raw store of pulls cannot be read: pulls are refused until it is back");
            }
            self.failing(&error);
            if self.pause(REOPEN.wait(failures)).await.is_err() {
                break;
            }
        }
        self.store.close().await;
    }

    async fn work(&mut self, failures: &mut u32) -> Result<Infallible, End> {
        let stop = self.stop.clone();
        let store = Arc::clone(&self.store);
        tokio::select! {
            () = stop.cancelled() => return Err(End::Stopped),
            opened = store.open() => opened?,
        }
        loop {
            self.progress.state.send_replace(State::Waiting);
            *failures = 0;
            let response = tokio::select! {
                () = stop.cancelled() => return Err(End::Stopped),
                taken = store.take() => taken?,
            };
            self.progress.state.send_replace(State::Busy {
                since: Instant::now(),
            });
            if !self.done.contains(&response.id) {
                self.make_events(&response).await?;
                self.done.push_back(response.id);
                if self.done.len() > REMEMBERED {
                    self.done.pop_front();
                }
            }
            self.progress.stored(response.id);
            self.store.remove(response.id).await?;
        }
    }

    /// Tries until the events are durable, or the response is not this process's any more: then another replica makes them events.
    async fn make_events(&self, response: &RawResponse) -> Result<(), End> {
        let mut split = self.intake.split(response);
        let mut backoff = Backoff::new(STORE_RETRY);
        loop {
            let error = match self.intake.store_split(response, &mut split).await {
                Ok(()) => return Ok(()),
                Err(AppendError::Closed) => return Err(End::Stopped),
                Err(error) => error,
            };
            if backoff.is_fresh() {
                let id = response.id;
                tracing::warn!(%id, %error, "a response that was pulled cannot be made events: trying again");
            }
            self.failing(&error);
            tokio::select! {
                paused = self.pause(backoff.next_wait()) => paused?,
                () = self.store.lost() => return Err(End::Failed(error)),
            }
        }
    }

    fn failing(&self, error: &AppendError) {
        let cause = error.cause().into_owned();
        self.progress.state.send_replace(State::Failing { cause });
    }

    async fn pause(&self, wait: Duration) -> Result<(), End> {
        tokio::select! {
            () = self.stop.cancelled() => Err(End::Stopped),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }
}
