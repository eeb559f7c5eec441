//! `smsbridge topology`, run as the built binary.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{
    bridge::text, broker::TestBroker, eventually, process::BridgeProcess, simulator::TestSimulator,
};

fn topology(broker: &TestBroker, arguments: &[&str], retention: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_smsbridge"))
        .arg("topology")
        .args(arguments)
        .env("SMSBRIDGE_AMQP__URL", &broker.url)
        .env("SMSBRIDGE_AMQP__PREFIX", &broker.prefix)
        .env("SMSBRIDGE_AMQP__STREAM_RETENTION", retention)
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_prints_and_declares_the_topology() {
    let broker = TestBroker::start().await;
    let declared = topology(&broker, &["--declare", "--json"], "1h");
    assert!(declared.status.success(), "{declared:?}");
    let printed: Value = serde_json::from_slice(&declared.stdout).unwrap();
    let client = broker.client().await;
    for queue in printed["queues"].as_array().unwrap() {
        let passive = lapin::options::QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let name = queue["name"].as_str().unwrap();
        assert!(name.starts_with(&broker.prefix));
        client
            .channel
            .queue_declare(name.into(), passive, Default::default())
            .await
            .expect(name);
    }
    assert!(topology(&broker, &["--declare"], "1h").status.success());

    let conflict = topology(&broker, &["--declare"], "2h");
    assert_eq!(conflict.status.code(), Some(1));
    let said = String::from_utf8(conflict.stderr).unwrap();
    assert!(said.contains(&broker.topology().events_log()), "{said}");
}

/// A stream keeps the retention that it was declared with: the bridge uses it and says how to change it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_another_retention_is_used() {
    let broker = TestBroker::start().await;
    assert!(topology(&broker, &["--declare"], "2h").status.success());
    let simulator = TestSimulator::start().await;
    let settings = [
        ("SMSBRIDGE_AMQP__URL", broker.url.as_str()),
        ("SMSBRIDGE_AMQP__PREFIX", &broker.prefix),
        ("SMSBRIDGE_AMQP__STREAM_RETENTION", "1h"),
    ];
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    eventually("the bridge is ready", async || {
        (bridge.ready().await == "ready\n").then_some(())
    })
    .await;
    let mut sms = bridge.sms().await;
    let sent = sms.send_sms(text(&["41793026727"], "Hi")).await.unwrap();
    assert_eq!(sent.into_inner().results.len(), 1);
    let (_, said) = bridge.stop().await;
    let warned: Vec<&str> = said.lines().filter(|line| line.contains("WARN")).collect();
    let [warned] = warned[..] else {
        panic!("{said}")
    };
    for part in ["x-max-age", "7200s", "3600s", "docs/RABBITMQ.md"] {
        assert!(warned.contains(part), "{part} in {warned}");
    }
}

/// The type of a queue is not a detail: a classic queue loses what the contract promises to keep.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_another_type_is_not_used() {
    let broker = TestBroker::start().await;
    let dead = broker.topology().dead();
    let client = broker.client().await;
    client
        .channel
        .queue_declare(
            dead.as_str().into(),
            lapin::options::QueueDeclareOptions {
                durable: true,
                ..Default::default()
            },
            Default::default(),
        )
        .await
        .unwrap();
    let simulator = TestSimulator::start().await;
    let settings = [
        ("SMSBRIDGE_AMQP__URL", broker.url.as_str()),
        ("SMSBRIDGE_AMQP__PREFIX", &broker.prefix),
    ];
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    eventually("the conflict is shown", async || {
        bridge.ready().await.contains(&dead).then_some(())
    })
    .await;
    bridge.stop().await;
}
