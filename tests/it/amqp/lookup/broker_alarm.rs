//! Answers to look-ups that cannot be stored because the broker blocks publishers.

use std::time::Duration;

use serde_json::json;

use super::setup::{numbers, with_id};
use crate::{
    amqp::{alarm::Relay, custody::Setup},
    support::broker::TestBroker,
};

/// Longer than a delivery may be held, and than several attempts to store an answer.
const ALARM: Duration = Duration::from_secs(5);

/// Four commands are delivered at a time: if they kept their places, nothing would be looked up again.
#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_longer_than_the_hold_does_not_stop_look_ups_for_good() {
    let broker = TestBroker::start().await;
    let relay = Relay::start(&broker.url).await;
    let url = relay.url.clone();
    let setup = Setup::start_on(broker, |config| {
        config.amqp.url = Some(url.into());
        config.amqp.hold_for = Duration::from_millis(500);
        config.amqp.confirm_timeout = Duration::from_millis(400);
        config.infobip.request_timeout = Duration::from_secs(30);
    })
    .await;
    setup.fault(json!({"kind": "latency", "ms": 1_500})).await;
    setup.publish_each(0..4).await;
    setup.until_paid(4).await;
    relay.alarm.send_replace(true);
    tokio::time::sleep(ALARM).await;
    relay.alarm.send_replace(false);

    setup.simulator.heal().await;
    setup.publish_lookup(with_id("r4"), &numbers(4..5)).await;
    setup.answered(5).await;
    setup.assert_paid_once(5).await;
    setup.stop().await;
}
