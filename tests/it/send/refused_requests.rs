//! A request that the API refuses because of one message: its parts are requests like any other
//! (docs/DECISIONS.md#only-a-400-of-the-api-speaks-about-a-message).

use std::time::Duration;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde_json::{Value, json};
use smsbridge::proto::v1::{self, Outcome};

use super::{SEND, TO};
use crate::support::{
    bridge::{TestBridge, text},
    simulator::TestSimulator,
};

/// A message for each text, in one call and so in one request.
pub(super) fn bulk(texts: &[&str]) -> v1::SendSmsBulkRequest {
    let messages = texts.iter().map(|one| text(&[TO], one).message.unwrap());
    v1::SendSmsBulkRequest {
        messages: messages.collect(),
        ..Default::default()
    }
}

/// When each send request arrived.
pub(super) async fn arrivals(simulator: &TestSimulator) -> Vec<Timestamp> {
    let at = |request: Value| {
        let at = request["at"].as_str().unwrap();
        let at = DateTime::strptime("%Y-%m-%dT%H:%M:%S%.f%z", at).unwrap();
        at.to_zoned(TimeZone::UTC).unwrap().timestamp()
    };
    let mut requests = simulator.requests().await;
    requests.retain(|request| request["path"] == SEND);
    requests.into_iter().map(at).collect()
}

pub(super) fn between(one: Timestamp, other: Timestamp) -> Duration {
    other.duration_since(one).unsigned_abs()
}

#[tokio::test]
async fn the_parts_of_a_refused_request_keep_the_rate() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.infobip.send_requests_per_second = 10;
    })
    .await;
    let mut bulk = bulk(&["Hello"; 16]);
    // The API does not know it.
    bulk.messages[5].transliteration = "KLINGON".into();
    let sent = bridge.sms().send_sms_bulk(bulk).await.unwrap().into_inner();
    for (n, result) in sent.results.iter().enumerate() {
        let expected = if n == 5 {
            Outcome::Rejected
        } else {
            Outcome::Accepted
        };
        assert_eq!(result.outcome(), expected, "{n}");
    }
    let refusal = sent.results[5].refusal.as_ref().unwrap();
    assert_eq!(refusal.reason, "API_REFUSED");
    let arrivals = arrivals(&simulator).await;
    // All, and then two halves four times.
    assert_eq!(arrivals.len(), 9);
    // Nine a second are for normal messages.
    let took = between(arrivals[0], arrivals[8]);
    assert!(took > Duration::from_millis(800), "{took:?}");
}

#[tokio::test]
async fn the_parts_of_a_refused_request_wait_for_a_rate_limit() {
    let simulator = TestSimulator::with(|config| config.retry_after = true).await;
    let bridge =
        TestBridge::with(&simulator, |config| config.send.max_requests_in_flight = 1).await;
    simulator
        .fault(json!([
            {"kind": "status", "status": 400, "count": 1, "path": SEND},
            {"kind": "status", "status": 429, "count": 1, "path": SEND},
        ]))
        .await;
    let sent = bridge.sms().send_sms_bulk(bulk(&["one", "two"])).await;
    let results = sent.unwrap().into_inner().results;
    assert!(results.iter().all(|one| one.outcome() == Outcome::Accepted));
    let arrivals = arrivals(&simulator).await;
    assert_eq!(arrivals.len(), 4);
    // The first half is answered with a Retry-After of a second.
    let waited = between(arrivals[1], arrivals[2]);
    assert!(waited > Duration::from_millis(900), "{waited:?}");
}

/// Both halves of a bulk have its id.
#[tokio::test]
async fn the_parts_of_a_refused_bulk_keep_its_id() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    simulator
        .fault(json!({"kind": "status", "status": 400, "count": 1, "path": SEND}))
        .await;
    let request = v1::SendSmsBulkRequest {
        bulk_id: "campaign".into(),
        ..bulk(&["one", "two"])
    };
    bridge.sms().send_sms_bulk(request).await.unwrap();
    let messages = simulator.messages().await;
    let ids: Vec<_> = messages.iter().map(|one| &one["bulkId"]).collect();
    assert_eq!(ids, ["default.campaign", "default.campaign"]);
}
