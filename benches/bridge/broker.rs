//! The broker of a measurement: the bridge's topology under a prefix of its own, commands in its queues, and its deletion.

use std::process::{Command, Stdio};

use lapin::{
    BasicProperties, Channel, Connection,
    options::{
        BasicPublishOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};

use super::{confirm::connect, process::binary};

/// Publications without a confirm at most.
const IN_FLIGHT: usize = 2000;

/// The kinds of commands that a measurement publishes.
#[derive(Clone, Copy)]
pub enum Commands {
    Valid,
    /// One in a hundred cannot be read.
    OneInHundredInvalid,
}

/// The exchanges and queues of one bridge, without a bridge.
pub struct Broker {
    pub url: String,
    pub prefix: String,
    exchanges: Vec<String>,
    queues: Vec<String>,
    _connection: Connection,
    channel: Channel,
}

impl Broker {
    pub async fn declare(url: &str) -> Self {
        let prefix = format!("bench-{}", uuid::Uuid::new_v4().simple());
        let declared = Command::new(binary())
            .args(["topology", "--declare", "--json"])
            .env("SMSBRIDGE_AMQP__URL", url)
            .env("SMSBRIDGE_AMQP__PREFIX", &prefix)
            .env("SMSBRIDGE_INFOBIP__USERNAME", "demo")
            .env("SMSBRIDGE_INFOBIP__PASSWORD", "demo")
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(declared.status.success(), "the topology cannot be declared");
        let definitions: serde_json::Value = serde_json::from_slice(&declared.stdout).unwrap();
        let names = |kind: &str| {
            let all = definitions[kind].as_array().unwrap().iter();
            all.map(|one| one["name"].as_str().unwrap().to_owned())
                .collect()
        };
        let (connection, channel) = connect(url).await;
        Self {
            url: url.to_owned(),
            prefix,
            exchanges: names("exchanges"),
            queues: names("queues"),
            _connection: connection,
            channel,
        }
    }

    /// The settings of a bridge that works on them.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("SMSBRIDGE_AMQP__URL", self.url.clone()),
            ("SMSBRIDGE_AMQP__PREFIX", self.prefix.clone()),
        ]
    }

    /// Publishes commands with one destination each. Returns when all are confirmed.
    pub async fn publish(&self, count: u64, commands: Commands) {
        let mut confirms = Vec::with_capacity(IN_FLIGHT);
        for n in 0..count {
            let is_invalid = matches!(commands, Commands::OneInHundredInvalid) && n % 100 == 99;
            let body = if is_invalid {
                "{".to_owned()
            } else {
                command(super::load::TO)
            };
            let request_id = format!("bench-{n}");
            confirms.push(self.publish_one(&request_id, "sms.send", body).await);
            if confirms.len() == IN_FLIGHT {
                confirmed(&mut confirms).await;
            }
        }
        confirmed(&mut confirms).await;
    }

    /// Publishes one urgent command to a number. Returns when it is written to the connection.
    pub async fn publish_urgent(&self, request_id: &str, to: &str) {
        let confirm = self.publish_one(request_id, "sms.send.urgent", command(to));
        drop(confirm.await);
    }

    /// Publishes normal commands with so many destinations each.
    pub async fn publish_bulks(&self, count: u64, destinations: usize) {
        let to = format!(r#"{{"to":"{}"}}"#, super::load::TO);
        let body = format!(
            r#"{{"message":{{"from":"InfoSMS","destinations":[{}],"text":"{}"}}}}"#,
            vec![to; destinations].join(","),
            super::load::TEXT
        );
        let mut confirms = Vec::new();
        for n in 0..count {
            let (request_id, body) = (format!("bulk-{n}"), body.clone());
            confirms.push(self.publish_one(&request_id, "sms.send", body).await);
        }
        confirmed(&mut confirms).await;
    }

    async fn publish_one(
        &self,
        request_id: &str,
        routing_key: &str,
        body: String,
    ) -> lapin::PublisherConfirm {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_message_id(request_id.into());
        self.channel
            .basic_publish(
                format!("{}.commands", self.prefix).into(),
                routing_key.into(),
                BasicPublishOptions::default(),
                body.as_bytes(),
                properties,
            )
            .await
            .unwrap()
    }

    /// Binds a queue to the events exchange that takes one event and refuses all others, as somebody else's full queue does.
    pub async fn bind_full_queue(&mut self) {
        let queue = format!("{}-full", self.prefix);
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
        let refuse = AMQPValue::LongString("reject-publish".into());
        arguments.insert("x-overflow".into(), refuse);
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        self.channel
            .queue_declare(queue.as_str().into(), durable, arguments)
            .await
            .unwrap();
        self.channel
            .queue_bind(
                queue.as_str().into(),
                format!("{}.events", self.prefix).into(),
                "#".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
        self.queues.push(queue);
    }

    /// Deletes everything that was declared.
    pub async fn delete(self) {
        for queue in self.queues {
            let options = QueueDeleteOptions::default();
            self.channel
                .queue_delete(queue.into(), options)
                .await
                .unwrap();
        }
        for exchange in self.exchanges {
            let options = ExchangeDeleteOptions::default();
            self.channel
                .exchange_delete(exchange.into(), options)
                .await
                .unwrap();
        }
    }
}

fn command(to: &str) -> String {
    format!(
        r#"{{"message":{{"from":"InfoSMS","destinations":[{{"to":"{to}"}}],"text":"{}"}}}}"#,
        super::load::TEXT
    )
}

async fn confirmed(confirms: &mut Vec<lapin::PublisherConfirm>) {
    for confirm in confirms.drain(..) {
        assert!(confirm.await.unwrap().is_ack());
    }
}
