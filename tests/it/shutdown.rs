//! The bridge ends shortly after its grace period, also where the event log hangs (docs/RELIABILITY.md, P8).

use std::{
    path::Path,
    time::{Duration, Instant},
};

use reqwest::{Client, header};
use rusqlite::Connection;
use serde_json::json;

use crate::support::{
    bridge::{TestBridge, text_with_id},
    eventually,
    simulator::TestSimulator,
};

const GRACE: Duration = Duration::from_millis(500);
/// The grace period, the time to close, and some for a slow machine.
const END: Duration = Duration::from_millis(4_500);
const SEND: &str = "/sms/1/text/advanced";

/// Other writers wait as long as this connection lives.
fn block(folder: &Path) -> Connection {
    let blocking = Connection::open(folder.join("events.sqlite")).unwrap();
    blocking.execute_batch("BEGIN IMMEDIATE").unwrap();
    blocking
}

async fn stop_in_time(bridge: TestBridge) {
    let began = Instant::now();
    bridge.stop().await;
    let took = began.elapsed();
    assert!(took < END, "{took:?}");
}

#[tokio::test]
async fn a_log_that_hangs_does_not_hold_the_end_of_the_process() {
    let simulator = TestSimulator::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let bridge = TestBridge::at(&simulator.base_url(), folder, |config| {
        config.shutdown.grace = GRACE;
    })
    .await;
    let _blocking = block(&path);
    let push = Client::new()
        .post(bridge.webhook("clicks"))
        .header(header::CONTENT_TYPE, "application/json")
        .body("not a click")
        .send();
    let mut push = tokio::spawn(push);
    let waiting = tokio::time::timeout(Duration::from_millis(200), &mut push).await;
    assert!(waiting.is_err(), "the push waits for the log: {waiting:?}");
    stop_in_time(bridge).await;
    // A push that is not stored is not confirmed.
    let answer = push.await.unwrap();
    assert!(
        answer
            .as_ref()
            .map_or(true, |answer| answer.status() != 200),
        "{answer:?}"
    );
}

#[tokio::test]
async fn results_that_cannot_be_recorded_do_not_hold_the_end_of_the_process() {
    let simulator = TestSimulator::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let bridge = TestBridge::at(&simulator.base_url(), folder, |config| {
        config.shutdown.grace = GRACE;
        config.send.retry_for = Duration::from_secs(300);
    })
    .await;
    // In doubt at first; then it waits to be sent again.
    let in_doubt = json!({"kind": "status", "status": 500, "count": 1, "path": SEND});
    simulator.fault(in_doubt).await;
    let paused = json!({"kind": "status", "status": 429, "path": SEND});
    simulator.fault(paused).await;
    let mut sms = bridge.sms();
    let sending = tokio::spawn(async move {
        let _ = sms.send_sms(text_with_id("r-1", &["41793026727"])).await;
    });
    eventually("it is sent again", async || {
        let sends = simulator.paths().await;
        (sends.iter().filter(|path| *path == SEND).count() > 1).then_some(())
    })
    .await;
    let _blocking = block(&path);
    stop_in_time(bridge).await;
    sending.await.unwrap();
}
