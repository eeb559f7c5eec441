//! `/ready` tells a broker that takes sessions and declarations, but no messages, from one that refuses the declarations.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use smsbridge::proto::v1::Outcome;

use crate::support::{
    bridge::{TestBridge, text_with_id},
    broker::TestBroker,
    eventually,
    relay::{ACK, Peer, relay_frames},
    simulator::TestSimulator,
};

/// A relay that loses the broker's confirms while `is_silent`.
async fn start_relay(broker_url: &str, is_silent: Arc<AtomicBool>) -> String {
    relay_frames(broker_url, move |(): &mut (), peer, frame| {
        let is_confirm = peer == Peer::Broker && frame.is_method(ACK);
        if is_confirm && is_silent.load(Ordering::SeqCst) {
            return Vec::new();
        }
        frame.0
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_confirms_nothing_makes_the_bridge_unready_until_it_does() {
    let broker = TestBroker::start().await;
    let is_silent = Arc::new(AtomicBool::new(false));
    let url = start_relay(&broker.url, is_silent.clone()).await;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.amqp = broker.config();
        config.amqp.url = Some(url.into());
        config.amqp.confirm_timeout = Duration::from_millis(300);
    })
    .await;
    let ready = async || {
        let url = format!("http://{}/ready", bridge.addresses.admin);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    };
    let send = async |id: &str| {
        bridge
            .sms()
            .send_sms(text_with_id(id, &["41793026727"]))
            .await
    };
    send("r1").await.unwrap();
    eventually("nothing is left to be opened", async || {
        (ready().await == "ready\n").then_some(())
    })
    .await;

    is_silent.store(true, Ordering::SeqCst);
    let _ = send("r2").await;
    eventually("the bridge says that it cannot publish", async || {
        let ready = ready().await;
        let expected = "not ready\nevent log: cannot publish: the broker did not confirm within";
        ready.starts_with(expected).then_some(())
    })
    .await;

    is_silent.store(false, Ordering::SeqCst);
    eventually("a message is sent, and the bridge is ready", async || {
        let sent = send("r3").await.ok()?.into_inner();
        (sent.results[0].outcome() == Outcome::Accepted).then_some(())
    })
    .await;
    assert_eq!(ready().await, "ready\n");
    bridge.stop().await;
}
