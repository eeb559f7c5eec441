//! The answer of a send without a result in time: withdrawn or unknown.

use std::time::Duration;

use serde_json::json;
use smsbridge::proto::v1::Outcome;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{TO, refusal};
use crate::support::{
    bridge::{TestBridge, text_with_id},
    eventually,
    raw_call::RawCaller,
    simulator::TestSimulator,
};

const PATH: &str = "/sms/1/text/advanced";

/// Two calls with one id. The deadline of the first withdraws the message before a request carried it. The second, without a
/// deadline, gets a retryable status: nothing was sent.
#[tokio::test]
async fn a_send_withdrawn_by_its_first_caller_is_retryable_for_the_second() {
    let simulator = TestSimulator::start().await;
    let bridge =
        TestBridge::with(&simulator, |config| config.send.max_requests_in_flight = 1).await;
    simulator
        .fault(json!({"kind": "latency", "count": 1, "ms": 8_000, "path": PATH}))
        .await;
    let send = |id: &str| {
        let request = text_with_id(id, &[TO]);
        let mut sms = bridge.sms();
        tokio::spawn(async move { sms.send_sms(request).await })
    };
    let in_the_way = send("in-the-way");
    eventually("the only request is under way", async || {
        let under_way = simulator.requests().await.len() == 1;
        under_way.then_some(())
    })
    .await;
    let caller = RawCaller::connect(bridge.addresses.grpc).await;
    let first = tokio::spawn(async move {
        let request = text_with_id("twice", &[TO]);
        let timeout = Duration::from_secs(4);
        caller
            .status_within("smsbridge.v1.SmsService/SendSms", &request, timeout)
            .await
    });
    let metrics = format!("http://{}/metrics", bridge.addresses.admin);
    eventually("the first call waits", async || {
        let page = reqwest::get(&metrics).await.unwrap().text().await.unwrap();
        page.contains("smsbridge_queued_destinations{lane=\"normal\"} 1")
            .then_some(())
    })
    .await;
    let second = send("twice");

    let status = first.await.unwrap();
    assert_eq!(
        status.get_details_error_info().unwrap().metadata["in_doubt"],
        "false"
    );
    assert_eq!(
        refusal::<()>(Err(status)),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".into())
    );
    let status = second.await.unwrap().unwrap_err();
    assert!(status.get_details_retry_info().is_some());
    assert_eq!(
        refusal::<()>(Err(status)),
        (Code::Unavailable, "WITHDRAWN".into())
    );
    in_the_way.await.unwrap().unwrap();
    let again = send("twice").await.unwrap().unwrap().into_inner();
    assert_eq!(again.results[0].outcome(), Outcome::Accepted);
    assert_eq!(simulator.messages().await.len(), 2);
}

#[tokio::test]
async fn an_unresolved_send_is_unknown_until_a_repeated_call_resolves_it() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        // After a repeated call, "not found" in the logs counts only once a request timeout has passed.
        config.infobip.request_timeout = Duration::from_secs(1);
        config.send.in_doubt_for = Duration::from_millis(1_500);
    })
    .await;
    // The API accepts the message, its logs answer without it, and a second request is refused because of the id.
    simulator
        .fault(json!({"kind": "accept_then_drop", "count": 1, "path": PATH}))
        .await;
    simulator
        .fault(json!({"kind": "log_lag", "ms": 3_600_000}))
        .await;
    let send = async || {
        let sent = bridge.sms().send_sms(text_with_id("r1", &[TO])).await;
        sent.unwrap().into_inner().results.remove(0)
    };
    let result = send().await;
    assert_eq!(result.outcome(), Outcome::Unknown);
    let refusal = result.refusal.unwrap();
    assert_eq!(refusal.reason, "OUTCOME_UNKNOWN");

    simulator.advance(Duration::from_secs(3_601)).await;
    assert_eq!(send().await.outcome(), Outcome::Accepted);
    assert_eq!(simulator.messages().await.len(), 1);
}
