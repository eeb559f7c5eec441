//! Outages of the API for callers by gRPC, and sends in doubt during one (docs/RELIABILITY.md#outages-of-the-api).

use std::time::Duration;

use serde_json::json;
use smsbridge::proto::v1::{BinaryContent, Outcome, SendSmsRequest, outbound_message::Content};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{
    DEADLINE,
    bridge::{TestBridge, text, text_with_id},
    eventually,
    simulator::TestSimulator,
};

const TO: &str = "41793026727";
const TEXT_PATH: &str = "/sms/1/text/advanced";
const BINARY_PATH: &str = "/sms/1/binary";
const LOGS_PATH: &str = "/sms/1/logs";

async fn await_open_breaker(bridge: &TestBridge) {
    let metrics = format!("http://{}/metrics", bridge.addresses.admin);
    eventually("the breaker is open", async || {
        let page = reqwest::get(&metrics).await.unwrap().text().await.unwrap();
        page.contains("smsbridge_send_breaker_open 1").then_some(())
    })
    .await;
}

async fn in_time<T>(answer: impl Future<Output = T>) -> T {
    let answer = tokio::time::timeout(DEADLINE, answer).await;
    answer.expect("an answer in time")
}

/// Which of the two clocks is wrong, nobody knows: nothing is decided by it.
#[tokio::test]
async fn a_clock_that_differs_from_that_of_the_api_is_told() {
    // Its clock stands still in 2015.
    let simulator = TestSimulator::frozen().await;
    let bridge = TestBridge::start(&simulator).await;
    let sent = bridge.sms().send_sms(text(&[TO], "Hello")).await.unwrap();
    assert_eq!(sent.into_inner().results[0].outcome(), Outcome::Accepted);
    let url = format!("http://{}/ready", bridge.addresses.admin);
    let ready = reqwest::get(url).await.unwrap();
    assert_eq!(ready.status(), 200);
    let ready = ready.text().await.unwrap();
    let told = ready.strip_prefix("ready\nclock: this machine's is ");
    assert!(
        told.is_some_and(|told| told.contains(" s ahead of that of the API")),
        "{ready}"
    );
}

#[tokio::test]
async fn callers_are_refused_while_the_api_is_down() {
    let folder = tempfile::tempdir().unwrap();
    let bridge = TestBridge::at("http://127.0.0.1:1", folder, |config| {
        // Longer than this test waits.
        config.send.retry_for = Duration::from_secs(300);
    })
    .await;
    for _ in 0..3 {
        let refused = in_time(bridge.sms().send_sms(text(&[TO], "Hello"))).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        assert!(refused.get_details_retry_info().is_some());
    }
    let url = format!("http://{}/ready", bridge.addresses.admin);
    let ready = reqwest::get(url).await.unwrap();
    assert!(ready.status().is_success());
    let ready = ready.text().await.unwrap();
    let remark = "ready\nsends: the API does not take them: ";
    assert!(ready.starts_with(remark), "{ready}");
    assert!(bridge.all_events().await.is_empty());
}

/// A binary message, which has a path of its own.
fn binary() -> SendSmsRequest {
    let mut request = text(&[TO], "");
    request.message.as_mut().unwrap().content = Some(Content::Binary(BinaryContent {
        data: vec![1, 2, 3].into(),
        ..Default::default()
    }));
    request
}

/// The message is in doubt, and its resends open the breaker. The bridge must also send other messages as probes.
#[tokio::test]
async fn a_message_that_always_fails_does_not_stop_the_others() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    simulator
        .fault(json!({"kind": "status", "status": 500, "path": BINARY_PATH}))
        .await;
    let mut sms = bridge.sms();
    let failing = tokio::spawn(async move { sms.send_sms(binary()).await });
    await_open_breaker(&bridge).await;
    let sent = eventually("another message is accepted", async || {
        bridge.sms().send_sms(text(&[TO], "Hello")).await.ok()
    })
    .await;
    assert_eq!(sent.into_inner().results[0].outcome(), Outcome::Accepted);
    failing.abort();
}

/// Other messages are accepted, so this is no outage during which the time of a send in doubt stands still.
#[tokio::test]
async fn a_message_that_always_fails_ends_as_unknown() {
    let simulator = TestSimulator::with(|config| config.logs_per_minute = 0).await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.infobip.log_requests_per_minute = 100_000;
        config.send.in_doubt_for = Duration::from_secs(1);
    })
    .await;
    simulator
        .fault(json!({"kind": "status", "status": 500, "path": BINARY_PATH}))
        .await;
    let mut sms = bridge.sms();
    let failing = tokio::spawn(async move { sms.send_sms(binary()).await });
    eventually("it ends", async || {
        let _ = bridge.sms().send_sms(text(&[TO], "Hello")).await;
        failing.is_finished().then_some(())
    })
    .await;
    let result = failing.await.unwrap().unwrap().into_inner();
    assert_eq!(result.results[0].outcome(), Outcome::Unknown);
    let paths = simulator.paths().await;
    let sends = paths.iter().filter(|path| path.starts_with(BINARY_PATH));
    assert!(sends.count() > 1, "it was not sent again");
}

/// They may do so for ever, so this is no outage during which the time of a send in doubt stands still.
#[tokio::test]
async fn a_send_in_doubt_ends_although_the_logs_refuse_the_credentials() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.send.in_doubt_for = Duration::from_millis(500);
    })
    .await;
    simulator
        .fault(json!({"kind": "accept_then_drop", "count": 1, "path": TEXT_PATH}))
        .await;
    simulator
        .fault(json!({"kind": "status", "status": 403, "path": LOGS_PATH}))
        .await;
    let sent = in_time(bridge.sms().send_sms(text_with_id("r1", &[TO]))).await;
    let result = sent.unwrap().into_inner().results.remove(0);
    assert_eq!(result.outcome(), Outcome::Unknown);
}

/// The logs do not have the message, and no request carried it again.
#[tokio::test]
async fn a_rate_limit_does_not_make_a_send_unknown() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.send.in_doubt_for = Duration::from_millis(500);
    })
    .await;
    for fault in [
        json!({"kind": "reset", "count": 1, "path": TEXT_PATH}),
        // Waits of 0.1 s, 0.2 s … 1.6 s.
        json!({"kind": "status", "status": 429, "count": 5, "path": TEXT_PATH}),
    ] {
        simulator.fault(fault).await;
    }
    let sent = in_time(bridge.sms().send_sms(text_with_id("r1", &[TO]))).await;
    let result = sent.unwrap().into_inner().results.remove(0);
    assert_eq!(result.outcome(), Outcome::Accepted);
    assert_eq!(simulator.messages().await.len(), 1);
}
