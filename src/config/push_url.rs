//! The URLs of the webhooks, as Infobip reaches them.
//!
//! Neighbours: `app` passes them to the parts that give them to the API, and logs them without their credentials.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};

use super::Http;

/// The path secret in our own URLs if none is configured; any secret is then accepted.
const UNGUARDED_SECRET: &str = "local";

/// Percent-encodes all but the unreserved characters of RFC 3986.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

impl Http {
    /// The path secret in the URLs that the bridge passes to the API.
    #[must_use]
    pub(in crate::config) fn path_secret(&self) -> &str {
        self.secret
            .as_ref()
            .map_or(UNGUARDED_SECRET, ExposeSecret::expose_secret)
    }

    /// The URL that the bridge passes to the API for pushes to an endpoint: `{public_url}/infobip/{secret}/{endpoint}`. `None`
    /// without `public_url`. A port 0 in `public_url` is replaced by `port`, the bound port of `listen`.
    ///
    /// Without a path secret it contains the credentials of HTTP Basic as user information (`https://user:password@host/…`),
    /// because the API cannot learn them in another way.
    #[must_use]
    pub fn push_url(&self, endpoint: &str, port: u16) -> Option<SecretString> {
        let user_information = match (&self.secret, &self.basic_username, &self.basic_password) {
            (None, Some(username), Some(password)) => {
                let encoded = |text| utf8_percent_encode(text, UNRESERVED);
                let password = password.expose_secret();
                format!("{}:{}@", encoded(username), encoded(password))
            }
            _ => String::new(),
        };
        let url = self.endpoint_url(endpoint, port, &user_information, self.path_secret())?;
        Some(url.into())
    }

    /// The same URL without its credentials, for log lines.
    #[must_use]
    pub fn masked_push_url(&self, endpoint: &str, port: u16) -> Option<String> {
        let user_information = match (&self.secret, &self.basic_username) {
            (None, Some(_)) => "***:***@",
            _ => "",
        };
        let secret = self.secret.as_ref().map_or(UNGUARDED_SECRET, |_| "***");
        self.endpoint_url(endpoint, port, user_information, secret)
    }

    fn endpoint_url(
        &self,
        endpoint: &str,
        port: u16,
        user_information: &str,
        secret: &str,
    ) -> Option<String> {
        let url = self.public_url.as_deref()?.trim_end_matches('/');
        let (scheme, host) = url.split_once("://")?;
        let host = match host.strip_suffix(":0") {
            Some(host) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Some(format!(
            "{scheme}://{user_information}{host}/infobip/{secret}/{endpoint}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::load;

    #[test]
    fn a_masked_url_has_no_credential() {
        let masked = |more: &str| {
            let text = format!("[http]\npublic_url = \"https://sms.example.com\"\n{more}");
            let config = load(&text, &[]).unwrap();
            config.http.masked_push_url("clicks", 8080).unwrap()
        };
        assert_eq!(
            masked("secret = \"0123456789abcdef\""),
            "https://sms.example.com/infobip/***/clicks"
        );
        assert_eq!(
            masked("basic_username = \"me\"\nbasic_password = \"0123456789abcdef\""),
            "https://***:***@sms.example.com/infobip/local/clicks"
        );
    }
}
