//! Outages of the API that last longer than a send in doubt may stay so: commands wait, single probes find out when the API is back, and
//! every command is accepted then (docs/RELIABILITY.md#outages-of-the-api).

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    api_down::COMMANDS,
    custody::{SEND_PATH, Setup},
    doubts::{IN_DOUBT, LOGS_PATH, marked},
};
use crate::support::{bridge::LONG_AFTER, eventually};

/// Longer than `send.in_doubt_for` of this test, and than the first three waits between probes.
const OUTAGE: Duration = Duration::from_secs(6);

async fn sends(setup: &Setup) -> usize {
    let paths = setup.simulator.paths().await;
    paths.iter().filter(|path| *path == SEND_PATH).count()
}

/// A bridge with commands, whose API has these faults: asserts that only probes are sent.
async fn only_probes_are_sent(faults: Value) -> Setup {
    let setup = Setup::start(|config| {
        config.send.max_batch = 10;
        config.send.in_doubt_for = Duration::from_secs(2);
    })
    .await;
    setup.simulator.fault(faults).await;
    setup.publish_commands().await;
    setup.sends_seen(3).await;
    // Requests that were in flight when the outage began have ended after this (`infobip.request_timeout` is 1 s).
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = sends(&setup).await;
    tokio::time::sleep(OUTAGE).await;
    let probes = sends(&setup).await - before;
    let bound = usize::try_from(OUTAGE.as_secs()).unwrap() * 2;
    assert!((1..=bound).contains(&probes), "{probes} sends");
    setup
}

/// No command has ended otherwise than by an acceptance.
async fn assert_none_failed(setup: &Setup) {
    for other in ["send.rejected", "send.unknown", "command.invalid"] {
        assert!(setup.results(other).await.is_empty(), "{other}");
    }
}

async fn is_sat_out(faults: Value) {
    let setup = only_probes_are_sent(faults).await;
    setup.simulator.heal().await;
    setup.accepted(COMMANDS).await;
    assert_none_failed(&setup).await;
    setup.assert_delivered_once(COMMANDS).await;
    setup.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_sit_out_an_api_that_answers_503() {
    // The logs fail as well, as they do in most outages.
    is_sat_out(json!([
        {"kind": "status", "status": 503, "path": SEND_PATH},
        {"kind": "status", "status": 503, "path": "/sms/1/logs"},
    ]))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_sit_out_sends_that_fail_while_the_logs_answer() {
    is_sat_out(json!({"kind": "status", "status": 500, "path": SEND_PATH})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_sit_out_a_proxy_that_answers_404() {
    is_sat_out(json!({"kind": "html", "status": 404, "path": SEND_PATH})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_sit_out_broken_connections() {
    is_sat_out(json!({"kind": "reset", "path": SEND_PATH})).await;
}

/// It is sent again and again, as the probe, for longer than `send.in_doubt_for`.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_in_doubt_sits_out_an_outage() {
    let setup = Setup::start(|config| config.send.in_doubt_for = Duration::from_secs(1)).await;
    setup
        .simulator
        .fault(json!({"kind": "status", "status": 500, "path": SEND_PATH}))
        .await;
    setup.publish_command(0).await;
    // Three that open the breaker, and the probes after about 0.5, 1.5 and 3.5 s.
    setup.sends_seen(6).await;
    setup.simulator.heal().await;
    setup.accepted(1).await;
    assert_none_failed(&setup).await;
    setup.bridge.stop().await;
}

/// The first look-up is answered. Then the logs take connections and do not answer, for longer than `send.in_doubt_for`, while more
/// commands are in doubt than one request has room for.
#[tokio::test(flavor = "multi_thread")]
async fn many_commands_in_doubt_sit_out_logs_that_do_not_answer() {
    const MANY: usize = 200;
    let setup = Setup::start(|config| {
        config.infobip.request_timeout = Duration::from_secs(2);
        config.send.in_doubt_for = Duration::from_secs(3);
    })
    .await;
    let slow = |ms: u64| json!({"kind": "latency", "ms": ms, "path": LOGS_PATH});
    setup.simulator.fault(slow(1_800)).await;
    let publish = async |n: usize| {
        let id = format!("a-request-id-as-long-as-those-of-many-systems-{n}");
        let command = json!({"message":
            {"from": "InfoSMS", "destinations": [{"to": format!("41793{n:06}")}], "text": "Hello"}});
        let commands = setup.broker.topology().commands();
        let body = command.to_string();
        let properties = marked(&id, IN_DOUBT);
        setup
            .client
            .publish(&commands, "sms.send", properties, body.as_bytes())
            .await;
    };
    publish(0).await;
    setup.await_look_up().await;
    setup.simulator.heal().await;
    setup.simulator.fault(slow(60_000)).await;
    for n in 1..MANY {
        publish(n).await;
    }
    eventually("look-ups time out", async || {
        let paths = setup.simulator.paths().await;
        let asked = paths.iter().filter(|path| *path == LOGS_PATH).count();
        (asked > 8).then_some(())
    })
    .await;
    assert_none_failed(&setup).await;
    setup.simulator.heal().await;
    setup.accepted(MANY).await;
    assert_none_failed(&setup).await;
    setup.assert_delivered_once(MANY).await;
    setup.bridge.stop().await;
}

/// A command that was refused comes back after a minute, so this test does not wait for the acceptances.
#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_are_only_probed() {
    let fault = json!({"kind": "status", "status": 401, "path": SEND_PATH});
    let setup = only_probes_are_sent(fault).await;
    assert_none_failed(&setup).await;
    setup.bridge.stop().await;
}

/// What only waits for the API is not waited for. It goes back untried, long before the end of the grace period.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_hands_the_commands_back_while_the_api_is_down() {
    let setup = Setup::start(|config| config.shutdown.grace = Duration::from_secs(300)).await;
    setup
        .simulator
        .fault(json!({"kind": "html", "status": 404, "path": SEND_PATH}))
        .await;
    setup.publish_commands().await;
    setup.sends_seen(3).await;
    setup.bridge.stop().await;
    let queue = setup.broker.topology().send_normal();
    for _ in 0..COMMANDS {
        let back = setup.client.take(&queue).await;
        assert!(!back.redelivered);
        let headers = back.properties.headers().as_ref();
        assert!(headers.is_none_or(|headers| !headers.contains_key("smsbridge-in-doubt")));
    }
}

/// One request a second: most commands wait for their turn for longer than the test does.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_hands_back_what_no_request_carries() {
    const WAITING: usize = 100;
    let setup = Setup::start(|config| {
        config.shutdown.grace = LONG_AFTER;
        config.infobip.send_requests_per_second = 1;
        config.send.max_batch = 1;
    })
    .await;
    for n in 0..WAITING {
        setup.publish_command(n).await;
    }
    let queued = "smsbridge_queued_destinations{lane=\"normal\"}";
    eventually("most wait", async || {
        let waiting = setup.bridge.metric(queued).await?;
        (waiting > 80.0).then_some(())
    })
    .await;
    setup.bridge.stop().await;
    let queue = setup.broker.topology().send_normal();
    let mut back = 0;
    while let Some(command) = setup.client.try_take(&queue).await {
        assert!(!command.redelivered);
        let headers = command.properties.headers().as_ref();
        assert!(headers.is_none_or(|headers| !headers.contains_key("smsbridge-in-doubt")));
        back += 1;
    }
    assert_eq!(back + setup.simulator.messages().await.len(), WAITING);
}
