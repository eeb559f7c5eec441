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
}

/// # Errors
/// [`BrokerUrlError`].
pub fn parse_broker_url(text: &str) -> Result<AMQPUri, BrokerUrlError> {
    let is_amqp = text.starts_with("amqp://") || text.starts_with("amqps://");
    if !is_amqp || text.contains('#') {
        return Err(BrokerUrlError::Invalid);
    }
    let url = Url::parse(text).map_err(|_| BrokerUrlError::Invalid)?;
    let mut uri: AMQPUri = text.parse().map_err(|_| BrokerUrlError::Invalid)?;
    let host = url.host_str().ok_or(BrokerUrlError::NoHost)?;
    if let Some(ipv6) = host.strip_prefix('[') {
        uri.authority.host = ipv6.trim_end_matches(']').to_owned();
    }
    let after_host = text.splitn(4, '/').nth(3);
    let vhost = after_host.map(|path| path.split('?').next().unwrap_or_default());
    match vhost {
        Some("") => Err(BrokerUrlError::EmptyVhost),
        Some(vhost) if vhost.contains('/') => Err(BrokerUrlError::SlashInVhost),
        _ => Ok(uri),
    }
}
