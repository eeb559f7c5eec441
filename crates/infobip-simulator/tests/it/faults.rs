//! The simulator's faults and their effects on a caller.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{eventually, receiver::PushReceiver, simulator::TestSimulator};

const TO: &str = "41793026727";
const SEND: &str = "/sms/1/text/advanced";

fn body(id: &str) -> Value {
    json!({"messages": [{"text": "a", "destinations": [{"to": TO, "messageId": id}]}]})
}

/// A send whose connection may break.
async fn try_send(
    simulator: &TestSimulator,
    id: &str,
) -> Result<(StatusCode, String), reqwest::Error> {
    let request = simulator
        .request(Method::POST, SEND)
        .header("content-type", "application/json");
    let response = request.body(body(id).to_string()).send().await?;
    Ok((response.status(), response.text().await?))
}

async fn ids(simulator: &TestSimulator) -> Vec<String> {
    let messages = simulator.messages().await;
    messages
        .iter()
        .map(|message| message["messageId"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn reset_breaks_the_connection_before_acceptance() {
    let simulator = TestSimulator::start().await;
    simulator
        .fault(json!({"kind": "reset", "count": 1, "path": "/sms/1/text"}))
        .await;
    assert!(try_send(&simulator, "m-1").await.is_err());
    assert!(ids(&simulator).await.is_empty());
    assert_eq!(
        try_send(&simulator, "m-1").await.unwrap().0,
        StatusCode::OK,
        "used up"
    );
    let requests = simulator.requests().await;
    assert_eq!(
        (
            requests[0]["fault"].clone(),
            requests[0]["processed"].clone()
        ),
        ("reset".into(), false.into())
    );
    assert_eq!(requests[0]["status"], Value::Null);
}

#[tokio::test]
async fn a_send_is_accepted_and_its_answer_dropped() {
    let simulator = TestSimulator::start().await;
    simulator
        .fault(json!({"kind": "accept_then_drop", "count": 1}))
        .await;
    assert_eq!(
        simulator.get("/sms/1/logs").await,
        json!({"results": []}),
        "only sends are struck"
    );
    assert!(try_send(&simulator, "m-1").await.is_err());
    assert_eq!(ids(&simulator).await, ["m-1"]);
    assert_eq!(
        simulator.get("/sms/1/logs?messageId=m-1").await["results"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_send_is_accepted_and_held_without_an_answer() {
    let simulator = TestSimulator::start().await;
    simulator
        .fault(json!({"kind": "accept_then_drop", "hold": true}))
        .await;
    let waiting = try_send(&simulator, "m-1");
    let accepted = eventually("the held send is accepted", || async {
        Some(ids(&simulator).await).filter(|ids| !ids.is_empty())
    });
    tokio::select! {
        answered = waiting => panic!("answered: {answered:?}"),
        ids = accepted => assert_eq!(ids, ["m-1"]),
    }
}

#[tokio::test]
async fn dropped_answer_consumes_the_rows() {
    let simulator = TestSimulator::start().await;
    try_send(&simulator, "m-1").await.unwrap();
    simulator.inbound(TO, "385921004026", "Hello").await;
    simulator.all_final().await;
    for path in ["/sms/1/reports", "/sms/1/inbox/reports"] {
        simulator
            .fault(json!({"kind": "read_then_reset", "count": 1}))
            .await;
        assert!(simulator.request(Method::GET, path).send().await.is_err());
        assert_eq!(simulator.get(path).await["results"], json!([]), "consumed");
    }
    assert_eq!(
        simulator.get("/sms/1/logs").await["results"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        simulator.get("/sms/1/inbox/logs").await["results"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn truncate_ends_the_response_early() {
    let simulator = TestSimulator::start().await;
    simulator
        .fault(json!({"kind": "truncate", "bytes": 20, "count": 1}))
        .await;
    let request = simulator
        .request(Method::POST, SEND)
        .header("content-type", "application/json");
    let mut response = request.body(body("m-1").to_string()).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(
        response.content_length().unwrap() > 100,
        "the length of the whole is promised"
    );
    let mut got = Vec::new();
    let broken = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => got.extend_from_slice(&chunk),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(broken);
    assert_eq!(got.len(), 20);
    assert_eq!(ids(&simulator).await, ["m-1"]);
}

#[tokio::test]
async fn status_faults_replace_the_response() {
    let simulator = TestSimulator::start().await;
    simulator.fault(json!({"kind": "html", "count": 1})).await;
    let (status, text) = try_send(&simulator, "m-1").await.unwrap();
    assert_eq!(
        (status, text.contains("<html>")),
        (StatusCode::BAD_GATEWAY, true)
    );
    simulator
        .fault(json!({"kind": "status", "status": 503, "count": 1, "processed": true}))
        .await;
    assert_eq!(
        try_send(&simulator, "m-2").await.unwrap().0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    simulator
        .fault(json!({"kind": "status", "status": 418, "body": {"tea": true}, "count": 1}))
        .await;
    assert_eq!(
        try_send(&simulator, "m-3").await.unwrap(),
        (StatusCode::IM_A_TEAPOT, r#"{"tea":true}"#.into())
    );
    assert_eq!(ids(&simulator).await, ["m-2"], "only what was processed");
    simulator
        .fault(json!({"kind": "status", "status": 500}))
        .await;
    let request = simulator
        .request(Method::GET, "/sms/1/logs")
        .header("accept", "application/xml");
    let answer = simulator.answer(request).await;
    assert!(
        answer.text.contains("<messageId>GENERAL_ERROR</messageId>"),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn a_bucket_limits_and_refills() {
    let simulator = TestSimulator::frozen().await;
    simulator
        .fault(json!({"kind": "rate_limit", "perSecond": 2, "burst": 3}))
        .await;
    let mut statuses = Vec::new();
    for n in 0..5 {
        statuses.push(
            try_send(&simulator, &format!("m-{n}"))
                .await
                .unwrap()
                .0
                .as_u16(),
        );
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    simulator.advance(Duration::from_secs(1)).await;
    assert_eq!(try_send(&simulator, "m-5").await.unwrap().0, StatusCode::OK);
    assert_eq!(
        simulator.get("/_sim/faults").await["faults"][0]["struck"],
        2
    );
    simulator.heal().await;
    for n in 6..12 {
        assert_eq!(
            try_send(&simulator, &format!("m-{n}")).await.unwrap().0,
            StatusCode::OK
        );
    }
}

#[tokio::test]
async fn latency_delays_the_answer_and_not_the_acceptance() {
    let simulator = TestSimulator::start().await;
    simulator
        .fault(json!({"kind": "latency", "ms": 60_000, "path": "/sms/1/text"}))
        .await;
    let waiting = try_send(&simulator, "m-1");
    let accepted = eventually("the slow send is accepted", || async {
        Some(ids(&simulator).await).filter(|ids| !ids.is_empty())
    });
    tokio::select! {
        answered = waiting => panic!("answered: {answered:?}"),
        ids = accepted => assert_eq!(ids, ["m-1"]),
    }
}

#[tokio::test]
async fn push_faults_duplicate_a_push_or_send_it_before_the_answer() {
    let (simulator, receiver) = (TestSimulator::frozen().await, PushReceiver::start().await);
    let message = |id: &str| json!({"text": "a", "notifyUrl": receiver.url("/"), "destinations": [{"to": TO, "messageId": id}]});
    simulator
        .fault(json!({"kind": "early_push", "count": 1}))
        .await;
    simulator.send(message("early")).await;
    let pushed = receiver.pushed();
    assert_eq!(pushed.len(), 1, "although no virtual time passed");
    assert_eq!(pushed[0].json()["results"][0]["messageId"], "early");
    simulator
        .fault(json!({"kind": "duplicate_push", "count": 1}))
        .await;
    simulator.send(message("twice")).await;
    simulator.advance(Duration::from_secs(1)).await;
    let pushed = receiver.pushed();
    assert_eq!(pushed.len(), 3);
    assert_eq!(pushed[1].body, pushed[2].body);
}

#[tokio::test]
async fn a_reset_with_the_path_of_a_push_makes_its_attempts_fail_and_leaves_other_pushes_alone() {
    let (simulator, receiver) = (TestSimulator::frozen().await, PushReceiver::start().await);
    let message = |path: &str| json!({"text": "a", "notifyUrl": receiver.url(path), "destinations": [{"to": TO}]});
    for fault in [
        json!({"kind": "reset", "path": "/reports", "count": 2}),
        json!({"kind": "reset", "path": "/nowhere"}),
    ] {
        simulator.fault(fault).await;
    }
    simulator.send(message("/reports")).await;
    simulator.send(message("/other")).await;
    simulator.advance(Duration::from_secs(1)).await;
    let paths = || -> Vec<_> {
        let pushed = receiver.pushed();
        pushed
            .iter()
            .map(|push| push.uri.path().to_owned())
            .collect()
    };
    assert_eq!(paths(), ["/other"]);
    simulator.advance(Duration::from_secs(3600)).await;
    assert_eq!(paths(), ["/other", "/reports"]);
    let pushes = simulator.get("/_sim/pushes").await;
    let statuses: Vec<_> = pushes["pushes"][0]["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| attempt["status"].clone())
        .collect();
    assert_eq!(statuses, [json!(null), json!(null), json!(200)]);
    let faults = simulator.get("/_sim/faults").await;
    assert_eq!(faults["faults"][0]["struck"], 2);
    assert_eq!(faults["faults"][1]["matched"], 0);
}

#[tokio::test]
async fn ids_are_forgotten_and_logs_lag() {
    let simulator = TestSimulator::frozen().await;
    simulator.fault(json!({"kind": "forget_ids"})).await;
    simulator
        .fault(json!({"kind": "log_lag", "ms": 5000, "count": 2}))
        .await;
    for _ in 0..2 {
        try_send(&simulator, "m-1").await.unwrap();
    }
    let logged = async || {
        simulator.get("/sms/1/logs?messageId=m-1").await["results"]
            .as_array()
            .unwrap()
            .len()
    };
    simulator.advance(Duration::from_secs(4)).await;
    assert_eq!(logged().await, 0);
    let deliveries: u64 = simulator
        .messages()
        .await
        .iter()
        .map(|message| message["handsetDeliveries"].as_u64().unwrap())
        .sum();
    assert_eq!(deliveries, 2, "the handset got it twice");
    simulator.advance(Duration::from_secs(1)).await;
    assert_eq!(logged().await, 2);
}

#[tokio::test]
async fn invalid_faults_are_refused() {
    let simulator = TestSimulator::start().await;
    for wrong in [
        json!({"kind": "gremlins"}),
        json!({"kind": "reset", "propability": 0.5}),
        json!([{"kind": "reset"}, 7]),
    ] {
        let answer = simulator
            .try_send(Method::POST, "/_sim/faults", &wrong)
            .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    assert_eq!(simulator.get("/_sim/faults").await, json!({"faults": []}));
}
