//! The programs in `examples/`, unmodified, and grpcurl by reflection, against a bridge with a simulator.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{
    bridge::TestBridge,
    broker::TestBroker,
    eventually,
    foreign::{Ended, GRPC_TOOLS, Node, Python, end, run},
    simulator::TestSimulator,
};

const FIRST: &str = "41793026727";
const SECOND: &str = "385911234567";
/// Rejected at once with REJECTED_NETWORK.
const REJECTED: &str = "999010061";

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The examples of one language, ready to run.
trait Examples {
    /// A script with its arguments.
    fn command(&self, script: &str, args: &[&str]) -> Command;

    /// Runs it against a bridge and returns its output; panics if it fails.
    async fn run(&self, bridge: &TestBridge, script: &str, args: &[&str]) -> String {
        run(self.at(bridge, script, args)).await
    }

    /// Runs it against a bridge, successful or not.
    async fn end(&self, bridge: &TestBridge, script: &str, args: &[&str]) -> Ended {
        end(self.at(bridge, script, args)).await
    }

    fn at(&self, bridge: &TestBridge, script: &str, args: &[&str]) -> Command {
        let mut command = self.command(script, args);
        command.env(
            "SMSBRIDGE_ADDRESS",
            format!("http://{}", bridge.addresses.grpc),
        );
        command
    }
}

/// `examples/python` with its stubs.
struct PythonExamples {
    python: Python,
    stubs: TempDir,
}

impl PythonExamples {
    async fn ready() -> Self {
        let python = Python::with(&requirements(), GRPC_TOOLS).await;
        let stubs = tempfile::tempdir().unwrap();
        let mut make = python.script(&repository("examples/python/make_stubs.py"));
        make.arg(stubs.path());
        run(make).await;
        Self { python, stubs }
    }
}

fn requirements() -> PathBuf {
    repository("examples/python/requirements.txt")
}

impl Examples for PythonExamples {
    fn command(&self, script: &str, args: &[&str]) -> Command {
        let script = repository(&format!("examples/python/{script}.py"));
        let mut command = self.python.script(&script);
        command.args(args).env("PYTHONPATH", self.stubs.path());
        command
    }
}

/// A copy of `examples/node` and the contract below the folder of the installed packages, where Node finds them.
struct NodeExamples {
    node: Node,
    workspace: TempDir,
}

impl NodeExamples {
    async fn ready() -> Self {
        let node = Node::with(&[repository("examples/node/package.json")]).await;
        let workspace = node.workspace();
        for folder in ["examples/node", "proto/smsbridge/v1"] {
            let copy = workspace.path().join(folder);
            std::fs::create_dir_all(&copy).unwrap();
            for file in std::fs::read_dir(repository(folder)).unwrap() {
                let file = file.unwrap().path();
                if file.is_file() {
                    std::fs::copy(&file, copy.join(file.file_name().unwrap())).unwrap();
                }
            }
        }
        Self { node, workspace }
    }
}

impl Examples for NodeExamples {
    fn command(&self, script: &str, args: &[&str]) -> Command {
        let scripts = self.workspace.path().join("examples/node");
        let mut command = self.node.script(&scripts.join(format!("{script}.js")));
        command.args(args);
        command
    }
}

/// The second word of each line: the message ids.
fn message_ids(lines: &str) -> Vec<String> {
    let second = |line: &str| line.split_whitespace().nth(1).unwrap().to_owned();
    lines.lines().map(second).collect()
}

/// The JSON of each line.
fn events(lines: &str) -> Vec<Value> {
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
async fn sends_follows_looks_up_and_pages(examples: &impl Examples, send: &str) {
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
    let mut reported: Vec<_> = events(&printed)
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
async fn pulls(examples: &impl Examples, send: &str) {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.http.public_url = None).await;

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
    ];
    let printed = examples.run(&bridge, "follow_events", &follow).await;
    assert_eq!(events(&printed)[0]["received"]["text"], "Hi there");
    bridge.stop().await;
}

#[tokio::test]
async fn python_sends_follows_looks_up_and_pages() {
    let python = PythonExamples::ready().await;
    sends_follows_looks_up_and_pages(&python, "send_sms").await;
}

#[tokio::test]
async fn python_pulls() {
    pulls(&PythonExamples::ready().await, "send_sms").await;
}

#[tokio::test]
async fn node_sends_follows_looks_up_and_pages() {
    sends_follows_looks_up_and_pages(&NodeExamples::ready().await, "send").await;
}

#[tokio::test]
async fn node_pulls() {
    pulls(&NodeExamples::ready().await, "send").await;
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

#[tokio::test]
async fn python_publishes_commands_and_reads_events() {
    let python = Python::with(&requirements(), GRPC_TOOLS).await;
    let broker = TestBroker::start().await;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.amqp = broker.config()).await;
    let ready = format!("http://{}/ready", bridge.addresses.admin);
    eventually("the bridge is ready", async || {
        let answer = reqwest::get(&ready).await.unwrap();
        answer.status().is_success().then_some(())
    })
    .await;
    let send = |to: &[&str]| {
        let mut command = python.script(&repository("examples/python/amqp_send.py"));
        command.args(to).args(["--text", "Hello"]).args([
            "--amqp-url",
            &broker.url,
            "--prefix",
            &broker.prefix,
        ]);
        command
    };

    let printed = run(send(&[FIRST, SECOND])).await;
    for event in ["send.accepted", "report.delivered"] {
        for to in [FIRST, SECOND] {
            assert!(printed.contains(&format!("{event}  {to}  ")), "{printed}");
        }
    }
    assert_eq!(simulator.messages().await.len(), 2);

    let ended = end(send(&[REJECTED])).await;
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("send.rejected"), "{ended:?}");
    bridge.stop().await;
}
