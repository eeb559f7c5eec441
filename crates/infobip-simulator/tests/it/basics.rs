//! The basic functions of the simulator: send, deliver, report, log and receive messages.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    receiver::PushReceiver,
    simulator::{API_KEY, PASSWORD, TestSimulator, USERNAME},
};

const TO: &str = "41793026727";

/// A message of the text endpoints.
fn text(to: &str, id: &str) -> Value {
    json!({"from": "InfoSMS", "destinations": [{"to": to, "messageId": id}], "text": "Test SMS."})
}

#[tokio::test]
async fn single_send_accepts_a_text() {
    let simulator = TestSimulator::with(|config| config.accepted_status = 0).await;
    let answer = simulator
        .post(
            "/sms/1/text/single",
            json!({"from": "InfoSMS", "to": TO, "text": "My first Infobip SMS"}),
        )
        .await;
    let message = &answer["messages"][0];
    assert_eq!(message["to"], TO);
    assert_eq!(
        message["status"],
        json!({"groupId": 0, "groupName": "ACCEPTED", "id": 0, "name": "MESSAGE_ACCEPTED", "description": "Message accepted"})
    );
    assert_eq!(message["smsCount"], 1);
    assert_eq!(message["messageId"].as_str().unwrap().len(), 36);
    assert_eq!(answer.get("bulkId"), None, "one destination, no bulk id");
}

#[tokio::test]
async fn several_destinations_share_a_bulk_id() {
    let simulator = TestSimulator::start().await;
    let body = json!({"from": "WineShop", "to": [TO, "41793026834"], "text": "Wine shop grand opening at Monday 8pm."});
    let answer = simulator.post("/sms/1/text/single", body).await;
    assert!(answer["bulkId"].is_string());
    let messages = answer["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 2);
    assert_ne!(messages[0]["messageId"], messages[1]["messageId"]);
    assert_eq!(messages[1]["status"]["name"], "PENDING_ENROUTE");
}

#[tokio::test]
async fn pull_consumes_a_report_and_the_logs_keep_it() {
    let simulator = TestSimulator::frozen().await;
    simulator.send(text(TO, "m-1")).await;
    assert_eq!(
        simulator.get("/sms/1/reports").await,
        json!({"results": []})
    );
    let pending = simulator.get("/sms/1/logs?messageId=m-1").await;
    assert_eq!(pending["results"][0]["status"]["groupName"], "PENDING");
    assert_eq!(pending["results"][0].get("doneAt"), None);

    simulator.advance(Duration::from_secs(1)).await;
    let reports = simulator.get("/sms/1/reports").await;
    let report = &reports["results"][0];
    assert_eq!(report["messageId"], "m-1");
    assert_eq!(report["to"], TO);
    assert_eq!(report["sentAt"], "2015-02-12T08:51:43.123+0000");
    assert_eq!(report["smsCount"], 1);
    assert_eq!(
        report["mccMnc"].as_str().map(|code| &code[..3]),
        Some("228")
    );
    assert!(report["price"]["pricePerMessage"].as_f64().unwrap() > 0.0);
    assert_eq!(report["price"]["currency"], "EUR");
    assert_eq!(
        report["status"],
        json!({"groupId": 3, "groupName": "DELIVERED", "id": 5, "name": "DELIVERED_TO_HANDSET", "description": "Message delivered to handset"})
    );
    assert_eq!(
        report["error"],
        json!({"groupId": 0, "groupName": "OK", "id": 0, "name": "NO_ERROR", "description": "No Error", "permanent": false})
    );
    assert_eq!(
        simulator.get("/sms/1/reports").await,
        json!({"results": []})
    );
    for _ in 0..2 {
        let logs = simulator.get("/sms/1/logs").await;
        assert_eq!(logs["results"].as_array().unwrap().len(), 1);
        assert_eq!(logs["results"][0]["text"], "Test SMS.");
        assert_eq!(logs["results"][0]["from"], "InfoSMS");
        assert_eq!(logs["results"][0]["status"]["id"], 5);
        assert!(logs["results"][0]["doneAt"].is_string());
    }
}

#[tokio::test]
async fn a_report_is_pushed_with_callback_data_and_not_pulled_too() {
    let (simulator, receiver) = (TestSimulator::start().await, PushReceiver::start().await);
    let mut message = text(TO, "m-1");
    message["notifyUrl"] = receiver.url("/sms/advanced").into();
    message["callbackData"] = "There's no place like home.".into();
    simulator.send(message).await;
    let pushed = receiver.wait_for(1).await;
    assert_eq!(pushed[0].method, Method::POST);
    assert_eq!(
        pushed[0].headers["content-type"],
        "application/json;charset=UTF-8"
    );
    let report = &pushed[0].json()["results"][0];
    assert_eq!(report["messageId"], "m-1");
    assert_eq!(report["callbackData"], "There's no place like home.");
    assert_eq!(report["status"]["groupName"], "DELIVERED");
    assert_eq!(
        simulator.get("/sms/1/reports").await,
        json!({"results": []})
    );
    let pushes = simulator.pushes().await;
    assert_eq!(pushes[0]["url"], receiver.url("/sms/advanced"));
    assert_eq!(pushes[0]["attempts"][0]["status"], 200);
    assert_eq!(pushes[0]["messageIds"], json!(["m-1"]));
}

#[tokio::test]
async fn an_inbound_message_waits_to_be_pulled_once() {
    let simulator = TestSimulator::start().await;
    let id = simulator
        .inbound("385916242493", "385921004026", "Hello")
        .await;
    let inbox = simulator.get("/sms/1/inbox/reports").await;
    assert_eq!(inbox["messageCount"], 1);
    assert_eq!(inbox["pendingMessageCount"], 0);
    let message = &inbox["results"][0];
    assert_eq!(message["messageId"], id);
    assert_eq!(message["from"], "385916242493");
    assert_eq!(message["to"], "385921004026");
    assert_eq!(message["text"], "Hello");
    assert_eq!(message["cleanText"], "Hello");
    assert_eq!(
        simulator.get("/sms/1/inbox/reports").await["messageCount"],
        0
    );
    assert_eq!(
        simulator.get("/sms/1/inbox/logs").await["results"][0]["messageId"],
        id
    );
}

#[tokio::test]
async fn template_receives_an_inbound_message_instead_of_the_pull() {
    let receiver = PushReceiver::start().await;
    let template =
        receiver.url("/in?s=%sender%&r=%receiver%&t=%text%&b=%bin%&d=%datacoding%&m=%messageId%");
    let simulator = TestSimulator::with(|config| {
        config.inbound = Some(infobip_simulator::InboundPush::Get(template));
    })
    .await;
    let id = simulator
        .inbound("+38598123123", "385921004026", "A & C")
        .await;
    let pushed = receiver.wait_for(1).await;
    assert_eq!(pushed[0].method, Method::GET);
    assert_eq!(
        pushed[0].uri.to_string(),
        format!("/in?s=38598123123&r=385921004026&t=A%20%26%20C&b=&d=0&m={id}")
    );
    assert_eq!(
        simulator.get("/sms/1/inbox/reports").await["messageCount"],
        0
    );
}

#[tokio::test]
async fn requests_without_valid_credentials_are_refused() {
    let simulator = TestSimulator::start().await;
    let refused = json!({"requestError": {"serviceException": {"messageId": "UNAUTHORIZED", "text": "Invalid login details"}}});
    let path = "/sms/1/reports";
    for request in [
        simulator.anonymous(Method::GET, path),
        simulator
            .anonymous(Method::GET, path)
            .basic_auth(USERNAME, Some("wrong")),
        simulator
            .anonymous(Method::GET, path)
            .header("authorization", "App wrong"),
        simulator
            .anonymous(Method::GET, path)
            .header("authorization", "Bearer wrong"),
        simulator
            .anonymous(Method::GET, path)
            .header("authorization", "Basic \u{fe}"),
    ] {
        let answer = simulator.answer(request).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.json(), refused);
    }
    let token = simulator
        .answer(
            simulator
                .anonymous(Method::POST, "/auth/1/oauth2/token")
                .header("content-type", "application/x-www-form-urlencoded")
                .body(format!(
                    "client_id={USERNAME}&client_secret={}&grant_type=client_credentials",
                    PASSWORD.replace(' ', "+")
                )),
        )
        .await
        .json();
    let session = json!({"username": USERNAME, "password": PASSWORD});
    let session = simulator.post("/auth/1/session", session).await;
    for scheme in [
        // The manual's own header.
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".to_owned(),
        format!("App {API_KEY}"),
        format!("Bearer {}", token["access_token"].as_str().unwrap()),
        format!("IBSSO {}", session["token"].as_str().unwrap()),
    ] {
        let answer = simulator
            .answer(
                simulator
                    .anonymous(Method::GET, path)
                    .header("authorization", &scheme),
            )
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{scheme}");
    }
}

#[tokio::test]
async fn destination_number_selects_the_outcome() {
    let simulator =
        TestSimulator::frozen_with(|config| config.delivery_latency_ms = (100, 100)).await;
    let rejected = simulator.send(text("99901006123", "rejected")).await;
    assert_eq!(
        rejected["messages"][0]["status"]["name"],
        "REJECTED_NETWORK"
    );
    assert_eq!(
        rejected["messages"][0]["status"]["action"],
        "Contact account manager"
    );
    for (to, id) in [
        ("999020001", "permanent"),
        ("999020027", "temporary"),
        ("999030027", "intermediate"),
        ("999040090", "late"),
        ("999051111", "never"),
    ] {
        assert_eq!(
            simulator.send(text(to, id)).await["messages"][0]["status"]["id"],
            7
        );
    }
    let state = async |id: &str| {
        let logs = simulator.get(&format!("/sms/1/logs?messageId={id}")).await;
        let row = &logs["results"][0];
        (
            row["status"]["name"].as_str().unwrap().to_owned(),
            row["error"]["id"].as_u64().unwrap(),
        )
    };
    simulator.advance(Duration::from_millis(60)).await;
    assert_eq!(
        state("intermediate").await,
        ("PENDING_WAITING_DELIVERY".into(), 27)
    );
    simulator.advance(Duration::from_secs(60)).await;
    assert_eq!(state("rejected").await, ("REJECTED_NETWORK".into(), 0));
    assert_eq!(
        state("permanent").await,
        ("UNDELIVERABLE_NOT_DELIVERED".into(), 1)
    );
    assert_eq!(state("temporary").await, ("EXPIRED_EXPIRED".into(), 27));
    assert_eq!(
        state("intermediate").await,
        ("DELIVERED_TO_HANDSET".into(), 0)
    );
    assert_eq!(state("late").await, ("PENDING_WAITING_DELIVERY".into(), 0));
    simulator.advance(Duration::from_secs(90 * 60)).await;
    assert_eq!(state("late").await, ("DELIVERED_TO_HANDSET".into(), 0));
    assert_eq!(state("never").await, ("PENDING_WAITING_DELIVERY".into(), 0));
    simulator
        .advance(Duration::from_secs(48 * 3600 - 91 * 60))
        .await;
    let never = simulator
        .messages()
        .await
        .into_iter()
        .find(|message| message["messageId"] == "never")
        .unwrap();
    assert_eq!(
        (never["state"].as_str(), never["handsetDeliveries"].as_u64()),
        (Some("expired"), Some(0))
    );
}

#[tokio::test]
async fn the_ledger_has_one_row_for_each_acceptance_and_reset_empties_it() {
    let simulator = TestSimulator::start().await;
    simulator.send(text(TO, "m-1")).await;
    simulator.send(text("99901010", "refused")).await;
    assert_eq!(
        simulator.send(text(TO, "m-1")).await["messages"][0]["status"]["name"],
        "REJECTED_DUPLICATE_MESSAGE_ID"
    );
    let messages = simulator.all_final().await;
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(messages[0]["messageId"], "m-1");
    assert_eq!(messages[0]["state"], "delivered");
    assert_eq!(messages[0]["handsetDeliveries"], 1);
    let requests = simulator.requests().await;
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[0]["path"], "/sms/1/text/advanced");
    assert_eq!(requests[0]["messageIds"], json!(["m-1"]));

    simulator.post("/_sim/reset", json!({})).await;
    assert!(simulator.messages().await.is_empty());
    assert!(simulator.requests().await.is_empty());
    assert_eq!(simulator.get("/sms/1/logs").await, json!({"results": []}));
    assert_eq!(
        simulator.send(text(TO, "m-1")).await["messages"][0]["status"]["id"],
        7
    );
}

#[tokio::test]
async fn error_for_a_used_address_names_the_address_and_the_remedy() {
    let simulator = TestSimulator::start().await;
    let config = infobip_simulator::SimulatorConfig {
        listen: simulator.address(),
        ..Default::default()
    };
    let error = infobip_simulator::Simulator::bind(config)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&simulator.address().to_string()) && error.contains("--listen"),
        "{error}"
    );
}
