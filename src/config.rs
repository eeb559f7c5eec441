//! The configuration: one struct per section. Keys are documented in `defaults.toml` only; it is embedded in the binary and
//! is the reference.
//!
//! Invariants: a [`Config`] has passed every check; `Debug` redacts secrets; files are read only while the configuration is
//! loaded and validated. Neighbours: `cli` names the layers, `app` reads the result.

mod broker_node;
mod broker_url;
mod check;
mod effective;
mod layers;
mod load;
mod mistake;
mod network;
mod push_url;
mod read;
pub mod tls;
pub mod tokens;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde::Deserialize;

pub use self::{
    broker_node::{BROKER_NODE_REMEDY, NotANode, parse_broker_node},
    broker_url::{BROKER_URL_REMEDY, BrokerUrlError, parse_broker_url},
    effective::EffectiveValue,
    layers::list_of_text,
    load::{DEFAULTS, Loaded},
    mistake::{ConfigErrors, Mistake, Origin},
    network::Network,
};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub infobip: Infobip,
    pub send: Send,
    pub grpc: Grpc,
    pub http: Http,
    pub admin: Admin,
    pub amqp: Amqp,
    pub events: Events,
    pub log: Log,
    pub shutdown: Shutdown,
    #[serde(default)]
    pub applications: BTreeMap<String, Application>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Infobip {
    pub base_url: String,
    pub username: Option<String>,
    pub password: Option<SecretString>,
    pub password_file: Option<PathBuf>,
    pub api_key: Option<SecretString>,
    pub api_key_file: Option<PathBuf>,
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    pub send_requests_per_second: u32,
    pub send_messages_per_second: u32,
    pub log_requests_per_minute: u32,
    #[serde(with = "duration")]
    pub log_lag: Duration,
    pub replicas: u32,
    pub send_traceparent: bool,
    pub max_response_bytes: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Send {
    pub max_batch: usize,
    pub max_batch_bytes: usize,
    pub max_requests_in_flight: usize,
    #[serde(with = "duration")]
    pub max_batching_wait: Duration,
    pub queue_capacity: usize,
    pub urgent_percent: u32,
    #[serde(with = "duration")]
    pub retry_for: Duration,
    #[serde(with = "duration")]
    pub in_doubt_wait: Duration,
    #[serde(with = "duration")]
    pub in_doubt_for: Duration,
    /// Asks for intermediate reports of all messages whose reports the bridge gets.
    pub intermediate_reports: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grpc {
    pub listen: SocketAddr,
    pub allow_insecure: bool,
    pub tls_cert_file: Option<PathBuf>,
    pub tls_key_file: Option<PathBuf>,
    pub tls_client_ca_file: Option<PathBuf>,
    pub tokens_file: Option<PathBuf>,
    pub reflection: bool,
    pub max_message_bytes: usize,
    pub max_concurrent_calls_per_connection: u32,
    pub max_concurrent_calls: usize,
    pub max_connections: usize,
    #[serde(with = "duration")]
    pub keepalive_interval: Duration,
    #[serde(with = "duration")]
    pub keepalive_timeout: Duration,
    #[serde(with = "duration")]
    pub max_connection_age: Duration,
    #[serde(with = "duration")]
    pub max_connection_age_grace: Duration,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    pub listen: SocketAddr,
    pub allow_insecure: bool,
    pub public_url: Option<String>,
    pub secret: Option<SecretString>,
    pub secret_file: Option<PathBuf>,
    pub basic_username: Option<String>,
    pub basic_password: Option<SecretString>,
    pub basic_password_file: Option<PathBuf>,
    /// Pushes to the path of subscriptions are signed with this key.
    pub hmac_key: Option<SecretString>,
    pub hmac_key_file: Option<PathBuf>,
    /// Admitted beside `hmac_key`, while it replaces this one.
    pub hmac_previous_key: Option<SecretString>,
    pub hmac_previous_key_file: Option<PathBuf>,
    pub hmac_header: Option<String>,
    pub hmac_algorithm: HmacAlgorithm,
    pub hmac_encoding: HmacEncoding,
    /// The clients that may push. Empty: all.
    pub allowed_networks: Vec<Network>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    pub inbound_output: InboundOutput,
    pub inbound_parameters: InboundParameters,
    pub max_body_bytes: usize,
    /// Limit of open connections.
    pub max_connections: usize,
    /// Limit of requests that are read and stored concurrently; more are answered with 503.
    pub max_concurrent_requests: usize,
    /// How long a connection may take to send the head of its next request.
    #[serde(with = "duration")]
    pub header_timeout: Duration,
    /// How long a request may take, from its head to its answer.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
}

/// The hash function of signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HmacAlgorithm {
    Sha256,
    Sha384,
    Sha512,
}

/// How a header has the bytes of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HmacEncoding {
    Hex,
    Base64,
}

/// How the values of a message that is pushed by GET are formatted, before they are percent-encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InboundOutput {
    #[default]
    Plain,
    /// With XML's entities.
    Xml,
    /// With the escapes of a JSON string.
    Json,
}

/// The names that the URL template of messages pushed by GET gives their parameters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InboundParameters {
    pub sender: String,
    pub receiver: String,
    pub text: String,
    pub bin: String,
    pub datetime: String,
    pub message_id: String,
    pub data_coding: String,
    pub esm_class: String,
    pub output: String,
}

impl Default for InboundParameters {
    /// The manual's names.
    fn default() -> Self {
        Self {
            sender: "sender".to_owned(),
            receiver: "receiver".to_owned(),
            text: "text".to_owned(),
            bin: "bin".to_owned(),
            datetime: "datetime".to_owned(),
            message_id: "messageId".to_owned(),
            data_coding: "datacoding".to_owned(),
            esm_class: "esmclass".to_owned(),
            output: "output".to_owned(),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    pub listen: SocketAddr,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amqp {
    pub url: Option<SecretString>,
    pub url_file: Option<PathBuf>,
    /// Each as [`parse_broker_node`] reads it.
    pub other_nodes: Vec<String>,
    pub tls_ca_file: Option<PathBuf>,
    pub tls_cert_file: Option<PathBuf>,
    pub tls_key_file: Option<PathBuf>,
    pub prefix: String,
    pub topology: TopologyMode,
    pub application_from: ApplicationFrom,
    pub prefetch: u16,
    /// How long a command stays unacknowledged at most.
    #[serde(with = "duration")]
    pub hold_for: Duration,
    /// How many requests of a command alone the API may refuse while it takes others.
    pub max_attempts: u32,
    /// The age at which a command expires. 0: no limit.
    #[serde(with = "duration")]
    pub max_age: Duration,
    #[serde(with = "duration")]
    pub confirm_timeout: Duration,
    #[serde(with = "duration")]
    pub stream_retention: Duration,
}

#[cfg(test)]
impl Amqp {
    /// A section for tests that need its names only.
    pub(crate) fn with_prefix(prefix: &str) -> Self {
        Self {
            url: None,
            url_file: None,
            other_nodes: Vec::new(),
            tls_ca_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            prefix: prefix.to_owned(),
            topology: TopologyMode::Declare,
            application_from: ApplicationFrom::AppId,
            prefetch: 1,
            hold_for: Duration::ZERO,
            max_attempts: 1,
            max_age: Duration::ZERO,
            confirm_timeout: Duration::ZERO,
            stream_retention: Duration::ZERO,
        }
    }
}

/// Who owns the exchanges, queues and bindings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopologyMode {
    /// The bridge declares them in each session.
    Declare,
    /// An operator declares them; the bridge checks that they exist.
    Passive,
}

/// The AMQP property that names the application of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplicationFrom {
    /// `app_id`, which the publisher can set to anything.
    AppId,
    /// `user_id`, which the broker validates.
    UserId,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    pub data_dir: PathBuf,
    pub engine: Engine,
    #[serde(with = "duration")]
    pub retention: Duration,
    /// Of all events in the embedded log; 0: no limit.
    pub max_bytes: u64,
    /// Of events on the broker.
    pub encoding: EventEncoding,
}

/// How events are encoded on the broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventEncoding {
    /// Proto JSON.
    #[default]
    Json,
    /// Binary protobuf.
    Protobuf,
    /// Structured CloudEvents, in JSON.
    CloudEvents,
}

/// The engine of the event log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// `Broker` if `amqp.url` is set, else `Embedded`.
    Auto,
    /// SQLite in `data_dir`.
    Embedded,
    /// A RabbitMQ stream.
    Broker,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub filter: String,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text if stderr is a terminal, else JSON.
    Auto,
    Text,
    Json,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    #[serde(with = "duration")]
    pub grace: Duration,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Application {
    pub default_sender: Option<String>,
    pub allowed_senders: Vec<String>,
    pub allowed_country_prefixes: Vec<String>,
    pub max_messages_per_number_per_hour: u32,
    pub calls_per_second: u32,
    pub inbound: Vec<InboundRoute>,
}

/// Selects inbound messages that belong to an application. An absent field matches any message.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InboundRoute {
    pub number: Option<String>,
    pub keyword: Option<String>,
}

/// The segment of the path for signed pushes, in place of the secret.
pub const SUBSCRIPTIONS: &str = "subscriptions";

/// The default of `grpc.max_connections`.
pub const DEFAULT_MAX_CONNECTIONS: usize = 20_000;

impl Config {
    /// The engine of the event log; never [`Engine::Auto`].
    #[must_use]
    pub fn engine(&self) -> Engine {
        match self.events.engine {
            Engine::Auto if self.amqp.url.is_some() => Engine::Broker,
            Engine::Auto => Engine::Embedded,
            chosen => chosen,
        }
    }
}

impl Infobip {
    /// Whether `base_url` is an `http://` URL of another machine, so that credentials and messages are sent unencrypted.
    #[must_use]
    pub fn is_unencrypted(&self) -> bool {
        self.base_url.starts_with("http://") && !check::is_loopback_url(&self.base_url)
    }
}

/// Reads durations such as `30s`, `5m`, `48h`.
mod duration {
    use std::{fmt, time::Duration};

    use serde::de::{Deserializer, Error, Unexpected, Visitor};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<Duration, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"250ms\", \"30s\", \"5m\" or \"48h\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
                // `parse` would also accept ISO 8601; one notation is enough.
                jiff::fmt::friendly::SpanParser::new()
                    .parse_unsigned_duration(text)
                    .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        source.deserialize_str(Written)
    }
}

#[cfg(test)]
pub(crate) mod tests;
