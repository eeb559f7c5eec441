//! `amqp.topology = "passive"`: an operator owns the exchanges and queues, and the bridge declares none.

use std::process::{Command, Output};

use lapin::options::QueueDeleteOptions;

use crate::support::{
    bridge::text, broker::TestBroker, eventually, process::BridgeProcess, simulator::TestSimulator,
};

/// `smsbridge topology --declare` with the broker of the environment, under a configuration that names another one.
fn declare(broker: &TestBroker) -> Output {
    Command::new(env!("CARGO_BIN_EXE_smsbridge"))
        .args(["topology", "--declare", "--amqp-url", &broker.url])
        .env("SMSBRIDGE_AMQP__URL", "amqp://nobody:wrong@127.0.0.1:1/%2f")
        .env("SMSBRIDGE_AMQP__TOPOLOGY", "passive")
        .env("SMSBRIDGE_AMQP__PREFIX", &broker.prefix)
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passive_bridge_names_what_is_missing_and_declares_nothing() {
    let broker = TestBroker::start().await;
    let simulator = TestSimulator::start().await;
    let proxy = broker.proxy().await;
    let settings = [
        ("SMSBRIDGE_AMQP__URL", proxy.url.as_str()),
        ("SMSBRIDGE_AMQP__TOPOLOGY", "passive"),
        ("SMSBRIDGE_AMQP__PREFIX", broker.prefix.as_str()),
    ];
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    let topology = broker.topology();
    let shows = async |parts: &[String]| {
        eventually(&format!("{parts:?} is shown"), async || {
            let ready = bridge.ready().await;
            parts
                .iter()
                .all(|part| ready.contains(part))
                .then_some(ready)
        })
        .await
    };
    let mut all: Vec<String> = vec!["event log: cannot declare: the exchange `".into()];
    let exchanges = topology.exchanges().into_iter();
    all.extend(exchanges.map(|exchange| format!("exchange `{}`", exchange.name)));
    let queues = topology.queues().into_iter();
    all.extend(queues.map(|queue| format!("queue `{}`", queue.name)));
    all.push("smsbridge topology --declare".into());
    shows(&all).await;

    let declared = declare(&broker);
    assert!(declared.status.success(), "{declared:?}");
    shows(&["ready\n".into()]).await;
    eventually("the bridge is ready", async || {
        (bridge.ready().await == "ready\n").then_some(())
    })
    .await;
    let sent = bridge
        .sms()
        .await
        .send_sms(text(&["41793026727"], "Hi"))
        .await;
    assert_eq!(sent.unwrap().into_inner().results.len(), 1);

    let client = broker.client().await;
    let quarantine = topology.quarantine();
    let deleted = client
        .channel
        .queue_delete(quarantine.as_str().into(), QueueDeleteOptions::default());
    deleted.await.unwrap();
    proxy.cut();
    let ready = shows(&[format!("the queue `{quarantine}` does not exist")]).await;
    assert!(!ready.contains("exchange `"), "{ready}");
    let problems = bridge.logged().into_iter().filter(|line| {
        let cause = line["cause"].as_str().unwrap_or_default();
        line["level"] == "WARN" && cause.contains("cannot declare: the queue")
    });
    assert_eq!(problems.count(), 1);
    bridge.stop().await;
}
