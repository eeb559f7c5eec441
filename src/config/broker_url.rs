//! The URL of a broker (`amqp.url`, `send --amqp-url`), read as lapin reads it, except for the host: lapin replaces an IPv6 address
//! and a missing host by `localhost`.
//!
//! Invariant: no error contains a part of the URL, because of the password in it. Neighbours: `check` refuses an invalid
//! `amqp.url`; `amqp::session` connects to the result.

use lapin::uri::AMQPUri;
use reqwest::Url;

/// How to write the URL, for the end of an error message.
pub const BROKER_URL_REMEDY: &str = "write `amqp://user:password@host:5672/%2f`, or `amqps://…`; in names and passwords write `/` as %2f, `@` as %40, \
     `:` as %3a, `#` as %23, `?` as %3f";

/// Why a URL is refused. The text follows the name of the key or the flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BrokerUrlError {
    #[error("is not the URL of a broker")]
    Invalid,
    #[error("has no host")]
    NoHost,
    #[error("has an empty virtual host: the default one is %2f")]
    EmptyVhost,
    #[error("has a `/` in the virtual host, which must be written as %2f")]
    SlashInVhost,
    #[error("has an `@` in the virtual host, which must be written as %40")]
    AtInVhost,
    #[error(
        "has the option `{0}`, which is not supported: the broker's certificate is always verified; CAs and a client certificate \
         are set by amqp.tls_ca_file, amqp.tls_cert_file and amqp.tls_key_file"
    )]
    TlsOption(&'static str),
    #[error("has an unknown option: only {} are supported", OPTIONS.join(", "))]
    UnknownOption,
}

/// The options in the query that lapin reads.
const OPTIONS: [&str; 5] = [
    "heartbeat",
    "connection_timeout",
    "channel_max",
    "frame_max",
    "auth_mechanism",
];
/// The options for TLS that clients of RabbitMQ for Erlang read.
const TLS_OPTIONS: [&str; 8] = [
    "cacertfile",
    "certfile",
    "keyfile",
    "verify",
    "fail_if_no_peer_cert",
    "password",
    "server_name_indication",
    "depth",
];

/// # Errors
/// [`BrokerUrlError`].
pub fn parse_broker_url(text: &str) -> Result<AMQPUri, BrokerUrlError> {
    let (scheme, after_scheme) = text.split_once("://").ok_or(BrokerUrlError::Invalid)?;
    let is_amqp = ["amqp", "amqps"]
        .iter()
        .any(|amqp| scheme.eq_ignore_ascii_case(amqp));
    if !is_amqp || text.contains('#') {
        return Err(BrokerUrlError::Invalid);
    }
    let url = Url::parse(text).map_err(|_| BrokerUrlError::Invalid)?;
    for (option, _) in url.query_pairs() {
        if let Some(option) = TLS_OPTIONS.iter().find(|known| **known == option) {
            return Err(BrokerUrlError::TlsOption(option));
        }
        if !OPTIONS.contains(&option.as_ref()) {
            return Err(BrokerUrlError::UnknownOption);
        }
    }
    let mut uri: AMQPUri = text.parse().map_err(|_| BrokerUrlError::Invalid)?;
    let host = url.host_str().ok_or(BrokerUrlError::NoHost)?;
    if let Some(ipv6) = host.strip_prefix('[') {
        uri.authority.host = ipv6.trim_end_matches(']').to_owned();
    }
    let before_query = after_scheme.split('?').next().unwrap_or_default();
    let vhost = before_query.split_once('/').map_or("", |(_, vhost)| vhost);
    if vhost.contains('/') {
        Err(BrokerUrlError::SlashInVhost)
    } else if vhost.contains('@') {
        Err(BrokerUrlError::AtInVhost)
    } else if uri.vhost.is_empty() {
        // `/`, and also `/.` and `/..`, which a URL shortens.
        Err(BrokerUrlError::EmptyVhost)
    } else {
        Ok(uri)
    }
}
