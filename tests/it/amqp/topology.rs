//! `smsbridge topology`, run as the built binary.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::broker::TestBroker;

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
