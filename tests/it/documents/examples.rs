//! The programs in `examples/`, unmodified, and grpcurl by reflection, against a bridge with a simulator.

pub(super) mod broker;
mod connection;
mod language;

use serde_json::{Value, json};

use self::language::{Examples, NodeExamples, PythonExamples, requirements};
use crate::support::{
    bridge::TestBridge,
    eventually,
    external_programs::{GRPC_TOOLS, Python, run},
    simulator::TestSimulator,
};

const FIRST: &str = "41793026727";
const SECOND: &str = "385911234567";
/// Rejected at once with REJECTED_NETWORK.
const REJECTED: &str = "999010061";

/// The second word of each line: the message ids.
fn message_ids(lines: &str) -> Vec<String> {
    let second = |line: &str| line.split_whitespace().nth(1).unwrap().to_owned();
    lines.lines().map(second).collect()
}

/// The JSON of each line.
fn json_lines(lines: &str) -> Vec<Value> {
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Waits until the simulator has delivered `count` messages.
async fn delivered(simulator: &TestSimulator, count: usize) {
    eventually("messages are delivered", async || {
        let messages = simulator.messages().await;
        let delivered = messages
            .iter()
            .filter(|message| message["handsetDeliveries"] == 1);
        (delivered.count() == count).then_some(())
    })
    .await;
}

/// Sends, follows events, looks up, and pages logs. The simulator pushes reports to the bridge.
async fn sends_follows_looks_up_and_pages<E: Examples>(examples: &E) {
    let send = E::SEND;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;

    let printed = examples
        .run(&bridge, send, &[FIRST, SECOND, "--text", "Hello"])
        .await;
    let ids = message_ids(&printed);
    assert_eq!(ids.len(), 2, "{printed}");
    assert_ne!(ids[0], ids[1]);
    assert_eq!(printed.matches("OUTCOME_ACCEPTED").count(), 2, "{printed}");
    let sent: Vec<_> = simulator.messages().await;
    assert_eq!(sent.len(), 2);

    let follow = [
        "--type",
        "report.delivered",
        "--since",
        "60",
        "--count",
        "2",
    ];
    let printed = examples.run(&bridge, "follow_events", &follow).await;
    assert_eq!(printed.lines().count(), 2, "{printed}");
    for line in printed.lines() {
        assert!(line.contains("Z  report.delivered  default  "), "{line}");
        assert!(line.len() < 160, "{line}");
    }
    let json: Vec<_> = follow.into_iter().chain(["--json"]).collect();
    let printed = examples.run(&bridge, "follow_events", &json).await;
    assert!(
        json_lines(&printed)
            .iter()
            .all(|event| event["time"].is_string()),
        "{printed}"
    );
    let mut reported: Vec<_> = json_lines(&printed)
        .iter()
        .map(|event| event["report"]["messageId"].as_str().unwrap().to_owned())
        .collect();
    reported.sort();
    let mut expected = ids.clone();
    expected.sort();
    assert_eq!(reported, expected);

    let printed = examples.run(&bridge, "lookup", &[FIRST, SECOND]).await;
    assert!(
        printed.contains(FIRST) && printed.contains(SECOND),
        "{printed}"
    );

    let printed = examples
        .run(&bridge, "logs", &["--page-size", "1", "--expect", "2"])
        .await;
    assert!(
        printed.contains(&ids[0]) && printed.contains(&ids[1]),
        "{printed}"
    );
    let printed = examples
        .run(&bridge, "logs", &["--to", SECOND, "--expect", "1"])
        .await;
    assert_eq!(printed.lines().count(), 1, "{printed}");

    // An example fails if an expected event did not happen.
    for (script, args) in [
        (send, &[REJECTED, "--text", "Hello"][..]),
        (send, &[FIRST, "--text", ""]),
        (
            "follow_events",
            &["--type", "link.clicked", "--count", "1", "--timeout", "1"],
        ),
        ("logs", &["--expect", "1000"]),
        ("pull", &["--messages", "1"]),
    ] {
        let ended = examples.end(&bridge, script, args).await;
        assert_eq!(ended.status, Some(1), "{script} {args:?}: {ended:?}");
    }
    bridge.stop().await;
}

/// Pulls reports and messages with a bridge that gets no pushes, and finds the message among the events.
async fn pulls<E: Examples>(examples: &E) {
    let send = E::SEND;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.http.public_url = None).await;

    let pulled = examples.run(&bridge, "pull", &[]).await;
    assert_eq!(pulled, "nothing unread\n");

    let printed = examples
        .run(&bridge, send, &[FIRST, SECOND, "--text", "Hello"])
        .await;
    let ids = message_ids(&printed);
    let received = simulator.inbound(FIRST, "41790000000", "Hi there").await;
    delivered(&simulator, 2).await;
    let printed = examples
        .run(&bridge, "pull", &["--reports", "2", "--messages", "1"])
        .await;
    for expected in [&ids[0], &ids[1], &received] {
        assert!(printed.contains(expected.as_str()), "{printed}");
    }

    let follow = [
        "--type",
        "inbound.received",
        "--since",
        "60",
        "--count",
        "1",
        "--json",
    ];
    let printed = examples.run(&bridge, "follow_events", &follow).await;
    assert_eq!(json_lines(&printed)[0]["received"]["text"], "Hi there");
    bridge.stop().await;
}

/// Sends in bulk and on a stream, and consumes a subscription, which continues where its last consumer acknowledged.
async fn sends_many_and_subscribes(examples: &impl Examples) {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let subscribe = async |count: &str| {
        let args = [
            "--name", "test", "--type", "send.*", "--count", count, "--json",
        ];
        let printed = examples.run(&bridge, "subscribe", &args).await;
        let (first, events) = printed.split_once('\n').unwrap();
        (first.to_owned(), json_lines(events))
    };
    assert_eq!(subscribe("0").await, ("created test".to_owned(), vec![]));

    let [one, two] = [format!("{FIRST}=One"), format!("{SECOND}=Two = 2")];
    let mut sent = Vec::new();
    for (script, column) in [("send_bulk", 1), ("stream_sms", 2)] {
        let printed = examples.run(&bridge, script, &[&one, &two]).await;
        assert_eq!(printed.matches("OUTCOME_ACCEPTED").count(), 2, "{printed}");
        let id = |line: &str| line.split_whitespace().nth(column).unwrap().to_owned();
        sent.extend(printed.lines().map(id));
    }
    let texts: Vec<_> = simulator.messages().await;
    let texts = texts.iter().filter(|message| message["text"] == "Two = 2");
    assert_eq!(texts.count(), 2);

    let mut received = Vec::new();
    for count in ["1", "3"] {
        let (first, events) = subscribe(count).await;
        assert_eq!(first, "continued test");
        received.extend(events);
    }
    let mut received: Vec<_> = received
        .iter()
        .map(|event| event["result"]["messageId"].as_str().unwrap().to_owned())
        .collect();
    received.sort();
    sent.sort();
    assert_eq!(received, sent);

    // One message is rejected, the other is sent.
    let rejected = format!("{REJECTED}=Hello");
    for script in ["send_bulk", "stream_sms"] {
        let ended = examples.end(&bridge, script, &[&one, &rejected]).await;
        assert_eq!(ended.status, Some(1), "{script}: {ended:?}");
        for outcome in ["OUTCOME_ACCEPTED", "OUTCOME_REJECTED"] {
            assert!(ended.stdout.contains(outcome), "{script}: {ended:?}");
        }
    }
    let waiting = ["--name", "idle", "--count", "1", "--timeout", "1"];
    let ended = examples.end(&bridge, "subscribe", &waiting).await;
    assert_eq!(ended.status, Some(1), "{ended:?}");
    bridge.stop().await;
}

#[tokio::test]
async fn python_sends_many_and_subscribes() {
    sends_many_and_subscribes(&PythonExamples::ready().await).await;
}

#[tokio::test]
async fn node_sends_many_and_subscribes() {
    sends_many_and_subscribes(&NodeExamples::ready().await).await;
}

#[tokio::test]
async fn python_sends_follows_looks_up_and_pages() {
    let python = PythonExamples::ready().await;
    sends_follows_looks_up_and_pages(&python).await;
}

#[tokio::test]
async fn python_pulls_reports_and_messages() {
    pulls(&PythonExamples::ready().await).await;
}

#[tokio::test]
async fn node_sends_follows_looks_up_and_pages() {
    sends_follows_looks_up_and_pages(&NodeExamples::ready().await).await;
}

#[tokio::test]
async fn node_pulls_reports_and_messages() {
    pulls(&NodeExamples::ready().await).await;
}

#[tokio::test]
async fn grpcurl_sends_by_reflection() {
    let python = Python::with(&requirements(), GRPC_TOOLS).await;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let address = bridge.addresses.grpc.to_string();
    let grpcurl = |args: &[&str]| {
        let mut command = python.program("grpcurl");
        command.arg("-plaintext").args(args);
        run(command)
    };

    let services = grpcurl(&[&address, "list"]).await;
    for service in ["SmsService", "EventService", "AdminService"] {
        assert!(
            services.contains(&format!("smsbridge.v1.{service}")),
            "{services}"
        );
    }

    let body = json!({
        "message": {"destinations": [{"to": FIRST}, {"to": SECOND}], "text": "Hello"},
    })
    .to_string();
    let answer = grpcurl(&["-d", &body, &address, "smsbridge.v1.SmsService/SendSms"]).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 2, "{answer:#}");
    for (result, to) in results.iter().zip([FIRST, SECOND]) {
        assert_eq!(
            (&result["to"], &result["outcome"]),
            (&json!(to), &json!("OUTCOME_ACCEPTED"))
        );
    }
    assert_ne!(results[0]["messageId"], results[1]["messageId"]);
    assert_eq!(simulator.messages().await.len(), 2);
    bridge.stop().await;
}
