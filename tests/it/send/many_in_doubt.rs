//! Many sends in doubt share their look-ups: the API's quota allows two requests a second
//! (docs/RELIABILITY.md#how-a-send-stays-single).

use serde_json::{Value, json};
use smsbridge::proto::v1::{self, Outcome};

use super::{LOGS, SEND};
use crate::support::{
    bridge::{TestBridge, text},
    simulator::TestSimulator,
};

const SENDS: usize = 500;
const REQUEST_ID: &str = "a-request-id-as-long-as-those-of-many-systems";
/// Their ids take three requests to the logs.
const IN_ONE_REQUEST: usize = 100;

#[tokio::test]
async fn many_sends_in_doubt_are_found_with_few_requests() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    simulator
        .fault(json!({"kind": "accept_then_drop", "count": 5, "path": SEND}))
        .await;
    let numbers: Vec<_> = (0..SENDS).map(|n| format!("41793{n:06}")).collect();
    let numbers: Vec<_> = numbers.iter().map(String::as_str).collect();
    let request = v1::SendSmsRequest {
        request_id: REQUEST_ID.into(),
        ..text(&numbers, "Hello")
    };
    let sent = bridge.sms().send_sms(request).await.unwrap().into_inner();
    let accepted = |result: &v1::SendResult| result.outcome() == Outcome::Accepted;
    assert!(sent.results.iter().all(accepted) && sent.results.len() == SENDS);
    let paths = simulator.paths().await;
    let count = |path: &str| paths.iter().filter(|one| *one == path).count();
    assert_eq!(count(SEND), 5);
    // Five requests are in doubt at about the same time. By id they would take fifteen.
    assert!(count(LOGS) <= 7, "{}", count(LOGS));
}

#[tokio::test]
async fn many_sends_that_the_logs_do_not_have_are_sent_again() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    simulator
        .fault(json!({"kind": "reset", "count": 5, "path": SEND}))
        .await;
    let numbers: Vec<_> = (0..SENDS).map(|n| format!("41793{n:06}")).collect();
    let numbers: Vec<_> = numbers.iter().map(String::as_str).collect();
    let sent = bridge.sms().send_sms(text(&numbers, "Hello")).await;
    let results = sent.unwrap().into_inner().results;
    let accepted = |result: &v1::SendResult| result.outcome() == Outcome::Accepted;
    assert!(results.iter().all(accepted));
    assert_eq!(simulator.messages().await.len(), SENDS);
}

/// Sends many messages in one request whose answer is lost. The first request to the logs is then a search, and `fault` its answer.
async fn send_and_search(simulator: &TestSimulator, fault: Value) -> Vec<v1::SendResult> {
    let bridge = TestBridge::start(simulator).await;
    simulator
        .fault(json!([
            {"kind": "accept_then_drop", "count": 1, "path": SEND},
            fault,
        ]))
        .await;
    let numbers: Vec<_> = (0..IN_ONE_REQUEST)
        .map(|n| format!("41793{n:06}"))
        .collect();
    let numbers: Vec<_> = numbers.iter().map(String::as_str).collect();
    let request = v1::SendSmsRequest {
        request_id: REQUEST_ID.into(),
        ..text(&numbers, "Hello")
    };
    let sent = bridge.sms().send_sms(request).await.unwrap();
    sent.into_inner().results
}

/// How many of the simulator's requests to the logs were searches, and how many asked for ids.
async fn searches_and_by_id(simulator: &TestSimulator) -> (usize, usize) {
    let requests = simulator.requests().await;
    let look_ups = requests.iter().filter(|request| request["path"] == LOGS);
    let (by_id, searches): (Vec<_>, Vec<_>) =
        look_ups.partition(|request| request["query"].to_string().contains("messageId"));
    (searches.len(), by_id.len())
}

#[tokio::test]
async fn a_search_among_the_latest_rows_that_fails_is_not_repeated() {
    let simulator = TestSimulator::start().await;
    let fault = json!({"kind": "status", "status": 500, "count": 1, "path": LOGS});
    let results = send_and_search(&simulator, fault).await;
    let accepted = |result: &v1::SendResult| result.outcome() == Outcome::Accepted;
    assert!(results.iter().all(accepted));
    // By id a failing row, or a slow search, stands in nobody's way.
    assert_eq!(searches_and_by_id(&simulator).await, (1, 3));
}

/// An acceptance may be on an older page.
#[tokio::test]
async fn a_rejection_among_the_latest_rows_is_asked_for_by_its_id() {
    let simulator = TestSimulator::start().await;
    let status =
        json!({"groupId": 5, "groupName": "REJECTED", "id": 6, "name": "REJECTED_NETWORK"});
    let rows: Vec<_> = (0..IN_ONE_REQUEST)
        .map(|n| json!({"messageId": format!("default.{REQUEST_ID}~{n}"), "to": format!("41793{n:06}"), "status": status}))
        .collect();
    let body = json!({"results": rows});
    let fault = json!({"kind": "status", "status": 200, "body": body, "count": 1, "path": LOGS});
    let results = send_and_search(&simulator, fault).await;
    assert!(results[7].message_id.ends_with("~7"), "{:?}", results[7]);
    let accepted = |result: &v1::SendResult| result.outcome() == Outcome::Accepted;
    assert!(results.iter().all(accepted), "{results:?}");
    assert_eq!(searches_and_by_id(&simulator).await, (1, 3));
}
