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
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    MAX_WAITING, MAX_WAITING_BYTES, PullError, Pulls,
    worker::{Progress, Worker},
};
use crate::{
    config::Config,
    events::{
        AppendError, Batch, EventLog, EventStream, MessageEvents, MessageKey, Quarantine,
        Quarantined, ReadError, Start,
        raw::{RawResponse, RawStore, RowKind, Waiting},
    },
    infobip::{ReportsQuery, account::Account},
    intake::Intake,
    message::applications::Applications,
    ops::metrics::Metrics,
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
    /// By key, how often it was stored.
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
            let key = body.key.expect("a part of a response has a key");
            *self.quarantined.lock().entry(key).or_default() += 1;
        });
        std::future::ready(kept).boxed()
    }
}

/// Gives what is left from the beginning after each `open`.
#[derive(Default)]
struct FakeStore {
    left: Mutex<Vec<RawResponse>>,
    taken: Mutex<usize>,
    failed_removals: Mutex<usize>,
    changed: Notify,
    /// Whether somebody else may get what is taken.
    is_lost: CancellationToken,
    opened: Mutex<usize>,
    waiting: Mutex<Waiting>,
}

impl RawStore for FakeStore {
    fn keep(&self, response: &RawResponse) -> BoxFuture<'_, Result<(), AppendError>> {
        self.left.lock().push(response.clone());
        self.changed.notify_waiters();
        std::future::ready(Ok(())).boxed()
    }

    fn open(&self) -> BoxFuture<'_, Result<(), AppendError>> {
        *self.taken.lock() = 0;
        *self.opened.lock() += 1;
        self.changed.notify_waiters();
        std::future::ready(Ok(())).boxed()
    }

    fn lost(&self) -> BoxFuture<'_, ()> {
        self.is_lost.cancelled().boxed()
    }

    fn waiting(&self) -> BoxFuture<'_, Result<Waiting, AppendError>> {
        std::future::ready(Ok(*self.waiting.lock())).boxed()
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

/// Its session ended while it could not be made events: the broker has given it to another replica.
#[tokio::test]
async fn a_response_that_another_replica_has_got_is_left_to_it() {
    let (log, store) = (Arc::new(FakeLog::default()), Arc::new(FakeStore::default()));
    *log.appends.lock() = [Write::Fails; 1_000].into();
    store.left.lock().push(response(ROWS));
    let stop = CancellationToken::new();
    let intake = Intake::new(log.clone(), log.clone(), [], Applications::default());
    let worker = Worker::new(intake, store.clone(), Arc::default(), stop.clone());
    let running = tokio::spawn(worker.run());
    let wait_for = async |what: &str, is_so: &dyn Fn() -> bool| {
        let waiting = async {
            while !is_so() {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, waiting).await.expect(what);
    };
    wait_for("it is tried", &|| log.appends.lock().len() < 1_000).await;
    store.left.lock().clear();
    store.is_lost.cancel();
    wait_for("the store is opened again", &|| *store.opened.lock() > 1).await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!(counts(&log.events), [0; 0], "it is not appended here");
}

#[tokio::test]
async fn nothing_is_pulled_while_many_responses_wait() {
    let (log, store) = (Arc::new(FakeLog::default()), Arc::new(FakeStore::default()));
    let flags = [
        // Nobody listens there.
        ("infobip.base_url", "http://127.0.0.1:1"),
        ("infobip.username", "nobody"),
        ("infobip.password", "nobody"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let config = Config::load(None, std::iter::empty(), &flags).unwrap();
    let metrics = Metrics::new();
    let account = Account::new(&config.infobip, 0, metrics.clone()).unwrap();
    let intake = Intake::new(log.clone(), log.clone(), [], Applications::default());
    let (account, raw) = (Arc::new(account), store.clone());
    let (pulls, worker) = Pulls::start(account, intake, log.clone(), raw, &metrics);
    let pull = async |responses, bytes| {
        *store.waiting.lock() = Waiting { responses, bytes };
        pulls.reports(&ReportsQuery::default()).await.err().unwrap()
    };
    for (responses, bytes) in [(MAX_WAITING, 0), (1, MAX_WAITING_BYTES)] {
        let refused = pull(responses, bytes).await;
        let is_refused = matches!(refused, PullError::Store(AppendError::Unavailable(_)));
        assert!(is_refused, "{refused}");
        assert!(
            refused.to_string().contains("nothing was pulled"),
            "{refused}"
        );
    }
    let tried = pull(MAX_WAITING - 1, MAX_WAITING_BYTES - 1).await;
    assert!(matches!(tried, PullError::Api(_)), "{tried}");
    worker.stop(tokio::time::Instant::now() + DEADLINE).await;
}
