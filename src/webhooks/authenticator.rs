//! Authenticates pushes by the secret in the path or by HTTP Basic credentials.

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::config;

#[derive(Clone)]
pub(super) struct WebhookAuthenticator {
    secret: Option<SecretString>,
    basic: Option<(String, SecretString)>,
}

impl WebhookAuthenticator {
    pub(super) fn new(config: &config::Http) -> Self {
        let basic = config
            .basic_username
            .clone()
            .zip(config.basic_password.clone());
        Self {
            secret: config.secret.clone(),
            basic,
        }
    }

    #[allow(clippy::result_large_err, reason = "the error is the whole response")]
    pub(super) fn check(&self, secret: &str, headers: &HeaderMap) -> Result<(), Response> {
        // Compared by their digests, because the comparison of texts ends early where their lengths differ.
        let digest = |text: &str| Sha256::digest(text.as_bytes());
        let same = |one: &str, other: &str| bool::from(digest(one).ct_eq(&digest(other)));
        if let Some((username, password)) = &self.basic {
            let expected = STANDARD.encode(format!("{username}:{}", password.expose_secret()));
            let given = headers
                .get(header::AUTHORIZATION)
                .and_then(|value| value.to_str().ok())
                .and_then(|value| value.split_once(' '))
                .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
            if given.is_some_and(|(_, given)| same(given.trim(), &expected)) {
                return Ok(());
            }
            if self.secret.is_none() {
                let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"smsbridge\"")];
                return Err((StatusCode::UNAUTHORIZED, challenge).into_response());
            }
        }
        match &self.secret {
            None => Ok(()),
            Some(expected) if same(secret, expected.expose_secret()) => Ok(()),
            // Not 401, which would confirm that the path exists.
            Some(_) => Err(StatusCode::NOT_FOUND.into_response()),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_scheme_is_compared_without_case_and_the_credentials_with_case() {
        let authenticator = WebhookAuthenticator {
            secret: None,
            basic: Some(("user".into(), SecretString::from("password"))),
        };
        let credentials = STANDARD.encode("user:password");
        let other = STANDARD.encode("user:PASSWORD");
        let is_let_in = |value: String| {
            let mut headers = HeaderMap::new();
            headers.insert(
                header::AUTHORIZATION,
                HeaderValue::from_str(&value).unwrap(),
            );
            authenticator.check("local", &headers).is_ok()
        };
        for scheme in ["Basic", "basic", "BASIC"] {
            assert!(is_let_in(format!("{scheme} {credentials}")), "{scheme}");
            assert!(!is_let_in(format!("{scheme} {other}")), "{scheme}");
        }
        for wrong in ["Basic", "Basic ", "Bearer x", &credentials] {
            assert!(!is_let_in(wrong.to_owned()), "{wrong}");
        }
    }
}
