//! Copies of commands that nobody is known to have tried (header `smsbridge-may-have-twin`): they are looked up once, then sent, and
//! never end as `unknown` (docs/RELIABILITY.md#how-a-send-stays-single).

use std::time::Duration;

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::json;

use super::custody::{SEND_PATH, Setup};
use crate::support::eventually;

const LOGS_PATH: &str = "/sms/1/logs";

impl Setup {
    async fn publish_copy(&self) {
        let mut headers = FieldTable::default();
        headers.insert("smsbridge-may-have-twin".into(), AMQPValue::Boolean(true));
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id("r1".into())
            .with_headers(headers);
        let command = json!({"message":
            {"from": "InfoSMS", "destinations": [{"to": "41793026727"}], "text": "Hello"}});
        let commands = self.broker.topology().commands();
        let body = command.to_string();
        self.client
            .publish(&commands, "sms.send", properties, body.as_bytes())
            .await;
    }

    /// Whether the API got a request, in the order of the first of each path.
    async fn paths_in_order(&self) -> Vec<String> {
        let mut paths = self.simulator.paths().await;
        let mut seen = std::collections::BTreeSet::new();
        paths.retain(|path| seen.insert(path.clone()));
        paths
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_looked_up_and_then_sent() {
    let setup = Setup::start(|_| ()).await;
    setup.publish_copy().await;
    setup.accepted(1).await;
    assert_eq!(setup.paths_in_order().await, [LOGS_PATH, SEND_PATH]);
    setup.bridge.stop().await;
}

/// Nobody has tried it, so it goes back to its queue. A redelivered command would end as `unknown`.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_cannot_be_looked_up_goes_back_at_a_shutdown() {
    let setup = Setup::start(|config| config.shutdown.grace = Duration::from_secs(2)).await;
    setup
        .simulator
        .fault(json!({"kind": "status", "status": 503, "path": LOGS_PATH}))
        .await;
    setup.publish_copy().await;
    eventually("it is looked up", async || {
        let paths = setup.simulator.paths().await;
        paths.iter().any(|path| path == LOGS_PATH).then_some(())
    })
    .await;
    assert_eq!(setup.paths_in_order().await, [LOGS_PATH]);
    let queue = setup.broker.topology().send_normal();
    setup.bridge.stop().await;
    let back = setup.client.take(&queue).await;
    assert!(!back.redelivered);
    let headers = back.properties.headers().as_ref().unwrap();
    assert!(headers.contains_key("smsbridge-may-have-twin"));
    assert!(!headers.contains_key("smsbridge-in-doubt"));
}
