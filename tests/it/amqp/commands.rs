//! The AMQP edge with a scripted sender in place of the send core.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, future::BoxFuture};
use jiff::Timestamp;
use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldTable, LongString},
};
use prost::Message as _;
use smsbridge::{
    amqp::{
        Endpoint, Publisher,
        headers::{number_header, text_header},
    },
    commands::{self, Commands},
    config::Config,
    events::{EventLog as _, NewEvent, SharedEventLog, Start, broker::BrokerLog},
    infobip::account::Account,
    message::{applications::Applications, id::derive_message_id},
    ops::metrics::Metrics,
    proto::v1::{self, event::Payload, outbound_message::Content},
    query::Query,
    send::{Arrival, SendCommand, SendError, Sender, Sent},
};
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::custody_of_copies::await_session;
use crate::support::{
    broker::{Client, TestBroker},
    eventually,
    relay::{Peer, Verdict, start_relay},
};

/// Chooses its answer by the text of the message, and appends results to the log as the real sender does.
pub(super) struct ScriptedSender {
    log: SharedEventLog,
    seen: Mutex<Vec<SendCommand>>,
    /// Commands with a text that begins with "held" wait for a permit.
    pub(super) held: Semaphore,
    pub(super) shutting_down: AtomicBool,
    /// Whether there is no room for a command.
    pub(super) is_full: AtomicBool,
}

impl ScriptedSender {
    pub(super) fn seen(&self) -> Vec<SendCommand> {
        self.seen.lock().unwrap().clone()
    }

    fn texts(&self) -> Vec<String> {
        self.seen().iter().map(text_of).collect()
    }

    /// Number of commands received with this text.
    pub(super) fn count(&self, text: &str) -> usize {
        self.texts().iter().filter(|seen| *seen == text).count()
    }
}

pub(super) fn text_of(command: &SendCommand) -> String {
    match &command.request.messages[0].content {
        Some(Content::Text(text)) => text.clone(),
        other => panic!("{other:?}"),
    }
}

impl Sender for ScriptedSender {
    fn send(&self, command: SendCommand) -> BoxFuture<'_, Result<Sent, SendError>> {
        Box::pin(async move {
            let text = text_of(&command);
            let before = self.count(&text);
            self.seen.lock().unwrap().push(command.clone());
            if self.shutting_down.load(Ordering::SeqCst) {
                return Err(SendError::ShuttingDown);
            }
            if self.is_full.load(Ordering::SeqCst) {
                return Err(SendError::QueueFull {
                    retry_after: Duration::from_secs(1),
                });
            }
            let first_time = before == 0;
            if text.starts_with("held") {
                self.held.acquire().await.unwrap().forget();
            }
            match text.as_str() {
                "held and unavailable once" if first_time => {
                    return Err(SendError::Unavailable {
                        detail: "down".into(),
                        retry_after: Duration::ZERO,
                    });
                }
                "invalid" => {
                    return Err(SendError::Invalid(vec![v1::FieldViolation {
                        field: "message.from".into(),
                        description: "is wrong".into(),
                    }]));
                }
                "unavailable once" if first_time => {
                    return Err(SendError::Unavailable {
                        detail: "down".into(),
                        retry_after: Duration::ZERO,
                    });
                }
                "mistake" => panic!("a mistake of the bridge"),
                "log down once" if first_time => {
                    return Err(SendError::LogUnavailable("down".into()));
                }
                _ => {}
            }
            let request = &command.request;
            let total = request.messages.iter().map(|m| m.destinations.len()).sum();
            let mut results = Vec::new();
            let mut events = Vec::new();
            for (index, message) in request.messages.iter().enumerate() {
                let expired = message
                    .expires_at
                    .is_some_and(|at| at.seconds <= jiff::Timestamp::now().as_second());
                if message.destinations.is_empty() {
                    results.push(v1::SendResult {
                        outcome: v1::Outcome::Rejected.into(),
                        message_index: index.try_into().unwrap(),
                        refusal: Some(Box::default()),
                        ..Default::default()
                    });
                }
                for (n, destination) in message.destinations.iter().enumerate() {
                    let mut result = v1::SendResult {
                        to: destination.to.clone(),
                        message_id: derive_message_id(&request.request_id, results.len(), total),
                        outcome: v1::Outcome::Accepted.into(),
                        message_index: index.try_into().unwrap(),
                        ..Default::default()
                    };
                    let refuse = |result: &mut v1::SendResult, reason: &str, retryable| {
                        result.set_outcome(v1::Outcome::Rejected);
                        result.refusal = Some(Box::new(v1::Refusal {
                            reason: reason.into(),
                            retryable,
                            ..Default::default()
                        }));
                    };
                    if expired {
                        refuse(&mut result, "EXPIRED", false);
                    } else if text == "second later" && first_time && n == 1 {
                        refuse(&mut result, "API_UNAVAILABLE", true);
                        results.push(result);
                        continue;
                    }
                    events.push(NewEvent::send_result(
                        &command.application,
                        &request.request_id,
                        None,
                        Box::new(result.clone()),
                        Timestamp::now(),
                    ));
                    results.push(result);
                }
            }
            self.log
                .append(Arc::new(events))
                .await
                .map_err(|error| SendError::LogUnavailable(error.to_string()))?;
            if text == "long result" {
                results[0].bulk_id = "b".repeat(9 * 1024 * 1024);
            }
            Ok(Sent {
                tracking_process_key: String::new(),
                results,
            })
        })
    }
}

/// The AMQP edge of a bridge, its event log, and an independent AMQP client.
pub(super) struct Edge {
    pub(super) broker: TestBroker,
    pub(super) client: Client,
    pub(super) log: Arc<BrokerLog>,
    pub(super) sender: Arc<ScriptedSender>,
    pub(super) metrics: Metrics,
    pub(super) shutdown: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

/// Look-ups that reach no API.
fn no_api() -> Arc<Query> {
    let flags = [
        ("infobip.base_url", "http://127.0.0.1:9"),
        ("infobip.username", "nobody"),
        ("infobip.password", "nobody"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let config = Config::load(None, std::iter::empty(), &flags).unwrap();
    let account = Account::new(&config.infobip, 0, Metrics::new()).unwrap();
    Arc::new(Query::new(
        Arc::new(account),
        Applications::default(),
        Metrics::new(),
    ))
}

impl Edge {
    pub(super) async fn start() -> Self {
        let broker = TestBroker::start().await;
        let endpoint = broker.endpoint();
        Self::start_at(broker, endpoint).await
    }

    /// Consumes over `endpoint`.
    pub(super) async fn start_at(broker: TestBroker, endpoint: Endpoint) -> Self {
        let publisher = broker.publisher().await;
        Self::start_with(broker, endpoint, publisher).await
    }

    /// Consumes over `endpoint` and publishes with `publisher`.
    async fn start_with(broker: TestBroker, endpoint: Endpoint, publisher: Arc<Publisher>) -> Self {
        let log = Arc::new(BrokerLog::new(
            publisher.clone(),
            broker.endpoint(),
            broker.topology(),
            broker.config().confirm_timeout,
            Metrics::new(),
        ));
        let sender = Arc::new(ScriptedSender {
            log: log.clone(),
            seen: Mutex::new(Vec::new()),
            held: Semaphore::new(0),
            shutting_down: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
        });
        let (shutdown, metrics) = (CancellationToken::new(), Metrics::new());
        let commands = Commands {
            endpoint,
            topology: broker.topology(),
            publisher,
            sender: sender.clone(),
            query: no_api(),
            log: log.clone(),
            applications: Applications::new(&["billing".to_owned()]),
            application_from: broker.config().application_from,
            prefetch: broker.config().prefetch,
            hold_for: broker.config().hold_for,
            max_attempts: broker.config().max_attempts,
            max_age: broker.config().max_age,
            metrics: metrics.clone(),
        };
        let task = tokio::spawn(commands::run(commands, shutdown.clone()));
        Self {
            client: broker.client().await,
            broker,
            log,
            sender,
            metrics,
            shutdown,
            task,
        }
    }

    pub(super) async fn publish(
        &self,
        routing_key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) {
        let commands = self.broker.topology().commands();
        let properties = properties.with_delivery_mode(2);
        self.client
            .publish(&commands, routing_key, properties, body)
            .await;
    }

    pub(super) async fn publish_text(&self, request_id: &str, text: &str) {
        let properties = BasicProperties::default()
            .with_app_id("billing".into())
            .with_message_id(request_id.into());
        self.publish("sms.send", properties, json(text, 1).as_bytes())
            .await;
    }

    /// All events in the log.
    pub(super) async fn events(&self) -> Vec<v1::Event> {
        let start = Start::Since(jiff::Timestamp::UNIX_EPOCH);
        let mut stream = self.log.read(start, true).await.unwrap();
        let mut events = Vec::new();
        while let Some(batch) = stream.next().await {
            events.extend(batch.unwrap());
        }
        events
    }

    /// Waits until the log has `count` events of a type with distinct ids.
    pub(super) async fn await_events(&self, event_type: &str, count: usize) -> Vec<v1::Event> {
        let what = format!("{count} events {event_type}");
        eventually(&what, || async {
            let mut events = self.events().await;
            events.retain(|event| event.r#type == event_type);
            let mut distinct = HashMap::new();
            for event in events {
                distinct.entry(event.id.clone()).or_insert(event);
            }
            (distinct.len() == count).then(|| distinct.into_values().collect())
        })
        .await
    }

    /// Stops the edge and checks that all queues except `dead` are empty and no delivery is unacknowledged.
    pub(super) async fn stop(self) {
        let topology = self.broker.topology();
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.task)
            .await
            .expect("the edge drains")
            .unwrap();
        for queue in [
            topology.send_normal(),
            topology.send_urgent(),
            topology.returned(),
        ] {
            let left = self.client.try_take(&queue).await;
            assert!(left.is_none(), "left in {queue}: {left:?}");
        }
        self.log.close().await;
    }
}

pub(super) fn json(text: &str, destinations: usize) -> String {
    request_json(text, destinations).to_string()
}

fn request_json(text: &str, destinations: usize) -> serde_json::Value {
    let to: Vec<_> = (0..destinations)
        .map(|n| serde_json::json!({"to": format!("4179302672{n}")}))
        .collect();
    serde_json::json!({"message": {"from": "InfoSMS", "destinations": to, "text": text}})
}

fn request(text: &str) -> v1::SendSmsRequest {
    serde_json::from_str(&json(text, 1)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_in_both_encodings_become_sends_and_replies() {
    let edge = Edge::start().await;
    let replies = edge
        .client
        .bind_queue(&edge.broker.topology().events(), "no.such.event", &[])
        .await;
    let with_reply = |request_id: &str, content_type: &str| {
        BasicProperties::default()
            .with_app_id("billing".into())
            .with_message_id(request_id.into())
            .with_content_type(content_type.into())
            .with_reply_to(replies.as_str().into())
            .with_correlation_id("c-7".into())
    };
    edge.publish(
        "sms.send",
        with_reply("r-json", "application/json; charset=utf-8"),
        json("one", 2).as_bytes(),
    )
    .await;
    let reply = edge.client.take(&replies).await;
    let response: v1::SendSmsResponse = serde_json::from_slice(&reply.data).unwrap();
    let ids: Vec<_> = response
        .results
        .iter()
        .map(|r| r.message_id.as_str())
        .collect();
    assert_eq!(ids, ["r-json~0", "r-json~1"]);
    assert_eq!(
        reply.properties.correlation_id().as_ref().unwrap().as_str(),
        "c-7"
    );

    for content_type in ["application/protobuf", "application/x-protobuf"] {
        edge.publish(
            "sms.send.urgent",
            with_reply(&content_type.replace('/', "-"), content_type),
            &request("two").encode_to_vec(),
        )
        .await;
        let reply = edge.client.take(&replies).await;
        let response = v1::SendSmsResponse::decode(reply.data.as_slice()).unwrap();
        assert_eq!(response.results.len(), 1);
        let kind = reply.properties.kind().as_ref().unwrap().as_str();
        assert_eq!(kind, "smsbridge.v1.SendSmsResponse");
    }

    let bulk = v1::SendSmsBulkRequest {
        messages: vec![
            request("three").message.unwrap(),
            request("four").message.unwrap(),
        ],
        ..Default::default()
    };
    edge.publish(
        "sms.send",
        with_reply("r-bulk", "application/json")
            .with_type("smsbridge.v1.SendSmsBulkRequest".into()),
        &serde_json::to_vec(&bulk).unwrap(),
    )
    .await;
    let reply = edge.client.take(&replies).await;
    let response: v1::SendSmsBulkResponse = serde_json::from_slice(&reply.data).unwrap();
    assert_eq!(response.results.len(), 2);

    let seen = edge.sender.seen();
    assert_eq!(seen[0].application.as_str(), "billing");
    assert_eq!(seen[0].request.request_id, "r-json");
    assert_eq!(seen[0].arrival, Arrival::First);
    let priorities: Vec<_> = seen
        .iter()
        .map(|s| s.request.messages[0].priority())
        .collect();
    use v1::Priority::{Unspecified, Urgent};
    assert_eq!(priorities, [Unspecified, Urgent, Urgent, Unspecified]);
    let events = edge.await_events("send.accepted", 6).await;
    assert!(events.iter().all(|event| event.application == "billing"));
    edge.stop().await;
}

/// The broker closes the connection on a message above its limit: 16 MiB in RabbitMQ 4.
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_is_too_large_is_dropped() {
    let edge = Edge::start().await;
    let events = edge.broker.topology().events();
    let replies = edge.client.bind_queue(&events, "no.such.event", &[]).await;
    for (request_id, text) in [("r-long", "long result"), ("r-short", "short result")] {
        let properties = BasicProperties::default()
            .with_message_id(request_id.into())
            .with_reply_to(replies.as_str().into());
        edge.publish("sms.send", properties, json(text, 1).as_bytes())
            .await;
        if text == "long result" {
            edge.await_events("send.accepted", 1).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
    edge.await_events("send.accepted", 2).await;
    let reply = edge.client.take(&replies).await;
    let correlation_id = reply.properties.correlation_id().as_ref().unwrap();
    assert_eq!(correlation_id.as_str(), "r-short");
    assert!(edge.client.try_take(&replies).await.is_none());
    edge.stop().await;
}

/// P1 and P7: an invalid command is dead-lettered at once with its reason; the commands behind it are sent.
#[tokio::test(flavor = "multi_thread")]
async fn invalid_commands_are_dead_lettered_without_blocking_others() {
    let edge = Edge::start().await;
    let plain = BasicProperties::default;
    let unknown_field = r#"{"message": {"destinations": [{"to": "1"}], "text": "x", "txet": "y"}}"#;
    let wrong: Vec<(&str, BasicProperties, Vec<u8>)> = vec![
        ("UNREADABLE_REQUEST", plain(), b"{".to_vec()),
        ("UNREADABLE_REQUEST", plain(), unknown_field.into()),
        (
            "UNREADABLE_REQUEST",
            plain().with_content_type("application/protobuf".into()),
            vec![0xff; 9],
        ),
        (
            "UNSUPPORTED_ENCODING",
            plain().with_content_type("text/plain".into()),
            json("a", 1).into(),
        ),
        (
            "UNKNOWN_TYPE",
            plain().with_type("smsbridge.v1.Event".into()),
            json("b", 1).into(),
        ),
        (
            "INVALID_APPLICATION",
            plain().with_app_id("No Such".into()),
            json("c", 1).into(),
        ),
        (
            "INVALID_APPLICATION",
            plain().with_app_id("unknown".into()),
            json("unknown", 1).into(),
        ),
        (
            "INVALID_APPLICATION",
            plain().with_app_id("foreign".into()),
            json("foreign", 1).into(),
        ),
        (
            "INVALID_REQUEST_ID",
            plain().with_message_id("a~0".into()),
            json("d", 1).into(),
        ),
        ("INVALID_REQUEST", plain(), b"{}".to_vec()),
        (
            "INVALID_REQUEST",
            plain().with_message_id("r-invalid".into()),
            json("invalid", 1).into(),
        ),
    ];
    for (n, (_, properties, body)) in wrong.iter().enumerate() {
        edge.publish("sms.send", properties.clone(), body).await;
        edge.publish_text(&format!("good-{n}"), "good").await;
    }
    edge.await_events("send.accepted", wrong.len()).await;
    let invalid = edge.await_events("command.invalid", wrong.len()).await;

    let mut expected: Vec<(String, Vec<u8>)> = wrong
        .iter()
        .map(|(reason, _, body)| ((*reason).to_owned(), body.clone()))
        .collect();
    let dead = edge.broker.topology().dead();
    let mut letters = Vec::new();
    for _ in &wrong {
        let letter = edge.client.take(&dead).await;
        let headers = letter.properties.headers().as_ref();
        assert_eq!(
            text_header(headers, "smsbridge-routing-key").as_deref(),
            Some("sms.send")
        );
        letters.push((
            text_header(headers, "smsbridge-reason").unwrap(),
            letter.data,
        ));
    }
    expected.sort();
    letters.sort();
    assert_eq!(letters, expected);
    assert!(edge.client.try_take(&dead).await.is_none());

    let refused = invalid
        .iter()
        .find(|event| event.request_id == "r-invalid")
        .unwrap();
    assert!(
        matches!(&refused.payload, Some(Payload::InvalidCommand(invalid))
        if invalid.violations[0].field == "message.from")
    );
    edge.stop().await;
}

/// The broker closes a connection on a frame that is too large. The publisher's headers fit into a frame of the default size, but
/// the bridge publishes on a connection with smaller frames: after three closed connections it drops these headers.
#[tokio::test(flavor = "multi_thread")]
async fn headers_that_repeatedly_close_the_connection_are_dropped() {
    let broker = TestBroker::start().await;
    let small_frames = format!("{}?frame_max=8192", broker.url);
    let small_frames = Endpoint::parse(&small_frames.into()).unwrap();
    let publisher = broker.publisher_at(small_frames).await;
    let endpoint = broker.endpoint();
    let edge = Edge::start_with(broker, endpoint, publisher).await;
    let mut headers = FieldTable::default();
    let long = LongString::from("x".repeat(20_000));
    headers.insert("long".into(), AMQPValue::LongString(long));
    let properties = BasicProperties::default()
        .with_app_id("billing".into())
        .with_headers(headers);
    edge.publish("sms.send", properties, b"{}").await;
    let letter = edge.client.take(&edge.broker.topology().dead()).await;
    assert_eq!(letter.data, b"{}");
    assert_eq!(
        letter.properties.app_id().as_ref().unwrap().as_str(),
        "billing"
    );
    let headers = letter.properties.headers().as_ref();
    assert_eq!(
        text_header(headers, "smsbridge-reason").as_deref(),
        Some("INVALID_REQUEST")
    );
    assert_eq!(text_header(headers, "long"), None);
    assert_eq!(number_header(headers, "smsbridge-headers-dropped"), Some(1));
    edge.publish_text("r1", "good").await;
    edge.await_events("send.accepted", 1).await;
    edge.stop().await;
}

/// The broker confirms a message with a mistyped routing key and, without an alternate exchange, would drop it.
#[tokio::test(flavor = "multi_thread")]
async fn an_unroutable_command_is_dead_lettered() {
    let edge = Edge::start().await;
    let properties = BasicProperties::default().with_app_id("billing".into());
    edge.publish("sms.sned", properties, json("x", 1).as_bytes())
        .await;
    let letter = edge.client.take(&edge.broker.topology().dead()).await;
    let headers = letter.properties.headers().as_ref();
    assert_eq!(
        text_header(headers, "smsbridge-reason").as_deref(),
        Some("UNROUTABLE")
    );
    let events = edge.await_events("command.invalid", 1).await;
    assert!(
        matches!(&events[0].payload, Some(Payload::InvalidCommand(invalid))
        if invalid.routing_key == "sms.sned")
    );
    assert_eq!(events[0].application, "billing");
    assert!(edge.sender.seen().is_empty());
    edge.stop().await;
}

/// A command that comes back is looked up first: its results may be lost, or its copy may have a twin.
#[tokio::test(flavor = "multi_thread")]
async fn commands_that_fail_temporarily_are_retried() {
    let edge = Edge::start().await;
    edge.publish_text("r1", "unavailable once").await;
    edge.publish_text("r2", "log down once").await;
    edge.await_events("send.accepted", 2).await;
    let seen = edge.sender.seen();
    let arrivals = |text: &str| -> Vec<Arrival> {
        let of_text = seen.iter().filter(|command| text_of(command) == text);
        of_text.map(|command| command.arrival).collect()
    };
    assert_eq!(
        arrivals("unavailable once"),
        [Arrival::First, Arrival::LookUpFirst]
    );
    assert_eq!(
        arrivals("log down once"),
        [Arrival::First, Arrival::Redelivered]
    );
    assert!(
        seen.iter()
            .all(|command| command.application.as_str() == "billing")
    );
    assert!(
        seen.iter()
            .all(|command| command.request.request_id.starts_with('r'))
    );
    edge.stop().await;
}

/// Without a request id only destinations that were not attempted may be retried.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_an_id_retries_only_unattempted_destinations() {
    let edge = Edge::start().await;
    edge.publish(
        "sms.send",
        BasicProperties::default(),
        json("second later", 3).as_bytes(),
    )
    .await;
    edge.await_events("send.accepted", 3).await;
    let seen = edge.sender.seen();
    let to: Vec<Vec<&str>> = seen
        .iter()
        .map(|command| {
            let destinations = &command.request.messages[0].destinations;
            destinations.iter().map(|d| d.to.as_str()).collect()
        })
        .collect();
    assert_eq!(
        to,
        [
            vec!["41793026720", "41793026721", "41793026722"],
            vec!["41793026721"]
        ]
    );
    edge.stop().await;
}

/// Results are matched to destinations by position, and a message without destinations has a result too.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_destinations_does_not_shift_retries() {
    let edge = Edge::start().await;
    let message = |destinations| request_json("second later", destinations)["message"].take();
    let body = serde_json::json!({"messages": [message(0), message(3)]}).to_string();
    let properties = BasicProperties::default().with_type("smsbridge.v1.SendSmsBulkRequest".into());
    edge.publish("sms.send", properties, body.as_bytes()).await;
    edge.await_events("send.accepted", 3).await;
    let retried = edge.sender.seen().pop().unwrap().request.messages;
    let [message] = retried.as_slice() else {
        panic!("{retried:?}")
    };
    let to: Vec<_> = message
        .destinations
        .iter()
        .map(|to| to.to.as_str())
        .collect();
    assert_eq!(to, ["41793026721"]);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_expires_in_its_queue_is_rejected() {
    let edge = Edge::start().await;
    // The command expires in its queue while the edge is stopped.
    edge.shutdown.cancel();
    let Edge {
        broker,
        client,
        log,
        task,
        ..
    } = edge;
    task.await.unwrap();
    log.close().await;
    let properties = BasicProperties::default()
        .with_app_id("billing".into())
        .with_message_id("r-late".into())
        .with_delivery_mode(2)
        .with_expiration("50".into());
    client
        .publish(
            &broker.topology().commands(),
            "sms.send",
            properties,
            json("late", 1).as_bytes(),
        )
        .await;
    let returned = broker.topology().returned();
    eventually("the command lapsed", || async {
        let declared = client
            .channel
            .queue_declare(
                returned.as_str().into(),
                lapin::options::QueueDeclareOptions {
                    passive: true,
                    ..Default::default()
                },
                Default::default(),
            )
            .await
            .unwrap();
        (declared.message_count() == 1).then_some(())
    })
    .await;
    let endpoint = broker.endpoint();
    let edge = Edge::start_at(broker, endpoint).await;
    let events = edge.await_events("send.rejected", 1).await;
    assert_eq!(events[0].request_id, "r-late");
    assert!(matches!(&events[0].payload, Some(Payload::Result(result))
        if result.refusal.as_ref().unwrap().reason == "EXPIRED"));
    // It may have been tried before it came back to its queue and expired, so it is looked up.
    let arrival = edge.sender.seen()[0].arrival;
    assert!(matches!(arrival, Arrival::Returned { .. }), "{arrival:?}");
    edge.stop().await;
}

/// P2: commands in flight when the broker session is lost are not handed to the sender again.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_session_does_not_repeat_commands_in_flight() {
    let broker = TestBroker::start().await;
    let proxy = broker.proxy().await;
    let endpoint = Endpoint::parse(&proxy.url.clone().into()).unwrap();
    let edge = Edge::start_at(broker, endpoint).await;
    for n in 0..20 {
        edge.publish_text(&format!("r{n}"), "held").await;
    }
    eventually("all are under way", || async {
        (edge.sender.count("held") == 20).then_some(())
    })
    .await;
    // Ten complete while no session can acknowledge them, ten after they were redelivered. The client of the broker reports an
    // acknowledgement as done that it writes before it notices the cut.
    proxy.down();
    await_session(&edge, false).await;
    edge.sender.held.add_permits(10);
    edge.await_events("send.accepted", 10).await;
    proxy.up();
    edge.publish_text("after", "good").await;
    eventually("the edge consumes again", || async {
        (edge.sender.count("good") == 1).then_some(())
    })
    .await;
    edge.sender.held.add_permits(10);
    edge.await_events("send.accepted", 21).await;
    assert_eq!(
        edge.sender.count("held"),
        20,
        "nothing was handed to the sender again"
    );
    edge.stop().await;
}

/// Without a request id a command is carried out at most once: a redelivered one is reported as unknown.
#[tokio::test(flavor = "multi_thread")]
async fn a_redelivered_command_without_an_id_is_never_sent_again() {
    let edge = Edge::start().await;
    edge.shutdown.cancel();
    let Edge {
        broker,
        client,
        log,
        task,
        ..
    } = edge;
    task.await.unwrap();
    log.close().await;
    let queue = broker.topology().send_normal();
    let events = broker.topology().events();
    let asking = broker.client().await;
    let replies = asking.bind_queue(&events, "no.such.event", &[]).await;
    for request_id in ["", "r1"] {
        let mut properties = BasicProperties::default().with_delivery_mode(2);
        if request_id.is_empty() {
            properties = properties.with_reply_to(replies.as_str().into());
        } else {
            properties = properties.with_message_id(request_id.into());
        }
        client
            .publish("", &queue, properties, json("again", 1).as_bytes())
            .await;
    }
    // A consumer takes each once and disconnects.
    for _ in 0..2 {
        let get = client
            .channel
            .basic_get(queue.as_str().into(), Default::default());
        assert!(get.await.unwrap().is_some());
    }
    drop(client);
    let endpoint = broker.endpoint();
    let edge = Edge::start_at(broker, endpoint).await;
    let unknown = edge.await_events("send.unknown", 1).await;
    assert!(matches!(&unknown[0].payload, Some(Payload::Result(result))
        if result.refusal.as_ref().unwrap().reason == "REDELIVERED_WITHOUT_REQUEST_ID"));
    let reply = asking.take(&replies).await;
    let reply: v1::SendSmsResponse = serde_json::from_slice(&reply.data).unwrap();
    assert_eq!(reply.results[0].outcome(), v1::Outcome::Unknown);
    edge.await_events("send.accepted", 1).await;
    let seen = edge.sender.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].request.request_id.as_str(), seen[0].arrival),
        ("r1", Arrival::Redelivered)
    );
    edge.stop().await;
}

/// It goes on being a single command: the process, and with it the other commands, does not end.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_handler_panics_comes_back_in_doubt_and_has_an_end() {
    let edge = Edge::start().await;
    edge.publish_text("r1", "mistake").await;
    edge.publish_text("r2", "neighbour").await;
    let copy = edge
        .client
        .take(&format!("{}.retry.60s", edge.broker.prefix))
        .await;
    let header = |copy: &Delivery, name| number_header(copy.properties.headers().as_ref(), name);
    assert_eq!(header(&copy, "smsbridge-panics"), Some(1));
    let mut headers = copy.properties.headers().clone().unwrap();
    assert!(headers.contains_key("smsbridge-in-doubt"));
    edge.await_events("send.accepted", 1).await;

    // Each attempt of it panicked.
    headers.insert("smsbridge-panics".into(), AMQPValue::LongLongInt(30));
    let properties = copy.properties.clone().with_headers(headers);
    edge.publish("sms.send", properties, &copy.data).await;
    let letter = edge.client.take(&edge.broker.topology().dead()).await;
    let reason = text_header(letter.properties.headers().as_ref(), "smsbridge-reason");
    assert_eq!(reason.as_deref(), Some("ATTEMPT_LIMIT"));
    let metrics = edge.metrics.encode().unwrap();
    assert!(
        metrics.contains("smsbridge_command_panics_total 2\n"),
        "{metrics}"
    );
    edge.stop().await;
}

/// P8: commands in flight complete; the others are requeued and do not count as attempted.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_completes_commands_in_flight_and_requeues_the_rest() {
    let edge = Edge::start().await;
    for n in 0..5 {
        edge.publish_text(&format!("r{n}"), "held").await;
    }
    eventually("all are under way", || async {
        (edge.sender.count("held") == 5).then_some(())
    })
    .await;
    edge.sender.shutting_down.store(true, Ordering::SeqCst);
    for n in 0..5 {
        edge.publish_text(&format!("late-{n}"), "late").await;
    }
    edge.shutdown.cancel();
    edge.sender.held.add_permits(5);
    let Edge {
        broker,
        client,
        log,
        sender,
        task,
        ..
    } = edge;
    tokio::time::timeout(Duration::from_secs(20), task)
        .await
        .expect("it drains")
        .unwrap();
    assert_eq!(sender.count("held"), 5);
    let queue = broker.topology().send_normal();
    let mut ids = Vec::new();
    for _ in 0..5 {
        let back = client.take(&queue).await;
        assert!(!back.redelivered, "it looks tried");
        let headers = back.properties.headers().as_ref();
        assert!(headers.is_none_or(|headers| !headers.contains_key("smsbridge-in-doubt")));
        assert_eq!(
            back.properties.app_id().as_ref().unwrap().as_str(),
            "billing"
        );
        ids.push(back.properties.message_id().as_ref().unwrap().to_string());
    }
    ids.sort();
    assert_eq!(ids, ["late-0", "late-1", "late-2", "late-3", "late-4"]);
    assert!(client.try_take(&queue).await.is_none());
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_of_a_backlog_is_sent_once() {
    let edge = Edge::start().await;
    let subscriber = edge
        .client
        .bind_queue(
            &edge.broker.topology().events(),
            "send.accepted.billing",
            &[("x-queue-type", AMQPValue::LongString("quorum".into()))],
        )
        .await;
    for n in 0..500 {
        edge.publish_text(&format!("r{n}"), "good").await;
    }
    let events = edge.await_events("send.accepted", 500).await;
    assert_eq!(edge.sender.seen().len(), 500);
    let first = edge.client.take(&subscriber).await;
    let id = first.properties.message_id().as_ref().unwrap().to_string();
    assert!(events.iter().any(|event| event.id == id));
    edge.stop().await;
}

/// The queue `returned` has no dead-letter exchange: a copy with an `expiration` would vanish there.
#[tokio::test(flavor = "multi_thread")]
async fn a_lapsed_command_survives_a_shutdown() {
    let edge = Edge::start().await;
    edge.sender.shutting_down.store(true, Ordering::SeqCst);
    let mut headers = FieldTable::default();
    let lapsed = Timestamp::now().as_millisecond() - 1_000;
    headers.insert(
        "smsbridge-expires-at".into(),
        AMQPValue::LongLongInt(lapsed),
    );
    let properties = BasicProperties::default()
        .with_app_id("billing".into())
        .with_message_id("r1".into())
        .with_delivery_mode(2)
        .with_headers(headers);
    let returned = edge.broker.topology().returned();
    edge.client
        .publish("", &returned, properties, json("late", 1).as_bytes())
        .await;
    eventually("the command is under way", || async {
        (edge.sender.count("late") == 1).then_some(())
    })
    .await;
    edge.shutdown.cancel();
    edge.task.await.unwrap();
    // Time enough for a copy that expires after a millisecond.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let copy = edge.client.try_take(&returned).await;
    let copy = copy.expect("the command is still there");
    let headers = copy.properties.headers().as_ref();
    assert_eq!(number_header(headers, "smsbridge-expires-at"), Some(lapsed));
    edge.log.close().await;
}

/// No answer comes after the publisher's headers, as from a broker that is slow to close the connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_never_confirmed_goes_on_without_its_publishers_headers() {
    const LONG: &[u8] = &[b'x'; 100];
    let broker = TestBroker::start().await;
    let url = start_relay(&broker.url, |peer, bytes| {
        if peer == Peer::Client && bytes.windows(LONG.len()).any(|window| window == LONG) {
            Verdict::Silence
        } else {
            Verdict::Forward
        }
    })
    .await;
    // Declares the queues.
    drop(broker.publisher().await);
    let publisher = Publisher::start(
        Endpoint::parse(&url.into()).unwrap(),
        broker.topology(),
        Duration::from_secs(1),
        Metrics::new(),
    );
    let endpoint = broker.endpoint();
    let edge = Edge::start_with(broker, endpoint, Arc::new(publisher)).await;
    let mut headers = FieldTable::default();
    headers.insert("long".into(), AMQPValue::LongString(LONG.into()));
    let properties = BasicProperties::default().with_headers(headers);
    edge.publish("sms.send", properties, b"{}").await;
    let letter = edge.client.take(&edge.broker.topology().dead()).await;
    let headers = letter.properties.headers().as_ref();
    assert_eq!(number_header(headers, "smsbridge-headers-dropped"), Some(1));
    edge.stop().await;
}
