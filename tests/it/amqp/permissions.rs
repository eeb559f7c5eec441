//! The table of permissions in docs/RABBITMQ.md, row by row: a user with exactly these permissions does what its row promises, and is
//! refused one thing more. The topology is imported from `smsbridge topology --json`, as an operator would who owns it.

use std::{collections::BTreeMap, process::Command, sync::Arc};

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueBindOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};
use serde_json::{Value, json};
use smsbridge::{
    amqp::Endpoint,
    config::{self, TopologyMode},
    events::{EventLog as _, Start, broker::BrokerLog},
    ops::metrics::Metrics,
    proto::v1::{ListDeadLettersRequest, admin_service_client::AdminServiceClient},
};

use super::log::{accepted, ids, read_to_head};
use crate::support::{
    bridge::TestBridge,
    broker::{Node, TestBroker},
    document::{quoted, read, rows},
    eventually,
    process::BridgeProcess,
    simulator::TestSimulator,
};

const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to";
const DECLARING: &str = "the bridge, or an operator who declares for it";
const PASSIVE: &str = "the bridge with `amqp.topology = \"passive\"`";
/// As in [`TestBroker::config`].
const RETENTION: (&str, &str) = ("SMSBRIDGE_AMQP__STREAM_RETENTION", "1h");

/// Configure, write and read of each row, by the text of its first cell.
fn table() -> BTreeMap<String, [String; 3]> {
    let document = read("docs/RABBITMQ.md").unwrap();
    let (_, section) = document.split_once("\n## Permissions\n").unwrap();
    let of_row = |row: Vec<&str>| {
        let [name, permissions @ ..] = &row[..] else {
            panic!("{row:?}")
        };
        let permissions: Vec<String> = permissions
            .iter()
            .flat_map(|cell| quoted(&cell.replace("\\|", "|")))
            .collect();
        (
            (*name).to_owned(),
            permissions.try_into().expect("three permissions"),
        )
    };
    rows(section.split("\n\n").next().unwrap())
        .map(of_row)
        .collect()
}

/// The definition of a user whose password is its name, and of its permissions.
fn user(name: &str, [configure, write, read]: &[String; 3]) -> (Value, Value) {
    let user = json!({"name": name, "password": name, "tags": ""});
    let permission = json!({
        "user": name, "vhost": "/", "configure": configure, "write": write, "read": read,
    });
    (user, permission)
}

async fn import(node: Node, definitions: &Value) -> Node {
    let (node, answer) = node.answer(&format!("import {definitions}")).await;
    assert_eq!(answer, "import");
    node
}

/// The broker as a user sees it.
struct Users(TestBroker);

impl Users {
    fn url(&self, user: &str) -> String {
        self.0.url.replace("guest:guest", &format!("{user}:{user}"))
    }

    fn config(&self, user: &str) -> config::Amqp {
        config::Amqp {
            url: Some(self.url(user).into()),
            ..self.0.config()
        }
    }

    /// A channel of its own for each attempt, because a refusal closes it.
    async fn channel(&self, user: &str) -> (Channel, Connection) {
        let url = self.url(user);
        let connecting = Connection::connect(&url, ConnectionProperties::default());
        let connection = connecting.await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let confirms = channel.confirm_select(ConfirmSelectOptions::default());
        confirms.await.unwrap();
        let qos = channel.basic_qos(1, BasicQosOptions::default());
        qos.await.unwrap();
        (channel, connection)
    }

    async fn publishes(&self, user: &str, exchange: &str) -> bool {
        let (channel, _connection) = self.channel(user).await;
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default().with_message_id("probe".into());
        // No binding: a command with this key would be a dead letter.
        let published = channel.basic_publish(
            exchange.into(),
            "sms.send".into(),
            options,
            b"{",
            properties,
        );
        match published.await {
            Ok(confirm) => confirm.await.is_ok_and(|confirm| confirm.is_ack()),
            Err(_) => false,
        }
    }

    async fn declares(&self, user: &str, queue: &str, exclusive: bool) -> Option<String> {
        let (channel, _connection) = self.channel(user).await;
        let options = QueueDeclareOptions {
            exclusive,
            durable: !exclusive,
            ..Default::default()
        };
        let declaring = channel.queue_declare(queue.into(), options, FieldTable::default());
        let name = declaring.await.ok()?.name().to_string();
        if !exclusive {
            return Some(name);
        }
        // Only this connection may use it.
        let consuming = channel.basic_consume(
            name.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        consuming.await.ok()?;
        Some(name)
    }

    async fn binds(&self, user: &str, queue: &str) -> bool {
        let (channel, _connection) = self.channel(user).await;
        let bound = channel.queue_bind(
            queue.into(),
            "smsbridge.events".into(),
            "report.#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bound.await.is_ok()
    }

    async fn consumes(&self, user: &str, queue: &str) -> bool {
        let (channel, _connection) = self.channel(user).await;
        let consumed = channel.basic_consume(
            queue.into(),
            "".into(),
            // Direct reply-to takes no acknowledgements.
            BasicConsumeOptions {
                no_ack: queue == DIRECT_REPLY,
                ..Default::default()
            },
            FieldTable::default(),
        );
        consumed.await.is_ok()
    }

    /// The whole way of commands on a bridge of this user: the events, the reply, a look-up, a dead letter and its list; a retry.
    async fn carries_out_commands(&self, user: &str, topology: TopologyMode) {
        let simulator = TestSimulator::start().await;
        let bridge = TestBridge::with(&simulator, |config| {
            config.amqp = self.config(user);
            config.amqp.topology = topology;
        })
        .await;
        let ready = format!("http://{}/ready", bridge.addresses.admin);
        eventually(&format!("the bridge of {user} is ready"), async || {
            let answer = reqwest::get(&ready).await.unwrap().text().await.unwrap();
            (answer == "ready\n").then_some(())
        })
        .await;
        let mut events = bridge.events().await;
        let guest = self.0.client().await;
        let replies = guest.bind_queue("amq.topic", "none", &[]).await;
        let publish = async |key: &str, id: &str, body: &str| {
            let properties = BasicProperties::default()
                .with_message_id(format!("{user}-{id}").into())
                .with_reply_to(replies.as_str().into());
            let commands = self.0.topology().commands();
            guest
                .publish(&commands, key, properties, body.as_bytes())
                .await;
        };

        let command = r#"{"message": {"destinations": [{"to": "41793026727"}], "text": "Hello"}}"#;
        publish("sms.send", "send", command).await;
        events.next_of("send.accepted").await;
        let reply = guest.take(&replies).await;
        assert!(String::from_utf8_lossy(&reply.data).contains("OUTCOME_ACCEPTED"));
        publish("number.lookup", "look-up", r#"{"to": ["41793026727"]}"#).await;
        events.next_of("lookup.completed").await;
        publish("sms.send", "dead", "{").await;
        events.next_of("command.invalid").await;
        let mut admin = AdminServiceClient::new(bridge.channel.clone());
        let listed = admin
            .list_dead_letters(ListDeadLettersRequest::default())
            .await;
        let letters = listed.unwrap().into_inner().letters;
        assert_eq!(letters.len(), 1, "{letters:?}");
        bridge.stop().await;
        guest.take(&self.0.topology().dead()).await;
        // A retry: no queue is bound for a message without the header of a delay.
        assert!(self.publishes(user, &self.0.topology().retry()).await);
    }

    /// What the row of a user promises, and one thing more.
    async fn keeps(&self, row: &str, user: &str) {
        match row {
            DECLARING => {
                self.carries_out_commands(user, TopologyMode::Declare).await;
                assert_eq!(self.declares(user, "other", false).await, None);
            }
            PASSIVE => {
                self.carries_out_commands(user, TopologyMode::Passive).await;
                assert_eq!(self.declares(user, "smsbridge.other", false).await, None);
                assert!(!self.publishes(user, "smsbridge.unroutable").await);
            }
            "a publisher, also one with direct reply-to" => {
                assert!(self.publishes(user, "smsbridge.commands").await);
                assert!(self.consumes(user, DIRECT_REPLY).await);
                assert!(!self.publishes(user, "smsbridge.events").await);
                assert_eq!(self.declares(user, "", true).await, None);
            }
            "a publisher with a reply queue that the broker names" => {
                assert!(self.publishes(user, "smsbridge.commands").await);
                assert!(self.declares(user, "", true).await.is_some());
                assert_eq!(self.declares(user, "replies", true).await, None);
            }
            "a consumer with queues `crm.…`" => {
                let queue = "crm.first";
                assert!(self.declares(user, queue, false).await.is_some());
                assert!(self.binds(user, queue).await && self.consumes(user, queue).await);
                assert!(!self.consumes(user, "smsbridge.events.log").await);
            }
            "the same, and the stream" => {
                let queue = "crm.second";
                assert!(self.declares(user, queue, false).await.is_some());
                assert!(self.binds(user, queue).await && self.consumes(user, queue).await);
                assert!(self.consumes_stream(user).await);
                assert!(!self.consumes(user, "smsbridge.dead").await);
            }
            "an operator (dead letters, replay)" => {
                for queue in ["smsbridge.dead", "smsbridge.quarantine"] {
                    assert!(self.consumes(user, queue).await, "{queue}");
                }
                assert!(self.publishes(user, "smsbridge.commands").await);
                assert!(!self.consumes_stream(user).await);
                assert!(!self.publishes(user, "smsbridge.events").await);
            }
            other => panic!("the row `{other}` of docs/RABBITMQ.md has no test"),
        }
    }

    async fn consumes_stream(&self, user: &str) -> bool {
        self.consumes(user, "smsbridge.events.log").await
    }
}

/// What `smsbridge topology --json` prints.
fn definitions() -> Value {
    let printed = Command::new(env!("CARGO_BIN_EXE_smsbridge"))
        .args(["topology", "--json"])
        .env_remove("SMSBRIDGE_CONFIG")
        .envs([RETENTION])
        .output()
        .unwrap();
    serde_json::from_slice(&printed.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_may_do_what_its_row_says_and_no_more() {
    let (broker, node) = TestBroker::start_alone().await;
    let table = table();
    let name = |n: usize| format!("user-{n}");
    let mut definitions = definitions();
    let late = user("late", &["^$", ".*", ".*"].map(str::to_owned));
    let of_table = table.values().enumerate();
    let users = of_table.map(|(n, permissions)| user(&name(n), permissions));
    let (users, permissions): (Vec<_>, Vec<_>) = users.chain([late]).unzip();
    definitions["users"] = users.into();
    definitions["permissions"] = permissions.into();
    let node = import(node, &definitions).await;
    let users = Users(broker);
    // Bridges first: they make the dead letters that they count.
    let is_bridge = |row: &&String| row.starts_with("the bridge");
    let (bridges, others): (Vec<_>, Vec<_>) = table.keys().partition(is_bridge);
    for row in bridges.into_iter().chain(others) {
        let n = table.keys().position(|key| key == row).unwrap();
        users.keeps(row, &name(n)).await;
    }
    assert!(table.contains_key(PASSIVE) && table.contains_key(DECLARING));
    a_reader_needs_no_permission_to_declare(&users).await;
    a_permission_that_is_granted_later(users, node).await;
}

/// The user may read the stream, and declare nothing.
async fn a_reader_needs_no_permission_to_declare(users: &Users) {
    let log = BrokerLog::new(
        users.0.publisher().await,
        Endpoint::parse(&users.url("late").into()).unwrap(),
        users.0.topology(),
        users.0.config().confirm_timeout,
        Metrics::new(),
    );
    log.append(Arc::new(vec![accepted("read")])).await.unwrap();
    let read = read_to_head(&log, Start::Since(jiff::Timestamp::UNIX_EPOCH)).await;
    assert_eq!(ids(&read[read.len() - 1..]), ["read"]);
    log.close().await;
}

/// The log and `/ready` say what is missing and what to do; nothing that waits is lost.
async fn a_permission_that_is_granted_later(users: Users, node: Node) {
    let simulator = TestSimulator::start().await;
    let url = users.url("late");
    let settings = [("SMSBRIDGE_AMQP__URL", url.as_str()), RETENTION];
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    let expected = [
        "event log: cannot declare: the user `late` may not declare",
        "rabbitmqctl set_permissions -p '/' 'late' ",
        "amqp.topology = \"passive\"",
        "smsbridge topology --declare",
    ];
    eventually("the missing permission is shown", async || {
        let ready = bridge.ready().await;
        expected
            .iter()
            .all(|part| ready.contains(part))
            .then_some(())
    })
    .await;
    let client = users.0.client().await;
    let commands = users.0.topology().commands();
    let command = r#"{"message": {"destinations": [{"to": "41793026799"}], "text": "Hello"}}"#;
    let properties = BasicProperties::default().with_message_id("late".into());
    client
        .publish(&commands, "sms.send", properties, command.as_bytes())
        .await;

    let permissions = [
        "^smsbridge\\.",
        "^(smsbridge\\..+|amq\\.default)$",
        "^smsbridge\\.",
    ];
    let (user, permission) = user("late", &permissions.map(str::to_owned));
    let granted = json!({"users": [user], "permissions": [permission]});
    let _node = import(node, &granted).await;
    eventually("the command that waited is sent", async || {
        let messages = simulator.messages().await;
        let is_it = |message: &Value| message["to"] == "41793026799";
        messages.iter().any(is_it).then_some(())
    })
    .await;
    // The raw store is opened again at its next attempt.
    eventually("the bridge is ready", async || {
        (bridge.ready().await == "ready\n").then_some(())
    })
    .await;
    let problems: Vec<Value> = bridge
        .logged()
        .into_iter()
        .filter(|line| line["level"] == "WARN" || line["level"] == "ERROR")
        .collect();
    assert_eq!(problems.len(), 1, "{problems:?}");
    let cause = problems[0]["cause"].as_str().unwrap();
    assert!(
        cause.starts_with("cannot declare: the user `late`"),
        "{cause}"
    );
    bridge.stop().await;
}
