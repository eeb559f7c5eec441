//! The users of docs/RABBITMQ.md, after its `rabbitmqctl` lines: each may do what the document says, and not more. On the way,
//! an event and a dead letter show that the document names all of their properties and headers.

use std::time::Duration;

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    message::Delivery,
    options::{
        BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueBindOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};
use serde_json::json;

use super::terminal::{PASSWORD, Terminal};
use crate::support::{
    bridge::TestBridge,
    broker::TestBroker,
    document::{quoted, read},
    eventually,
    simulator::TestSimulator,
};

/// A channel of a user. A refusal closes it, so each attempt has its own.
struct User {
    channel: Channel,
    _connection: Connection,
}

impl User {
    async fn connect(url: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default())
            .await
            .unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .unwrap();
        Self {
            channel,
            _connection: connection,
        }
    }

    /// Whether the broker confirms a message.
    async fn publishes(self, exchange: &str, id: &str, body: &str) -> bool {
        let properties = BasicProperties::default()
            .with_app_id("crm".into())
            .with_message_id(id.into());
        let published = self.channel.basic_publish(
            exchange.into(),
            "sms.send".into(),
            BasicPublishOptions::default(),
            body.as_bytes(),
            properties,
        );
        match published.await {
            Ok(confirm) => confirm
                .await
                .is_ok_and(|confirmation| confirmation.is_ack()),
            Err(_) => false,
        }
    }

    /// Whether the user may bind its queue with this key.
    async fn binds(self, queue: &str, key: &str) -> bool {
        let declared = self.channel.queue_declare(
            queue.into(),
            QueueDeclareOptions::default(),
            FieldTable::default(),
        );
        declared.await.unwrap();
        let bound = self.channel.queue_bind(
            queue.into(),
            "smsbridge.events".into(),
            key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bound.await.is_ok()
    }

    async fn consumes(self, queue: &str) -> bool {
        self.channel
            .basic_qos(1, BasicQosOptions::default())
            .await
            .unwrap();
        let consumed = self.channel.basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        consumed.await.is_ok()
    }
}

pub(super) async fn users_may_do_what_the_document_says(terminal: &Terminal) {
    let url = terminal.broker_url();
    let of = |user: &str| url.replace("guest:guest", &format!("{user}:{PASSWORD}"));
    let (billing, crm) = (of("billing"), of("crm"));
    let as_billing = async || User::connect(&billing).await;
    let as_crm = async || User::connect(&crm).await;

    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        let broker = TestBroker {
            url: of("smsbridge"),
            prefix: "smsbridge".into(),
        };
        config.amqp = broker.config();
        // As in defaults.toml: the lines of the document have declared the stream with it.
        config.amqp.stream_retention = Duration::from_secs(72 * 3600);
    })
    .await;
    let ready = format!("http://{}/ready", bridge.addresses.admin);
    eventually(
        "the bridge is ready with the permissions of its user",
        async || {
            let answer = reqwest::get(&ready).await.unwrap();
            answer.status().is_success().then_some(())
        },
    )
    .await;

    assert!(as_crm().await.binds("crm.events", "*.*.crm").await);
    assert!(!as_crm().await.binds("crm.events", "#").await);
    assert!(!as_crm().await.consumes("smsbridge.events.log").await);
    assert!(
        !as_crm()
            .await
            .publishes("smsbridge.commands", "c1", "")
            .await
    );
    assert!(!as_billing().await.consumes("smsbridge.dead").await);
    assert!(
        !as_billing()
            .await
            .publishes("smsbridge.events", "b1", "")
            .await
    );

    let command = json!({"message": {"destinations": [{"to": "41793026727"}], "text": "Hello"}});
    let command = command.to_string();
    assert!(
        as_billing()
            .await
            .publishes("smsbridge.commands", "b2", &command)
            .await
    );
    let guest = TestBroker {
        url: url.clone(),
        prefix: "smsbridge".into(),
    }
    .client()
    .await;
    let event = guest.take("crm.events").await;
    assert_eq!(event.routing_key.as_str(), "send.accepted.crm");
    let document = read("docs/RABBITMQ.md").unwrap();
    let consume = section(&document, "Consume events");
    for name in properties(&event).into_iter().chain(headers(&event)) {
        assert!(consume.contains(&name), "{name}: {consume:?}");
    }
    assert!(as_crm().await.consumes("crm.events").await);

    // Only a bridge that may publish to the default exchange can make it a dead letter.
    assert!(
        as_billing()
            .await
            .publishes("smsbridge.commands", "b3", "{")
            .await
    );
    let dead = guest.take("smsbridge.dead").await;
    let retries = section(&document, "Retries and dead letters");
    let mut found = headers(&dead);
    found.retain(|name| !name.starts_with("x-")); // RabbitMQ's own
    assert!(found.contains(&"smsbridge-reason".to_owned()), "{found:?}");
    for name in found {
        assert!(retries.contains(&name), "{name}: {retries:?}");
    }
    assert!(send_command(&billing).await.contains("  accepted  "));
    bridge.stop().await;

    let refused = send_command(&crm).await;
    for part in [
        "may not publish to the exchange `smsbridge.commands`",
        "write permission",
    ] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    let refused = smsbridge(&["topology", "--declare"], &billing).await;
    let grant = "rabbitmqctl set_permissions -p '/' 'billing' '^smsbridge\\.' \
                 '^(smsbridge\\..+|amq\\.default)$' '^smsbridge\\.'";
    for part in ["the permission configure", "for `smsbridge.", grant] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
}

/// What `smsbridge send --amqp-url` prints as this user.
async fn send_command(url: &str) -> String {
    let args = ["send", "41793026727", "--text", "x", "--amqp-url", "env"];
    smsbridge(&args, url).await
}

/// What the built binary prints.
async fn smsbridge(args: &[&str], url: &str) -> String {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_smsbridge"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SMSBRIDGE_")) {
        command.env_remove(name);
    }
    let output = command
        .args(args)
        .env("SMSBRIDGE_AMQP__URL", url)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await;
    let output = output.expect("the command ends").unwrap();
    let printed = [output.stdout, output.stderr].concat();
    String::from_utf8(printed).unwrap()
}

/// The names in the first column of the tables of a section.
fn section(document: &str, heading: &str) -> Vec<String> {
    let mut sections = document.split("\n## ");
    let section = sections.find(|section| section.starts_with(heading));
    let rows = section
        .expect(heading)
        .lines()
        .filter_map(|line| line.strip_prefix("| "));
    let first = |row: &str| quoted(row.split(" | ").next().unwrap_or_default());
    rows.flat_map(first).collect()
}

fn headers(delivery: &Delivery) -> Vec<String> {
    let headers = delivery.properties.headers().iter().flatten();
    headers.map(|(name, _)| name.as_str().to_owned()).collect()
}

fn properties(delivery: &Delivery) -> Vec<String> {
    let properties = &delivery.properties;
    let set = [
        ("content_type", properties.content_type().is_some()),
        ("content_encoding", properties.content_encoding().is_some()),
        ("delivery_mode", properties.delivery_mode().is_some()),
        ("priority", properties.priority().is_some()),
        ("correlation_id", properties.correlation_id().is_some()),
        ("reply_to", properties.reply_to().is_some()),
        ("expiration", properties.expiration().is_some()),
        ("message_id", properties.message_id().is_some()),
        ("timestamp", properties.timestamp().is_some()),
        ("type", properties.kind().is_some()),
        ("user_id", properties.user_id().is_some()),
        ("app_id", properties.app_id().is_some()),
    ];
    let set = set.into_iter().filter(|(_, is_set)| *is_set);
    set.map(|(name, _)| name.to_owned()).collect()
}
