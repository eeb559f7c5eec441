//! Authenticates pushes by the secret in the path or by HTTP Basic credentials.

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse as _,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use super::outcome::WebhookOutcome;
use crate::{config, ops::metrics::WebhookResult};

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
    pub(super) fn check(&self, secret: &str, headers: &HeaderMap) -> Result<(), WebhookOutcome> {
        let same = |one: &str, other: &str| bool::from(one.as_bytes().ct_eq(other.as_bytes()));
        if let Some((username, password)) = &self.basic {
            let expected = STANDARD.encode(format!("{username}:{}", password.expose_secret()));
            let given = headers
                .get(header::AUTHORIZATION)
                .and_then(|value| value.to_str().ok())
                .and_then(|value| value.strip_prefix("Basic "));
            if given.is_some_and(|given| same(given, &expected)) {
                return Ok(());
            }
            if self.secret.is_none() {
                let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"smsbridge\"")];
                let response = (StatusCode::UNAUTHORIZED, challenge).into_response();
                return Err((WebhookResult::Unauthorized, response));
            }
        }
        match &self.secret {
            None => Ok(()),
            Some(expected) if same(secret, expected.expose_secret()) => Ok(()),
            // Not 401, which would confirm that the path exists.
            Some(_) => Err((
                WebhookResult::Unauthorized,
                StatusCode::NOT_FOUND.into_response(),
            )),
        }
    }
}
