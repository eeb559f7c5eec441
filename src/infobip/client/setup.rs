//! What a client is made of: an address, credentials, TLS.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use reqwest::{Url, header::HeaderValue};
use secrecy::ExposeSecret as _;

use crate::config;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientBuildError {
    /// `infobip.base_url` is not of the form `https://host`.
    #[error(
        "infobip.base_url `{base_url}`: {detail}; it should be such as https://api.infobip.com"
    )]
    BaseUrl {
        /// What was given, without a password.
        base_url: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Neither an API key nor a username and a password.
    #[error("set infobip.username and infobip.password, or infobip.api_key")]
    NoCredentials,
    /// The credentials can't stand in a header.
    #[error("the credentials hold characters that can't be sent: check infobip.api_key")]
    BadCredentials,
    /// TLS or the connection pool could not be set up.
    #[error("the HTTP client can't be set up: {0}")]
    Http(String),
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
        return Err(wrong("it must begin with https:// or http://", given));
    }
    if !url.path().trim_matches('/').is_empty() || url.query().is_some() || url.fragment().is_some()
    {
        return Err(wrong("it must end after the host", given));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// The header value that carries the credentials, marked sensitive.
pub(super) fn authorization(config: &config::Infobip) -> Result<HeaderValue, ClientBuildError> {
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

/// TLS with ring, trusting what the machine trusts and the roots that are compiled in: a container may have none.
pub(super) fn tls() -> Result<rustls::ClientConfig, ClientBuildError> {
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
    fn a_base_url_ends_after_the_host() {
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
