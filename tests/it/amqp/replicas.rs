//! Replicas count each other by the consumers of a queue, and each uses its part of the account's rate.

use std::time::Duration;

use super::custody::Setup;
use crate::{
    send::rates::time_of_ten_requests,
    support::{bridge::TestBridge, eventually},
};

async fn await_replicas(bridge: &TestBridge, count: f64) {
    eventually(&format!("{count} replicas"), async || {
        let counted = bridge.metric("smsbridge_account_replicas").await;
        (counted == Some(count)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_count_each_other_and_share_the_rate() {
    let setup = Setup::start(|config| config.infobip.send_requests_per_second = 10).await;
    let other = TestBridge::with(&setup.simulator, |config| {
        config.amqp = setup.broker.config();
        config.infobip.replicas = 7;
    })
    .await;
    await_replicas(&setup.bridge, 2.0).await;
    assert_eq!(other.metric("smsbridge_account_replicas").await, Some(7.0));
    // 4.5 a second.
    let took = time_of_ten_requests(&setup.simulator, &setup.bridge).await;
    assert!(took > Duration::from_millis(1_800), "{took:?}");

    other.stop().await;
    await_replicas(&setup.bridge, 1.0).await;
    setup.bridge.stop().await;
}
