//! The bounds of the quarantine: a body that does not fit is refused, so that Infobip repeats it.

use serde_json::json;

use super::*;
use crate::support::eventually;

/// An operator may bound the queue: with `reject-publish` the broker refuses what does not fit.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_a_full_queue_refuses_is_not_taken() {
    let (broker, node) = TestBroker::start_alone().await;
    drop(broker.publisher().await);
    let policy = json!({
        "name": "quarantine", "vhost": "/", "pattern": r"^smsbridge\.quarantine$", "apply-to": "queues", "priority": 0,
        "definition": {"max-length": 2, "overflow": "reject-publish"},
    });
    let definitions = json!({"policies": [policy]});
    let (_node, answer) = node.answer(&format!("import {definitions}")).await;
    assert_eq!(answer, "import");
    let operated = Operated::start(Engine::Broker(broker), Vec::new()).await;
    assert_eq!(operated.push("reports", "?").await, 200);
    eventually("the quarantine is full", async || {
        (operated.push("reports", "?").await == 503).then_some(())
    })
    .await;
    assert_eq!(
        operated.push("reports", report("a")).await,
        200,
        "it is read"
    );
    let answer = reqwest::get(format!("http://{}/ready", operated.bridge.addresses.admin)).await;
    assert_eq!(answer.unwrap().status(), 200);
    assert!(operated.discard(Vec::new(), true).await.count >= 2);
    eventually("there is space again", async || {
        (operated.push("reports", "?").await == 200).then_some(())
    })
    .await;
    operated.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_how_much_is_in_quarantine() {
    on_both_engines(async |engine| {
        let is_embedded = matches!(engine, Engine::Embedded);
        let operated = Operated::start(engine, Vec::new()).await;
        for _ in 0..3 {
            assert_eq!(operated.push("reports", "?").await, 200);
        }
        let bridge = &operated.bridge;
        let bodies = async |expected: f64| {
            eventually("they are counted", async || {
                let bodies = bridge.metric("smsbridge_quarantine_bodies").await;
                (bodies == Some(expected)).then_some(())
            })
            .await;
        };
        bodies(3.0).await;
        if is_embedded {
            let bytes = bridge.metric("smsbridge_quarantine_bytes").await.unwrap();
            let max = bridge
                .metric("smsbridge_quarantine_max_bytes")
                .await
                .unwrap();
            assert!(bytes > 3.0 && bytes < max, "{bytes} of {max}");
        }
        operated.discard(Vec::new(), true).await;
        bodies(0.0).await;
        let ended = r#"smsbridge_quarantine_ended_total{action="discarded"}"#;
        assert_eq!(bridge.metric(ended).await, Some(3.0));
        operated.bridge.stop().await;
    })
    .await;
}
