//! Intermediate reports that the configuration asks for (`send.intermediate_reports`).

use serde_json::{Value, json};
use smsbridge::proto::v1;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

use crate::support::{
    bridge::{TestBridge, text},
    simulator::TestSimulator,
};

/// A number whose first attempt ends in a temporary error.
const ABSENT_AT_FIRST: &str = "9990300271234";

#[tokio::test]
async fn the_configuration_asks_for_intermediate_reports() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.send.intermediate_reports = true;
    })
    .await;
    let mut events = bridge.events().await;
    let message = text(&[ABSENT_AT_FIRST], "Hello");
    bridge.sms().send_sms(message).await.unwrap();
    let mut reports = Vec::new();
    while reports.last().is_none_or(|last| last == "report.pending") {
        let event = events.next().await;
        if event.r#type.starts_with("report.") {
            reports.push(event.r#type);
        }
    }
    assert_eq!(reports, ["report.pending", "report.delivered"]);
}

/// The messages of the request that the bridge makes for one message.
async fn requested(is_configured: bool, message: v1::OutboundMessage) -> Value {
    let api = MockServer::start().await;
    let answer = json!({"messages": []});
    Mock::given(any())
        .respond_with(ResponseTemplate::new(200).set_body_json(answer))
        .mount(&api)
        .await;
    let bridge = TestBridge::at(&api.uri(), tempfile::tempdir().unwrap(), |config| {
        config.send.intermediate_reports = is_configured;
        config.send.in_doubt_for = std::time::Duration::from_millis(200);
        config.send.in_doubt_wait = std::time::Duration::from_millis(50);
    })
    .await;
    let request = v1::SendSmsRequest {
        message: Some(message),
        ..text(&["41793026727"], "Hello")
    };
    let _ = bridge.sms().send_sms(request).await;
    let requests = api.received_requests().await.unwrap();
    let first = requests.first().expect("the message is sent");
    let body: Value = serde_json::from_slice(&first.body).unwrap();
    body["messages"][0].clone()
}

#[tokio::test]
async fn a_message_with_a_url_of_its_own_or_without_reports_asks_only_for_itself() {
    let message = || text(&["41793026727"], "Hello").message.unwrap();
    let own_url = |intermediate_report| v1::OutboundMessage {
        notify_url: "https://example.com/reports".into(),
        intermediate_report,
        ..message()
    };
    let without_reports = v1::OutboundMessage {
        notify: Some(false),
        ..message()
    };
    let asked = v1::OutboundMessage {
        intermediate_report: true,
        ..message()
    };
    for (is_configured, message, expected) in [
        (false, message(), None),
        (true, message(), Some(true)),
        (false, asked, Some(true)),
        (true, own_url(false), None),
        (true, own_url(true), Some(true)),
        (true, without_reports, None),
    ] {
        let found = requested(is_configured, message.clone()).await;
        let flag = found["intermediateReport"].as_bool().filter(|is| *is);
        assert_eq!(flag, expected, "configured: {is_configured}; {found}");
        if !message.notify_url.is_empty() {
            assert_eq!(found["notifyUrl"], message.notify_url.as_str());
        }
    }
}
