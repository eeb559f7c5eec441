//! Limits of the simulator: retention times, maximum values, effects of configuration switches. Each of these tests
//! fails without its limit.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    receiver::PushReceiver,
    simulator::{Answer, PASSWORD, TestSimulator, USERNAME},
};

const TO: &str = "41793026727";

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// A message of the text endpoints.
fn text(to: &str, id: &str) -> Value {
    json!({"text": "a", "destinations": [{"to": to, "messageId": id}]})
}

/// The ids of a list's rows, in order.
fn ids(answer: &Value) -> Vec<&str> {
    let rows = answer["results"].as_array().unwrap();
    rows.iter()
        .map(|row| row["messageId"].as_str().unwrap())
        .collect()
}

async fn get(simulator: &TestSimulator, path: &str) -> Answer {
    simulator.answer(simulator.request(Method::GET, path)).await
}

/// The ledger's row of a message.
async fn row(simulator: &TestSimulator, id: &str) -> Value {
    simulator
        .get(&format!("/_sim/messages?messageId={id}"))
        .await["messages"][0]
        .clone()
}

#[tokio::test]
async fn simulator_keeps_unread_reports_and_received_messages_for_48_hours() {
    let simulator = TestSimulator::frozen().await;
    for id in ["old", "named", "kept"] {
        if id == "kept" {
            simulator.advance(minutes(2)).await;
        }
        simulator.send(text(TO, id)).await;
        simulator.inbound(TO, "385921004026", id).await;
    }
    simulator.advance(minutes(48 * 60 - 1)).await;
    let named = simulator.get("/sms/1/reports?messageId=named").await;
    assert_eq!(ids(&named), [""; 0]);
    assert_eq!(ids(&simulator.get("/sms/1/reports").await), ["kept"]);
    let inbox = simulator.get("/sms/1/inbox/reports").await;
    assert_eq!(
        (&inbox["messageCount"], &inbox["pendingMessageCount"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(inbox["results"][0]["text"], "kept");
}

#[tokio::test]
async fn an_intermediate_error_without_a_url_leaves_no_report() {
    let simulator =
        TestSimulator::frozen_with(|config| config.delivery_latency_ms = (100, 100)).await;
    let mut message = text("999030027", "m-1");
    message["intermediateReport"] = true.into();
    simulator.send(message).await;
    simulator.advance(Duration::from_millis(60)).await;
    assert_eq!(row(&simulator, "m-1").await["error"]["id"], 27);
    assert_eq!(ids(&simulator.get("/sms/1/reports").await), [""; 0]);
    simulator.advance(Duration::from_millis(60)).await;
    let reports = simulator.get("/sms/1/reports").await;
    assert_eq!(ids(&reports), ["m-1"]);
    assert_eq!(reports["results"][0]["status"]["id"], 5);
}

#[tokio::test]
async fn a_temporary_error_that_ends_a_message_has_its_intermediate_report() {
    let (simulator, receiver) = (TestSimulator::frozen().await, PushReceiver::start().await);
    for (to, id) in [
        ("999020027", "temporary"),
        ("999020001", "permanent"),
        ("999020000", "none"),
    ] {
        let mut message = text(to, id);
        message["intermediateReport"] = true.into();
        message["notifyUrl"] = receiver.url(&format!("/{id}")).into();
        simulator.send(message).await;
    }
    simulator.advance(minutes(1)).await;
    let statuses = |id: &str| -> Vec<(Value, Value)> {
        let pushed = receiver.pushed();
        let rows = pushed
            .iter()
            .filter(|one| one.uri.path() == format!("/{id}"))
            .flat_map(|one| one.json()["results"].as_array().unwrap().clone());
        rows.map(|row| (row["status"]["id"].clone(), row["error"]["id"].clone()))
            .collect()
    };
    let pair = |status: u16, error: u16| (Value::from(status), Value::from(error));
    assert_eq!(statuses("temporary"), [pair(3, 27), pair(15, 27)]);
    assert_eq!(statuses("permanent"), [pair(9, 1)]);
    assert_eq!(statuses("none"), [pair(15, 0)], "no error is none");
}

#[tokio::test]
async fn without_notify_a_report_waits_to_be_pulled() {
    let (simulator, receiver) = (TestSimulator::frozen().await, PushReceiver::start().await);
    let mut message = text(TO, "m-1");
    message["notifyUrl"] = receiver.url("/").into();
    message["notify"] = false.into();
    simulator.send(message).await;
    simulator.advance(minutes(1)).await;
    assert_eq!(receiver.pushed().len(), 0);
    assert_eq!(ids(&simulator.get("/sms/1/reports").await), ["m-1"]);
}

#[tokio::test]
async fn second_use_of_an_id_is_rejected_even_if_the_first_was_rejected() {
    let simulator = TestSimulator::frozen().await;
    for (first, first_status, id) in [("99901006123", 6, "refused"), (TO, 7, "accepted")] {
        let status = async |to: &str| {
            simulator.send(text(to, id)).await["messages"][0]["status"]["id"].clone()
        };
        assert_eq!(status(first).await, first_status);
        assert_eq!(status(TO).await, 23);
        let logs = simulator.get(&format!("/sms/1/logs?messageId={id}")).await;
        assert_eq!(ids(&logs), [id], "the second one leaves no row");
    }
}

#[tokio::test]
async fn only_200_accepts_a_push_and_only_an_accepted_one_is_duplicated() {
    for status in [201, 202, 204, 302, 400, 503] {
        let (simulator, receiver) = (TestSimulator::frozen().await, PushReceiver::start().await);
        simulator.fault(json!({"kind": "duplicate_push"})).await;
        receiver.answer_with(StatusCode::from_u16(status).unwrap());
        let mut message = text(TO, "m-1");
        message["notifyUrl"] = receiver.url("/").into();
        simulator.send(message).await;
        simulator.advance(Duration::from_secs(2)).await;
        let pushes = simulator.pushes().await;
        assert_eq!((pushes.len(), receiver.pushed().len()), (1, 1), "{status}");
        assert_eq!(pushes[0]["state"], "pending", "{status}");
        assert_eq!(pushes[0]["attempts"][0]["status"], status);
    }
}

#[tokio::test]
async fn the_date_header_is_the_virtual_time() {
    let simulator = TestSimulator::frozen().await;
    simulator.advance(minutes(60)).await;
    for path in ["/sms/1/reports", "/sms/1/nothing/there"] {
        let answer = get(&simulator, path).await;
        assert_eq!(answer.headers["date"], "Thu, 12 Feb 2015 09:51:43 GMT");
    }
}

#[tokio::test]
async fn accept_header_weights_select_the_format() {
    let simulator = TestSimulator::frozen().await;
    for (accept, format) in [
        ("application/json;q=0.5, application/xml", "xml"),
        ("application/xml;q=0.5, application/json;q=0.9", "json"),
        ("text/html, application/xml;q=0.1", "xml"),
        ("*/*", "json"),
    ] {
        for path in ["/sms/1/reports", "/sms/1/reports?limit=0"] {
            let request = simulator.request(Method::GET, path);
            let answer = simulator.answer(request.header("accept", accept)).await;
            assert_eq!(
                answer.content_type,
                format!("application/{format};charset=UTF-8"),
                "{accept} {path}"
            );
        }
    }
}

#[tokio::test]
async fn a_schedule_reaches_180_days_and_not_a_millisecond_more() {
    let simulator = TestSimulator::frozen().await;
    for (at, expected) in [
        ("2015-08-11T08:51:43.123Z", StatusCode::OK),
        ("2015-08-11T08:51:43.124Z", StatusCode::BAD_REQUEST),
    ] {
        let body = json!({"messages": [{"text": "a", "sendAt": at, "destinations": [{"to": TO}]}]});
        let answer = simulator
            .try_send(Method::POST, "/sms/1/text/advanced", &body)
            .await;
        assert_eq!(answer.status, expected, "{at}");
    }
}

#[tokio::test]
async fn a_cancelled_bulk_was_not_sent_and_a_late_one_expires() {
    let simulator = TestSimulator::frozen().await;
    let schedule = async |id: &str| {
        let mut message = text(TO, id);
        message["sendAt"] = "2015-02-12T10:00:00Z".into();
        message["validityPeriod"] = 5.into();
        let request = json!({"bulkId": id, "messages": [message]});
        simulator.post("/sms/1/text/advanced", request).await;
    };
    let set = async |bulk: &str, status: &str| {
        let path = format!("/sms/1/bulks/status?bulkId={bulk}");
        let body = json!({ "status": status });
        let answer = simulator.try_send(Method::PUT, &path, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    };
    schedule("cancelled").await;
    schedule("late").await;
    set("cancelled", "CANCELED").await;
    set("late", "PAUSED").await;
    let cancelled = row(&simulator, "cancelled").await;
    assert_eq!(cancelled["status"]["name"], "UNDELIVERABLE_NOT_SENT");
    assert_eq!(cancelled["error"]["name"], "EC_MESSAGE_CANCELED");
    simulator.advance(minutes(120)).await;
    set("late", "PENDING").await;
    simulator.advance(minutes(1)).await;
    let late = row(&simulator, "late").await;
    assert_eq!(late["status"]["name"], "EXPIRED_EXPIRED");
    assert_eq!(late["error"]["name"], "EC_VALIDITYEXPIRED");
    assert_eq!(late["handsetDeliveries"], 0);
}

#[tokio::test]
async fn a_window_that_opens_too_late_ends_the_message_with_its_validity() {
    let simulator = TestSimulator::frozen().await;
    let mut message = text(TO, "m-1");
    message["validityPeriod"] = 10.into();
    message["deliveryTimeWindow"] =
        json!({"from": {"hour": 10}, "to": {"hour": 11}, "days": ["THURSDAY"]});
    simulator.send(message).await;
    simulator.advance(minutes(9)).await;
    assert_eq!(row(&simulator, "m-1").await["state"], "scheduled");
    simulator.advance(minutes(2)).await;
    assert_eq!(row(&simulator, "m-1").await["state"], "expired");
}

#[tokio::test]
async fn a_token_lasts_an_hour() {
    let simulator = TestSimulator::frozen().await;
    let form = format!(
        "client_id={USERNAME}&client_secret={}&grant_type=client_credentials",
        PASSWORD.replace(' ', "+")
    );
    let request = simulator
        .anonymous(Method::POST, "/auth/1/oauth2/token")
        .header("content-type", "application/x-www-form-urlencoded");
    let token = simulator.answer(request.body(form)).await.json();
    assert_eq!(token["expires_in"], 3600);
    let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
    let status = async || {
        let request = simulator.anonymous(Method::GET, "/sms/1/reports");
        let request = request.header("authorization", &bearer);
        simulator.answer(request).await.status
    };
    simulator.advance(Duration::from_secs(3599)).await;
    assert_eq!(status().await, StatusCode::OK);
    simulator.advance(Duration::from_secs(1)).await;
    assert_eq!(status().await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn every_part_is_charged() {
    let simulator = TestSimulator::frozen_with(|config| {
        config.balance_micros = 1_000_000;
        config.default_price_micros = 100_000;
    })
    .await;
    let mut message = text("99904000011", "m-1");
    message["text"] = "x".repeat(161).into();
    simulator.send(message).await;
    assert_eq!(
        simulator.get("/account/1/balance").await,
        json!({"balance": 0.8, "currency": "EUR"})
    );
}

#[tokio::test]
async fn status_429_has_retry_after_if_configured() {
    let simulator = TestSimulator::frozen_with(|config| {
        config.retry_after = true;
        config.logs_per_minute = 1;
    })
    .await;
    simulator.get("/sms/1/logs").await;
    let limited = get(&simulator, "/sms/1/logs").await;
    assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(limited.headers["retry-after"], "60");
    simulator
        .fault(json!({"kind": "status", "status": 429, "path": "/sms/1/reports"}))
        .await;
    let struck = get(&simulator, "/sms/1/reports").await;
    assert_eq!(struck.headers["retry-after"], "1");
}

#[tokio::test]
async fn ids_are_cut_to_their_lengths_and_a_single_send_can_have_a_bulk_id() {
    let simulator = TestSimulator::with(|config| config.always_bulk_id = true).await;
    let single = json!({"to": TO, "text": "a"});
    let single = simulator.post("/sms/1/text/single", single).await;
    assert_eq!(single["bulkId"].as_str().unwrap().len(), 36);
    let request = json!({"bulkId": "b".repeat(101), "messages": [text(TO, &"m".repeat(201))]});
    let answer = simulator.post("/sms/1/text/advanced", request).await;
    assert_eq!(answer["bulkId"], "b".repeat(100));
    assert_eq!(answer["messages"][0]["messageId"], "m".repeat(200));
}

#[tokio::test]
async fn a_thousand_numbers_are_looked_up_and_pushed_in_the_asked_format() {
    let (simulator, receiver) = (TestSimulator::frozen().await, PushReceiver::start().await);
    let numbers: Vec<_> = (0..1000).map(|n| format!("4179302{n:04}")).collect();
    let answer = simulator
        .post("/number/1/query", json!({ "to": numbers }))
        .await;
    assert_eq!(answer["results"].as_array().unwrap().len(), 1000);
    let request =
        json!({"to": [TO], "notifyUrl": receiver.url("/"), "notifyContentType": "application/xml"});
    simulator.post("/number/1/notify", request).await;
    simulator.advance(minutes(1)).await;
    let pushed = &receiver.pushed()[0];
    assert_eq!(
        pushed.headers["content-type"],
        "application/xml;charset=UTF-8"
    );
    let body = String::from_utf8_lossy(&pushed.body);
    assert!(
        body.contains("<ncResponse>") && body.contains("<results><result>"),
        "{body}"
    );
}

#[tokio::test]
async fn short_links_use_the_requested_base_and_the_oldest_are_evicted() {
    let simulator = TestSimulator::frozen_with(|config| config.bounds.links = 2).await;
    for n in 0..3 {
        let message = json!({"text": "http://www.example.com/awesomeApp", "destinations": [{"to": TO, "messageId": format!("m-{n}")}]});
        let request = json!({"tracking": {"track": "URL", "baseUrl": "http://eel.nu/"}, "messages": [message]});
        simulator.post("/sms/1/text/advanced", request).await;
    }
    let mut followed = Vec::new();
    for message in simulator.messages().await {
        let link = message["text"].as_str().unwrap();
        assert_eq!(link.len(), 25, "{link}");
        let path = link.strip_prefix("http://eel.nu").expect(link);
        let request = simulator.anonymous(Method::GET, path);
        followed.push(simulator.answer(request).await.status.as_u16());
    }
    assert_eq!(followed, [404, 302, 302]);
}

#[tokio::test]
async fn reset_removes_the_faults() {
    let simulator = TestSimulator::start().await;
    simulator.fault(json!({"kind": "html"})).await;
    simulator.post("/_sim/reset", json!({})).await;
    assert_eq!(simulator.get("/_sim/faults").await, json!({"faults": []}));
    simulator.get("/sms/1/reports").await;
}
