//! The rates of the account, and the part of a process (docs/DECISIONS.md#two-lanes-under-one-budget).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use smsbridge::proto::v1::{self, Outcome};

use super::{
    SEND, TO,
    refused_requests::{arrivals, between, bulk},
};
use crate::support::{
    DEADLINE,
    bridge::{TestBridge, text},
    simulator::TestSimulator,
};

#[tokio::test]
async fn messages_have_a_rate_beside_requests() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.infobip.send_messages_per_second = 20;
    })
    .await;
    bridge
        .sms()
        .send_sms_bulk(bulk(&["Hello"; 40]))
        .await
        .unwrap();
    // 18 messages of each second are for the normal lane.
    assert_eq!(sizes(&simulator).await, [18, 18, 4]);
    let arrivals = arrivals(&simulator).await;
    let took = between(arrivals[0], arrivals[2]);
    assert!(took > Duration::from_millis(1_700), "{took:?}");
}

/// The numbers of messages in each send request.
async fn sizes(simulator: &TestSimulator) -> Vec<usize> {
    let mut requests = simulator.requests().await;
    requests.retain(|request| request["path"] == SEND);
    let size = |request: &Value| request["messageIds"].as_array().unwrap().len();
    requests.iter().map(size).collect()
}

/// A scheduled message shares no request, but nobody asked for one large one: it would use the rate of many seconds in advance.
#[tokio::test]
async fn a_scheduled_message_to_many_numbers_has_requests_of_ordinary_size() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut request = text(&[TO; 250], "Hello");
    let in_an_hour = Timestamp::now() + SignedDuration::from_hours(1);
    request.message.as_mut().unwrap().send_at = Some(smsbridge::proto::Timestamp {
        seconds: in_an_hour.as_second(),
        nanos: 0,
    });
    let sent = bridge.sms().send_sms(request).await.unwrap().into_inner();
    let results = sent.results.iter();
    assert_eq!(
        results.map(v1::SendResult::outcome).collect::<Vec<_>>(),
        [Outcome::Accepted; 250]
    );
    let mut sizes = sizes(&simulator).await;
    sizes.sort_unstable();
    assert_eq!(sizes, [50, 100, 100]);
}

/// The time between the first and the last of ten requests.
pub(crate) async fn time_of_ten_requests(
    simulator: &TestSimulator,
    bridge: &TestBridge,
) -> Duration {
    let before = arrivals(simulator).await.len();
    for _ in 0..10 {
        bridge.sms().send_sms(text(&[TO], "Hello")).await.unwrap();
    }
    let arrivals = arrivals(simulator).await;
    between(arrivals[before], arrivals[before + 9])
}

#[tokio::test]
async fn a_configured_number_of_replicas_shares_the_rate() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.infobip.send_requests_per_second = 20;
        config.infobip.replicas = 4;
    })
    .await;
    assert_eq!(bridge.metric("smsbridge_account_replicas").await, Some(4.0));
    // 4.5 a second.
    let took = time_of_ten_requests(&simulator, &bridge).await;
    assert!(took > Duration::from_millis(1_800), "{took:?}");
}

/// A bulk with a request of its own, for which 80 s of 20 messages a second are paid.
fn large_bulk() -> v1::SendSmsBulkRequest {
    v1::SendSmsBulkRequest {
        bulk_id: "campaign".into(),
        ..bulk(&["Hello"; 1_440])
    }
}

async fn in_time<T>(answer: impl Future<Output = T>) -> T {
    let answer = tokio::time::timeout(DEADLINE, answer).await;
    answer.expect("an answer in time")
}

/// Otherwise they would be sent after 80 s.
#[tokio::test]
async fn a_request_that_was_not_taken_uses_no_rate_of_messages() {
    for fault in [
        json!({"kind": "status", "status": 429, "count": 1, "path": SEND}),
        json!({"kind": "html", "status": 404, "count": 1, "path": SEND}),
    ] {
        let simulator = TestSimulator::start().await;
        let bridge = TestBridge::with(&simulator, |config| {
            config.infobip.send_messages_per_second = 20;
        })
        .await;
        simulator.fault(fault).await;
        let mut client = bridge.sms();
        let sent = in_time(client.send_sms_bulk(large_bulk())).await;
        let results = sent.unwrap().into_inner().results;
        assert!(results.iter().all(|one| one.outcome() == Outcome::Accepted));
    }
}

#[tokio::test]
async fn expired_messages_use_no_rate() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.infobip.send_messages_per_second = 20;
    })
    .await;
    let mut expired = large_bulk();
    for message in &mut expired.messages {
        message.expires_at = Some(smsbridge::proto::Timestamp {
            seconds: 1_000_000_000,
            nanos: 0,
        });
    }
    let sent = bridge.sms().send_sms_bulk(expired).await.unwrap();
    let results = sent.into_inner().results;
    assert!(results.iter().all(|one| one.outcome() == Outcome::Rejected));
    let mut client = bridge.sms();
    let sent = in_time(client.send_sms(text(&[TO], "Hello"))).await;
    assert_eq!(
        sent.unwrap().into_inner().results[0].outcome(),
        Outcome::Accepted
    );
}
