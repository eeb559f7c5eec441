//! A task that panics (the Cargo feature `kill-points` lets a named one do so): the process ends with a status that makes its supervisor
//! start it again, instead of going on without the task.

use std::{process::ExitStatus, time::Duration};

use serde_json::Value;

use crate::support::{
    DEADLINE,
    bridge::text,
    broker::TestBroker,
    process::{BridgeProcess, parsed},
    simulator::TestSimulator,
};

/// Waits for the end of a bridge in which a task panicked; `begin` brings the task about. Returns its status, and the tasks that its log
/// names.
async fn end_of(
    settings: &[(&str, &str)],
    task: &str,
    begin: impl AsyncFnOnce(&BridgeProcess),
) -> (Option<ExitStatus>, Vec<String>) {
    let simulator = TestSimulator::start().await;
    let mut all = vec![
        ("SMSBRIDGE_PANIC_IN", task),
        ("SMSBRIDGE_SHUTDOWN__GRACE", "1s"),
    ];
    all.extend(settings);
    let bridge = BridgeProcess::start(&simulator, &all).await;
    begin(&bridge).await;
    let ended = bridge.kill_after(DEADLINE).await;
    // All lines are JSON, unless the error that ends the process.
    let lines = ended
        .said
        .lines()
        .filter(|line| !line.starts_with("error: "));
    let lines = parsed(&lines.collect::<Vec<_>>().join("\n"));
    let is_located = |line: &Value| {
        let location = line["location"].as_str().unwrap_or_default();
        location.starts_with("src/ops/kill_point.rs:")
    };
    assert!(lines.iter().any(is_located), "{lines:?}");
    let is_panic = |line: &&Value| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("a task of the bridge panicked")
    };
    let named = lines.iter().filter(is_panic);
    let named = named.map(|line| line["task"].as_str().unwrap().to_owned());
    (ended.status, named.collect())
}

fn assert_failed((status, named): (Option<ExitStatus>, Vec<String>), task: &str) {
    let code = status.and_then(|status| status.code());
    assert_eq!((code, named), (Some(1), vec![task.to_owned()]), "{task}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_task_panics_ends_with_an_error() {
    for task in [
        "dispatcher",
        "resolver",
        "event log",
        "event log maintenance",
        "health",
        "admin",
    ] {
        let ended = end_of(&[], task, async |_| ()).await;
        assert_failed(ended, task);
    }
    // Those of a single send.
    for task in ["request", "placement"] {
        let ended = end_of(&[], task, async |bridge: &BridgeProcess| {
            let mut sms = bridge.sms().await;
            let mut request = text(&["41793026727"], "Hello");
            request.request_id = "r1".into();
            let sent = tokio::time::timeout(Duration::from_secs(30), sms.send_sms(request)).await;
            assert!(
                sent.expect("an answer, or the end of the connection")
                    .is_err()
            );
        });
        assert_failed(ended.await, task);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_task_for_the_broker_panics_ends_with_an_error() {
    let broker = TestBroker::start().await;
    let settings = [
        ("SMSBRIDGE_AMQP__URL", broker.url.as_str()),
        ("SMSBRIDGE_AMQP__PREFIX", broker.prefix.as_str()),
    ];
    for task in ["publisher", "republisher", "unrouted", "commands"] {
        let ended = end_of(&settings, task, async |_| ()).await;
        assert_failed(ended, task);
    }
}
