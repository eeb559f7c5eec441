//! Sends that began and have no stored result, with the event log on the broker: a repeated call finds them (P2).

use serde_json::json;
use smsbridge::{
    events::{
        BeginSends, EarlierSend, EarlierSends, EventLog as _, SendJournal as _, broker::BrokerLog,
    },
    ops::metrics::Metrics,
    proto::v1::Outcome,
};
use tonic_types::StatusExt as _;

use crate::support::{
    bridge::{TestBridge, text_with_id},
    broker::TestBroker,
    eventually,
    simulator::TestSimulator,
};

const SEND: &str = "/sms/1/text/advanced";
const LOGS: &str = "/sms/1/logs";
const TO: &str = "41793026727";

async fn begin(log: &BrokerLog, wire_id: &str, conflicting: &str) -> EarlierSends {
    let begin = BeginSends {
        sends: vec![(wire_id.into(), [7; 16])],
        conflicting_ids: vec![conflicting.into()],
    };
    log.begin(begin).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_begun_send_is_interrupted_until_it_ends() {
    let broker = TestBroker::start().await;
    let log = BrokerLog::new(
        broker.publisher().await,
        broker.endpoint(),
        broker.topology(),
        broker.config().confirm_timeout,
        Metrics::new(),
    );
    assert_eq!(begin(&log, "shop.a", "shop.a.0").await.sends, [None]);
    let again = begin(&log, "shop.a", "shop.a.0").await;
    let [Some(EarlierSend::Interrupted { digest, .. })] = again.sends[..] else {
        panic!("{again:?}")
    };
    assert_eq!((digest, again.conflicting_id), ([7; 16], false));
    assert!(begin(&log, "shop.b", "shop.a").await.conflicting_id);

    // A call with other content was rejected: it does not end the original.
    log.end(&[("shop.a".into(), [8; 16])]);
    assert!(begin(&log, "shop.a", "").await.sends[0].is_some());
    log.end(&[("shop.a".into(), [7; 16])]);
    assert_eq!(begin(&log, "shop.a", "").await.sends, [None]);
    log.close().await;
}

/// The API accepted a message, and the broker went away before its event was stored. The API does not remember ids.
#[tokio::test(flavor = "multi_thread")]
async fn a_send_whose_result_was_not_stored_is_looked_up_before_a_resend() {
    let broker = TestBroker::start().await;
    let proxy = broker.proxy().await;
    let simulator = TestSimulator::start().await;
    simulator.fault(json!({"kind": "forget_ids"})).await;
    simulator
        .fault(json!({"kind": "latency", "count": 1, "ms": 2_000, "path": SEND}))
        .await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.amqp = broker.config();
        config.amqp.url = Some(proxy.url.clone().into());
    })
    .await;
    let ready = async || {
        let url = format!("http://{}/ready", bridge.addresses.admin);
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        text.starts_with("ready").then_some(())
    };
    eventually("the bridge is ready", ready).await;
    let mut sms = bridge.sms();
    let call = tokio::spawn(async move { sms.send_sms(text_with_id("r1", &[TO])).await });
    eventually("the API has the message", async || {
        (simulator.messages().await.len() == 1).then_some(())
    })
    .await;
    proxy.down();
    let failed = call.await.unwrap().unwrap_err();
    let info = failed.get_details_error_info().unwrap();
    assert_eq!(info.reason, "EVENT_LOG_UNAVAILABLE", "{failed:?}");

    proxy.up();
    eventually("the bridge is ready", ready).await;
    let again = bridge.sms().send_sms(text_with_id("r1", &[TO])).await;
    let results = again.unwrap().into_inner().results;
    assert_eq!(results[0].outcome(), Outcome::Accepted);
    assert_eq!(simulator.paths().await, [SEND, LOGS]);
    bridge.stop().await;
}
