//! Commands that the broker gives up, because they were delivered too often: they may have been sent, so they are looked up before they
//! become dead letters, and nothing of them is sent.

use std::time::Duration;

use lapin::{BasicProperties, options::QueueDeclareOptions, types::FieldTable};
use serde_json::{Value, json};
use smsbridge::{
    amqp::headers::{arguments, number, number_header, text_header},
    proto::v1::{SendResult, SendSmsResponse},
};

use super::{
    custody::{Setup, api},
    dead_letters::refuse,
    doubts::{LOGS_PATH, sent_before},
};
use crate::support::{
    broker::{Client, TestBroker},
    eventually,
};

const TO: &str = "41793026727";
const OTHER: &str = "41793026728";

/// A broker that gives a command up after two deliveries, with one that it has given up.
async fn given_up(properties: BasicProperties, body: &Value) -> TestBroker {
    let broker = TestBroker::start().await;
    let queue = broker.topology().send_normal();
    broker
        .declare_with(&queue, arguments::DELIVERY_LIMIT, number(2))
        .await;
    drop(broker.publisher().await);
    let client = broker.client().await;
    let properties = properties.with_delivery_mode(2);
    let commands = broker.topology().commands();
    client
        .publish(
            &commands,
            "sms.send",
            properties,
            body.to_string().as_bytes(),
        )
        .await;
    eventually("it is given up", async || {
        while refuse(&client, &queue, true).await {}
        (waiting(&client, &broker.topology().returned()).await == 1).then_some(())
    })
    .await;
    broker
}

async fn waiting(client: &Client, queue: &str) -> u32 {
    let options = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let arguments = FieldTable::default();
    let declaring = client
        .channel
        .queue_declare(queue.into(), options, arguments);
    declaring.await.unwrap().message_count()
}

fn to(destinations: Value) -> Value {
    json!({"message": {"from": "InfoSMS", "text": "Hello", "destinations": destinations}})
}

fn with_id() -> BasicProperties {
    BasicProperties::default().with_message_id("r1".into())
}

/// A bridge whose API sent a message with the id of the command's first destination before. The API forgets ids, so that a second
/// request is a second SMS.
async fn bridge_after(broker: TestBroker, sent: Option<&str>) -> Setup {
    let api = api().await;
    api.fault(json!({"kind": "forget_ids"})).await;
    if let Some(id) = sent {
        sent_before(&api, id).await;
    }
    // The logs show it at once.
    Setup::start_with(api, broker, |config| {
        config.infobip.log_lag = Duration::ZERO;
    })
    .await
}

/// The detail of the only dead letter, which has this reason.
async fn letter(setup: &Setup) -> String {
    let letter = setup.client.take(&setup.broker.topology().dead()).await;
    let headers = letter.properties.headers().as_ref();
    let reason = text_header(headers, "smsbridge-reason");
    assert_eq!(reason.as_deref(), Some("DELIVERY_LIMIT"));
    text_header(headers, "smsbridge-detail").unwrap()
}

async fn assert_nothing_was_sent(setup: &Setup, is_looked_up: bool) {
    let paths = setup.simulator.paths().await;
    assert!(paths.iter().all(|path| path == LOGS_PATH), "{paths:?}");
    assert_eq!(!paths.is_empty(), is_looked_up, "{paths:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_was_sent_before_it_was_given_up_is_accepted() {
    let broker = given_up(with_id(), &to(json!([{"to": TO}]))).await;
    let setup = bridge_after(broker, Some("r1")).await;
    let accepted = setup.accepted(1).await;
    assert!(accepted.contains_key(TO));
    setup.assert_delivered_once(1).await;
    assert!(setup.results("command.invalid").await.is_empty());
    assert_eq!(
        waiting(&setup.client, &setup.broker.topology().dead()).await,
        0
    );
    setup.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_was_given_up_and_not_sent_is_a_dead_letter_after_a_look_up() {
    let broker = given_up(with_id(), &to(json!([{"to": TO}]))).await;
    let setup = bridge_after(broker, None).await;
    let detail = letter(&setup).await;
    assert!(
        detail.contains("logs have none of its messages"),
        "{detail}"
    );
    assert_nothing_was_sent(&setup, true).await;
    assert!(setup.results("send.rejected").await.is_empty());
    setup.bridge.stop().await;
}

/// What was sent has a result; the letter says how much is missing, and its replay sends only that.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_of_which_a_part_was_sent_has_results_and_is_a_dead_letter() {
    let destinations = json!([{"to": TO, "messageId": "m1"}, {"to": OTHER, "messageId": "m2"}]);
    let broker = given_up(with_id(), &to(destinations)).await;
    let setup = bridge_after(broker, Some("m1")).await;
    let detail = letter(&setup).await;
    assert!(detail.contains("not have 1 of its 2 messages"), "{detail}");
    assert!(setup.accepted(1).await.contains_key(TO));
    setup.assert_delivered_once(1).await;
    setup.bridge.stop().await;
}

/// There is nothing to look it up by.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_ids_that_was_given_up_is_a_dead_letter_at_once() {
    let broker = given_up(BasicProperties::default(), &to(json!([{"to": TO}]))).await;
    let setup = bridge_after(broker, None).await;
    letter(&setup).await;
    assert_nothing_was_sent(&setup, false).await;
    setup.bridge.stop().await;
}

/// Each result is told to the publisher who waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn the_publisher_of_a_command_that_was_given_up_gets_a_reply() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let queue = format!("replies.{}", broker.prefix);
    let options = QueueDeclareOptions::default();
    let declaring =
        client
            .channel
            .queue_declare(queue.as_str().into(), options, Default::default());
    declaring.await.unwrap();
    let properties = with_id().with_reply_to(queue.as_str().into());
    let broker = given_up(properties, &to(json!([{"to": TO}]))).await;
    let setup = bridge_after(broker, Some("r1")).await;
    let reply = setup.client.take(&queue).await;
    let reply: SendSmsResponse = serde_json::from_slice(&reply.data).unwrap();
    let to: Vec<_> = reply
        .results
        .iter()
        .map(|SendResult { to, .. }| to)
        .collect();
    assert_eq!(to, [TO]);
    setup.bridge.stop().await;
}

/// It may wait for days until a bridge takes it: a replay must not take what was sent before that for a command of today.
#[tokio::test(flavor = "multi_thread")]
async fn the_age_of_a_command_that_was_given_up_counts_from_when_the_broker_gave_it_up() {
    let broker = given_up(with_id(), &to(json!([{"to": TO}]))).await;
    let given_up_by = jiff::Timestamp::now().as_millisecond();
    let setup = bridge_after(broker, None).await;
    let letter = setup.client.take(&setup.broker.topology().dead()).await;
    let headers = letter.properties.headers().as_ref();
    let first_seen = number_header(headers, "smsbridge-first-seen");
    assert!(
        first_seen.is_some_and(|at| at <= given_up_by),
        "{first_seen:?}"
    );
    setup.bridge.stop().await;
}
