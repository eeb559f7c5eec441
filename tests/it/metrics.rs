//! `/metrics` counts outcomes and contains no personal data.

use serde_json::json;
use smsbridge::proto::v1::Outcome;

use crate::support::{
    bridge::{TestBridge, text},
    broker::TestBroker,
    eventually,
    simulator::TestSimulator,
};

const NUMBER: &str = "41793026727";
const TEXT: &str = "Your code is seven";

async fn get(bridge: &TestBridge, path: &str) -> (u16, String) {
    let url = format!("http://{}{path}", bridge.addresses.admin);
    let answer = reqwest::get(url).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Waits until the page has all of the lines; returns the page.
async fn shown(bridge: &TestBridge, lines: &[&str]) -> String {
    let mut last = String::new();
    for line in lines {
        last = eventually(line, || async {
            let (_, page) = get(bridge, "/metrics").await;
            page.lines().any(|shown| shown == *line).then_some(page)
        })
        .await;
    }
    last
}

#[tokio::test]
async fn each_destination_of_a_request_is_counted() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let sent = bridge
        .sms()
        .send_sms(text(&[NUMBER, "41793026731"], TEXT))
        .await;
    assert_eq!(sent.unwrap().into_inner().results.len(), 2);
    shown(
        &bridge,
        &[r#"smsbridge_send_results_total{outcome="accepted"} 2"#],
    )
    .await;
    bridge.stop().await;
}

#[tokio::test]
async fn metrics_count_outcomes_without_numbers_or_texts() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let send = async |to: &str| {
        let sent = bridge.sms().send_sms(text(&[to], TEXT)).await.unwrap();
        sent.into_inner().results[0].outcome()
    };
    let mut events = bridge.events().await;

    assert_eq!(send(NUMBER).await, Outcome::Accepted);
    events.next_of("report.delivered").await;
    assert_eq!(send("12").await, Outcome::Rejected);
    simulator
        .fault(json!({"kind": "accept_then_drop", "path": "/sms/1/text/advanced", "count": 1}))
        .await;
    assert_eq!(send(NUMBER).await, Outcome::Accepted, "found in the logs");
    events.next_of("report.delivered").await;
    let broken = reqwest::Client::new()
        .post(bridge.webhook("reports"))
        .body(format!("<html>{NUMBER}"));
    assert_eq!(broken.send().await.unwrap().status(), 200);

    let page = shown(
        &bridge,
        &[
            r#"smsbridge_send_results_total{outcome="accepted"} 2"#,
            r#"smsbridge_send_results_total{outcome="rejected"} 1"#,
            r#"smsbridge_infobip_requests_total{endpoint="send",classification="in_doubt"} 1"#,
            r#"smsbridge_infobip_request_seconds_count{endpoint="send"} 3"#,
            "smsbridge_send_batch_destinations_sum 3.0",
            r#"smsbridge_in_doubt_resolved_total{resolution="found"} 1"#,
            "smsbridge_in_doubt_destinations 0",
            r#"smsbridge_queued_destinations{lane="normal"} 0"#,
            r#"smsbridge_events_appended_total{type="send.accepted"} 2"#,
            r#"smsbridge_events_appended_total{type="report.delivered"} 2"#,
            r#"smsbridge_webhook_bodies_total{endpoint="reports",result="stored"} 2"#,
            r#"smsbridge_webhook_bodies_total{endpoint="reports",result="quarantined"} 1"#,
            r#"smsbridge_grpc_calls_total{method="smsbridge.v1.SmsService/SendSms",code="OK"} 3"#,
            r#"smsbridge_grpc_call_seconds_count{method="smsbridge.v1.SmsService/SendSms"} 3"#,
        ],
    )
    .await;
    for private in [NUMBER, TEXT] {
        assert!(!page.contains(private), "{private} in\n{page}");
    }
    assert_eq!(get(&bridge, "/ready").await, (200, "ready\n".to_owned()));
}

/// What pages people: the broker, dead letters, files that cannot be reloaded.
#[tokio::test(flavor = "multi_thread")]
async fn the_broker_dead_letters_and_reloads_are_counted() {
    let simulator = TestSimulator::start().await;
    let broker = TestBroker::start().await;
    let proxy = broker.proxy().await;
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens.toml");
    std::fs::write(&tokens, "").unwrap();
    let bridge = TestBridge::with(&simulator, |config| {
        config.amqp = broker.config();
        config.amqp.url = Some(proxy.url.clone().into());
        config.grpc.tokens_file = Some(tokens.clone());
    })
    .await;
    let (publisher, commands) = (
        r#"smsbridge_amqp_connected{connection="publisher"}"#,
        r#"smsbridge_amqp_connected{connection="commands"}"#,
    );
    let up = [format!("{publisher} 1"), format!("{commands} 1")];
    shown(&bridge, &[&up[0], &up[1]]).await;
    std::fs::write(&tokens, "this is no TOML").unwrap();
    let exchange = broker.topology().commands();
    let properties = lapin::BasicProperties::default();
    let client = broker.client().await;
    client
        .publish(&exchange, "sms.send", properties, b"no command")
        .await;
    shown(
        &bridge,
        &[r#"smsbridge_dead_letters_total{cause="caller",reason="UNREADABLE_REQUEST"} 1"#],
    )
    .await;
    eventually("failed reloads are counted", async || {
        let series = r#"smsbridge_reload_failures_total{files="tokens"}"#;
        let failures = bridge.metric(series).await.expect(series);
        (failures >= 1.0).then_some(())
    })
    .await;
    proxy.down();
    let down = [format!("{publisher} 0"), format!("{commands} 0")];
    shown(&bridge, &[&down[0], &down[1]]).await;
    let (_, page) = get(&bridge, "/metrics").await;
    assert!(page.contains("\nprocess_open_fds "), "{page}");
    bridge.stop().await;
}

/// The series that an expression of docs/OPERATIONS.md reads, each as the beginning of its line: a name, or a name and one label
/// with each of its values.
fn series_of(expression: &str) -> Vec<String> {
    let mut series = Vec::new();
    for word in expression.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '[')) {
        if !word.starts_with("smsbridge_") && !word.starts_with("process_") {
            continue;
        }
        let Some((name, matcher)) = word.trim_end_matches('}').split_once('{') else {
            series.push(word.to_owned());
            continue;
        };
        let (label, values) = matcher.split_once('=').unwrap();
        let values = values.trim_start_matches('~').trim_matches('"').split('|');
        series.extend(values.map(|value| format!("{name} {label}=\"{value}\"")));
    }
    series
}

/// A rule about a series that appears with its first count does not fire at this count.
#[tokio::test(flavor = "multi_thread")]
async fn each_alert_rule_reads_series_that_exist_from_the_start() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.amqp.url = Some("amqp://guest:guest@127.0.0.1:1/%2f".to_owned().into());
    })
    .await;
    let (_, page) = get(&bridge, "/metrics").await;
    for connection in ["publisher", "commands"] {
        let line = format!("smsbridge_amqp_connected{{connection=\"{connection}\"}} 0");
        assert!(page.lines().any(|shown| shown == line), "{line} in\n{page}");
    }
    let operations = include_str!("../../docs/OPERATIONS.md");
    let rules = operations
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "));
    let mut read = 0;
    for series in rules.flat_map(series_of) {
        let (name, label) = series.split_once(' ').unwrap_or((&series, ""));
        let exists = |line: &str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']) && rest.contains(label))
        };
        assert!(page.lines().any(exists), "{series} in\n{page}");
        read += 1;
    }
    assert!(read >= 12, "{read} series");
    bridge.stop().await;
}
