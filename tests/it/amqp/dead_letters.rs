//! Commands that end in `smsbridge.dead` of a whole bridge: returned by the broker, or invalid.

use std::time::Duration;

use lapin::{
    BasicProperties,
    options::{BasicGetOptions, BasicRejectOptions},
    types::ShortString,
};
use prost::Message as _;
use smsbridge::{
    amqp::headers::text_header,
    config::ApplicationFrom,
    proto::v1::{
        FieldViolation, InvalidCommand, ListDeadLettersRequest, Outcome, ReplayDeadLettersRequest,
        SendResult, SendSmsBulkResponse, admin_service_client::AdminServiceClient, event::Payload,
    },
};

use super::doubts::LOGS_PATH;
use crate::support::{
    bridge::TestBridge,
    broker::{Client, TestBroker},
    eventually,
    simulator::TestSimulator,
};

const COMMAND: &[u8] = br#"{"message": {"destinations": [{"to": "41793026727"}], "text": "x"}}"#;

/// Takes the next message of a queue and rejects it, which every version counts as a failed delivery; false if the queue is empty.
pub(super) async fn refuse(client: &Client, queue: &str, requeue: bool) -> bool {
    let get = client
        .channel
        .basic_get(queue.into(), BasicGetOptions::default());
    let Some(got) = get.await.unwrap() else {
        return false;
    };
    let options = BasicRejectOptions { requeue };
    got.acker.reject(options).await.unwrap()
}

/// One command exceeded the delivery limit, another consumer rejected the other.
#[tokio::test(flavor = "multi_thread")]
async fn commands_refused_or_over_the_delivery_limit_are_dead_lettered() {
    let broker = TestBroker::start().await;
    // Declares the queues without a consumer.
    drop(broker.publisher().await);
    let client = broker.client().await;
    let queue = broker.topology().send_normal();
    let publish = async |request_id: &str| {
        let properties = BasicProperties::default().with_message_id(request_id.into());
        client.publish("", &queue, properties, COMMAND).await;
    };
    publish("refused").await;
    assert!(refuse(&client, &queue, false).await);
    publish("again").await;
    let mut deliveries = 0;
    while refuse(&client, &queue, true).await {
        deliveries += 1;
    }
    assert!(deliveries > 1_000, "{deliveries}");

    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.amqp = broker.config();
        // They are looked up after these times.
        config.infobip.request_timeout = Duration::from_secs(1);
        config.infobip.log_lag = Duration::from_secs(1);
    })
    .await;
    let mut letters = Vec::new();
    for _ in 0..2 {
        let letter = client.take(&broker.topology().dead()).await;
        let reason = text_header(letter.properties.headers().as_ref(), "smsbridge-reason");
        let request_id = letter.properties.message_id().clone().unwrap();
        letters.push((request_id.to_string(), reason.unwrap()));
    }
    letters.sort();
    let dead = |id: &str, reason: &str| (id.to_owned(), reason.to_owned());
    let expected = [dead("again", "DELIVERY_LIMIT"), dead("refused", "RETURNED")];
    assert_eq!(letters, expected);
    let told = eventually("both are events", async || {
        let events = bridge.all_events().await;
        let mut told: Vec<_> = events
            .into_iter()
            .filter_map(|event| match event.payload {
                Some(Payload::InvalidCommand(invalid)) => Some((event.request_id, invalid.reason)),
                _ => None,
            })
            .collect();
        told.sort();
        told.dedup();
        (told.len() == 2).then_some(told)
    })
    .await;
    assert_eq!(told, expected);
    let paths = simulator.paths().await;
    assert!(paths.iter().all(|path| path == LOGS_PATH), "{paths:?}");
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_command_carries_every_field() {
    let broker = TestBroker::start().await;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.amqp = broker.config()).await;
    drop(broker.publisher().await);
    let client = broker.client().await;
    let wrong = br#"{"message": {"destinations": [{"to": "41793026727"}], "text": ""}}"#;
    let properties = BasicProperties::default().with_message_id("r1".into());
    let commands = broker.topology().commands();
    client
        .publish(&commands, "sms.send", properties, wrong)
        .await;
    let event = eventually("it is told", async || {
        let events = bridge.all_events().await;
        events
            .into_iter()
            .find(|event| event.r#type == "command.invalid")
    })
    .await;
    let Some(Payload::InvalidCommand(invalid)) = event.payload else {
        panic!("no command")
    };
    let [FieldViolation { field, description }] = invalid.violations.as_slice() else {
        panic!("{invalid:?}")
    };
    assert_eq!(field, "message.text");
    assert!(!description.is_empty());
    let expected = InvalidCommand {
        reason: "INVALID_REQUEST".into(),
        routing_key: "sms.send".into(),
        ..(*invalid).clone()
    };
    assert_eq!(*invalid, expected);
    assert_eq!(invalid.detail, format!("message.text {description}"));
    bridge.stop().await;
}

/// An invalid request id, or two that differ, do not hide the mistakes of the bulk id and of the message.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_told_all_its_mistakes_at_once() {
    let broker = TestBroker::start().await;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.amqp = broker.config()).await;
    drop(broker.publisher().await);
    let client = broker.client().await;
    let of_message = ["message.destinations[0].to", "message.text"];
    let message = r#""message": {"destinations": [{"to": "nobody"}], "text": ""}"#;
    let bad_id = format!(r#"{{"request_id": "~", "bulk_id": "~", {message}}}"#);
    let two_ids = format!(r#"{{"request_id": "one", {message}}}"#);
    let bad_bulk_id = format!(r#"{{"bulk_id": "~", {message}}}"#);
    let nothing = r#"{"bulk_id": "~"}"#.to_owned();
    let wrong: [(&str, String, Vec<&str>); 4] = [
        (
            "INVALID_REQUEST_ID",
            bad_id,
            [&["request_id", "bulk_id"][..], &of_message].concat(),
        ),
        (
            "INVALID_REQUEST_ID",
            two_ids,
            [&["request_id"][..], &of_message].concat(),
        ),
        (
            "INVALID_REQUEST",
            bad_bulk_id,
            [&["bulk_id"][..], &of_message].concat(),
        ),
        ("INVALID_REQUEST", nothing, vec!["bulk_id", "message"]),
    ];
    for (index, (reason, body, fields)) in wrong.iter().enumerate() {
        let mut properties = BasicProperties::default();
        if *body == wrong[1].1 {
            properties = properties.with_message_id("two".into());
        }
        let commands = broker.topology().commands();
        client
            .publish(&commands, "sms.send", properties, body.as_bytes())
            .await;
        let event = eventually("it is told", async || {
            let mut events = bridge.all_events().await;
            events.retain(|event| event.r#type == "command.invalid");
            (events.len() > index).then(|| events.swap_remove(index))
        })
        .await;
        let Some(Payload::InvalidCommand(invalid)) = event.payload else {
            panic!("no command")
        };
        let told = invalid.violations.iter().map(|one| one.field.as_str());
        assert_eq!(told.collect::<Vec<_>>(), *fields, "{body}");
        assert_eq!(invalid.reason, *reason, "{body}");
        let begin = format!("{} mistakes: {} ", fields.len(), fields[0]);
        assert!(invalid.detail.starts_with(&begin), "{invalid:?}");
    }
    bridge.stop().await;
}

/// The message has a result and an event, and the other messages are sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_command_rejects_a_message_without_destinations() {
    let broker = TestBroker::start().await;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.amqp = broker.config()).await;
    drop(broker.publisher().await);
    let client = broker.client().await;
    let replies = client
        .bind_queue(&broker.topology().events(), "none", &[])
        .await;
    let body =
        br#"{"messages": [{"text": "x"}, {"destinations": [{"to": "41793026727"}], "text": "x"}]}"#;
    for request_id in ["r", ""] {
        let mut properties = BasicProperties::default()
            .with_type("smsbridge.v1.SendSmsBulkRequest".into())
            .with_reply_to(replies.as_str().into());
        if !request_id.is_empty() {
            properties = properties.with_message_id(request_id.into());
        }
        let commands = broker.topology().commands();
        client
            .publish(&commands, "sms.send", properties, body)
            .await;
        let reply = client.take(&replies).await;
        let reply: SendSmsBulkResponse = serde_json::from_slice(&reply.data).unwrap();
        let outcomes: Vec<_> = reply.results.iter().map(SendResult::outcome).collect();
        assert_eq!(outcomes, [Outcome::Rejected, Outcome::Accepted]);
        let [nameless, named] = reply.results.as_slice() else {
            panic!("{reply:?}")
        };
        assert_eq!((nameless.to.as_str(), nameless.message_index), ("", 0));
        assert_eq!((named.to.as_str(), named.message_index), ("41793026727", 1));
    }
    let mut events = bridge.all_events().await;
    events.retain(|event| event.r#type == "send.rejected");
    let mut ids: Vec<_> = events.iter().map(|event| &event.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 2, "{events:?}");
    bridge.stop().await;
}

/// Why a command is dead, told to its publisher.
struct Told {
    correlation_id: String,
    content_type: String,
    invalid: InvalidCommand,
}

/// It would wait for ever otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn the_publisher_of_a_dead_command_gets_a_reply_with_the_reason() {
    let broker = TestBroker::start().await;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.amqp = broker.config()).await;
    drop(broker.publisher().await);
    let client = broker.client().await;
    let topology = broker.topology();
    let replies = client.bind_queue(&topology.events(), "none", &[]).await;
    let publish = async |key: &str, properties: BasicProperties, body: &[u8]| {
        let properties = properties.with_reply_to(replies.as_str().into());
        client
            .publish(&topology.commands(), key, properties, body)
            .await;
        let reply = client.take(&replies).await;
        let property = |value: &Option<ShortString>| value.clone().unwrap().to_string();
        let properties = &reply.properties;
        assert_eq!(property(properties.kind()), "smsbridge.v1.InvalidCommand");
        let content_type = property(properties.content_type());
        let invalid: InvalidCommand = match content_type.as_str() {
            "application/json" => serde_json::from_slice(&reply.data).unwrap(),
            _ => InvalidCommand::decode(reply.data.as_slice()).unwrap(),
        };
        // It is where the reply says, when the reply comes.
        let letter = client.try_take(&topology.dead()).await.expect("a letter");
        let reason = text_header(letter.properties.headers().as_ref(), "smsbridge-reason");
        assert_eq!(reason, Some(invalid.reason.clone()));
        Told {
            correlation_id: property(properties.correlation_id()),
            content_type,
            invalid,
        }
    };
    let with_id = || BasicProperties::default().with_message_id("r1".into());

    let told = publish("sms.send", with_id(), br#"{"message": {"text": ""}}"#).await;
    let fields = told.invalid.violations.iter().map(|one| one.field.as_str());
    assert_eq!(
        (told.invalid.reason.as_str(), told.correlation_id.as_str()),
        ("INVALID_REQUEST", "r1")
    );
    assert_eq!(
        fields.collect::<Vec<_>>(),
        ["message.destinations", "message.text"]
    );

    let binary = with_id()
        .with_content_type("application/x-protobuf".into())
        .with_correlation_id("c-7".into());
    let told = publish("sms.send.urgent", binary, b"no protobuf").await;
    assert_eq!(
        (told.content_type.as_str(), told.correlation_id.as_str()),
        ("application/protobuf", "c-7")
    );
    assert_eq!(told.invalid.reason, "UNREADABLE_REQUEST");

    let unknown = with_id().with_content_type("text/plain".into());
    let told = publish("sms.send", unknown, COMMAND).await;
    assert_eq!(told.content_type, "application/json");
    assert_eq!(told.invalid.reason, "UNSUPPORTED_ENCODING");

    let told = publish("sms.sned", with_id(), COMMAND).await;
    assert_eq!(told.invalid.reason, "UNROUTABLE");
    assert!(simulator.requests().await.is_empty(), "nothing was sent");
    bridge.stop().await;
    assert!(client.try_take(&replies).await.is_none(), "one reply each");
}

/// A repeated publication of one command is one event; another command with the same text is another.
#[tokio::test(flavor = "multi_thread")]
async fn invalid_commands_without_ids_have_events_of_their_own_if_their_publisher_tells_them_apart()
{
    let broker = TestBroker::start().await;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.amqp = broker.config()).await;
    drop(broker.publisher().await);
    let client = broker.client().await;
    let topology = broker.topology();
    for correlation_id in ["one", "one", "two"] {
        let properties = BasicProperties::default().with_correlation_id(correlation_id.into());
        client
            .publish(&topology.commands(), "sms.send", properties, b"{}")
            .await;
        client.take(&topology.dead()).await;
    }
    let ids = eventually("all events", async || {
        let mut ids: Vec<_> = bridge
            .all_events()
            .await
            .into_iter()
            .map(|event| event.id)
            .collect();
        ids.sort();
        ids.dedup();
        (ids.len() > 1).then_some(ids)
    })
    .await;
    assert_eq!(ids.len(), 2);
    bridge.stop().await;
}

/// The acknowledgement of the first letter was lost, or another version sent the command, was killed, and this one cannot read it.
#[tokio::test(flavor = "multi_thread")]
async fn the_letter_of_a_redelivered_command_without_ids_is_not_replayed() {
    let broker = TestBroker::start().await;
    drop(broker.publisher().await);
    let client = broker.client().await;
    let topology = broker.topology();
    let publish = async || {
        let properties = BasicProperties::default().with_app_id("not a name!".into());
        let commands = topology.commands();
        client
            .publish(&commands, "sms.send", properties, COMMAND)
            .await;
    };
    publish().await;
    eventually("it is delivered once", async || {
        let refused = refuse(&client, &topology.send_normal(), true).await;
        refused.then_some(())
    })
    .await;
    publish().await;

    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.amqp = broker.config()).await;
    let series = r#"smsbridge_dead_letters_total{cause="caller",reason="INVALID_APPLICATION"}"#;
    eventually("both are dead", async || {
        (bridge.metric(series).await == Some(2.0)).then_some(())
    })
    .await;
    bridge.stop().await;

    // What made it invalid is mended.
    let mut amqp = broker.config();
    amqp.application_from = ApplicationFrom::UserId;
    let bridge = TestBridge::with(&simulator, |config| config.amqp = amqp).await;
    let mut admin = AdminServiceClient::new(bridge.channel.clone());
    let request = ListDeadLettersRequest::default();
    let letters = admin.list_dead_letters(request).await.unwrap().into_inner();
    let letters = letters.letters;
    let in_doubt: Vec<_> = letters.iter().filter(|one| one.may_be_sent).collect();
    let request = ReplayDeadLettersRequest::default();
    let replayed = admin.replay_dead_letters(request).await.unwrap();
    let replayed = replayed.into_inner();
    eventually("the first letter is sent", async || {
        let results = bridge.all_events().await;
        let accepted = results.iter().filter(|one| one.r#type == "send.accepted");
        (accepted.count() >= usize::try_from(replayed.count).unwrap()).then_some(())
    })
    .await;
    bridge.stop().await;
    assert_eq!(simulator.messages().await.len(), 1, "{replayed:?}");
    assert_eq!((replayed.count, replayed.refused_count), (1, 1));
    let [in_doubt] = in_doubt.as_slice() else {
        panic!("{letters:?}")
    };
    assert_eq!(replayed.refused[0].id, in_doubt.id);
    assert!(replayed.refused[0].detail.contains("may have been sent"));
}
