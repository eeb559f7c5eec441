//! Cross-field validation: credentials that belong together, keys that require or exclude each other, listeners that would be
//! open to everybody.
//!
//! Invariant: a check reports nothing about a key that already has a mistake, so that one error is reported once. Neighbours:
//! `read` has rejected single values of a wrong type; `addresses`, `applications`, `bounds`, `log_filter`,
//! `secrets`, `serve` and `webhooks` are parts of this.

mod addresses;
mod applications;
mod bounds;
mod data_dir;
mod log_filter;
mod secrets;
mod serve;
mod webhooks;

use secrecy::ExposeSecret;

pub(super) use self::{addresses::is_loopback_url, serve::serve};
use self::{
    addresses::{base_address, listeners, push_url},
    applications::applications,
    bounds::bounds,
    secrets::secrets_from_files,
    webhooks::webhooks,
};
use super::{
    Amqp, Config, Engine,
    broker_node::{BROKER_NODE_REMEDY, parse_broker_node},
    broker_url::{BROKER_URL_REMEDY, parse_broker_url},
    layers::Node,
    mistake::{Mistake, Origin},
};

/// Minimum length of the path secret on an address that is not loopback.
const MIN_SECRET_CHARACTERS: usize = 16;

/// Each round of attempts to connect tries all of them.
const MAX_OTHER_NODES: usize = 15;

struct Checks<'a> {
    tree: &'a Node,
    mistakes: &'a mut Vec<Mistake>,
    /// The number of mistakes that were found while reading.
    from_reading: usize,
}

impl Checks<'_> {
    /// Records a mistake of the first key, unless one of the keys already has a mistake from reading.
    fn reject(&mut self, keys: &[&str], problem: impl Into<String>, remedy: impl Into<String>) {
        let covers = |mistaken: &str, key: &str| {
            mistaken == key
                || key
                    .strip_prefix(mistaken)
                    .is_some_and(|rest| rest.starts_with('.'))
                || mistaken
                    .strip_prefix(key)
                    .is_some_and(|rest| rest.starts_with('.'))
        };
        let known = &self.mistakes[..self.from_reading];
        if known
            .iter()
            .any(|mistake| keys.iter().any(|key| covers(&mistake.key, key)))
        {
            return;
        }
        let key = keys.first().expect("every check names a key");
        let (key, origin) = self.origin_of(key);
        self.mistakes.push(Mistake {
            key,
            origin,
            problem: problem.into(),
            remedy: remedy.into(),
        });
    }

    /// The key of a value and its origin. For a secret in a file it is the key that names the file.
    fn origin_of(&self, key: &str) -> (String, Origin) {
        let file_key = format!("{key}_file");
        for key in [key, &file_key] {
            if let Some(node) = self.tree.at(key) {
                return (key.to_owned(), node.origin.clone());
            }
        }
        (key.to_owned(), Origin::Default)
    }
}

/// The checks for every subcommand. Reads secrets from their files.
pub(super) fn every_command(config: &mut Config, tree: &Node, mistakes: &mut Vec<Mistake>) {
    let mut checks = Checks {
        tree,
        from_reading: mistakes.len(),
        mistakes,
    };
    secrets_from_files(config, &mut checks);
    infobip(config, &mut checks);
    grpc(config, &mut checks);
    http(config, &mut checks);
    webhooks(&config.http, &mut checks);
    amqp_and_events(config, &mut checks);
    listeners(config, &mut checks);
    bounds(config, &mut checks);
    applications(config, &mut checks);
    if let Some((problem, remedy)) = log_filter::mistake(&config.log.filter) {
        checks.reject(&["log.filter"], problem, remedy);
    }
}

fn infobip(config: &mut Config, checks: &mut Checks<'_>) {
    let api = &mut config.infobip;
    base_address("infobip.base_url", &mut api.base_url, checks);
    pair(
        ("infobip.username", api.username.is_some()),
        (
            "infobip.password",
            api.password.is_some() || api.password_file.is_some(),
        ),
        checks,
    );
    let has_basic = api.username.is_some() || api.password.is_some();
    if has_basic && api.api_key.is_some() {
        checks.reject(
            &["infobip.api_key", "infobip.username", "infobip.password"],
            "`infobip.username` and `infobip.password` are also set",
            "set either the API key, or the username and password",
        );
    }
}

fn grpc(config: &Config, checks: &mut Checks<'_>) {
    let grpc = &config.grpc;
    pair(
        ("grpc.tls_cert_file", grpc.tls_cert_file.is_some()),
        ("grpc.tls_key_file", grpc.tls_key_file.is_some()),
        checks,
    );
    if grpc.tls_client_ca_file.is_some() && grpc.tls_cert_file.is_none() {
        checks.reject(
            &["grpc.tls_client_ca_file", "grpc.tls_cert_file"],
            "client certificates need TLS",
            "set `grpc.tls_cert_file` and `grpc.tls_key_file`",
        );
    }
    let is_authenticated = grpc.tokens_file.is_some() || grpc.tls_client_ca_file.is_some();
    if !grpc.listen.ip().is_loopback() && !is_authenticated && !grpc.allow_insecure {
        checks.reject(
            &[
                "grpc.listen",
                "grpc.tokens_file",
                "grpc.tls_client_ca_file",
                "grpc.allow_insecure",
            ],
            format!("anyone who reaches {} could send SMS", grpc.listen),
            "set `grpc.tokens_file` or `grpc.tls_client_ca_file`, listen on 127.0.0.1, or set `grpc.allow_insecure = true` \
             if the network is protected by other means",
        );
    }
}

fn http(config: &mut Config, checks: &mut Checks<'_>) {
    let http = &mut config.http;
    if let Some(public_url) = &mut http.public_url {
        base_address("http.public_url", public_url, checks);
    }
    pair(
        ("http.basic_username", http.basic_username.is_some()),
        (
            "http.basic_password",
            http.basic_password.is_some() || http.basic_password_file.is_some(),
        ),
        checks,
    );
    let username = http.basic_username.as_deref();
    let password = http.basic_password.as_ref();
    for (key, value) in [
        ("http.basic_username", username),
        (
            "http.basic_password",
            password.map(ExposeSecret::expose_secret),
        ),
    ] {
        if value.is_some_and(str::is_empty) {
            checks.reject(&[key], "is empty", "set a value, or remove the key");
        }
    }
    let is_public = !http.listen.ip().is_loopback()
        || http
            .public_url
            .as_deref()
            .is_some_and(|url| !is_loopback_url(url));
    let has_basic = http.basic_username.is_some();
    if is_public
        && !has_basic
        && http.secret.is_none()
        && http.secret_file.is_none()
        && !http.allow_insecure
    {
        let (key, because) = if http.listen.ip().is_loopback() {
            ("http.public_url", "with a public URL")
        } else {
            ("http.listen", "on this address")
        };
        checks.reject(
            &[
                key,
                "http.secret",
                "http.basic_username",
                "http.allow_insecure",
            ],
            format!("{because} anyone could forge reports and inbound messages"),
            "set `http.secret` (or `http.secret_file`), or `http.basic_username` and `http.basic_password`, or \
             `http.allow_insecure = true`",
        );
    }
    if let Some(secret) = http.secret.as_ref().map(ExposeSecret::expose_secret) {
        let is_segment =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        if secret.is_empty() || !secret.bytes().all(is_segment) || matches!(secret, "." | "..") {
            checks.reject(
                &["http.secret"],
                "must have only the characters A-Z a-z 0-9 - . _ ~, as it is a segment of a URL path",
                "choose another one, such as the output of `openssl rand -hex 24`",
            );
        } else if is_public && secret.len() < MIN_SECRET_CHARACTERS {
            checks.reject(
                &["http.secret"],
                format!("has only {} characters and could be guessed", secret.len()),
                format!(
                    "choose one of at least {MIN_SECRET_CHARACTERS} characters, such as the output of `openssl rand -hex 24`"
                ),
            );
        }
    }
    push_url(http, checks);
}

fn broker_tls(amqp: &Amqp, checks: &mut Checks<'_>) {
    pair(
        ("amqp.tls_cert_file", amqp.tls_cert_file.is_some()),
        ("amqp.tls_key_file", amqp.tls_key_file.is_some()),
        checks,
    );
    let files = [
        ("amqp.tls_ca_file", &amqp.tls_ca_file),
        ("amqp.tls_cert_file", &amqp.tls_cert_file),
    ];
    let is_plain = |url: &str| {
        let scheme = url.split("://").next().unwrap_or_default();
        scheme.eq_ignore_ascii_case("amqp")
    };
    let url = amqp.url.as_ref().map(ExposeSecret::expose_secret);
    for (key, file) in files {
        if file.is_some() && url.is_some_and(is_plain) {
            checks.reject(
                &[key, "amqp.url"],
                "the connection to the broker is not encrypted, so the file has no use",
                "write `amqps://` and the broker's TLS port (5671) in `amqp.url`, or remove the key",
            );
        }
    }
}

fn other_nodes(amqp: &Amqp, checks: &mut Checks<'_>) {
    const KEYS: [&str; 2] = ["amqp.other_nodes", "amqp.url"];
    let nodes = &amqp.other_nodes;
    if !nodes.is_empty() && amqp.url.is_none() && amqp.url_file.is_none() {
        checks.reject(
            &KEYS,
            "`amqp.url`, whose user and virtual host they share, is not set",
            "set `amqp.url` to the URL of one node, or remove the key",
        );
    }
    if nodes.len() > MAX_OTHER_NODES {
        checks.reject(
            &KEYS[..1],
            format!(
                "has {} nodes: at most {MAX_OTHER_NODES} are tried",
                nodes.len()
            ),
            "name fewer nodes, or the address of a load balancer in `amqp.url`",
        );
    }
    // The entry is not shown: it may be a URL with a password.
    let wrong = nodes
        .iter()
        .position(|node| parse_broker_node(node).is_err());
    if let Some(wrong) = wrong {
        checks.reject(
            &KEYS[..1],
            format!("its entry {} is not the address of a node", wrong + 1),
            BROKER_NODE_REMEDY,
        );
    }
}

fn amqp_and_events(config: &Config, checks: &mut Checks<'_>) {
    let amqp = &config.amqp;
    if let Some(url) = amqp.url.as_ref().map(ExposeSecret::expose_secret)
        && let Err(problem) = parse_broker_url(url)
    {
        checks.reject(&["amqp.url"], problem.to_string(), BROKER_URL_REMEDY);
    }
    other_nodes(amqp, checks);
    broker_tls(amqp, checks);
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !(1..=64).contains(&amqp.prefix.len()) || !amqp.prefix.bytes().all(is_name) {
        checks.reject(
            &["amqp.prefix"],
            "must be 1 to 64 characters: A-Z a-z 0-9 - _ .",
            "choose another prefix, such as \"smsbridge\"",
        );
    }
    if config.events.engine == Engine::Broker && amqp.url.is_none() && amqp.url_file.is_none() {
        checks.reject(
            &["events.engine", "amqp.url"],
            "the engine `broker` needs `amqp.url`, which is not set",
            "set `amqp.url`, or `events.engine = \"auto\"`",
        );
    }
    if config.engine() == Engine::Broker && config.events.max_bytes > 0 {
        checks.reject(
            &["events.max_bytes"],
            "it limits the embedded event log, and the log is on the broker",
            "leave it out, and limit the stream by a policy (docs/RABBITMQ.md#limit-the-stream-by-size)",
        );
    }
}

/// Two keys that require each other.
fn pair(a: (&str, bool), b: (&str, bool), checks: &mut Checks<'_>) {
    let (set, missing) = match (a, b) {
        ((set, true), (missing, false)) | ((missing, false), (set, true)) => (set, missing),
        _ => return,
    };
    checks.reject(
        &[set, missing],
        format!("`{missing}` is not set"),
        format!("set `{missing}` too"),
    );
}

#[cfg(test)]
mod tests;
