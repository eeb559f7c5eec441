//! Keeps other web sites away from the simulator's own interface: checks `Host`, `Origin` and `Sec-Fetch-Site`, and adds the
//! headers that bind the page to its own server.
//!
//! A browser sends these headers, and no web site can change them. A site whose name resolves to this machine (DNS rebinding) has
//! its own name in `Host`; a request from another site has another `Origin`, or none and a `Sec-Fetch-Site`. Other programs, such as
//! curl, send neither, and are not restricted.
//!
//! Invariant: the API is not affected. Neighbour: `http` calls it for `/` and `/_sim/`.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
};

use super::page::PAGE;
use crate::{envelope::ApiError, server::HttpResponse};

const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                              connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// A longer name is cut in the error that names it.
const MAX_NAMED_CHARACTERS: usize = 253;

/// Decides whether a request may use the simulator's own interface.
///
/// # Errors
/// 421 if the host is not accepted, 403 if the request comes from another site.
pub(super) fn check(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    allowed_hosts: &[String],
) -> Result<(), ApiError> {
    // Without a host no browser sent it.
    for host in hosts(uri, headers) {
        if !host_is_accepted(&host, allowed_hosts) {
            return Err(misdirected(&host));
        }
    }
    let own = hosts(uri, headers).next();
    for origin in headers.get_all(ORIGIN) {
        let same = origin.to_str().ok().is_some_and(|origin| {
            own.as_deref()
                .is_some_and(|host| is_same_origin(origin, host))
        });
        if !same {
            return Err(foreign(&String::from_utf8_lossy(origin.as_bytes())));
        }
    }
    let is = |name: &str, wanted: &[&str]| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| wanted.contains(&value))
    };
    let opens_the_page = *method == Method::GET
        && matches!(uri.path(), "/" | "/_sim" | PAGE)
        && is("sec-fetch-mode", &["navigate"])
        && is("sec-fetch-dest", &["document"]);
    if is("sec-fetch-site", &["cross-site", "same-site"]) && !opens_the_page {
        return Err(foreign("another site"));
    }
    Ok(())
}

/// The headers of every response under `/` and `/_sim/`.
pub(super) fn protect(mut response: HttpResponse) -> HttpResponse {
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The hosts that a request names: usually one, in its header.
fn hosts(uri: &Uri, headers: &HeaderMap) -> impl Iterator<Item = String> {
    let in_header = headers
        .get_all(HOST)
        .into_iter()
        .map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    let in_uri = uri.authority().map(|host| host.as_str().to_owned());
    in_header.chain(in_uri).collect::<Vec<_>>().into_iter()
}

fn host_is_accepted(host: &str, allowed_hosts: &[String]) -> bool {
    let Some((name, _)) = split_port(host) else {
        return false;
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let unbracketed = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    if let Some(address) = unbracketed {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    if name
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_ipv4())
    {
        return true;
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    // A name of one label has no owner on the internet: it is of this machine or of its network.
    is_label(&name)
        || (name.ends_with(".localhost") && name.split('.').all(is_label))
        || allowed_hosts
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(&name))
}

/// Splits `name:port`; `None` if the port is no number.
fn split_port(host: &str) -> Option<(&str, Option<u16>)> {
    let after_address = host.rfind(']').map_or(0, |at| at + 1);
    match host[after_address..].find(':') {
        None => Some((host, None)),
        Some(at) => {
            let (name, port) = host.split_at(after_address + at);
            Some((name, Some(port[1..].parse().ok()?)))
        }
    }
}

/// Whether an `Origin` is the server that the request went to.
fn is_same_origin(origin: &str, host: &str) -> bool {
    let (rest, default_port) = if let Some(rest) = origin.strip_prefix("http://") {
        (rest, 80)
    } else if let Some(rest) = origin.strip_prefix("https://") {
        // A proxy may serve the page over TLS.
        (rest, 443)
    } else {
        return false;
    };
    let (Some((theirs, their_port)), Some((ours, our_port))) = (split_port(rest), split_port(host))
    else {
        return false;
    };
    theirs.eq_ignore_ascii_case(ours)
        && their_port.unwrap_or(default_port) == our_port.unwrap_or(default_port)
}

fn misdirected(host: &str) -> ApiError {
    let (name, _) = split_port(host).unwrap_or((host, None));
    let name: String = name.chars().take(MAX_NAMED_CHARACTERS).collect();
    ApiError::refused(
        StatusCode::MISDIRECTED_REQUEST,
        "HOST_NOT_ALLOWED",
        &format!(
            "The host {name:?} is not accepted under /_sim/: use an IP address or localhost, or start the simulator with \
             --allow-host {name}"
        ),
    )
}

fn foreign(origin: &str) -> ApiError {
    let origin: String = origin.chars().take(MAX_NAMED_CHARACTERS).collect();
    ApiError::refused(
        StatusCode::FORBIDDEN,
        "FOREIGN_ORIGIN",
        &format!(
            "A request from {origin:?} is not accepted under /_sim/: only the simulator's own page may use it"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_local_names_and_allowed_names_are_hosts() {
        let allowed = ["sim.example.com".to_owned()];
        for good in [
            "127.0.0.1",
            "127.0.0.1:8090",
            "192.168.1.7:80",
            "[::1]:8090",
            "[fe80::1]",
            "localhost",
            "LOCALHOST:8090",
            "localhost.:8090",
            "a.localhost",
            "simulator:8090",
            "my_simulator",
            "sim.example.com:443",
            "SIM.example.com",
        ] {
            assert!(host_is_accepted(good, &allowed), "{good}");
        }
        for bad in [
            "",
            ":8090",
            "evil.example",
            "evil.example:8090",
            "sim.example.com.evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            ".localhost",
            "a..localhost",
            "localhost:port",
            "[::1",
            "[evil.example]",
            "user@localhost",
            "127.0.0.1:99999",
        ] {
            assert!(!host_is_accepted(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn an_origin_is_compared_with_the_host_and_its_port() {
        for (origin, host) in [
            ("http://127.0.0.1:8090", "127.0.0.1:8090"),
            ("http://localhost", "localhost"),
            ("http://localhost", "localhost:80"),
            ("https://sim.example.com", "sim.example.com"),
            ("http://[::1]:8090", "[::1]:8090"),
            ("http://LOCALHOST:8090", "localhost:8090"),
        ] {
            assert!(is_same_origin(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("http://127.0.0.1:8091", "127.0.0.1:8090"),
            ("http://localhost:8090", "127.0.0.1:8090"),
            ("https://evil.example", "127.0.0.1:8090"),
            ("null", "127.0.0.1:8090"),
            ("file://", "127.0.0.1:8090"),
            ("http://127.0.0.1:8090.evil.example", "127.0.0.1:8090"),
        ] {
            assert!(!is_same_origin(origin, host), "{origin} {host}");
        }
    }
}
