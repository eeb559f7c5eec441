//! Checks URLs and listen addresses: the parts of a base URL, whether it is loopback, the length of the URL for pushes, and that no
//! two listeners share a port.
//!
//! Invariant: a checked base URL is scheme, host and port without a final slash, so that a path can be appended.

use std::net::{IpAddr, SocketAddr};

use secrecy::ExposeSecret;

use super::Checks;
use crate::{
    config::{Config, Http},
    message::MAX_NOTIFY_URL_CHARACTERS,
};

/// An `http` or `https` URL without a path; a final slash is removed.
pub(super) fn base_address(key: &str, url: &mut String, checks: &mut Checks<'_>) {
    let problem = match url.parse::<http::Uri>() {
        Err(_) => Some("is not a URL"),
        Ok(uri) => match (uri.scheme_str(), uri.authority()) {
            (Some("http" | "https"), Some(authority)) => {
                if authority.as_str().contains('@') {
                    Some("must not have a username")
                } else if uri.path() != "/" && !uri.path().is_empty() || uri.query().is_some() {
                    Some("must not have a path or a query")
                } else {
                    None
                }
            }
            _ => Some("is not an http or https URL"),
        },
    };
    match problem {
        Some(problem) => checks.reject(
            &[key],
            problem,
            "write scheme, host and port only, such as \"https://sms.example.com\"",
        ),
        None => {
            if url.ends_with('/') {
                url.pop();
            }
        }
    }
}

pub(in crate::config) fn is_loopback_url(url: &str) -> bool {
    url.parse::<http::Uri>().is_ok_and(|uri| {
        uri.host().is_some_and(|host| {
            host == "localhost"
                || host
                    .trim_matches(['[', ']'])
                    .parse::<IpAddr>()
                    .is_ok_and(|ip| ip.is_loopback())
        })
    })
}

/// The URL that the bridge gives the API is built of several keys: rejects one that is too long for the API.
pub(super) fn push_url(http: &Http, checks: &mut Checks<'_>) {
    let Some(url) = http.push_url("reports", u16::MAX) else {
        return;
    };
    let length = url.expose_secret().chars().count();
    if length > MAX_NOTIFY_URL_CHARACTERS {
        checks.reject(
            &[
                "http.public_url",
                "http.secret",
                "http.basic_username",
                "http.basic_password",
            ],
            format!(
                "the URL for delivery reports, with the secret or the credentials, has {length} characters: the API takes at most \
                 {MAX_NOTIFY_URL_CHARACTERS}"
            ),
            "choose a shorter secret or password",
        );
    }
}

/// Rejects two listeners on one port: binding the second would fail later, with a less clear error.
pub(super) fn listeners(config: &Config, checks: &mut Checks<'_>) {
    let all = [
        ("grpc.listen", config.grpc.listen),
        ("http.listen", config.http.listen),
        ("admin.listen", config.admin.listen),
    ];
    for (position, (key, address)) in all.iter().enumerate() {
        if let Some((other, _)) = all[..position]
            .iter()
            .find(|(_, other)| collide(*address, *other))
        {
            checks.reject(
                &[key, other],
                format!("`{other}` also listens on port {}", address.port()),
                "choose another port",
            );
        }
    }
}

fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() != 0
        && a.port() == b.port()
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{load, mistake};

    #[test]
    fn addresses_have_a_scheme_and_no_path() {
        for bad in [
            "api.infobip.com",
            "ftp://x",
            "https://x/path",
            "https://x?y",
            "https://u:p@x",
            "not a url",
            "",
        ] {
            let text = format!("[infobip]\nbase_url = \"{bad}\"");
            assert_eq!(mistake(&text, &[]).key, "infobip.base_url", "{bad}");
        }
        let config = load("[infobip]\nbase_url = \"https://x:8443/\"", &[]).unwrap();
        assert_eq!(config.infobip.base_url, "https://x:8443");
    }

    #[test]
    fn listeners_do_not_share_a_port() {
        let shared = mistake("[admin]\nlisten = \"0.0.0.0:8080\"", &[]);
        assert_eq!(shared.key, "admin.listen");
        load(
            "[admin]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"",
            &[],
        )
        .unwrap();
    }
}
