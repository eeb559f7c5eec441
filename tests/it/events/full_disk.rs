//! The embedded log on a disk that is full: what cannot be stored is refused, nothing that was stored is lost, and the log is written
//! again without anybody's doing: as soon as there is space, or because events are older than the retention.

use std::collections::BTreeSet;

use reqwest::{Client, StatusCode, header};
use serde_json::json;
use smsbridge::proto::v1::{Event, event::Payload};

use crate::{
    crash::events_of,
    support::{DEADLINE, process::BridgeProcess, simulator::TestSimulator, small_disk::SmallDisk},
};

const MIB: u64 = 1024 * 1024;
const DISK: u64 = 48 * MIB;

/// Pushes of one report each, about messages with growing numbers.
struct Pushes {
    client: Client,
    next: usize,
    padding: String,
    /// The numbers of those that were answered with 200.
    answered: BTreeSet<usize>,
}

impl Pushes {
    /// `padding` bytes more in each row than it needs.
    fn new(padding: usize) -> Self {
        Self {
            client: Client::new(),
            next: 0,
            padding: "x".repeat(padding),
            answered: BTreeSet::new(),
        }
    }

    async fn push(&mut self, bridge: &BridgeProcess) -> StatusCode {
        let number = self.next;
        self.next += 1;
        let row = json!({
            "messageId": format!("default.m{number}"), "to": "41793026727", "doneAt": "2026-11-30T10:00:00.000+0000",
            "status": {"groupId": 3, "groupName": "DELIVERED", "id": 5, "name": "DELIVERED_TO_HANDSET"},
            "padding": self.padding,
        });
        let url = format!("http://{}/infobip/local/reports", bridge.addresses.http);
        let body = json!({"results": [row]});
        let request = self
            .client
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.to_string());
        let status = match request.send().await {
            Ok(answer) => answer.status(),
            // A push is refused before its body is read, so the connection may end while the client still writes the body.
            Err(error) if error.is_request() => StatusCode::SERVICE_UNAVAILABLE,
            Err(error) => panic!("{error}"),
        };
        if status == StatusCode::OK {
            self.answered.insert(number);
        }
        status
    }

    async fn push_until(&mut self, bridge: &BridgeProcess, expected: StatusCode) {
        let pushing = async { while self.push(bridge).await != expected {} };
        tokio::time::timeout(DEADLINE, pushing)
            .await
            .unwrap_or_else(|_| panic!("no push is answered with {expected}"));
    }

    /// Those that were answered with 200 and are no events.
    fn missing(&self, events: &[Event]) -> Vec<usize> {
        let found: BTreeSet<usize> = events.iter().map(number).collect();
        self.answered.difference(&found).copied().collect()
    }
}

fn number(event: &Event) -> usize {
    match &event.payload {
        Some(Payload::Report(report)) => report.message_id[1..].parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_disk_cannot_take_is_refused_until_there_is_space() {
    let Some(disk) = SmallDisk::mount(DISK) else {
        return;
    };
    let simulator = TestSimulator::start().await;
    let bridge = BridgeProcess::start_on(&disk, &simulator, &[]).await;
    let mut pushes = Pushes::new(10_000);
    for _ in 0..20 {
        assert_eq!(pushes.push(&bridge).await, StatusCode::OK);
    }
    disk.fill(0);
    pushes
        .push_until(&bridge, StatusCode::SERVICE_UNAVAILABLE)
        .await;
    for _ in 0..20 {
        assert_eq!(pushes.push(&bridge).await, StatusCode::SERVICE_UNAVAILABLE);
    }
    let ready = bridge.ready().await;
    assert!(ready.contains("the disk is full: free space"), "{ready}");
    // Also where the process is started on the full disk.
    drop(bridge.kill().await);
    let bridge = BridgeProcess::start_on(&disk, &simulator, &[]).await;
    assert_eq!(pushes.push(&bridge).await, StatusCode::SERVICE_UNAVAILABLE);
    let events = events_of(&bridge).await;
    assert_eq!(pushes.missing(&events), [0; 0], "before");

    disk.free();
    pushes.push_until(&bridge, StatusCode::OK).await;
    let events = events_of(&bridge).await;
    assert_eq!(pushes.missing(&events), [0; 0], "afterwards");
    let (status, _) = bridge.stop().await;
    assert!(status.success());
}

/// Nobody frees space: the log removes what is older than the retention, and gives its pages back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_full_of_old_events_heals_by_itself() {
    let Some(disk) = SmallDisk::mount(DISK) else {
        return;
    };
    let simulator = TestSimulator::start().await;
    let settings = [("SMSBRIDGE_EVENTS__RETENTION", "2s")];
    let bridge = BridgeProcess::start_on(&disk, &simulator, &settings).await;
    let mut pushes = Pushes::new(60_000);
    disk.fill(12 * MIB);
    for round in 0..3 {
        pushes
            .push_until(&bridge, StatusCode::SERVICE_UNAVAILABLE)
            .await;
        assert!(pushes.answered.len() > 20, "round {round}");
        pushes.push_until(&bridge, StatusCode::OK).await;
    }
    let last = pushes.answered.last().copied().unwrap();
    let kept: BTreeSet<usize> = events_of(&bridge).await.iter().map(number).collect();
    assert!(kept.contains(&last));
    let (status, _) = bridge.stop().await;
    assert!(status.success());
}
