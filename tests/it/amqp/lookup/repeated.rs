//! Look-ups whose request id was used before: after a dead letter, after an answer, after they expired.

use std::time::Duration;

use serde_json::{Value, json};
use smsbridge::proto::v1;

use super::setup::{number, numbers, reason, with_id};
use crate::amqp::custody::Setup;

/// The dead letter has 500 of the 1,500 numbers. Only these are asked under the same request id, however often they are refused.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_were_answered_before_a_refusal_are_not_paid_again() {
    let setup = Setup::start(|config| {
        config.infobip.request_timeout = Duration::from_secs(30);
    })
    .await;
    let refuse = json!({"kind": "status", "status": 400, "count": 1});
    setup
        .fault(json!({"kind": "latency", "ms": 1_500, "count": 1}))
        .await;
    setup
        .publish_lookup(with_id("r1"), &numbers(0..1_500))
        .await;
    setup.until_paid(1_000).await;
    setup.fault(refuse.clone()).await;
    let letter = setup.take_dead("API_REFUSED").await;
    let body: Value = serde_json::from_slice(&letter.data).unwrap();
    assert_eq!(body["to"], json!(numbers(1_000..1_500)));

    // The publisher publishes all of them again.
    setup
        .publish_lookup(with_id("r1"), &numbers(0..1_500))
        .await;
    setup.take_dead("ID_REUSED").await;
    // The letter is replayed, refused again, and replayed once more.
    setup.fault(refuse).await;
    setup
        .publish_lookup(with_id("r1"), &numbers(1_000..1_500))
        .await;
    setup.take_dead("API_REFUSED").await;
    setup
        .publish_lookup(with_id("r1"), &numbers(0..1_500))
        .await;
    setup.take_dead("ID_REUSED").await;
    setup
        .publish_lookup(with_id("r1"), &numbers(1_000..1_500))
        .await;
    setup.answered(1_500).await;
    setup.assert_paid_once(1_500).await;
    setup.stop().await;
}

/// One was answered, the other expired while it waited for the API. Nothing is asked, and no second event says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_that_is_published_again_gets_a_reply_although_it_is_not_asked() {
    let setup = Setup::start(|_| ()).await;
    let replies = setup.client.bind_queue("amq.fanout", "", &[]).await;
    setup.publish_lookup(with_id("r0"), &numbers(0..2)).await;
    setup.completed(2).await;
    setup.fault(json!({"kind": "status", "status": 401})).await;
    let late = with_id("r1").with_expiration("1500".into());
    setup.publish_lookup(late, &numbers(2..4)).await;
    let results = setup.completed(4).await;
    assert_eq!(reason(&results[&number(2)]), "EXPIRED");
    setup.simulator.heal().await;
    let requests = setup.requests().await;

    for (id, range) in [("r0", 0..2), ("r1", 2..4)] {
        let again = with_id(id)
            .with_reply_to(replies.as_str().into())
            .with_correlation_id("mine".into());
        setup.publish_lookup(again, &numbers(range.clone())).await;
        let reply = setup.client.take(&replies).await;
        let correlation = reply.properties.correlation_id().as_ref().unwrap();
        assert_eq!(correlation.as_str(), "mine");
        let response: v1::LookupNumbersResponse = serde_json::from_slice(&reply.data).unwrap();
        let answered: Vec<_> = response.results.iter().map(|one| one.to.clone()).collect();
        assert_eq!(answered, numbers(range));
        for result in &response.results {
            let refusal = result.refusal.as_ref().unwrap();
            assert_eq!(refusal.reason, "OUTCOME_UNKNOWN");
            assert!(!refusal.retryable);
            assert!(refusal.detail.contains("published before"), "{refusal:?}");
        }
    }
    let events = setup.bridge.all_events().await;
    let results = events.iter().filter(|one| one.r#type == "lookup.completed");
    assert_eq!(results.count(), 4);
    assert_eq!(setup.requests().await, requests);
    setup.assert_paid_once(2).await;
    setup.stop().await;
}
