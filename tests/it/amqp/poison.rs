//! A complete bridge gets commands whose headers do not fit into an AMQP frame. The broker closes the connection on such a frame, so
//! each of these commands could interrupt all publications again and again (docs/RELIABILITY.md, P7).

use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties,
    message::Delivery,
    options::BasicConsumeOptions,
    types::{AMQPValue, FieldTable, LongString},
};
use serde_json::json;
use smsbridge::{
    amqp::headers::{number_header, text_header},
    proto::v1::{InvalidCommand, event::Payload},
};

use super::custody::{SEND_PATH, Setup};
use crate::support::{DEADLINE, eventually};

const LONG: usize = 200_000;
/// A table of this size and the headers of the bridge do not fit into a frame of 128 KiB together.
const NEARLY_A_FRAME: usize = 130_900;

/// A table of headers with about `bytes` encoded bytes.
fn table_of(bytes: usize) -> FieldTable {
    let mut table = FieldTable::default();
    let mut left = bytes;
    while left > 0 {
        let name = format!("h{:05}", table.inner().len());
        // 1 octet for the length of the name, the name, 1 for the type, 4 for the length of the text.
        let text = "x".repeat(left.clamp(12, 1_012) - 12);
        left = left.saturating_sub(text.len() + 12);
        let text = AMQPValue::LongString(LongString::from(text));
        table.insert(name.into(), text);
    }
    table
}

impl Setup {
    async fn publish(&self, properties: BasicProperties, body: &str) {
        let commands = self.broker.topology().commands();
        let properties = properties.with_delivery_mode(2);
        self.client
            .publish(&commands, "sms.send", properties, body.as_bytes())
            .await;
    }

    /// Publishes a valid command.
    async fn publish_neighbour(&self) {
        let properties = BasicProperties::default().with_message_id("neighbour".into());
        self.publish(properties, &command("41793999999")).await;
    }

    async fn take_letter(&self) -> Delivery {
        self.client.take(&self.broker.topology().dead()).await
    }

    async fn invalid_command(&self) -> InvalidCommand {
        eventually("the event of the invalid command", async || {
            let events = self.bridge.all_events().await.into_iter();
            events
                .filter_map(|event| match event.payload {
                    Some(Payload::InvalidCommand(invalid)) => Some(*invalid),
                    _ => None,
                })
                .next()
        })
        .await
    }
}

fn command(to: &str) -> String {
    json!({"message": {"from": "InfoSMS", "destinations": [{"to": to}], "text": "Hello"}})
        .to_string()
}

fn header(letter: &Delivery, name: &str) -> Option<String> {
    text_header(letter.properties.headers().as_ref(), name)
}

/// Error texts repeat an unknown key, or a string in place of a message, at its full length.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_with_a_long_error_text_is_dead_lettered() {
    let key = json!({ "ä".repeat(LONG / 2): 1 }).to_string();
    let wrong_type = json!({ "message": "ä".repeat(LONG / 2) }).to_string();
    for body in [key, wrong_type] {
        let setup = Setup::start(|_| ()).await;
        setup.publish(BasicProperties::default(), &body).await;
        setup.publish_neighbour().await;
        let letter = setup.take_letter().await;
        assert_eq!(letter.data, body.as_bytes());
        assert_eq!(
            header(&letter, "smsbridge-reason").as_deref(),
            Some("UNREADABLE_REQUEST")
        );
        let detail = header(&letter, "smsbridge-detail").unwrap();
        assert!(
            detail.len() <= 1_024 && detail.ends_with("bytes)"),
            "{detail}"
        );
        assert_eq!(setup.invalid_command().await.detail, detail);
        setup.accepted(1).await;
        setup.bridge.stop().await;
    }
}

/// The headers of the publisher alone fill a frame. Those that fit are kept.
#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_command_with_many_headers_is_a_dead_letter() {
    let setup = Setup::start(|_| ()).await;
    let properties = BasicProperties::default()
        .with_message_id("r1".into())
        .with_headers(table_of(NEARLY_A_FRAME));
    setup.publish(properties, "{}").await;
    setup.publish_neighbour().await;
    let letter = setup.take_letter().await;
    assert_eq!(
        letter.properties.message_id().as_ref().unwrap().as_str(),
        "r1"
    );
    assert_eq!(
        header(&letter, "smsbridge-reason").as_deref(),
        Some("INVALID_REQUEST")
    );
    assert_eq!(
        header(&letter, "h00000").map(|text| text.len()),
        Some(1_000)
    );
    let headers = letter.properties.headers().as_ref();
    let dropped = number_header(headers, "smsbridge-headers-dropped").unwrap();
    assert!((60..80).contains(&dropped), "{dropped}");
    setup.accepted(1).await;
    setup.bridge.stop().await;
}

/// Publishes a command that goes into a retry queue once; returns the copy from there, and puts it back into its queue.
async fn copy_in_the_retry_queue(setup: &Setup, headers: FieldTable) -> Delivery {
    setup
        .simulator
        .fault(json!({"kind": "status", "status": 401, "count": 1, "path": SEND_PATH}))
        .await;
    let properties = BasicProperties::default()
        .with_message_id("r1".into())
        .with_headers(headers);
    setup.publish(properties, &command("41793000000")).await;
    // A command stays there for a minute, so the test takes it first.
    let retry = format!("{}.retry.60s", setup.broker.prefix);
    let copy = setup.client.take(&retry).await;
    let queue = setup.broker.topology().send_normal();
    setup
        .client
        .publish("", &queue, copy.properties.clone(), &copy.data)
        .await;
    setup.publish_neighbour().await;
    setup.accepted(2).await;
    setup.assert_delivered_once(2).await;
    copy
}

async fn setup_without_patience() -> Setup {
    Setup::start(|config| config.send.retry_for = Duration::ZERO).await
}

/// Its headers do not fit into a frame once those of the bridge are added.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_with_many_headers_is_tried_again() {
    let setup = setup_without_patience().await;
    let copy = copy_in_the_retry_queue(&setup, table_of(NEARLY_A_FRAME)).await;
    let headers = copy.properties.headers().as_ref();
    assert!(number_header(headers, "smsbridge-headers-dropped").is_some());
    setup.bridge.stop().await;
}

/// The copy has no `expiration`, which is a number of milliseconds in 32 bits: RabbitMQ versions handle a larger one differently.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_expires_in_a_year_is_retried() {
    let in_a_year = jiff::Timestamp::now().as_millisecond() + 365 * 24 * 3_600_000;
    let mut headers = FieldTable::default();
    let at = AMQPValue::LongLongInt(in_a_year);
    headers.insert("smsbridge-expires-at".into(), at);
    let setup = setup_without_patience().await;
    let copy = copy_in_the_retry_queue(&setup, headers).await;
    assert_eq!(copy.properties.expiration(), &None);
    let headers = copy.properties.headers().as_ref();
    assert_eq!(
        number_header(headers, "smsbridge-expires-at"),
        Some(in_a_year)
    );
    setup.bridge.stop().await;
}

/// A command without a request id that was delivered before is reported without being validated, unless each destination has a
/// message id to look it up by.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_result_cuts_the_texts_of_its_command() {
    let setup = Setup::start(|_| ()).await;
    let mut headers = FieldTable::default();
    headers.insert("smsbridge-in-doubt".into(), AMQPValue::Boolean(true));
    let properties = BasicProperties::default()
        .with_type("smsbridge.v1.SendSmsBulkRequest".into())
        .with_headers(headers);
    let destination = json!({"to": "\u{1}".repeat(LONG), "messageId": "m".repeat(LONG)});
    let bulk = json!({"messages": [{"destinations": [destination, {"to": "41793026727"}], "text": "Hello"}, {"text": "Hello"}]});
    setup.publish(properties, &bulk.to_string()).await;
    for event_type in ["send.unknown", "send.rejected"] {
        let results = eventually("the result", async || {
            let results = setup.results(event_type).await;
            (!results.is_empty()).then_some(results)
        })
        .await;
        for result in results.into_values() {
            if event_type == "send.unknown" && result.to != "41793026727" {
                assert!(result.message_id.starts_with("mmm"), "{result:?}");
            }
            for text in [&result.to, &result.message_id] {
                assert!(text.len() <= 1_024, "{event_type}: {} bytes", text.len());
            }
        }
    }
    setup.bridge.stop().await;
}

/// The broker crashes a channel that publishes to a malformed name of a direct reply, and closes its connection. A name of the
/// bridge's own would put the reply between commands, events or dead letters.
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_goes_only_where_a_reply_belongs() {
    let setup = Setup::start(|_| ()).await;
    let dead = setup.broker.topology().dead();
    let names = [
        "amq.rabbitmq.reply-to.x.y",
        "amq.rabbitmq.reply-to.",
        // The node is not named by its hash.
        "amq.rabbitmq.reply-to.g1h3BmFAaG9zdAAAAAAAAAAAAAAAAA==.AAAA",
        "amq.rabbitmq.reply-to.g1h3B3JlcGx5QGEAAAAAAAAAAAAAAAA=.AAAA",
        dead.as_str(),
    ];
    for (n, name) in names.into_iter().enumerate() {
        let properties = BasicProperties::default().with_reply_to(name.into());
        setup
            .publish(properties, &command(&format!("4179300000{n}")))
            .await;
    }
    setup.accepted(names.len()).await;

    // A genuine direct reply. The broker completes the name.
    let direct = "amq.rabbitmq.reply-to";
    let options = BasicConsumeOptions {
        no_ack: true,
        ..Default::default()
    };
    let consuming = setup.client.channel.basic_consume(
        direct.into(),
        "".into(),
        options,
        FieldTable::default(),
    );
    let mut replies = consuming.await.unwrap();
    let properties = BasicProperties::default().with_reply_to(direct.into());
    setup.publish(properties, &command("41793111111")).await;
    let reply = tokio::time::timeout(DEADLINE, replies.next()).await;
    let reply = reply.expect("a reply").unwrap().unwrap();
    assert!(String::from_utf8_lossy(&reply.data).contains("41793111111"));

    let metrics = format!("http://{}/metrics", setup.bridge.addresses.admin);
    let metrics = reqwest::get(metrics).await.unwrap().text().await.unwrap();
    assert!(
        metrics.contains("smsbridge_amqp_reconnects_total 0"),
        "{metrics}"
    );
    setup.bridge.stop().await;
    // The bridge publishes nothing more.
    assert!(setup.client.try_take(&dead).await.is_none());
}
