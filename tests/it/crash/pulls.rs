//! Pulls in custody: the API gives each row once, and the bridge is killed between the response and its events, and between the events
//! and the removal of the response; or the broker blocks publishers when the response comes. Each row is an event afterwards, once.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, routing::get};
use serde_json::{Value, json};
#[cfg(feature = "kill-points")]
use smsbridge::ops::kill_point::KillPoint;
use smsbridge::proto::v1::{
    Event, PullDeliveryReportsRequest, PullReceivedMessagesRequest, event::Payload,
    inbox_service_client::InboxServiceClient, report_service_client::ReportServiceClient,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};

use super::pushes::{Engine, events_of};
use crate::support::{
    eventually, process::BridgeProcess, simulator::TestSimulator, small_disk::SmallDisk,
};

/// Readable rows of each of the two bodies.
const ROWS: usize = 20;
/// Longer than a bridge that keeps the rows in memory only tries to append them.
const OUTAGE: Duration = Duration::from_secs(32);

/// An API that gives its reports and its received messages once. The messages have neither id nor time, and one cannot be read.
struct Api {
    url: String,
    state: Arc<ApiState>,
    serving: JoinHandle<()>,
}

struct ApiState {
    reports_given: AtomicBool,
    messages_given: AtomicBool,
    /// Requests that came.
    requests: Semaphore,
    /// A permit for each response.
    released: Semaphore,
}

impl Api {
    async fn start(released: usize) -> Self {
        let state = Arc::new(ApiState {
            reports_given: AtomicBool::new(false),
            messages_given: AtomicBool::new(false),
            requests: Semaphore::new(0),
            released: Semaphore::new(released),
        });
        let router = Router::new()
            .route("/sms/1/reports", get(reports))
            .route("/sms/1/inbox/reports", get(messages))
            .with_state(Arc::clone(&state));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            state,
            serving,
        }
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl ApiState {
    async fn once(&self, given: &AtomicBool, rows: impl FnOnce() -> Vec<Value>) -> String {
        self.requests.add_permits(1);
        self.released.acquire().await.unwrap().forget();
        let rows = match given.swap(true, Ordering::SeqCst) {
            false => rows(),
            true => Vec::new(),
        };
        // As JSON by its first character.
        json!({"results": rows}).to_string()
    }
}

async fn reports(State(state): State<Arc<ApiState>>) -> String {
    let row = |n| {
        json!({"messageId": format!("default.r{n}"), "to": "41793026727", "doneAt": "2026-11-30T10:00:00.000+0000",
            "status": {"groupId": 3, "groupName": "DELIVERED", "id": 5, "name": "DELIVERED_TO_HANDSET"}})
    };
    let rows = || (0..ROWS).map(row).collect();
    state.once(&state.reports_given, rows).await
}

async fn messages(State(state): State<Arc<ApiState>>) -> String {
    let row = |n| json!({"from": "41793026727", "to": "41790000000", "text": format!("Hi {n}")});
    let rows = || {
        let mut rows: Vec<_> = (0..ROWS).map(row).collect();
        rows.insert(ROWS / 2, json!(7));
        rows
    };
    state.once(&state.messages_given, rows).await
}

async fn start(engine: &Engine, folder: TempDir, api: &Api, kill_at: &str) -> BridgeProcess {
    // Its URL is replaced.
    let simulator = TestSimulator::start().await;
    let settings = [("SMSBRIDGE_INFOBIP__BASE_URL", api.url.as_str())];
    engine.start(folder, &simulator, kill_at, &settings).await
}

/// What an event is about: the message of a report, or the text of a received message.
fn about(event: &Event) -> String {
    match &event.payload {
        Some(Payload::Report(report)) => report.message_id.clone(),
        Some(Payload::Received(received)) => received.text.clone(),
        other => panic!("{other:?}"),
    }
}

/// For each row, how many events by id.
fn by_row(events: &[Event]) -> BTreeMap<String, BTreeMap<String, usize>> {
    let mut rows: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for event in events {
        let ids = rows.entry(about(event)).or_default();
        *ids.entry(event.id.clone()).or_default() += 1;
    }
    rows
}

/// Waits for an event of each row, stops the bridge, and checks that each row is an event once, and that nothing is left over.
async fn check(engine: &Engine, bridge: BridgeProcess, rows: usize, bad_rows: u32) {
    eventually("each row is an event", async || {
        (by_row(&events_of(&bridge).await).len() >= rows).then_some(())
    })
    .await;
    let folder = bridge.folder();
    let repeated_at_most = match engine {
        Engine::Embedded | Engine::OnSmallDisk(_) => 1,
        // A kill between the confirm of the events and the removal of the response.
        Engine::Broker(..) => 2,
    };
    let events = by_row(&events_of(&bridge).await);
    assert_eq!(events.len(), rows);
    for (row, ids) in &events {
        assert_eq!(ids.len(), 1, "{row}: {ids:?}");
        assert!(
            ids.values().all(|times| *times <= repeated_at_most),
            "{row}: {ids:?}"
        );
    }
    if matches!(engine, Engine::Embedded) {
        let file = rusqlite::Connection::open(folder.join("events.sqlite")).unwrap();
        let count = |table: &str| -> u32 {
            let sql = format!("SELECT count(*) FROM {table}");
            file.query_row(&sql, [], |row| row.get(0)).unwrap()
        };
        eventually("the response is removed", async || {
            (count("raw") == 0).then_some(())
        })
        .await;
        assert_eq!(count("quarantine"), bad_rows);
    }
    let (status, _) = bridge.stop().await;
    assert!(status.success());
    if let Engine::Broker(broker, _) = engine {
        let client = broker.client().await;
        let left = client.try_take(&broker.topology().intake()).await;
        assert!(left.is_none(), "a response is left over");
    }
}

/// Pulls both while the process is killed at a point, then starts it again.
#[cfg(feature = "kill-points")]
async fn kill_at(engine: Engine, point: KillPoint) {
    for is_inbox in [false, true] {
        let api = Api::start(100).await;
        let folder = tempfile::tempdir().unwrap();
        let bridge = start(&engine, folder, &api, point.name()).await;
        let channel = bridge.connect().await;
        let failed = match is_inbox {
            true => {
                let request = PullReceivedMessagesRequest::default();
                let mut client = InboxServiceClient::new(channel);
                client.pull_received_messages(request).await.err()
            }
            false => {
                let request = PullDeliveryReportsRequest::default();
                let mut client = ReportServiceClient::new(channel);
                client.pull_delivery_reports(request).await.err()
            }
        };
        assert!(failed.is_some(), "the process is killed");
        let ended = bridge.kill_after(crate::support::DEADLINE).await;
        assert!(
            ended.status.is_some(),
            "it ended at the point: {}",
            ended.said
        );
        let bridge = start(&engine, ended.folder, &api, "").await;
        // On the broker the events of the reports are there already.
        let of_reports = matches!(engine, Engine::Broker(..)) && is_inbox;
        let rows = if of_reports { 2 * ROWS } else { ROWS };
        check(&engine, bridge, rows, u32::from(is_inbox)).await;
    }
}

#[cfg(feature = "kill-points")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_were_pulled_are_events_after_a_kill_before_the_append_embedded() {
    kill_at(Engine::Embedded, KillPoint::RawStored).await;
}

#[cfg(feature = "kill-points")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_were_pulled_are_events_after_a_kill_before_the_append_broker() {
    kill_at(Engine::broker().await, KillPoint::RawStored).await;
}

#[cfg(feature = "kill-points")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_were_pulled_are_events_once_after_a_kill_after_the_append_embedded() {
    kill_at(Engine::Embedded, KillPoint::EventsStored).await;
}

#[cfg(feature = "kill-points")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_were_pulled_are_events_once_after_a_kill_after_the_append_broker() {
    kill_at(Engine::broker().await, KillPoint::EventsStored).await;
}

/// The disk is full when the response comes. It is stored all the same, and the process is killed then.
#[cfg(feature = "kill-points")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_were_pulled_onto_a_full_disk_are_events_when_there_is_space() {
    let Some(disk) = SmallDisk::mount(40 * 1024 * 1024) else {
        return;
    };
    let api = Api::start(0).await;
    let simulator = TestSimulator::start().await;
    let start = async |kill_at| {
        let settings = [
            ("SMSBRIDGE_INFOBIP__BASE_URL", api.url.as_str()),
            ("SMSBRIDGE_KILL_AT", kill_at),
        ];
        BridgeProcess::start_on(&disk, &simulator, &settings).await
    };
    let bridge = start(KillPoint::RawStored.name()).await;
    let mut client = InboxServiceClient::new(bridge.connect().await);
    let pulling = tokio::spawn(async move {
        let request = PullReceivedMessagesRequest::default();
        client.pull_received_messages(request).await
    });
    api.state.requests.acquire().await.unwrap().forget();
    disk.fill(0);
    api.state.released.add_permits(100);
    let ended = bridge.kill_after(crate::support::DEADLINE).await;
    assert!(ended.status.is_some(), "it was not stored: {}", ended.said);
    assert!(pulling.await.unwrap().is_err());

    let bridge = start("").await;
    assert_eq!(events_of(&bridge).await, [], "there is no space yet");
    disk.free();
    eventually("each row is an event", async || {
        (by_row(&events_of(&bridge).await).len() == ROWS).then_some(())
    })
    .await;
    let (status, _) = bridge.stop().await;
    assert!(status.success());
}

/// The response comes after the broker has begun to block publishers, so it cannot be stored for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_were_pulled_outlive_a_broker_that_blocks_for_long() {
    let Engine::Broker(broker, node) = Engine::broker().await else {
        unreachable!("it is the broker")
    };
    let engine = Engine::Broker(broker, None);
    let api = Api::start(0).await;
    let folder = tempfile::tempdir().unwrap();
    let bridge = start(&engine, folder, &api, "").await;
    let mut client = InboxServiceClient::new(bridge.connect().await);
    let pulling = tokio::spawn(async move {
        let request = PullReceivedMessagesRequest::default();
        client.pull_received_messages(request).await
    });
    api.state.requests.acquire().await.unwrap().forget();
    let node = node.expect("it runs").set_alarm(true).await;
    api.state.released.add_permits(100);
    // The wait is what is tested.
    tokio::time::sleep(OUTAGE).await;
    let again = InboxServiceClient::new(bridge.connect().await)
        .pull_received_messages(PullReceivedMessagesRequest::default())
        .await;
    assert_eq!(
        again.unwrap_err().code(),
        tonic::Code::Unavailable,
        "nothing is pulled meanwhile"
    );
    let _node = node.set_alarm(false).await;
    // Answered, or out of time: the rows are events all the same.
    drop(pulling.await);
    check(&engine, bridge, ROWS, 1).await;
}
