//! Commands whose delivery is lost while they wait in a bridge: another bridge handles them, and nothing of them is begun afterwards
//! by the first one (docs/RELIABILITY.md#how-a-send-stays-single). The API forgets ids, so each second request is a second SMS.

use std::time::Duration;

use lapin::BasicProperties;
use serde_json::json;
use smsbridge::config::Config;

use super::custody::{SEND_PATH, Setup, api};
use crate::support::{
    bridge::TestBridge,
    broker::{Client, Proxy, TestBroker},
    eventually,
    process::BridgeProcess,
    simulator::TestSimulator,
};

const COMMANDS: usize = 10;
const QUEUED: &str = "smsbridge_queued_destinations{lane=\"normal\"}";
const OVERLAPS: &str = "smsbridge_send_overlaps_possible_total";

async fn publish(broker: &TestBroker, client: &Client, count: usize) {
    for n in 0..count {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id(format!("r{n}").into());
        let command = json!({"message": {"from": "InfoSMS", "text": "Hello",
            "destinations": [{"to": format!("4179300{n:04}")}]}});
        let commands = broker.topology().commands();
        let body = command.to_string();
        client
            .publish(&commands, "sms.send", properties, body.as_bytes())
            .await;
    }
}

async fn forgetful_api() -> TestSimulator {
    let simulator = api().await;
    simulator.fault(json!({"kind": "forget_ids"})).await;
    simulator
}

async fn sends(simulator: &TestSimulator) -> usize {
    let paths = simulator.paths().await;
    paths.iter().filter(|path| *path == SEND_PATH).count()
}

async fn await_sends(simulator: &TestSimulator, count: usize) {
    eventually("sends", async || {
        (sends(simulator).await >= count).then_some(())
    })
    .await;
}

/// A bridge over a relay, with changed settings.
async fn bridge_over_a_relay(
    simulator: &TestSimulator,
    broker: &TestBroker,
    configure: impl FnOnce(&mut Config),
) -> (TestBridge, Proxy) {
    let proxy = broker.proxy().await;
    let bridge = TestBridge::with(simulator, |config| {
        config.amqp = broker.config();
        config.amqp.url = Some(proxy.url.clone().into());
        config.infobip.log_requests_per_minute = 100_000;
        configure(config);
    })
    .await;
    (bridge, proxy)
}

/// The bridge that handles what the first one lost, in a setup with the client of its commands.
async fn second_bridge(simulator: TestSimulator, broker: TestBroker, client: Client) -> Setup {
    let bridge = TestBridge::with(&simulator, |config| {
        config.amqp = broker.config();
        config.infobip.request_timeout = Duration::from_secs(1);
        config.infobip.log_requests_per_minute = 100_000;
    })
    .await;
    Setup {
        broker,
        client,
        simulator,
        bridge,
    }
}

/// One request a second: most commands wait when the session is lost.
#[tokio::test(flavor = "multi_thread")]
async fn commands_that_wait_are_withdrawn_with_their_session() {
    let broker = TestBroker::start().await;
    drop(broker.publisher().await);
    let (client, simulator) = (broker.client().await, forgetful_api().await);
    let (first, proxy) = bridge_over_a_relay(&simulator, &broker, |config| {
        config.infobip.send_requests_per_second = 1;
        config.send.max_batch = 1;
    })
    .await;
    publish(&broker, &client, COMMANDS).await;
    await_sends(&simulator, 2).await;
    proxy.down();
    let second = second_bridge(simulator, broker, client).await;
    second.accepted(COMMANDS).await;
    // The event log of the first bridge is on the broker: it sends nothing until it is back.
    proxy.up();
    eventually("nothing waits in the first bridge", async || {
        let queued = first.metric(QUEUED).await;
        let connected = "smsbridge_amqp_connected{connection=\"commands\"}";
        (queued == Some(0.0) && first.metric(connected).await == Some(1.0)).then_some(())
    })
    .await;
    second.assert_delivered_once(COMMANDS).await;
    first.stop().await;
    second.bridge.stop().await;
}

/// It finds a closed session and commands in its lanes when it goes on, and does not know in which order.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_stopped_sends_nothing_of_what_another_one_got() {
    let broker = TestBroker::start().await;
    drop(broker.publisher().await);
    let (client, simulator) = (broker.client().await, forgetful_api().await);
    let url = format!("{}?heartbeat=2", broker.url);
    let first = BridgeProcess::start(
        &simulator,
        &[
            ("SMSBRIDGE_AMQP__URL", &url),
            ("SMSBRIDGE_AMQP__PREFIX", &broker.prefix),
            ("SMSBRIDGE_INFOBIP__SEND_REQUESTS_PER_SECOND", "2"),
            ("SMSBRIDGE_SEND__MAX_BATCH", "1"),
        ],
    )
    .await;
    publish(&broker, &client, COMMANDS).await;
    await_sends(&simulator, 2).await;
    first.signal("STOP").await;
    let second = second_bridge(simulator, broker, client).await;
    second.accepted(COMMANDS).await;
    first.signal("CONT").await;
    eventually("nothing waits in the first bridge", async || {
        let metrics = first.metrics().await;
        let line = format!("{QUEUED} 0");
        metrics.lines().any(|shown| shown == line).then_some(())
    })
    .await;
    second.assert_delivered_once(COMMANDS).await;
    drop(first.kill().await);
    second.bridge.stop().await;
}

/// Its request cannot be taken back, so it is counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_delivery_is_lost_is_counted() {
    let broker = TestBroker::start().await;
    drop(broker.publisher().await);
    let (client, simulator) = (broker.client().await, forgetful_api().await);
    let slow = json!({"kind": "latency", "ms": 3_000, "path": SEND_PATH});
    simulator.fault(slow).await;
    let (bridge, proxy) = bridge_over_a_relay(&simulator, &broker, |_| ()).await;
    publish(&broker, &client, 1).await;
    await_sends(&simulator, 1).await;
    assert_eq!(bridge.metric(OVERLAPS).await, Some(0.0));
    proxy.cut();
    eventually("it is counted", async || {
        (bridge.metric(OVERLAPS).await == Some(1.0)).then_some(())
    })
    .await;
    bridge.stop().await;
}
