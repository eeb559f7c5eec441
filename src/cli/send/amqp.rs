//! `smsbridge send --amqp-url`: the same request as a command on the broker, and its reply.
//!
//! It depends on the contract only: the exchanges, the routing keys and the properties of commands and events.
//! Invariant: a user that may publish commands and nothing else can send, and learns at once that its command is a dead letter.

use std::time::Duration;

use clap::Args;
use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Confirmation, Consumer, ErrorKind,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::ShortString,
};
use tokio::time::{Instant, timeout_at};

use super::tally::repeat;
use crate::{
    amqp::{Endpoint, Session, headers::property},
    cli::{CliError, amqp_url, codes, event_queue::consume},
    proto::v1::{InvalidCommand, OutboundMessage, Priority, SendSmsRequest, SendSmsResponse},
};

/// The property `type` of the reply to a command that is a dead letter.
const DEAD: &str = "smsbridge.v1.InvalidCommand";
/// The name of RabbitMQ's direct reply-to.
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to";
/// What to do if the exchange or its queues are missing.
const DECLARE: &str = "Start the bridge with this broker, or declare its exchanges and queues: smsbridge topology --declare";

/// The broker, instead of the bridge's gRPC address.
#[derive(Debug, Args)]
pub(super) struct BrokerArgs {
    /// Publish a command on this broker instead of calling the bridge, and wait for the reply. With `env` the URL is that of
    /// the environment variable SMSBRIDGE_AMQP__URL, so that no list of processes shows its password; it is tried at the nodes of
    /// SMSBRIDGE_AMQP__OTHER_NODES, too
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
    /// As [`amqp_url::endpoint`].
    pub(super) fn endpoint(&self) -> Result<Option<Endpoint>, CliError> {
        self.amqp_url.as_deref().map(amqp_url::endpoint).transpose()
    }

    /// Publishes the request and waits for its reply.
    ///
    /// # Errors
    /// [`CliError::Failed`] if the broker refuses the command, the bridge does, or nothing comes.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        request: &SendSmsRequest,
        timeout: Duration,
    ) -> Result<SendSmsResponse, CliError> {
        let session = Session::open(endpoint, "send").await.map_err(failed)?;
        let deadline = Instant::now() + timeout;
        let refusals = Refusals {
            endpoint,
            prefix: &self.amqp_prefix,
        };
        let sending = async {
            let replies = self.publish(&session, request, &refusals).await?;
            self.reply(replies, request).await
        };
        let sent = timeout_at(deadline, sending).await;
        session.close().await;
        sent.unwrap_or_else(|_| Err(self.no_reply(request, timeout)))
    }

    fn no_reply(&self, request: &SendSmsRequest, timeout: Duration) -> CliError {
        let queue = match is_urgent(request) {
            true => "send.urgent",
            false => "send.normal",
        };
        CliError::Failed(format!(
            "no reply within {} s. The usual cause: the API is down; then the command waits, and the bridge sends it later. \
             Another cause: no bridge consumes {}.{queue}\n  {}",
            timeout.as_secs(),
            self.amqp_prefix,
            repeat(&request.request_id)
        ))
    }

    /// Publishes the command. Returns the consumer of its reply: a direct reply, which needs neither a queue nor a permission.
    async fn publish(
        &self,
        session: &Session,
        request: &SendSmsRequest,
        refusals: &Refusals<'_>,
    ) -> Result<Consumer, CliError> {
        let channel = session.consuming_channel(1).await.map_err(failed)?;
        let replies = consume(&channel, DIRECT_REPLY.into()).await.map_err(lost)?;
        let routing_key = match is_urgent(request) {
            true => "sms.send.urgent",
            false => "sms.send",
        };
        let id = short(&request.request_id, "--request-id")?;
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_message_id(id.clone())
            .with_correlation_id(id)
            .with_reply_to(DIRECT_REPLY.into())
            .with_delivery_mode(2);
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .map_err(lost)?;
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let exchange = format!("{}.commands", self.amqp_prefix);
        let body = serde_json::to_vec(request).map_err(failed)?;
        let confirmation = channel
            .basic_publish(
                short(&exchange, "--amqp-prefix")?,
                routing_key.into(),
                mandatory,
                &body,
                properties,
            )
            .await
            .map_err(|error| refusals.explain(&error))?
            .await
            .map_err(|error| refusals.explain(&error))?;
        match confirmation {
            Confirmation::Ack(None) => Ok(replies),
            Confirmation::Ack(Some(_)) => Err(failed(format!(
                "the broker returned the command: `{exchange}` has no queue for {routing_key}. {DECLARE}"
            ))),
            _ => Err(failed("the broker did not confirm the command")),
        }
    }

    /// Waits for the reply: the results, or why the command is a dead letter.
    async fn reply(
        &self,
        mut replies: Consumer,
        request: &SendSmsRequest,
    ) -> Result<SendSmsResponse, CliError> {
        let reply = replies
            .next()
            .await
            .ok_or_else(|| failed("the session with the broker ended"))?
            .map_err(lost)?;
        if property(reply.properties.kind()) != DEAD {
            return serde_json::from_slice(&reply.data).map_err(failed);
        }
        let invalid: InvalidCommand = serde_json::from_slice(&reply.data).map_err(failed)?;
        let reason = codes::with_violations(
            format!("{}: {}", invalid.reason, invalid.detail),
            &invalid.violations,
        );
        Err(CliError::Failed(format!(
            "the command cannot be carried out: {reason}\n  It is in the queue {}.dead (request id {})",
            self.amqp_prefix, request.request_id
        )))
    }
}

/// Explains why the broker refuses the command, with the remedy.
struct Refusals<'a> {
    endpoint: &'a Endpoint,
    prefix: &'a str,
}

impl Refusals<'_> {
    fn explain(&self, error: &lapin::Error) -> CliError {
        let exchange = format!("{}.commands", self.prefix);
        let (address, user) = (self.endpoint.address(), self.endpoint.username());
        let ErrorKind::ProtocolError(protocol) = error.kind() else {
            return lost(error);
        };
        match protocol.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => failed(format!(
                "the exchange `{exchange}` does not exist on the broker at {address}. {DECLARE}. If the bridge has another \
                 amqp.prefix, set --amqp-prefix"
            )),
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => failed(format!(
                "the user `{user}` may not publish to the exchange `{exchange}` on the broker at {address}: it needs the write \
                 permission for it (rabbitmqctl set_permissions; docs/RABBITMQ.md#permissions). The broker reports: {}",
                protocol.get_message()
            )),
            _ => lost(error),
        }
    }
}

fn is_urgent(request: &SendSmsRequest) -> bool {
    let priority = request.message.as_ref().map(OutboundMessage::priority);
    priority == Some(Priority::Urgent)
}

/// # Errors
/// [`CliError::Usage`] if the value of the option is longer than AMQP allows.
fn short(text: &str, option: &str) -> Result<ShortString, CliError> {
    ShortString::try_new(text)
        .map_err(|_| CliError::Usage(format!("{option} is too long: AMQP allows 255 bytes")))
}

fn lost(error: impl std::fmt::Display) -> CliError {
    failed(format!("the session with the broker failed: {error}"))
}

fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::Failed(error.to_string())
}
