//! The worker against a store and a log that fail as told.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::worker::{Progress, Worker};
use crate::{
    events::{
        AppendError, Batch, EventLog, EventStream, MessageEvents, MessageKey, Quarantine,
        Quarantined, ReadError, Start,
        quarantine::{ListPage, Listed, VisitError, Visitor, Wanted},
        raw::{RawResponse, RawStore, RowKind},
    },
    intake::Intake,
    message::applications::Applications,
};

const DEADLINE: Duration = Duration::from_secs(20);

/// What the next write does.
#[derive(Clone, Copy)]
enum Write {
    Fails,
    /// It is stored, and the caller gets an error.
    IsAmbiguous,
}

/// Notes each write; those that are told fail first.
#[derive(Default)]
struct FakeLog {
    appends: Mutex<VecDeque<Write>>,
    quarantines: Mutex<VecDeque<Write>>,
    /// By event id, how often it was stored.
    events: Mutex<BTreeMap<String, usize>>,
    /// By id, how often it was stored.
    quarantined: Mutex<BTreeMap<Uuid, usize>>,
}

fn outcome(write: Option<Write>, store: impl FnOnce()) -> Result<(), AppendError> {
    if !matches!(write, Some(Write::Fails)) {
        store();
    }
    match write {
        None => Ok(()),
        Some(_) => Err(AppendError::Unavailable("as told".to_owned())),
    }
}

impl EventLog for FakeLog {
    fn append(&self, events: Batch) -> BoxFuture<'_, Result<(), AppendError>> {
        let write = self.appends.lock().pop_front();
        let appended = outcome(write, || {
            for new in events.iter() {
                *self.events.lock().entry(new.event.id.clone()).or_default() += 1;
            }
        });
        std::future::ready(appended).boxed()
    }

    fn read_applications(
        &self,
        _: Start,
        _: bool,
        _: Vec<String>,
    ) -> BoxFuture<'_, Result<EventStream, ReadError>> {
        unreachable!("the worker reads nothing")
    }

    fn find_message(
        &self,
        _: MessageKey,
        _: Option<Timestamp>,
    ) -> BoxFuture<'_, Result<MessageEvents, ReadError>> {
        unreachable!("the worker reads nothing")
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn outage(&self) -> Option<String> {
        None
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}

impl Quarantine for FakeLog {
    fn add(&self, body: Quarantined) -> BoxFuture<'_, Result<(), AppendError>> {
        let write = self.quarantines.lock().pop_front();
        let kept = outcome(write, || {
            *self.quarantined.lock().entry(body.id).or_default() += 1;
        });
        std::future::ready(kept).boxed()
    }

    fn list(&self, _: ListPage, _: Instant) -> BoxFuture<'_, Result<Listed, VisitError>> {
        unreachable!("the worker lists nothing")
    }

    fn visit<'a>(
        &'a self,
        _: Wanted,
        _: Instant,
        _: &'a mut dyn Visitor,
    ) -> BoxFuture<'a, Result<(), VisitError>> {
        unreachable!("the worker visits nothing")
    }
}

/// Gives what is left from the beginning after each `open`.
#[derive(Default)]
struct FakeStore {
    left: Mutex<Vec<RawResponse>>,
    taken: Mutex<usize>,
    failed_removals: Mutex<usize>,
    changed: Notify,
}

impl RawStore for FakeStore {
    fn keep(&self, response: &RawResponse) -> BoxFuture<'_, Result<(), AppendError>> {
        self.left.lock().push(response.clone());
        self.changed.notify_waiters();
        std::future::ready(Ok(())).boxed()
    }

    fn open(&self) -> BoxFuture<'_, Result<(), AppendError>> {
        *self.taken.lock() = 0;
        std::future::ready(Ok(())).boxed()
    }

    fn take(&self) -> BoxFuture<'_, Result<RawResponse, AppendError>> {
        async move {
            loop {
                let changed = self.changed.notified();
                let found = self.left.lock().get(*self.taken.lock()).cloned();
                if let Some(found) = found {
                    *self.taken.lock() += 1;
                    return Ok(found);
                }
                changed.await;
            }
        }
        .boxed()
    }

    fn remove(&self, id: Uuid) -> BoxFuture<'_, Result<(), AppendError>> {
        let mut failures = self.failed_removals.lock();
        if *failures > 0 {
            *failures -= 1;
            let lost = AppendError::Unavailable("the session ended".to_owned());
            return std::future::ready(Err(lost)).boxed();
        }
        self.left.lock().retain(|left| left.id != id);
        *self.taken.lock() = 0;
        self.changed.notify_waiters();
        std::future::ready(Ok(())).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}

fn response(body: &'static str) -> RawResponse {
    RawResponse {
        id: Uuid::now_v7(),
        rows: RowKind::Received,
        content_type: "application/json".to_owned(),
        received_at: Timestamp::now(),
        body: Bytes::from_static(body.as_bytes()),
    }
}

/// Two rows without id and time, and two that cannot be read.
const ROWS: &str = r#"{"results":[{"from":"41","text":"Hi"},7,{"from":"41","text":"Hi"},{"x":1}]}"#;

/// Runs a worker until the store is empty.
async fn run(log: &Arc<FakeLog>, store: &Arc<FakeStore>) {
    let stop = CancellationToken::new();
    let intake = Intake::new(log.clone(), log.clone(), [], Applications::default());
    let progress = Arc::new(Progress::default());
    let worker = Worker::new(intake, store.clone(), progress, stop.clone());
    let running = tokio::spawn(worker.run());
    let emptied = async {
        loop {
            let changed = store.changed.notified();
            if store.left.lock().is_empty() {
                return;
            }
            changed.await;
        }
    };
    timeout(DEADLINE, emptied).await.expect("nothing is left");
    stop.cancel();
    running.await.unwrap();
}

fn counts<K>(stored: &Mutex<BTreeMap<K, usize>>) -> Vec<usize> {
    stored.lock().values().copied().collect()
}

#[tokio::test]
async fn an_ambiguous_append_gives_no_second_event() {
    let (log, store) = (Arc::new(FakeLog::default()), Arc::new(FakeStore::default()));
    *log.appends.lock() = [Write::IsAmbiguous, Write::Fails, Write::IsAmbiguous].into();
    store.left.lock().push(response(ROWS));
    run(&log, &store).await;
    assert_eq!(counts(&log.events), [3, 3], "the same two ids each time");
}

#[tokio::test]
async fn rows_are_quarantined_once_however_often_the_append_fails() {
    let (log, store) = (Arc::new(FakeLog::default()), Arc::new(FakeStore::default()));
    *log.appends.lock() = [Write::Fails; 2].into();
    *log.quarantines.lock() = [Write::Fails; 2].into();
    store.left.lock().push(response(ROWS));
    run(&log, &store).await;
    assert_eq!(counts(&log.quarantined), [1, 1]);
    assert_eq!(counts(&log.events), [1, 1]);
}

#[tokio::test]
async fn a_response_that_could_not_be_removed_is_not_appended_again() {
    let (log, store) = (Arc::new(FakeLog::default()), Arc::new(FakeStore::default()));
    *store.failed_removals.lock() = 2;
    store.left.lock().extend([response(ROWS), response(ROWS)]);
    run(&log, &store).await;
    assert_eq!(counts(&log.events), [1, 1, 1, 1]);
    assert_eq!(counts(&log.quarantined), [1, 1, 1, 1]);
}

/// What a killed process leaves over is split by the next one, which knows nothing of it.
#[tokio::test]
async fn a_response_that_is_split_again_has_the_same_ids() {
    let (log, store) = (Arc::new(FakeLog::default()), Arc::new(FakeStore::default()));
    let left_over = response(ROWS);
    for _ in 0..2 {
        store.left.lock().push(left_over.clone());
        run(&log, &store).await;
    }
    assert_eq!(counts(&log.events), [2, 2]);
    assert_eq!(counts(&log.quarantined), [2, 2]);
}
