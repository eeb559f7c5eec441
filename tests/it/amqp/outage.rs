//! A broker that is away: calls and pushes are refused at once, nothing is sent, and everything goes on when it is back.

use std::time::{Duration, Instant};

use serde_json::json;
use smsbridge::{config::Engine, proto::v1::Outcome};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{
    bridge::{TestBridge, text_with_id},
    broker::TestBroker,
    eventually,
    simulator::TestSimulator,
};

/// Less than `amqp.confirm_timeout` (10 s), and enough for a slow machine.
const AT_ONCE: Duration = Duration::from_secs(8);

async fn ready(bridge: &TestBridge) -> String {
    let url = format!("http://{}/ready", bridge.addresses.admin);
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

async fn becomes(bridge: &TestBridge, part: &str) {
    eventually(part, async || {
        ready(bridge).await.starts_with(part).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_session_calls_and_pushes_are_refused_at_once_and_nothing_is_sent() {
    let broker = TestBroker::start().await;
    let proxy = broker.proxy().await;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.amqp = broker.config();
        config.amqp.url = Some(proxy.url.clone().into());
    })
    .await;
    becomes(&bridge, "ready").await;
    proxy.down();
    becomes(&bridge, "not ready\nevent log: the broker at 127.0.0.1:").await;

    let begun = Instant::now();
    let request = || text_with_id("r1", &["41793026727"]);
    let refused = bridge.sms().send_sms(request()).await.unwrap_err();
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.get_details_retry_info().is_some(), "{refused:?}");
    let info = refused.get_details_error_info().unwrap();
    assert_eq!(info.reason, "EVENT_LOG_UNAVAILABLE");
    assert_eq!(info.metadata["in_doubt"], "false");
    assert_eq!(
        refused.message().matches("event log").count(),
        1,
        "{refused:?}"
    );

    let click = json!({"notificationType": "CLICKED", "messageId": "default.m1"});
    let push = || {
        let client = reqwest::Client::new();
        client
            .post(bridge.webhook("clicks"))
            .body(click.to_string())
            .send()
    };
    let begun = Instant::now();
    let answer = push().await.unwrap();
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    assert!(simulator.paths().await.is_empty(), "nothing was sent");

    proxy.up();
    becomes(&bridge, "ready").await;
    let sent = bridge.sms().send_sms(request()).await.unwrap().into_inner();
    assert_eq!(sent.results[0].outcome(), Outcome::Accepted);
    assert_eq!(push().await.unwrap().status(), 200);
    bridge.stop().await;
}

/// Calls are served with the embedded log, but no command is consumed.
#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_consumes_no_commands_says_so() {
    let broker = TestBroker::start().await;
    let proxy = broker.proxy().await;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.amqp = broker.config();
        config.amqp.url = Some(proxy.url.clone().into());
        config.events.engine = Engine::Embedded;
    })
    .await;
    eventually("commands are consumed", async || {
        (ready(&bridge).await == "ready\n").then_some(())
    })
    .await;
    proxy.down();
    becomes(&bridge, "ready\ncommands: they are not consumed: ").await;
    proxy.up();
    eventually("commands are consumed again", async || {
        (ready(&bridge).await == "ready\n").then_some(())
    })
    .await;
}
