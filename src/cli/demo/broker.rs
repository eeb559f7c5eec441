//! The demo on a broker: publishes a command, consumes the events of its result and its report, and at the end deletes the
//! queues and exchanges that the demo's bridge declared.

use std::{collections::BTreeSet, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Consumer,
    options::{
        BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeleteOptions,
    },
};

use super::{
    super::{CliError, event_queue::consume_events},
    failed,
    flows::text,
    story::Story,
};
use crate::{
    amqp::{AmqpError, Endpoint, Session, Topology},
    config,
    message::event_type::EventType,
    proto::v1,
};

/// Timeout of the events.
const EVENT_TIMEOUT: Duration = Duration::from_secs(15);
/// Timeout of the deletion of one queue or exchange.
const DELETE_TIMEOUT: Duration = Duration::from_secs(5);
/// The events that the demo awaits after it has published the command.
const EXPECTED: [EventType; 2] = [EventType::SendAccepted, EventType::ReportDelivered];

/// The broker of `--amqp-url`, and the demo's names there.
pub(super) struct Broker {
    pub(super) url: String,
    pub(super) endpoint: Endpoint,
    pub(super) topology: Topology,
    pub(super) prefix: String,
}

enum Entity {
    Queue(String),
    Exchange(String),
}

impl Broker {
    /// Checks that the broker answers, before anything is declared on it.
    ///
    /// # Errors
    /// [`CliError::Failed`] if it does not.
    pub(super) async fn reach(url: &str, config: &config::Amqp) -> Result<Self, CliError> {
        let endpoint = Endpoint::parse(&url.to_owned().into())
            .map_err(|error| failed(AmqpError::from(error)))?;
        let session = Session::open(&endpoint, "demo").await.map_err(failed)?;
        session.close().await;
        Ok(Self {
            url: url.to_owned(),
            endpoint,
            topology: Topology::new(config),
            prefix: config.prefix.clone(),
        })
    }

    /// Deletes every queue and exchange of the demo, once the bridge has stopped.
    ///
    /// # Errors
    /// [`CliError::Failed`] with the names of those that could not be deleted.
    pub(super) async fn delete_topology(&self) -> Result<(), CliError> {
        let queues = self.topology.queues().into_iter();
        let exchanges = self.topology.exchanges().into_iter();
        let entities = queues
            .map(|queue| Entity::Queue(queue.name))
            .chain(exchanges.map(|exchange| Entity::Exchange(exchange.name)));
        let session = Session::open(&self.endpoint, "demo").await;
        let mut left = Vec::new();
        let mut first_error = None;
        for entity in entities {
            let deleted = match &session {
                Ok(session) => tokio::time::timeout(DELETE_TIMEOUT, entity.delete(session))
                    .await
                    .unwrap_or(Err(AmqpError::TimedOut(DELETE_TIMEOUT)))
                    .map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = deleted {
                first_error.get_or_insert(error);
                left.push(entity.name().to_owned());
            }
        }
        if let Ok(session) = session {
            session.close().await;
        }
        match first_error {
            None => Ok(()),
            Some(error) => Err(CliError::Failed(format!(
                "the demo could not delete its queues and exchanges on the broker ({error}). Delete them yourself: {}",
                left.join(", ")
            ))),
        }
    }
}

impl Entity {
    fn name(&self) -> &str {
        match self {
            Self::Queue(name) | Self::Exchange(name) => name,
        }
    }

    /// Deletes it over a channel of its own, because an error closes the channel. Deleting what does not exist succeeds.
    async fn delete(&self, session: &Session) -> Result<(), AmqpError> {
        let channel = session.consuming_channel(1).await?;
        match self {
            Self::Queue(name) => {
                channel
                    .queue_delete(name.as_str().into(), QueueDeleteOptions::default())
                    .await?;
            }
            Self::Exchange(name) => {
                channel
                    .exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default())
                    .await?;
            }
        }
        Ok(())
    }
}

/// Publishes a command and waits for its events.
pub(super) async fn flow(story: &mut Story, broker: &Broker) -> Result<(), CliError> {
    story.chapter(
        "Send through the broker",
        &format!(
            "publish to exchange {}, routing key sms.send; a queue of our own is bound to {}",
            broker.topology.commands(),
            broker.topology.events()
        ),
    )?;
    let outcome = publish_and_consume(story, broker).await;
    story.ended("broker", outcome)?;
    Ok(())
}

async fn publish_and_consume(story: &Story, broker: &Broker) -> Result<(), String> {
    let session = Session::open(&broker.endpoint, "demo")
        .await
        .map_err(text_of)?;
    let channel = session.consuming_channel(1).await.map_err(text_of)?;
    let events = broker.topology.events().into();
    let consumer = consume_events(&channel, events, &["send.*.default", "report.#"])
        .await
        .map_err(text_of)?;
    publish(&channel, &broker.topology).await?;
    let received = tokio::time::timeout(EVENT_TIMEOUT, consume(story, consumer))
        .await
        .unwrap_or_else(|_| {
            Err(format!(
                "no {} and {} within {EVENT_TIMEOUT:?}",
                EXPECTED[0], EXPECTED[1]
            ))
        });
    // The queue is exclusive: the broker deletes it with the connection.
    session.close().await;
    received
}

async fn publish(channel: &Channel, topology: &Topology) -> Result<(), String> {
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .map_err(text_of)?;
    let body =
        serde_json::to_vec(&text(&["41793026727"], "Hello through the broker")).map_err(text_of)?;
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_message_id(format!("demo-{}", uuid::Uuid::now_v7()).into())
        .with_delivery_mode(2);
    let confirm = channel
        .basic_publish(
            topology.commands().into(),
            "sms.send".into(),
            BasicPublishOptions::default(),
            &body,
            properties,
        )
        .await
        .map_err(text_of)?
        .await
        .map_err(text_of)?;
    if confirm.is_ack() {
        Ok(())
    } else {
        Err("the broker did not confirm the command".to_owned())
    }
}

async fn consume(story: &Story, mut consumer: Consumer) -> Result<(), String> {
    let mut missing = BTreeSet::from(EXPECTED.map(EventType::as_str));
    while !missing.is_empty() {
        let delivery = consumer
            .next()
            .await
            .ok_or("the consumer ended")?
            .map_err(text_of)?;
        let event: v1::Event = serde_json::from_slice(&delivery.data).map_err(text_of)?;
        if missing.remove(event.r#type.as_str()) {
            story.event(&event).map_err(text_of)?;
        }
    }
    Ok(())
}

fn text_of(error: impl std::fmt::Display) -> String {
    error.to_string()
}
