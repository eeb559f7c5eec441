//! A share is reserved for urgent commands, and neither lane starves (docs/DECISIONS.md#two-lanes-under-one-budget).

use std::time::Duration;

use lapin::BasicProperties;
use serde_json::{Value, json};
use smsbridge::config::Config;

use super::custody::{SEND_PATH, Setup};

/// Urgent commands of these tests are binary, so that they have an endpoint of their own.
const URGENT_PATH: &str = "/sms/1/binary/advanced";
const URGENT: usize = 5;
const NORMAL: usize = 60;

fn one_message_at_a_time(config: &mut Config) {
    config.send.max_batch = 1;
    config.send.max_batching_wait = Duration::ZERO;
    config.infobip.request_timeout = Duration::from_secs(300);
    // The shutdown finds requests that the API never answers.
    config.shutdown.grace = Duration::from_secs(1);
}

impl Setup {
    async fn publish_urgent(&self, n: usize) {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id(format!("urgent-{n}").into());
        let command = json!({"message": {"from": "InfoSMS", "destinations": [{"to": format!("41794{n:06}")}],
            "binary": {"data": "AQID"}}});
        let commands = self.broker.topology().commands();
        let body = command.to_string();
        self.client
            .publish(&commands, "sms.send.urgent", properties, body.as_bytes())
            .await;
    }

    /// The API never answers normal messages. Waits until `count` of them hold a request, and nothing else happens.
    async fn api_hangs(&self, count: usize) {
        self.simulator
            .fault(json!({"kind": "latency", "ms": 600_000, "path": SEND_PATH}))
            .await;
        for n in 0..NORMAL {
            self.publish_command(n).await;
        }
        self.sends_seen(count).await;
    }

    async fn urgent_ones_are_sent(self) {
        for n in 0..URGENT {
            self.publish_urgent(n).await;
        }
        self.accepted(URGENT).await;
        let requests = self.simulator.requests().await;
        let urgent = |request: &&Value| request["path"] == URGENT_PATH;
        assert_eq!(requests.iter().filter(urgent).count(), URGENT);
        self.bridge.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn urgent_commands_are_sent_while_normal_ones_hold_all_other_requests() {
    let setup = Setup::start(|config| {
        one_message_at_a_time(config);
        config.send.max_requests_in_flight = 3;
    })
    .await;
    setup.api_hangs(2).await;
    setup.urgent_ones_are_sent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn urgent_commands_have_room_while_normal_ones_fill_the_queue() {
    let setup = Setup::start(|config| {
        one_message_at_a_time(config);
        config.send.max_requests_in_flight = 50;
        config.send.queue_capacity = 20;
    })
    .await;
    setup.api_hangs(18).await;
    setup.urgent_ones_are_sent().await;
}

/// Urgent commands arrive faster than the API takes them.
#[tokio::test(flavor = "multi_thread")]
async fn normal_commands_are_sent_while_urgent_ones_never_end() {
    const BEFORE: usize = 50;
    const FLOOD: usize = 300;
    let setup = Setup::start(|config| {
        one_message_at_a_time(config);
        config.send.max_requests_in_flight = 1;
    })
    .await;
    setup
        .simulator
        .fault(json!({"kind": "latency", "ms": 40, "path": URGENT_PATH}))
        .await;
    for n in 0..BEFORE {
        setup.publish_urgent(n).await;
    }
    for n in 0..URGENT {
        setup.publish_command(n).await;
    }
    let before = setup.simulator.paths().await.len();
    for n in BEFORE..FLOOD {
        setup.publish_urgent(n).await;
    }
    setup.accepted(FLOOD + URGENT).await;
    let paths = setup.simulator.paths().await;
    let last = paths.iter().rposition(|path| path == SEND_PATH).unwrap();
    assert!(last < before + 100, "after {} requests", last - before);
    setup.bridge.stop().await;
}

/// A campaign uses the rate of a minute in advance.
#[tokio::test(flavor = "multi_thread")]
async fn urgent_commands_have_a_part_of_the_rate() {
    let setup = Setup::start(|config| {
        config.infobip.send_messages_per_second = 20;
        config.shutdown.grace = Duration::from_secs(1);
    })
    .await;
    let destinations: Vec<_> = (0..1_000)
        .map(|n| json!({"to": format!("41793{n:06}")}))
        .collect();
    let campaign = json!({"bulkId": "campaign", "messages":
        [{"from": "InfoSMS", "destinations": destinations, "text": "Hello"}]});
    setup.publish_bulk("campaign", &campaign).await;
    setup.sends_seen(1).await;
    setup.publish_command(2_000).await;
    for n in 0..URGENT {
        setup.publish_urgent(n).await;
    }
    setup.accepted(1_000 + URGENT).await;
    let paths = setup.simulator.paths().await;
    let normal = paths.iter().filter(|path| *path == SEND_PATH).count();
    assert_eq!(normal, 1, "the campaign has used the rate of normal ones");
    setup.bridge.stop().await;
}
