//! The trace of a command, in its header `traceparent`: each event that the command causes has it, whatever way the command takes.

use std::{collections::BTreeMap, time::Duration};

use lapin::{
    BasicProperties,
    options::BasicGetOptions,
    types::{AMQPValue, FieldTable, LongString},
};
use serde_json::{Value, json};
use smsbridge::{
    amqp::headers::{property, text_header},
    proto::v1::{
        ListDeadLettersRequest, ReplayDeadLettersRequest, admin_service_client::AdminServiceClient,
    },
};

use super::{
    custody::{SEND_PATH, Setup},
    lookup::{number, publish, with_id},
};
use crate::support::{
    broker::{Client, TestBroker},
    eventually,
    process::BridgeProcess,
    simulator::TestSimulator,
};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER_TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
/// The simulator rejects it at once.
const REJECTED: &str = "99901006001";
const DELAYS_MS: [i64; 3] = [50, 100, 200];

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

/// Properties with this header; without a request id if it is empty.
fn traced(request_id: &str, traceparent: AMQPValue) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), traceparent);
    let properties = match request_id {
        "" => BasicProperties::default().with_delivery_mode(2),
        id => with_id(id),
    };
    properties.with_headers(headers)
}

async fn publish_sms(broker: &TestBroker, client: &Client, properties: BasicProperties, to: &str) {
    let command =
        json!({"message": {"from": "InfoSMS", "text": "Hello", "destinations": [{"to": to}]}});
    let (exchange, body) = (broker.topology().commands(), command.to_string());
    client
        .publish(&exchange, "sms.send", properties, body.as_bytes())
        .await;
}

/// The events of a queue so far: by type and request id, the trace. Header and field are the same.
struct Traces<'a> {
    client: &'a Client,
    queue: String,
    seen: BTreeMap<(String, String), Vec<String>>,
}

impl<'a> Traces<'a> {
    /// Of all events from now on.
    async fn of(broker: &TestBroker, client: &'a Client) -> Self {
        Self {
            queue: client
                .bind_queue(&broker.topology().events(), "#", &[])
                .await,
            client,
            seen: BTreeMap::new(),
        }
    }

    /// The traces of `count` events of one type and request id.
    async fn wait(&mut self, event_type: &str, request_id: &str, count: usize) -> Vec<String> {
        let key = (event_type.to_owned(), request_id.to_owned());
        while self.seen.get(&key).map_or(0, Vec::len) < count {
            let event = self.client.take(&self.queue).await;
            let properties = &event.properties;
            let header = text_header(properties.headers().as_ref(), "traceparent");
            let body: Value = serde_json::from_slice(&event.data).unwrap();
            assert_eq!(
                body.get("traceparent").and_then(Value::as_str),
                header.as_deref(),
                "{body}"
            );
            let of = (
                property(properties.kind()).to_owned(),
                property(properties.correlation_id()).to_owned(),
            );
            let traces = self.seen.entry(of).or_default();
            traces.push(header.unwrap_or_default());
        }
        self.seen[&key].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_that_a_command_causes_has_its_trace() {
    let broker = TestBroker::start().await;
    drop(broker.publisher().await);
    let client = broker.client().await;
    let mut traces = Traces::of(&broker, &client).await;
    // Without a request id, and delivered to a bridge that was killed.
    publish_sms(&broker, &client, traced("", text(TRACE)), &number(0)).await;
    let killed = broker.client().await;
    let queue = broker.topology().send_normal();
    eventually("it is delivered", async || {
        let get = killed
            .channel
            .basic_get(queue.as_str().into(), BasicGetOptions::default());
        get.await.unwrap()
    })
    .await;
    killed.channel.close(200, "".into()).await.unwrap();

    let setup = Setup::start_on(broker.clone(), |_| ()).await;
    publish_sms(
        &broker,
        &client,
        traced("accepted", text(TRACE)),
        &number(1),
    )
    .await;
    publish_sms(&broker, &client, traced("rejected", text(TRACE)), REJECTED).await;
    let to = [number(2)];
    publish(&broker, &client, traced("lookup", text(TRACE)), &to).await;
    publish(
        &broker,
        &client,
        traced("invalid", text(TRACE)),
        &["nobody".into()],
    )
    .await;
    let exchange = broker.topology().commands();
    for (request_id, key) in [("unreadable", "sms.send"), ("unroutable", "sms.sent")] {
        let properties = traced(request_id, text(TRACE));
        client.publish(&exchange, key, properties, b"{").await;
    }
    for (event_type, request_id) in [
        ("send.unknown", ""),
        ("send.accepted", "accepted"),
        ("send.rejected", "rejected"),
        ("lookup.completed", "lookup"),
        ("command.invalid", "invalid"),
        ("command.invalid", "unreadable"),
        ("command.invalid", "unroutable"),
    ] {
        let found = traces.wait(event_type, request_id, 1).await;
        assert_eq!(found, [TRACE], "{event_type} {request_id}");
    }
    // The API does not return it.
    assert_eq!(traces.wait("report.delivered", "", 1).await, [""]);
    // Who reads the log over gRPC gets it as well.
    for event in setup.bridge.all_events().await {
        let expected = match event.r#type.starts_with("report.") {
            true => "",
            false => TRACE,
        };
        assert_eq!(event.traceparent, expected, "{event:?}");
    }
    setup.bridge.stop().await;
}

/// A command is never refused for its trace.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_valid_trace_an_event_has_none() {
    let setup = Setup::start(|_| ()).await;
    let (broker, client) = (&setup.broker, &setup.client);
    let mut traces = Traces::of(broker, client).await;
    publish_sms(broker, client, with_id("none"), &number(0)).await;
    let invalid = [
        ("empty", text("")),
        ("integer", AMQPValue::LongLongInt(7)),
        ("list", AMQPValue::FieldArray(vec![text(TRACE)].into())),
        ("long", text(&format!("{TRACE}-01"))),
        ("upper case", text(&TRACE.to_uppercase())),
        ("version", text(&TRACE.replacen("00", "ff", 1))),
        (
            "no trace",
            text("00-00000000000000000000000000000000-b7ad6b7169203331-01"),
        ),
        (
            "no parent",
            text("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"),
        ),
    ];
    for (n, (what, value)) in invalid.iter().enumerate() {
        let properties = traced(&what.replace(' ', "-"), value.clone());
        publish_sms(broker, client, properties, &number(n + 1)).await;
    }
    for (what, _) in invalid.iter().chain(&[("none", text(""))]) {
        let found = traces
            .wait("send.accepted", &what.replace(' ', "-"), 1)
            .await;
        assert_eq!(found, [""], "{what}");
    }
    setup.bridge.stop().await;
}

/// Also without a request id, where the copy has another body, and beside other headers, which are more than a copy keeps.
#[tokio::test(flavor = "multi_thread")]
async fn the_trace_is_kept_over_a_retry_queue() {
    let broker = TestBroker::start().await;
    broker.declare_delays(DELAYS_MS).await;
    let setup = Setup::start_on(broker, |_| ()).await;
    let (broker, client) = (&setup.broker, &setup.client);
    let mut traces = Traces::of(broker, client).await;
    for (n, request_id) in ["r1", "", "many-headers"].into_iter().enumerate() {
        setup
            .simulator
            .fault(json!({"kind": "status", "status": 401, "count": 1, "path": SEND_PATH}))
            .await;
        let mut properties = traced(request_id, text(TRACE));
        if request_id == "many-headers" {
            let mut headers = properties.headers().clone().unwrap();
            headers.insert("large".into(), text(&"x".repeat(64 * 1024 - 30)));
            properties = properties.with_headers(headers);
        }
        publish_sms(broker, client, properties, &number(n)).await;
        let found = traces.wait("send.accepted", request_id, 1).await;
        assert_eq!(found, [TRACE], "{request_id:?}");
        let path = |path: &String| path == SEND_PATH;
        let sent = setup.simulator.paths().await.into_iter().filter(path);
        assert_eq!(sent.count(), 2 * (n + 1), "it was refused once");
    }
    setup.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_is_kept_while_a_command_waits_for_room() {
    let setup = Setup::start(|config| {
        config.send.queue_capacity = 1;
        config.send.urgent_percent = 0;
        config.infobip.request_timeout = Duration::from_secs(60);
    })
    .await;
    let (broker, client) = (&setup.broker, &setup.client);
    let mut traces = Traces::of(broker, client).await;
    setup
        .simulator
        .fault(json!({"kind": "latency", "ms": 1_000, "count": 1, "path": SEND_PATH}))
        .await;
    publish_sms(
        broker,
        client,
        traced("first", text(OTHER_TRACE)),
        &number(0),
    )
    .await;
    setup.sends_seen(1).await;
    publish_sms(broker, client, traced("waits", text(TRACE)), &number(1)).await;
    assert_eq!(
        traces.wait("send.accepted", "first", 1).await,
        [OTHER_TRACE]
    );
    assert_eq!(traces.wait("send.accepted", "waits", 1).await, [TRACE]);
    setup.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_a_redelivered_command_is_kept() {
    let broker = TestBroker::start().await;
    drop(broker.publisher().await);
    let client = broker.client().await;
    let mut traces = Traces::of(&broker, &client).await;
    let simulator = TestSimulator::start().await;
    simulator
        .fault(json!({"kind": "accept_then_drop", "hold": true, "count": 1, "path": SEND_PATH}))
        .await;
    let settings = [
        ("SMSBRIDGE_AMQP__URL", broker.url.as_str()),
        ("SMSBRIDGE_AMQP__PREFIX", &broker.prefix),
        // It is looked up after this time.
        ("SMSBRIDGE_INFOBIP__REQUEST_TIMEOUT", "2s"),
        ("SMSBRIDGE_INFOBIP__CONNECT_TIMEOUT", "1s"),
    ];
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    publish_sms(&broker, &client, traced("r1", text(TRACE)), &number(0)).await;
    eventually("it was sent", async || {
        let paths = simulator.paths().await;
        paths.iter().any(|path| path == SEND_PATH).then_some(())
    })
    .await;
    let folder = bridge.kill().await;
    let bridge = BridgeProcess::start_in(folder, &simulator, &settings).await;
    assert_eq!(traces.wait("send.accepted", "r1", 1).await, [TRACE]);
    assert_eq!(simulator.messages().await.len(), 1);
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_dead_letter_keeps_its_trace() {
    let setup = Setup::start(|_| ()).await;
    let (broker, client) = (&setup.broker, &setup.client);
    let mut traces = Traces::of(broker, client).await;
    let exchange = broker.topology().commands();
    client
        .publish(&exchange, "sms.send", traced("r1", text(TRACE)), b"{}")
        .await;
    assert_eq!(traces.wait("command.invalid", "r1", 1).await, [TRACE]);
    let admin = AdminServiceClient::new(setup.bridge.channel.clone());
    let id = eventually("it is a dead letter", async || {
        let mut admin = admin.clone();
        let listed = admin.list_dead_letters(ListDeadLettersRequest::default());
        let listed = listed.await.unwrap().into_inner().letters;
        listed.into_iter().map(|letter| letter.id).next()
    })
    .await;
    let replay = ReplayDeadLettersRequest {
        ids: vec![id],
        ..Default::default()
    };
    let replayed = admin.clone().replay_dead_letters(replay).await.unwrap();
    assert_eq!(replayed.into_inner().count, 1);
    // It is as invalid as before.
    let found = traces.wait("command.invalid", "r1", 2).await;
    assert_eq!(found, [TRACE, TRACE]);
    setup.bridge.stop().await;
}

/// A consumer that stores ids takes it for the duplicate that it is.
#[tokio::test(flavor = "multi_thread")]
async fn the_id_of_an_event_does_not_depend_on_the_trace() {
    let setup = Setup::start(|_| ()).await;
    let (broker, client) = (&setup.broker, &setup.client);
    let exchange = broker.topology().events();
    let queue = client.bind_queue(&exchange, "command.invalid.*", &[]).await;
    let mut events = Vec::new();
    for trace in [TRACE, OTHER_TRACE] {
        let commands = broker.topology().commands();
        let properties = traced("r1", text(trace));
        client
            .publish(&commands, "sms.send", properties, b"{}")
            .await;
        let event = client.take(&queue).await;
        let header = text_header(event.properties.headers().as_ref(), "traceparent");
        assert_eq!(header.as_deref(), Some(trace));
        events.push(property(event.properties.message_id()).to_owned());
    }
    assert_eq!(events[0], events[1]);
    setup.bridge.stop().await;
}
