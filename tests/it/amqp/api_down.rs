//! Commands while the API refuses or cannot take sends: they are retried, and none is rejected (docs/RELIABILITY.md, P1).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use lapin::BasicProperties;
use serde_json::json;

use super::custody::{SEND_PATH, Setup};
use crate::support::eventually;

pub(super) const COMMANDS: usize = 300;
/// Dates of the simulator; all have the same offset.
const API_DATE: &str = "%Y-%m-%dT%H:%M:%S%.f%z";

impl Setup {
    pub(super) async fn publish_commands(&self) {
        for n in 0..COMMANDS {
            self.publish_command(n).await;
        }
    }

    pub(super) async fn publish_command(&self, n: usize) {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id(format!("r{n}").into());
        let to = format!("41793{n:06}");
        let command = json!({"message":
            {"from": "InfoSMS", "destinations": [{"to": to}], "text": "Hello"}});
        let commands = self.broker.topology().commands();
        let body = command.to_string();
        self.client
            .publish(&commands, "sms.send", properties, body.as_bytes())
            .await;
    }

    /// Waits until the API has received at least `count` send requests; returns when each arrived.
    pub(super) async fn sends_seen(&self, count: usize) -> Vec<Timestamp> {
        let at = |request: serde_json::Value| {
            let at = request["at"].as_str().unwrap();
            let at = DateTime::strptime(API_DATE, at).unwrap();
            at.to_zoned(TimeZone::UTC).unwrap().timestamp()
        };
        eventually("requests to send", async || {
            let mut requests = self.simulator.requests().await;
            requests.retain(|request| request["path"] == SEND_PATH);
            (requests.len() >= count).then(|| requests.into_iter().map(at).collect())
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_wait_while_the_api_answers_404() {
    let setup = Setup::start(|config| config.send.retry_for = Duration::from_millis(500)).await;
    setup
        .simulator
        .fault(json!({"kind": "html", "status": 404, "path": SEND_PATH}))
        .await;
    setup.publish_commands().await;
    setup.sends_seen(5).await;
    setup.simulator.heal().await;
    setup.accepted(COMMANDS).await;
    assert!(setup.results("send.rejected").await.is_empty());
    assert!(setup.results("send.unknown").await.is_empty());
    setup.assert_delivered_once(COMMANDS).await;
    setup.bridge.stop().await;
}

/// The dispatcher backs off instead of trying the rest of the backlog at full speed.
async fn nobody_hammers(fault: serde_json::Value) {
    let setup = Setup::start(|config| {
        config.send.max_batch = 1;
        config.send.max_requests_in_flight = 1;
        // The shutdown finds sends that the API never takes.
        config.shutdown.grace = Duration::from_secs(1);
    })
    .await;
    setup.simulator.fault(fault).await;
    setup.publish_commands().await;
    let sends = setup.sends_seen(6).await;
    // Delays of 100, 200, 400, 800 and 1,600 ms, each shortened by at most a quarter (jitter).
    let took = sends[5].duration_since(sends[0]);
    assert!(took > SignedDuration::from_millis(2_300), "{sends:?}");
    assert!(setup.results("send.rejected").await.is_empty());
    setup.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_back_off_while_the_api_refuses_the_credentials() {
    nobody_hammers(json!({"kind": "status", "status": 401, "path": SEND_PATH})).await;
}

/// A login page in front of the API. The sends are in doubt, and the next ones wait.
#[tokio::test(flavor = "multi_thread")]
async fn requests_back_off_while_the_api_redirects() {
    nobody_hammers(json!({"kind": "html", "status": 302, "path": SEND_PATH})).await;
}
