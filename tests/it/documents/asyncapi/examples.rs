//! The examples of docs/asyncapi.yaml, published to a real bridge and read from it.

use std::collections::BTreeMap;

use lapin::{
    BasicProperties,
    message::Delivery,
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Map, Value, json};
use smsbridge::{amqp::Topology, proto::v1};

use super::document;
use crate::{
    documents::examples::broker::bridge_on,
    support::{
        bridge::TestBridge,
        broker::{Client, TestBroker},
        simulator::TestSimulator,
    },
};

/// The text of a property of an example, or of AMQP's.
fn text<'a>(properties: &'a Value, name: &str) -> Option<&'a str> {
    properties.get(name)?.as_str()
}

/// The properties of an example as the document gives them, beside it: AsyncAPI has no place for them in it.
fn given<'a>(message: &'a Value, example: &Value) -> &'a Value {
    &message["x-amqp-example-properties"][text(example, "name").unwrap()]
}

/// The properties and headers of an example, and the content type of its message.
fn to_amqp(message: &Value, example: &Value) -> BasicProperties {
    let given = given(message, example);
    let content_type = message["contentType"].as_str().unwrap();
    let headers = example["headers"].as_object().into_iter().flatten();
    let headers: BTreeMap<_, _> = headers
        .map(|(name, value)| {
            let value = AMQPValue::LongString(value.as_str().unwrap().into());
            (name.as_str().into(), value)
        })
        .collect();
    let mut properties = BasicProperties::default()
        .with_content_type(content_type.into())
        .with_headers(headers.into())
        .with_delivery_mode(2);
    for (name, value) in given.as_object().into_iter().flatten() {
        let value = value.as_str().unwrap().into();
        properties = match name.as_str() {
            "message_id" => properties.with_message_id(value),
            "app_id" => properties.with_app_id(value),
            "type" => properties.with_type(value),
            "expiration" => properties.with_expiration(value),
            // A reply goes to the queue of the test.
            "reply_to" => properties,
            "correlation_id" => properties.with_correlation_id(value),
            other => panic!("an example has the property {other}"),
        };
    }
    properties
}

/// AMQP's properties and headers as the document describes them.
fn of_amqp(delivery: &Delivery) -> (Value, Value) {
    let of = &delivery.properties;
    let texts = [
        ("message_id", of.message_id()),
        ("app_id", of.app_id()),
        ("type", of.kind()),
        ("correlation_id", of.correlation_id()),
        ("content_type", of.content_type()),
    ];
    let mut properties = Map::new();
    for (name, text) in texts {
        if let Some(text) = text {
            properties.insert(name.into(), json!(text.as_str()));
        }
    }
    if let Some(mode) = of.delivery_mode() {
        properties.insert("delivery_mode".into(), json!(mode));
    }
    if let Some(timestamp) = of.timestamp() {
        properties.insert("timestamp".into(), json!(timestamp));
    }
    let headers = of.headers().clone().unwrap_or_default();
    // The broker has headers of its own, such as `x-delivery-count`.
    let published = |name: &str| !name.starts_with("x-");
    let headers = headers
        .inner()
        .iter()
        .filter(|(name, _)| published(name.as_str()));
    let headers = headers.map(|(name, value)| {
        let value = match value {
            AMQPValue::LongString(text) => json!(String::from_utf8_lossy(text.as_bytes())),
            AMQPValue::LongLongInt(number) => json!(number),
            AMQPValue::Boolean(is) => json!(is),
            other => panic!("{name} is {other:?}"),
        };
        (name.to_string(), value)
    });
    (Value::Object(properties), Value::Object(headers.collect()))
}

/// Panics if the document describes the headers or properties of the message otherwise. (Its parser compares examples with their
/// schemas, and the schemas of bodies are made from the contract.)
fn check(document: &Value, message: &str, headers: &Value, properties: &Value) {
    let described = &document["components"]["messages"][message];
    for (part, given) in [("headers", headers), ("x-amqp-properties", properties)] {
        let schema = match described[part]["$ref"].as_str() {
            Some(path) => document.pointer(path.trim_start_matches('#')).expect(path),
            None => &json!({ "properties": {} }),
        };
        let given = given.as_object().unwrap();
        for (name, value) in given {
            let one = &schema["properties"][name];
            assert!(one.is_object(), "{name} of {message} is not in {part}");
            let is_allowed = match (&one["const"], &one["enum"], &one["type"]) {
                (Value::Null, Value::Null, Value::String(kind)) => match kind.as_str() {
                    "string" => value.is_string(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "boolean" => value.is_boolean(),
                    other => panic!("{name} of {message} is a {other}"),
                },
                (Value::Null, Value::Array(values), _) => values.contains(value),
                (constant, ..) => value == constant,
            };
            assert!(is_allowed, "{name} of {message} is {value}, not {one}");
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(
                given.contains_key(name.as_str().unwrap()),
                "{name} of {message} is missing"
            );
        }
    }
}

/// The message of the document that describes an event.
fn message_of(event_type: &str) -> &'static str {
    match event_type.split_once('.').unwrap() {
        ("send", _) => "sendResult",
        ("report", _) => "deliveryReport",
        ("inbound", _) => "receivedMessage",
        ("link", _) => "linkClick",
        ("lookup", _) => "numberLookup",
        ("command", _) => "invalidCommand",
        other => panic!("{other:?}"),
    }
}

fn json_of(delivery: &Delivery) -> Value {
    serde_json::from_slice(&delivery.data).unwrap()
}

/// The event that a delivery is, after a check of all that the document says of it.
fn event_of(document: &Value, delivery: &Delivery) -> Value {
    let event = json_of(delivery);
    let (properties, headers) = of_amqp(delivery);
    let message = message_of(event["type"].as_str().unwrap());
    check(document, message, &headers, &properties);
    event
}

fn examples<'a>(document: &'a Value, message: &str) -> &'a Vec<Value> {
    document["components"]["messages"][message]["examples"]
        .as_array()
        .unwrap()
}

/// The headers that the bridge gives an event.
fn headers_of(event: &Value) -> Value {
    let mut headers = json!({
        "cloudEvents_id": event["id"],
        "cloudEvents_type": event["type"],
        "cloudEvents_time": event["time"],
        "cloudEvents_source": "/smsbridge",
        "cloudEvents_specversion": "1.0",
    });
    if let Some(traceparent) = event.get("traceparent") {
        headers["traceparent"] = traceparent.clone();
    }
    headers
}

async fn declare(client: &Client, name: &str) {
    let options = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let declaring = client
        .channel
        .queue_declare(name.into(), options, FieldTable::default());
    declaring.await.unwrap();
}

/// A bridge on a broker, with a queue of all events and one for replies.
struct Published {
    bridge: TestBridge,
    client: Client,
    topology: Topology,
    events: String,
    replies: String,
    _simulator: TestSimulator,
}

impl Published {
    async fn start() -> Self {
        let broker = TestBroker::start().await;
        let simulator = TestSimulator::start().await;
        let bridge = bridge_on(&broker, &simulator).await;
        let client = broker.client().await;
        let topology = broker.topology();
        let events = client.bind_queue(&topology.events(), "#", &[]).await;
        let replies = format!("replies.to.{}", broker.prefix);
        declare(&client, &replies).await;
        Self {
            bridge,
            client,
            topology,
            events,
            replies,
            _simulator: simulator,
        }
    }
}

#[tokio::test]
async fn commands_are_carried_out_and_what_comes_back_is_as_described() {
    let document = document();
    let Published {
        bridge,
        client,
        topology,
        events,
        replies,
        _simulator,
    } = Published::start().await;
    for (message, reply) in [
        ("sendSms", "sendSmsReply"),
        ("sendSmsBulk", "sendSmsBulkReply"),
    ] {
        for example in examples(&document, message) {
            let published = to_amqp(&document["components"]["messages"][message], example)
                .with_reply_to(replies.as_str().into());
            let body = example["payload"].to_string();
            let commands = topology.commands();
            let publishing = client.publish(&commands, "sms.send", published, body.as_bytes());
            publishing.await;
            let answer = client.take(&replies).await;
            let (properties, headers) = of_amqp(&answer);
            let answer = json_of(&answer);
            check(&document, reply, &headers, &properties);
            let results = answer["results"].as_array().unwrap();
            assert!(!results.is_empty(), "{example:#}");
            let mut left: Vec<_> = results.iter().map(|one| &one["messageId"]).collect();
            for result in results {
                assert_eq!(result["outcome"], "OUTCOME_ACCEPTED", "{example:#}");
            }
            // Its results, and then its reports.
            let mut reported = left.clone();
            while !left.is_empty() || !reported.is_empty() {
                let event = event_of(&document, &client.take(&events).await);
                if event.get("result").is_some() {
                    let trace = example["headers"].get("traceparent");
                    assert_eq!(event.get("traceparent"), trace, "{example:#}");
                }
                left.retain(|id| event["result"]["messageId"] != **id);
                reported.retain(|id| event["report"]["messageId"] != **id);
            }
        }
    }
    bridge.stop().await;
}

#[tokio::test]
async fn look_ups_are_carried_out_and_what_comes_back_is_as_described() {
    let document = document();
    let Published {
        bridge,
        client,
        topology,
        events,
        replies,
        _simulator,
    } = Published::start().await;
    let channel = &document["channels"]["lookUp"];
    let routing_key = text(channel, "address").unwrap();
    for example in examples(&document, "lookupNumbers") {
        let message = &document["components"]["messages"]["lookupNumbers"];
        let published = to_amqp(message, example).with_reply_to(replies.as_str().into());
        let body = example["payload"].to_string();
        let commands = topology.commands();
        client
            .publish(&commands, routing_key, published, body.as_bytes())
            .await;
        let answer = client.take(&replies).await;
        let (properties, headers) = of_amqp(&answer);
        check(&document, "lookupNumbersReply", &headers, &properties);
        let results = json_of(&answer)["results"].clone();
        for (to, result) in example["payload"]["to"]
            .as_array()
            .unwrap()
            .iter()
            .zip(results.as_array().unwrap())
        {
            assert_eq!(result["to"], *to);
            let event = event_of(&document, &client.take(&events).await);
            assert_eq!(event["lookup"], *result);
            assert_eq!(
                event["requestId"].as_str(),
                text(given(message, example), "message_id")
            );
        }
    }
    bridge.stop().await;
}

#[tokio::test]
async fn events_are_what_the_bridge_publishes_and_reads() {
    let document = document();
    let broker = TestBroker::start().await;
    let simulator = TestSimulator::start().await;
    let bridge = bridge_on(&broker, &simulator).await;
    let client = broker.client().await;
    let exchange = broker.topology().events();
    let mut reader = bridge.events().await;
    for message in [
        "send.", "report.", "inbound.", "link.", "lookup.", "command.",
    ]
    .map(message_of)
    {
        for example in examples(&document, message) {
            let payload = &example["payload"];
            let expected: v1::Event = serde_json::from_value(payload.clone()).expect(message);
            let event_type = text(payload, "type").unwrap();
            check(&document, message, &headers_of(payload), &json!({}));
            assert_eq!(text(example, "name"), Some(event_type));
            let application = text(payload, "application").unwrap();
            let key = format!("{event_type}.{application}");
            let properties = BasicProperties::default()
                .with_message_id(text(payload, "id").unwrap().into())
                .with_type(event_type.into())
                .with_app_id(application.into())
                .with_content_type("application/json".into());
            let body = payload.to_string();
            client
                .publish(&exchange, &key, properties, body.as_bytes())
                .await;
            let mut read = reader.next().await;
            read.cursor.clear();
            assert_eq!(read, expected);
            // What the bridge would publish of this event: nothing is missing in the example, and nothing is written otherwise.
            assert_eq!(serde_json::to_value(&read).unwrap(), *payload);
        }
    }
    bridge.stop().await;
}

#[tokio::test]
async fn a_dead_letter_and_what_tells_of_it_are_as_described() {
    let document = document();
    let Published {
        bridge,
        client,
        topology,
        events,
        replies,
        _simulator,
    } = Published::start().await;
    let example = &examples(&document, "deadLetter")[0];
    let properties = BasicProperties::default()
        .with_message_id("order-4713".into())
        .with_app_id("billing".into())
        .with_reply_to(replies.as_str().into());
    let body = example["payload"].to_string();
    client
        .publish(
            &topology.commands(),
            "sms.send",
            properties,
            body.as_bytes(),
        )
        .await;

    let letter = client.take(&topology.dead()).await;
    let (of_letter, mut headers) = of_amqp(&letter);
    check(&document, "deadLetter", &headers, &of_letter);
    for of_this_one in ["smsbridge-died-at", "smsbridge-letter-id"] {
        headers[of_this_one] = example["headers"][of_this_one].clone();
    }
    assert_eq!(headers, example["headers"]);

    let reply = client.take(&replies).await;
    let (of_reply, no_headers) = of_amqp(&reply);
    let reply = json_of(&reply);
    check(&document, "invalidCommandReply", &no_headers, &of_reply);
    assert_eq!(
        reply,
        examples(&document, "invalidCommandReply")[0]["payload"]
    );

    let event = event_of(&document, &client.take(&events).await);
    let described = &examples(&document, "invalidCommand")[0]["payload"];
    assert_eq!(event["invalidCommand"], described["invalidCommand"]);
    assert_eq!(event["requestId"], described["requestId"]);
    bridge.stop().await;
}
