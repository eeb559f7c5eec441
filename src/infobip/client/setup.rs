//! Builds the HTTP client from the configuration: base URL, credentials, TLS, connection pool.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use reqwest::{
    Url,
    header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue},
};
use secrecy::ExposeSecret as _;

use crate::config;

#[derive(Debug, thiserror::Error)]
pub enum ClientBuildError {
    #[error(
        "infobip.base_url `{base_url}`: {detail}; set it to a URL such as https://api.infobip.com"
    )]
    BaseUrl {
        /// As configured, but without a password.
        base_url: String,
        detail: String,
    },
    #[error("set infobip.username and infobip.password, or infobip.api_key")]
    NoCredentials,
    /// A character of the credentials is not allowed in a header value.
    #[error(
        "the credentials contain characters that are not allowed in an HTTP header: check infobip.api_key"
    )]
    BadCredentials,
    #[error("cannot set up the HTTP client: {0}")]
    Http(String),
}

/// How long an idle connection is kept: shorter than servers usually do, so that few requests meet a connection that the
/// server is closing.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) fn http_client(config: &config::Infobip) -> Result<reqwest::Client, ClientBuildError> {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, authorization(config)?);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls()?)
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .user_agent(concat!("smsbridge/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .connect_timeout(config.connect_timeout)
        .timeout(config.request_timeout)
        .tcp_nodelay(true)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        // The callers bound the number of concurrent requests (`send.max_requests_in_flight`).
        .pool_max_idle_per_host(usize::MAX)
        .build()
        .map_err(|error| ClientBuildError::Http(error.to_string()))
}

pub(super) fn base_url(given: &str) -> Result<String, ClientBuildError> {
    let wrong = |detail: &str, shown: &str| ClientBuildError::BaseUrl {
        base_url: shown.to_owned(),
        detail: detail.to_owned(),
    };
    let mut url = Url::parse(given.trim()).map_err(|error| wrong(&error.to_string(), given))?;
    if !url.username().is_empty() || url.password().is_some() {
        let _ = (url.set_username(""), url.set_password(None));
        return Err(wrong(
            "credentials belong in infobip.username and infobip.password",
            url.as_str(),
        ));
    }
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("it must start with https:// or http://", given));
    }
    if !url.path().trim_matches('/').is_empty() || url.query().is_some() || url.fragment().is_some()
    {
        return Err(wrong("it must end after the host", given));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// The `Authorization` header, marked sensitive.
fn authorization(config: &config::Infobip) -> Result<HeaderValue, ClientBuildError> {
    let value = match (&config.api_key, &config.username, &config.password) {
        (Some(api_key), _, _) => format!("App {}", api_key.expose_secret()),
        (None, Some(username), Some(password)) => {
            let pair = format!("{username}:{}", password.expose_secret());
            format!("Basic {}", BASE64.encode(pair))
        }
        _ => return Err(ClientBuildError::NoCredentials),
    };
    let mut value = HeaderValue::try_from(value).map_err(|_| ClientBuildError::BadCredentials)?;
    value.set_sensitive(true);
    Ok(value)
}

/// TLS that trusts the certificates of the machine and the built-in roots, because a container may have none.
fn tls() -> Result<rustls::ClientConfig, ClientBuildError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientBuildError::Http(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_with_a_path_is_refused() {
        for given in [
            "https://xyz.api.infobip.com",
            "https://xyz.api.infobip.com/",
        ] {
            assert_eq!(base_url(given).unwrap(), "https://xyz.api.infobip.com");
        }
        assert_eq!(
            base_url("http://127.0.0.1:8090").unwrap(),
            "http://127.0.0.1:8090"
        );
        for given in [
            "api.infobip.com",
            "ftp://api.infobip.com",
            "https://api.infobip.com/sms/1",
            "https://x?y",
            "",
        ] {
            assert!(base_url(given).is_err(), "{given}");
        }
        let refused = base_url("https://user:secret@api.infobip.com").unwrap_err();
        assert!(!refused.to_string().contains("secret"));
    }
}
