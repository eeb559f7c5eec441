//! The flow over the broker: a command is published, its result and its report come back.

use std::{collections::BTreeSet, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
        ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};

use super::{super::CliError, flows::text, story::Story};
use crate::{message::event_type::EventType, proto::v1};

/// How long the events may take.
const EVENT_TIMEOUT: Duration = Duration::from_secs(15);
/// The events that the command leads to.
const EXPECTED: [EventType; 2] = [EventType::SendAccepted, EventType::ReportDelivered];

/// Publishes a command and waits for its events.
pub(super) async fn flow(story: &mut Story, url: &str) -> Result<(), CliError> {
    story.chapter(
        "Send by the broker",
        "publish to exchange smsbridge.commands, routing key sms.send; a queue of our own is bound to smsbridge.events",
    )?;
    let outcome = publish_and_consume(story, url).await;
    story.ended("broker", outcome)?;
    Ok(())
}

async fn publish_and_consume(story: &Story, url: &str) -> Result<(), String> {
    let connection = Connection::connect(url, ConnectionProperties::default())
        .await
        .map_err(said)?;
    let channel = connection.create_channel().await.map_err(said)?;
    let consumer = bind_queue(&channel).await?;
    publish(&channel).await?;
    let came = tokio::time::timeout(EVENT_TIMEOUT, consume(story, consumer))
        .await
        .unwrap_or_else(|_| {
            Err(format!(
                "no {} and {} within {EVENT_TIMEOUT:?}",
                EXPECTED[0], EXPECTED[1]
            ))
        });
    // The queue is exclusive: it goes with the connection.
    let _ = connection.close(200, "done".into()).await;
    came
}

async fn bind_queue(channel: &Channel) -> Result<Consumer, String> {
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel
        .queue_declare("".into(), exclusive, FieldTable::default())
        .await
        .map_err(said)?;
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(
            "smsbridge.events".into(),
            ExchangeKind::Topic,
            durable,
            FieldTable::default(),
        )
        .await
        .map_err(said)?;
    for key in ["send.*.default", "report.#"] {
        channel
            .queue_bind(
                queue.name().clone(),
                "smsbridge.events".into(),
                key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .map_err(said)?;
    }
    channel
        .basic_consume(
            queue.name().clone(),
            "demo".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(said)
}

async fn publish(channel: &Channel) -> Result<(), String> {
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .map_err(said)?;
    let body = serde_json::to_vec(&text(&["41793026727"], "Hello by the broker")).map_err(said)?;
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_message_id(format!("demo-{}", uuid::Uuid::now_v7()).into())
        .with_delivery_mode(2);
    let confirm = channel
        .basic_publish(
            "smsbridge.commands".into(),
            "sms.send".into(),
            BasicPublishOptions::default(),
            &body,
            properties,
        )
        .await
        .map_err(said)?
        .await
        .map_err(said)?;
    if confirm.is_ack() {
        Ok(())
    } else {
        Err("the broker did not take the command".to_owned())
    }
}

async fn consume(story: &Story, mut consumer: Consumer) -> Result<(), String> {
    let mut missing = BTreeSet::from(EXPECTED.map(EventType::as_str));
    while !missing.is_empty() {
        let delivery = consumer
            .next()
            .await
            .ok_or("the consumer ended")?
            .map_err(said)?;
        let event: v1::Event = serde_json::from_slice(&delivery.data).map_err(said)?;
        delivery
            .ack(BasicAckOptions::default())
            .await
            .map_err(said)?;
        if missing.remove(event.r#type.as_str()) {
            story.event(&event).map_err(said)?;
        }
    }
    Ok(())
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}
