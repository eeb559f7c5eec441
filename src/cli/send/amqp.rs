//! `smsbridge send --amqp-url`: the same request as a command on the broker, and its reply.
//!
//! It depends on the contract only: the exchange, the routing keys and the properties of commands.

use std::time::Duration;

use clap::Args;
use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Confirmation, Consumer,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};

use super::tally::repeat;
use crate::{
    amqp::{Endpoint, Session},
    cli::CliError,
    config::BROKER_URL_REMEDY,
    proto::v1::{OutboundMessage, Priority, SendSmsRequest, SendSmsResponse},
};

/// The value of `--amqp-url` that stands for the variable.
const FROM_ENVIRONMENT: &str = "env";
/// The variable of `amqp.url`.
const VARIABLE: &str = "SMSBRIDGE_AMQP__URL";

/// The broker, instead of the bridge's gRPC address.
#[derive(Debug, Args)]
pub(super) struct BrokerArgs {
    /// Publish a command on this broker instead of calling the bridge, and wait for the reply. With `env` the URL is that of
    /// the environment variable SMSBRIDGE_AMQP__URL, so that no list of processes shows its password
    #[arg(
        long,
        value_name = "URL",
        conflicts_with = "file",
        help_heading = "RabbitMQ"
    )]
    amqp_url: Option<String>,
    /// Prefix of the bridge's names on the broker (amqp.prefix)
    #[arg(
        long,
        value_name = "PREFIX",
        default_value = "smsbridge",
        requires = "amqp_url",
        help_heading = "RabbitMQ"
    )]
    amqp_prefix: String,
}

impl BrokerArgs {
    /// The broker of `--amqp-url`. The environment alone never selects a broker.
    ///
    /// # Errors
    /// [`CliError::Usage`] if the URL is invalid, without any part of it, or missing in the environment.
    pub(super) fn endpoint(&self) -> Result<Option<Endpoint>, CliError> {
        let (name, url) = match self.amqp_url.as_deref() {
            None => return Ok(None),
            Some(FROM_ENVIRONMENT) => {
                let set = std::env::var(VARIABLE).ok();
                let url = set.filter(|url| !url.is_empty()).ok_or_else(|| {
                    CliError::Usage(format!("{VARIABLE} is not set: --amqp-url env needs it"))
                })?;
                (VARIABLE, url)
            }
            Some(url) => ("--amqp-url", url.to_owned()),
        };
        Endpoint::parse(&url.into())
            .map(Some)
            .map_err(|problem| CliError::Usage(format!("{name} {problem}; {BROKER_URL_REMEDY}")))
    }

    /// Publishes the request and waits for its reply.
    ///
    /// # Errors
    /// [`CliError::Failed`] if the broker refuses the command or no reply comes.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        request: &SendSmsRequest,
        timeout: Duration,
    ) -> Result<SendSmsResponse, CliError> {
        let session = Session::open(endpoint, "send").await.map_err(failed)?;
        let sent = tokio::time::timeout(timeout, self.publish_and_wait(&session, request)).await;
        session.close().await;
        sent.unwrap_or_else(|_| {
            let queue = match is_urgent(request) {
                true => "send.urgent",
                false => "send.normal",
            };
            Err(CliError::Failed(format!(
                "no reply within {} s. The usual cause: the API is down; then the command waits, and the bridge sends it later. \
                 Other causes: no bridge consumes {}.{queue}, or the command is invalid (smsbridge events --type command.invalid)\n  {}",
                timeout.as_secs(),
                self.amqp_prefix,
                repeat(&request.request_id)
            )))
        })
    }

    async fn publish_and_wait(
        &self,
        session: &Session,
        request: &SendSmsRequest,
    ) -> Result<SendSmsResponse, CliError> {
        let channel = session.consuming_channel(1).await.map_err(failed)?;
        let mut replies = reply_queue(&channel).await.map_err(failed)?;
        let routing_key = match is_urgent(request) {
            true => "sms.send.urgent",
            false => "sms.send",
        };
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_message_id(request.request_id.as_str().into())
            .with_correlation_id(request.request_id.as_str().into())
            .with_reply_to(replies.queue())
            .with_delivery_mode(2);
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .map_err(failed)?;
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let exchange = format!("{}.commands", self.amqp_prefix);
        let body = serde_json::to_vec(request).map_err(failed)?;
        let confirmation = channel
            .basic_publish(
                exchange.as_str().into(),
                routing_key.into(),
                mandatory,
                &body,
                properties,
            )
            .await
            .map_err(failed)?
            .await
            .map_err(failed)?;
        match confirmation {
            Confirmation::Ack(None) => {}
            Confirmation::Ack(Some(_)) => {
                return Err(failed(format!(
                    "the broker returned the command: {exchange} has no queue for {routing_key}"
                )));
            }
            _ => return Err(failed("the broker did not confirm the command")),
        }
        let reply = replies
            .next()
            .await
            .ok_or_else(|| failed("the broker ended the consumer"))?
            .map_err(failed)?;
        serde_json::from_slice(&reply.data).map_err(failed)
    }
}

fn is_urgent(request: &SendSmsRequest) -> bool {
    let priority = request.message.as_ref().map(OutboundMessage::priority);
    priority == Some(Priority::Urgent)
}

/// A queue that the broker deletes with the connection.
async fn reply_queue(channel: &Channel) -> Result<Consumer, lapin::Error> {
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel
        .queue_declare("".into(), exclusive, FieldTable::default())
        .await?;
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    channel
        .basic_consume(
            queue.name().clone(),
            "".into(),
            options,
            FieldTable::default(),
        )
        .await
}

fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::Failed(error.to_string())
}
