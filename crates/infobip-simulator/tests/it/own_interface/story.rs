//! `GET /_sim/messages/{id}`: the story of a message, and `/_sim/requests/{seq}`, `/_sim/pushes`.

use std::time::Duration;

use super::*;
use crate::support::{receiver::PushReceiver, simulator::START_MS};

async fn story(simulator: &TestSimulator, id: &str) -> Value {
    simulator.get(&format!("/_sim/messages/{id}")).await
}

fn changes(story: &Value) -> Vec<(&str, i64, &str, &str)> {
    let changes = story["changes"].as_array().unwrap().iter();
    changes
        .map(|change| {
            (
                change["what"].as_str().unwrap(),
                change["atMs"].as_i64().unwrap() - START_MS,
                change["status"]["name"].as_str().unwrap(),
                change["error"]["name"].as_str().unwrap(),
            )
        })
        .collect()
}

async fn frozen() -> TestSimulator {
    TestSimulator::frozen_with(|config| config.delivery_latency_ms = (400, 400)).await
}

#[tokio::test]
async fn a_story_begins_with_the_request_and_names_the_destination() {
    let simulator = frozen().await;
    let body = json!({"messages": [
        {"text": "first", "destinations": [{"to": "41790000001", "messageId": "m-1"}]},
        {"text": "second", "destinations": [{"to": ""}, {"to": "41790000002", "messageId": "m-2"}]},
    ]});
    let answer = simulator.post("/sms/1/text/advanced", body.clone()).await;
    let story = story(&simulator, "m-2").await;
    let request = &story["request"];
    assert_eq!(request["method"], "POST");
    assert_eq!(request["path"], "/sms/1/text/advanced");
    assert_eq!(request["status"], 200);
    let parsed =
        |body: &Value| -> Value { serde_json::from_str(body["text"].as_str().unwrap()).unwrap() };
    assert_eq!(parsed(&request["body"]), body);
    assert_eq!(parsed(&request["answer"]), answer);
    assert_eq!(
        request["destination"],
        json!({"index": 1, "of": 2, "pointer": "/messages/1/destinations/1"})
    );
    assert_eq!(story["validation"]["answered"]["name"], "PENDING_ENROUTE");
    assert_eq!(story["validation"]["reason"], Value::Null);
    assert_eq!(
        story["segments"],
        json!([{"part": 1, "text": "second", "units": 6, "unit": "septets", "header": null}])
    );
    assert_eq!(get(&simulator, "/_sim/messages/m-3").await.status, 404);
}

#[tokio::test]
async fn every_status_has_its_virtual_time() {
    let simulator = frozen().await;
    simulator.send(text("9990300270000", "m-1", "a")).await;
    simulator.send(text("999010061234", "m-2", "b")).await;
    let mut message = text(TO, "m-3", "c");
    message["sendAt"] = "2015-02-12T09:51:43.123Z".into();
    simulator.send(message).await;
    // 2015-02-12 was a Thursday.
    let mut message = text(TO, "m-4", "d");
    message["deliveryTimeWindow"] = json!({"from": {"hour": 10, "minute": 0}, "to": {"hour": 11, "minute": 0}, "days": ["THURSDAY"]});
    simulator.send(message).await;
    simulator.advance(Duration::from_secs(2 * 3600)).await;
    assert_eq!(
        changes(&story(&simulator, "m-1").await),
        [
            ("accepted", 0, "PENDING_ACCEPTED", "NO_ERROR"),
            ("sent", 0, "PENDING_WAITING_DELIVERY", "NO_ERROR"),
            (
                "temporary error",
                200,
                "PENDING_WAITING_DELIVERY",
                "EC_ABSENT_SUBSCRIBER"
            ),
            ("final", 400, "DELIVERED_TO_HANDSET", "NO_ERROR"),
        ]
    );
    let rejected = story(&simulator, "m-2").await;
    assert_eq!(
        changes(&rejected),
        [("rejected", 0, "REJECTED_NETWORK", "NO_ERROR")]
    );
    assert_eq!(rejected["validation"]["reason"], "Network is forbidden");
    assert_eq!(rejected["report"]["way"], "none");
    let scheduled = story(&simulator, "m-3").await;
    assert_eq!(
        changes(&scheduled)[..2],
        [
            ("scheduled", 0, "PENDING_ACCEPTED", "NO_ERROR"),
            ("sent", 3_600_000, "PENDING_WAITING_DELIVERY", "NO_ERROR"),
        ]
    );
    assert_eq!(
        scheduled["validation"]["answered"]["name"],
        "PENDING_ACCEPTED"
    );
    let opens_ms = (10 * 60 - 8 * 60 - 51) * 60_000 - 43_123;
    let windowed = story(&simulator, "m-4").await;
    assert_eq!(
        changes(&windowed)[..3],
        [
            ("accepted", 0, "PENDING_ACCEPTED", "NO_ERROR"),
            (
                "waits for its delivery window",
                0,
                "PENDING_TIME_VIOLATION",
                "NO_ERROR"
            ),
            ("sent", opens_ms, "PENDING_WAITING_DELIVERY", "NO_ERROR"),
        ]
    );
    assert_eq!(
        windowed["validation"]["answered"]["name"],
        "PENDING_ENROUTE"
    );
}

#[tokio::test]
async fn a_report_is_waiting_then_pulled() {
    let simulator = frozen().await;
    simulator.send(text(TO, "m-1", "a")).await;
    assert_eq!(
        story(&simulator, "m-1").await["report"],
        json!({"way": "pull", "state": "none", "readyAtMs": null, "takenAtMs": null})
    );
    simulator.advance(Duration::from_secs(1)).await;
    assert_eq!(story(&simulator, "m-1").await["report"]["state"], "waiting");
    simulator.get("/sms/1/reports").await;
    simulator.advance(Duration::from_secs(1)).await;
    let pulled = story(&simulator, "m-1").await;
    assert_eq!(
        pulled["report"],
        json!({"way": "pull", "state": "pulled", "readyAtMs": START_MS + 400, "takenAtMs": START_MS + 1000})
    );
    assert_eq!(pulled["otherRequests"][0]["path"], "/sms/1/reports");
}

#[tokio::test]
async fn a_report_that_nobody_pulls_is_dropped_with_the_retention() {
    let simulator = frozen().await;
    simulator.send(text(TO, "m-1", "a")).await;
    simulator.advance(Duration::from_secs(49 * 3600)).await;
    simulator.get("/sms/1/reports").await;
    let story = story(&simulator, "m-1").await;
    assert_eq!(story["report"]["state"], "dropped");
    assert_eq!(story["logs"]["row"], Value::Null);
    assert_eq!(story["logs"]["why"], "The logs reach back 48 hours");
}

#[tokio::test]
async fn a_push_is_shown_with_each_attempt_and_the_next_one() {
    let (simulator, receiver) = (frozen().await, PushReceiver::start().await);
    receiver.answer_with(StatusCode::SERVICE_UNAVAILABLE);
    let mut message = text("9990300270000", "m-1", "a");
    message["notifyUrl"] = receiver.url("/").into();
    message["intermediateReport"] = true.into();
    simulator.send(message).await;
    simulator.advance(Duration::from_secs(62)).await;
    let pushing = story(&simulator, "m-1").await;
    assert_eq!(pushing["report"]["way"], "push");
    assert_eq!(pushing["report"]["state"], "pushing");
    let pushes = pushing["pushes"].as_array().unwrap();
    assert_eq!(pushes.len(), 2, "of the temporary error, and the final one");
    let last = &pushes[1];
    let statuses: Vec<_> = last["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| &a["status"])
        .collect();
    assert_eq!(statuses, [503, 503]);
    assert_eq!(last["attemptsLeft"], 19);
    let second_ms = last["attempts"][1]["atMs"].as_i64().unwrap();
    assert_eq!(
        last["nextAttemptMs"].as_i64().unwrap(),
        second_ms + 2 * 60_000
    );

    receiver.answer_with(StatusCode::OK);
    simulator.fault(json!({"kind": "duplicate_push"})).await;
    simulator.advance(Duration::from_secs(3600)).await;
    let pushed = story(&simulator, "m-1").await;
    assert_eq!(pushed["report"]["state"], "pushed");
    let pushes = pushed["pushes"].as_array().unwrap();
    assert_eq!(pushes.len(), 4, "each is repeated");
    assert_eq!(pushes[1]["duplicateOf"], pushes[0]["id"]);
    assert_eq!(pushes[2]["nextAttemptMs"], Value::Null);
    let page = simulator.get("/_sim/pushes?state=delivered&limit=1").await;
    let id = page["pushes"][0]["id"].as_u64().unwrap();
    let before = simulator
        .get(&format!("/_sim/pushes?limit=2&before={id}"))
        .await;
    let ids: Vec<_> = before["pushes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|push| push["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, [id - 2, id - 1]);
}

#[tokio::test]
async fn a_message_that_is_not_in_the_logs_yet_says_why() {
    let simulator = frozen().await;
    simulator
        .fault(json!({"kind": "log_lag", "ms": 60_000}))
        .await;
    simulator.send(text(TO, "m-1", "a")).await;
    let lagging = story(&simulator, "m-1").await;
    assert_eq!(lagging["logs"]["row"], Value::Null);
    assert!(lagging["logs"]["why"].as_str().unwrap().contains("log_lag"));
    simulator.advance(Duration::from_secs(60)).await;
    let logs = simulator.get("/sms/1/logs?messageId=m-1").await;
    assert_eq!(
        story(&simulator, "m-1").await["logs"]["row"],
        logs["results"][0]
    );
}

#[tokio::test]
async fn a_repeated_send_and_a_forgotten_id_are_told_apart() {
    let simulator = frozen().await;
    simulator
        .fault(json!({"kind": "reset", "count": 1, "path": "/sms/1/text"}))
        .await;
    let body = json!({"messages": [text(TO, "m-1", "a")]}).to_string();
    let send = || {
        simulator
            .request(Method::POST, "/sms/1/text/advanced")
            .header("content-type", "application/json")
            .body(body.clone())
            .send()
    };
    assert!(send().await.is_err());
    assert_eq!(send().await.unwrap().status(), 200);
    assert_eq!(send().await.unwrap().status(), 200);
    let told = story(&simulator, "m-1").await;
    assert_eq!(told["request"]["seq"], 1);
    let others: Vec<_> = told["otherRequests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|other| (&other["seq"], &other["fault"]))
        .collect();
    assert_eq!(
        others,
        [(&json!(0), &json!("reset")), (&json!(2), &Value::Null)]
    );
    simulator.fault(json!({"kind": "forget_ids"})).await;
    assert_eq!(send().await.unwrap().status(), 200);
    let told = story(&simulator, "m-1").await;
    assert_eq!(told["rows"], json!([0, 1]));
    assert_eq!(told["message"]["row"], 1);
    assert_eq!(story(&simulator, "m-1?row=0").await["message"]["row"], 0);
    assert_eq!(
        get(&simulator, "/_sim/messages/m-1?row=9").await.status,
        404
    );
}

#[tokio::test]
async fn a_received_message_has_a_story_too() {
    let receiver = PushReceiver::start().await;
    let url = receiver.url("/in?text=%text%");
    let simulator = TestSimulator::frozen_with(|config| {
        config.inbound = Some(infobip_simulator::InboundPush::Get(url));
    })
    .await;
    let id = simulator.inbound(TO, "41793026700", "Hello").await;
    simulator.advance(Duration::from_secs(1)).await;
    let story = story(&simulator, &id).await;
    assert_eq!(story["message"]["direction"], "in");
    assert_eq!(story["changes"][0]["what"], "received");
    assert_eq!(story["report"]["way"], "push");
    assert_eq!(story["report"]["state"], "pushed");
    assert_eq!(story["pushes"][0]["attempts"][0]["status"], 200);
    assert_eq!(story["request"], Value::Null);
}

#[tokio::test]
async fn clicks_are_in_the_story() {
    let receiver = PushReceiver::start().await;
    let simulator = TestSimulator::frozen_with(|config| {
        config.clicks_url = Some(receiver.url("/clicks"));
    })
    .await;
    let body = json!({"tracking": {"track": "URL"}, "messages": [{"destinations": [{"to": TO, "messageId": "m-1"}],
        "text": "See https://example.com/a"}]});
    simulator.post("/sms/1/text/advanced", body).await;
    let path = story(&simulator, "m-1").await["message"]["links"][0]["path"]
        .as_str()
        .unwrap()
        .to_owned();
    let request = simulator.anonymous(Method::GET, &path).header(
        "user-agent",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 12_0 like Mac OS X)",
    );
    simulator.answer(request).await;
    simulator.advance(Duration::from_secs(1)).await;
    let story = story(&simulator, "m-1").await;
    assert_eq!(
        story["clicks"],
        json!([{"atMs": START_MS, "path": path, "target": "https://example.com/a", "device": "Phone", "os": "iOS 12"}])
    );
    assert_eq!(story["pushes"][0]["kind"], "click");
    assert_eq!(story["pushes"][0]["state"], "delivered");
}
