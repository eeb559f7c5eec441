//! The configuration: one small struct for each section, every key documented in `defaults.toml`, which is embedded and
//! is the reference.
//!
//! Invariants: a [`Config`] that exists was checked as a whole; secrets are redacted in `Debug`; nothing here opens a file
//! or a socket except the loader. Neighbours: `cli` names the layers, `app` reads the result.

mod check;
mod layers;
mod load;
mod mistake;
mod read;
pub mod tls;
pub mod tokens;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

pub use self::{
    load::{DEFAULTS, EffectiveValue, Loaded},
    mistake::{ConfigErrors, Mistake, Origin},
};

/// The whole configuration. `defaults.toml` says what each key means.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The API that messages go to.
    pub infobip: Infobip,
    /// How sends are put together and how long they are tried.
    pub send: Send,
    /// The gRPC server.
    pub grpc: Grpc,
    /// The HTTP server that Infobip calls.
    pub http: Http,
    /// The HTTP server for probes and metrics.
    pub admin: Admin,
    /// The broker.
    pub amqp: Amqp,
    /// The event log.
    pub events: Events,
    /// What the process says of itself.
    pub log: Log,
    /// How it ends.
    pub shutdown: Shutdown,
    /// Settings of single applications, by name.
    #[serde(default)]
    pub applications: BTreeMap<String, Application>,
}

/// `[infobip]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Infobip {
    /// Where the API is, without a path.
    pub base_url: String,
    /// For Basic authentication, with `password`.
    pub username: Option<String>,
    /// For Basic authentication.
    pub password: Option<SecretString>,
    /// A file with the password.
    pub password_file: Option<PathBuf>,
    /// For `App` authentication, instead of username and password.
    pub api_key: Option<SecretString>,
    /// A file with the API key.
    pub api_key_file: Option<PathBuf>,
    /// How long a connection may take to be made.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// How long a request may take in all.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    /// The account's rate of send requests a second; 0: no limit.
    pub send_requests_per_second: u32,
    /// The API's quota of log requests a minute.
    pub log_requests_per_minute: u32,
    /// The largest response that is read, in bytes.
    pub max_response_bytes: usize,
}

/// `[send]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// Destinations that share one request at most.
    pub max_batch: usize,
    /// Send requests that are under way at once at most.
    pub max_requests_in_flight: usize,
    /// How long a message waits at most for others to share its request, while other requests are under way.
    #[serde(with = "duration")]
    pub gather_for: Duration,
    /// Destinations that wait or are under way at most; more are refused.
    pub queue_capacity: usize,
    /// How long an API that can't be reached is tried before a caller hears UNAVAILABLE.
    #[serde(with = "duration")]
    pub retry_for: Duration,
    /// How long after a doubtful send the logs are first asked.
    #[serde(with = "duration")]
    pub in_doubt_wait: Duration,
    /// How long a doubtful send is resolved before it is reported unknown.
    #[serde(with = "duration")]
    pub in_doubt_for: Duration,
}

/// `[grpc]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grpc {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Allows anything but loopback without authentication.
    pub allow_insecure: bool,
    /// The server's certificate chain (PEM); with `tls_key_file`: TLS.
    pub tls_cert_file: Option<PathBuf>,
    /// The server's key (PEM).
    pub tls_key_file: Option<PathBuf>,
    /// Certificates (PEM) that clients' certificates must come from: mutual TLS.
    pub tls_client_ca_file: Option<PathBuf>,
    /// Hashed tokens and what they allow; read again when it changes.
    pub tokens_file: Option<PathBuf>,
    /// Serves reflection.
    pub reflection: bool,
    /// The largest request, in bytes.
    pub max_message_bytes: usize,
    /// Calls under way on one connection at most.
    pub max_concurrent_calls_per_connection: u32,
    /// Calls under way in all at most; more are shed with RESOURCE_EXHAUSTED.
    pub max_concurrent_calls: usize,
    /// Connections at most.
    pub max_connections: usize,
    /// How often an idle connection is asked whether it lives.
    #[serde(with = "duration")]
    pub keepalive_interval: Duration,
    /// How long it may take to answer that.
    #[serde(with = "duration")]
    pub keepalive_timeout: Duration,
    /// After how long a connection is asked to go, so that load balances anew.
    #[serde(with = "duration")]
    pub max_connection_age: Duration,
    /// How long its calls may go on after that.
    #[serde(with = "duration")]
    pub max_connection_age_grace: Duration,
}

/// `[http]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Allows anything but loopback without a secret.
    pub allow_insecure: bool,
    /// Its address as Infobip sees it, without a path.
    pub public_url: Option<String>,
    /// The path secret.
    pub secret: Option<SecretString>,
    /// A file with the path secret.
    pub secret_file: Option<PathBuf>,
    /// For HTTP Basic instead of the path secret, with `basic_password`.
    pub basic_username: Option<String>,
    /// For HTTP Basic.
    pub basic_password: Option<SecretString>,
    /// A file with the Basic password.
    pub basic_password_file: Option<PathBuf>,
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
}

/// `[admin]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Where it listens.
    pub listen: SocketAddr,
}

/// `[amqp]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amqp {
    /// The broker; none: no AMQP interface.
    pub url: Option<SecretString>,
    /// A file with the broker's URL.
    pub url_file: Option<PathBuf>,
    /// What all names begin with.
    pub prefix: String,
    /// Which property names the application.
    pub application_from: ApplicationFrom,
    /// Commands that are under way at once at most, for each queue.
    pub prefetch: u16,
    /// How long a confirm may take.
    #[serde(with = "duration")]
    pub confirm_timeout: Duration,
    /// How long events are kept in the stream.
    #[serde(with = "duration")]
    pub stream_retention: Duration,
}

/// Which AMQP property names the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplicationFrom {
    /// `app_id`, which any publisher may choose.
    AppId,
    /// `user_id`, which the broker checks.
    UserId,
}

/// `[events]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// Where the embedded engine keeps its files.
    pub data_dir: PathBuf,
    /// Which engine keeps the events.
    pub engine: Engine,
    /// How long the embedded engine keeps events.
    #[serde(with = "duration")]
    pub retention: Duration,
}

/// Which engine keeps the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// The broker where there is one, else embedded.
    Auto,
    /// SQLite in `data_dir`.
    Embedded,
    /// A stream of the broker.
    Broker,
}

/// `[log]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// A filter such as `info` or `smsbridge=debug,info`.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// `[shutdown]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// How long what is in flight may take to finish after SIGTERM.
    #[serde(with = "duration")]
    pub grace: Duration,
}

/// `[applications.NAME]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Application {
    /// The sender of messages that name none.
    pub default_sender: Option<String>,
    /// The only senders it may use. Empty: any.
    pub allowed_senders: Vec<String>,
    /// The only countries it may send to, by calling code such as "41". Empty: any.
    pub allowed_country_prefixes: Vec<String>,
    /// Messages to one number in one hour at most. 0: no cap.
    pub max_messages_per_number_per_hour: u32,
    /// Calls a second at most. 0: no quota.
    pub calls_per_second: u32,
    /// Inbound messages that are its own.
    pub inbound: Vec<InboundRoute>,
}

/// One route of inbound messages to an application: what is absent matches anything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InboundRoute {
    /// The number that received the message, digits only.
    pub number: Option<String>,
    /// The keyword of the message, without regard to case.
    pub keyword: Option<String>,
}

/// The path secret of a bridge that has none configured: on loopback any is accepted.
const UNGUARDED_SECRET: &str = "local";

impl Http {
    /// The path secret that the bridge puts into the addresses it gives to the API (`{public_url}/infobip/{secret}/…`):
    /// the configured one, else `local`.
    #[must_use]
    pub fn path_secret(&self) -> &str {
        self.secret
            .as_ref()
            .map_or(UNGUARDED_SECRET, ExposeSecret::expose_secret)
    }
}

/// Durations as `30s`, `5m`, `48h`.
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
                // The friendly printer's grammar alone: `parse` would take ISO 8601 too, a second way to write the same.
                jiff::fmt::friendly::SpanParser::new()
                    .parse_unsigned_duration(text)
                    .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        source.deserialize_str(Written)
    }
}

#[cfg(test)]
mod tests;
