//! `smsbridge topology`, run as the built binary.

use std::process::{Command, Output};

use lapin::{
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;
use smsbridge::amqp::{
    Topology,
    headers::{arguments, number, text as text_argument},
};

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
    // From 4.3 on the broker compares times, and tells milliseconds.
    let [existing, configured] = match broker.version().await {
        version if version >= (4, 3) => ["'7200000'", "'3600000'"],
        _ => ["'7200s'", "'3600s'"],
    };
    for part in ["x-max-age", existing, configured, "docs/RABBITMQ.md"] {
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

/// Declares a queue with arguments that somebody else chose.
async fn declare(broker: &TestBroker, queue: &str, arguments: &[(&'static str, AMQPValue)]) {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert((*name).into(), value.clone());
    }
    let options = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let client = broker.client().await;
    let declared = client.channel.queue_declare(queue.into(), options, table);
    declared.await.unwrap();
}

/// Starts a bridge, and returns it when `/ready` tells `expected`.
async fn bridge_that_tells(broker: &TestBroker, expected: &str) -> BridgeProcess {
    let simulator = TestSimulator::start().await;
    let settings = [
        ("SMSBRIDGE_AMQP__URL", broker.url.as_str()),
        ("SMSBRIDGE_AMQP__PREFIX", &broker.prefix),
    ];
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    eventually(&format!("`{expected}` is shown"), async || {
        let ready = bridge.ready().await;
        let is_shown = if expected == "ready" {
            ready == "ready\n"
        } else {
            ready.contains(expected)
        };
        is_shown.then_some(())
    })
    .await;
    bridge
}

fn retry_queue(topology: &Topology) -> String {
    format!("{}.1s", topology.retry())
}

fn ttl(ms: i64) -> (&'static str, AMQPValue) {
    (arguments::MESSAGE_TTL, number(ms))
}

fn quorum() -> (&'static str, AMQPValue) {
    (arguments::QUEUE_TYPE, text_argument("quorum"))
}

/// All arguments of a retry queue but its time to live.
fn retry_arguments() -> [(&'static str, AMQPValue); 4] {
    [
        quorum(),
        (arguments::DEAD_LETTER_EXCHANGE, text_argument("")),
        (
            arguments::DEAD_LETTER_STRATEGY,
            text_argument("at-least-once"),
        ),
        (arguments::OVERFLOW, text_argument("reject-publish")),
    ]
}

/// The broker names only the first argument that differs, here the time to live. Commands would expire into nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_queue_with_another_time_and_another_difference_is_not_used() {
    let classic = vec![ttl(5_000)];
    let mut at_most_once = retry_arguments().to_vec();
    at_most_once.retain(|(name, _)| *name != arguments::DEAD_LETTER_STRATEGY);
    at_most_once.push(ttl(5_000));
    for existing in [vec![quorum(), ttl(5_000)], classic, at_most_once] {
        let broker = TestBroker::start().await;
        let queue = retry_queue(&broker.topology());
        declare(&broker, &queue, &existing).await;
        bridge_that_tells(&broker, &queue).await.stop().await;
    }
}

/// It keeps commands for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_queue_without_a_time_is_not_used() {
    let broker = TestBroker::start().await;
    let queue = retry_queue(&broker.topology());
    declare(&broker, &queue, &retry_arguments()).await;
    bridge_that_tells(&broker, &queue).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_queue_with_another_time_is_used() {
    let broker = TestBroker::start().await;
    let queue = retry_queue(&broker.topology());
    let mut existing = retry_arguments().to_vec();
    // Two arguments differ: the retry queues have no delivery limit.
    existing.extend([ttl(5_000), (arguments::DELIVERY_LIMIT, number(7))]);
    declare(&broker, &queue, &existing).await;
    bridge_that_tells(&broker, "ready").await.stop().await;
}

/// It has no dead-letter exchange: at the limit, the broker drops the message.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_drops_messages_at_a_delivery_limit_is_not_used() {
    let broker = TestBroker::start().await;
    let returned = broker.topology().returned();
    let limit = (arguments::DELIVERY_LIMIT, number(5));
    declare(&broker, &returned, &[quorum(), limit]).await;
    bridge_that_tells(&broker, &returned).await.stop().await;
}

/// The message tells which queue or exchange, which argument, both values, and what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_explained_with_its_way_out() {
    let explained = async |broker: &TestBroker, parts: &[&str]| {
        let bridge = bridge_that_tells(broker, "cannot declare: ").await;
        let ready = bridge.ready().await;
        bridge.stop().await;
        let declared = topology(broker, &["--declare"], "1h");
        let said = String::from_utf8(declared.stderr).unwrap();
        for part in parts {
            assert!(ready.contains(part), "{part} in {ready}");
            assert!(said.contains(part), "{part} in {said}");
        }
    };

    let broker = TestBroker::start().await;
    let queue = broker.topology().returned();
    declare(&broker, &queue, &[]).await;
    let named = format!("the queue `{queue}` already exists");
    let delete = format!("rabbitmqctl delete_queue -p '/' --if-empty '{queue}'");
    let parts = [
        "`x-queue-type` is ",
        "the bridge declares `quorum`",
        &named,
        &delete,
    ];
    explained(&broker, &parts).await;

    let broker = TestBroker::start().await;
    let queue = broker.topology().lookup();
    let limit = (arguments::DELIVERY_LIMIT, number(1000));
    declare(&broker, &queue, &[quorum(), limit]).await;
    let named = format!("the queue `{queue}` already exists");
    let parts = [
        "`x-dead-letter-",
        "` is absent there",
        &named,
        "amqp.prefix",
    ];
    explained(&broker, &parts).await;

    let broker = TestBroker::start().await;
    let exchange = broker.topology().events();
    let client = broker.client().await;
    let durable = lapin::options::ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let declared = client.channel.exchange_declare(
        exchange.as_str().into(),
        lapin::ExchangeKind::Fanout,
        durable,
        FieldTable::default(),
    );
    declared.await.unwrap();
    let named = format!("the exchange `{exchange}` already exists");
    let parts = [
        "`type` is `fanout` there",
        "declares `topic`",
        &named,
        "bind your queues again",
    ];
    explained(&broker, &parts).await;

    // Only `--declare` minds another retention.
    let broker = TestBroker::start().await;
    assert!(topology(&broker, &["--declare"], "2h").status.success());
    let conflict = topology(&broker, &["--declare"], "1h");
    let said = String::from_utf8(conflict.stderr).unwrap();
    for part in [
        "`x-max-age` is `7200s` there",
        "declares `3600s`",
        "amqp.stream_retention",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
}
