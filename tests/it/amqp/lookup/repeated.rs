//! Look-ups whose request id was used before.

use std::time::Duration;

use serde_json::{Value, json};
use smsbridge::amqp::headers::text_header;

use super::{LOOKUP_PATH, Setup, numbers, paid, with_id};
use crate::support::eventually;

/// The dead letter has 500 of the 1,500 numbers. Only these are asked under the same request id, however often they are refused.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_were_answered_before_a_refusal_are_not_paid_again() {
    let setup = Setup::start(|config| {
        config.infobip.request_timeout = Duration::from_secs(30);
    })
    .await;
    let dead = setup.broker.topology().dead();
    let expect_dead = async |expected: &str| {
        let letter = setup.client.take(&dead).await;
        let headers = letter.properties.headers().as_ref();
        let reason = text_header(headers, "smsbridge-reason");
        assert_eq!(reason.as_deref(), Some(expected));
        letter
    };
    let refuse = json!({"kind": "status", "status": 400, "path": LOOKUP_PATH, "count": 1});
    setup
        .simulator
        .fault(json!({"kind": "latency", "ms": 1_500, "path": LOOKUP_PATH, "count": 1}))
        .await;
    setup
        .publish_lookup(with_id("r1"), &numbers(0..1_500))
        .await;
    eventually("the API has the first request", async || {
        (paid(&setup.simulator).await.len() == 1_000).then_some(())
    })
    .await;
    setup.simulator.fault(refuse.clone()).await;
    let letter = expect_dead("API_REFUSED").await;
    let body: Value = serde_json::from_slice(&letter.data).unwrap();
    assert_eq!(body["to"], json!(numbers(1_000..1_500)));

    // The publisher publishes all of them again.
    setup
        .publish_lookup(with_id("r1"), &numbers(0..1_500))
        .await;
    expect_dead("ID_REUSED").await;
    // The letter is replayed, refused again, and replayed once more.
    setup.simulator.fault(refuse).await;
    setup
        .publish_lookup(with_id("r1"), &numbers(1_000..1_500))
        .await;
    expect_dead("API_REFUSED").await;
    setup
        .publish_lookup(with_id("r1"), &numbers(0..1_500))
        .await;
    expect_dead("ID_REUSED").await;
    setup
        .publish_lookup(with_id("r1"), &numbers(1_000..1_500))
        .await;
    let results = setup.completed(1_500).await;
    assert!(results.values().all(|one| one.refusal.is_none()));
    let paid = paid(&setup.simulator).await;
    assert!(paid.len() == 1_500 && paid.values().all(|times| *times == 1));
    setup.stop().await;
}
