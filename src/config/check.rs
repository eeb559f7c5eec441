//! What no single key can say of itself: credentials that belong together, keys that need or exclude each other, addresses
//! that would be open to everybody.
//!
//! Invariant: a check whose keys were mistaken already says nothing, so that one slip is one mistake. Neighbours: `read` has
//! found what is wrong with single values; the themes `addresses`, `applications`, `bounds` and `secrets` are below.

mod addresses;
mod applications;
mod bounds;
mod secrets;

use std::fs;

use secrecy::ExposeSecret;

use self::{
    addresses::{base_address, is_loopback_url, listeners},
    applications::applications,
    bounds::bounds,
    secrets::secrets_from_files,
};
use super::{
    Config, Engine,
    layers::Node,
    mistake::{Mistake, Origin},
    tls::TlsFiles,
    tokens::Tokens,
};

/// The shortest path secret on an address that others can reach, in characters.
const MIN_SECRET_CHARACTERS: usize = 16;

/// Collects mistakes.
struct Checks<'a> {
    tree: &'a Node,
    mistakes: &'a mut Vec<Mistake>,
    /// How many of the mistakes come from reading.
    from_reading: usize,
}

impl Checks<'_> {
    /// Records a mistake of the first key, unless one of the keys was mistaken before.
    fn say(&mut self, keys: &[&str], problem: impl Into<String>, remedy: impl Into<String>) {
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
        let key = keys.first().copied().unwrap_or_default();
        let (key, origin) = self.origin_of(key);
        self.mistakes.push(Mistake {
            key,
            origin,
            problem: problem.into(),
            remedy: remedy.into(),
        });
    }

    /// The key that a value stands under, and where it came from; of a secret in a file, the key that names the file.
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

/// Checks what every command relies on, and puts the secrets of files into their keys.
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
    amqp_and_events(config, &mut checks);
    listeners(config, &mut checks);
    bounds(config, &mut checks);
    applications(config, &mut checks);
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&config.log.filter) {
        checks.say(
            &["log.filter"],
            format!("is no filter: {error}"),
            "write `info`, or `smsbridge=debug,info`",
        );
    }
}

/// Checks what only `serve` needs.
pub(super) fn serve(config: &Config, mistakes: &mut Vec<Mistake>) {
    let mentioned = |key: &str| mistakes.iter().any(|mistake| mistake.key.starts_with(key));
    let api = &config.infobip;
    let has_credentials = api.username.is_some() || api.password.is_some() || api.api_key.is_some();
    if !has_credentials && !mentioned("infobip.") {
        mistakes.push(Mistake {
            key: "infobip.username".to_owned(),
            origin: Origin::Default,
            problem: "no credentials for the API are set".to_owned(),
            remedy: "set `infobip.username` and `infobip.password` (or `infobip.password_file`), or `infobip.api_key` \
                     (or `infobip.api_key_file`); the simulator takes any that it was started with"
                .to_owned(),
        });
    }
    if let Err(wrong) = TlsFiles::read(&config.grpc) {
        mistakes.extend(wrong);
    }
    if let Some(path) = &config.grpc.tokens_file {
        let (problem, remedy) = match fs::read_to_string(path).map(|text| Tokens::parse(&text)) {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => (
                format!("{}: {error}", path.display()),
                "correct it; `smsbridge token new` prints what belongs there",
            ),
            Err(error) => (
                format!("can't read {}: {error}", path.display()),
                "name a file that this process may read",
            ),
        };
        mistakes.push(Mistake {
            key: "grpc.tokens_file".to_owned(),
            origin: Origin::Default,
            problem,
            remedy: remedy.to_owned(),
        });
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
        checks.say(
            &["infobip.api_key", "infobip.username", "infobip.password"],
            "`infobip.username` and `infobip.password` are set too",
            "keep either the key, or the username with its password",
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
        checks.say(
            &["grpc.tls_client_ca_file", "grpc.tls_cert_file"],
            "clients' certificates need TLS",
            "set `grpc.tls_cert_file` and `grpc.tls_key_file`",
        );
    }
    let is_authenticated = grpc.tokens_file.is_some() || grpc.tls_client_ca_file.is_some();
    if !grpc.listen.ip().is_loopback() && !is_authenticated && !grpc.allow_insecure {
        checks.say(
            &[
                "grpc.listen",
                "grpc.tokens_file",
                "grpc.tls_client_ca_file",
                "grpc.allow_insecure",
            ],
            format!("on {} anyone who reaches the port may send", grpc.listen),
            "set `grpc.tokens_file` or `grpc.tls_client_ca_file`, listen on 127.0.0.1, or set `grpc.allow_insecure = true` \
             where the network is guarded otherwise",
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
            ("http.public_url", "with a public address")
        } else {
            ("http.listen", "on this address")
        };
        checks.say(
            &[
                key,
                "http.secret",
                "http.basic_username",
                "http.allow_insecure",
            ],
            format!("{because} anyone may invent reports and inbound messages"),
            "set `http.secret` (or `http.secret_file`), or `http.basic_username` and `http.basic_password`, or \
             `http.allow_insecure = true`",
        );
    }
    if let Some(secret) = http.secret.as_ref().map(ExposeSecret::expose_secret) {
        let is_segment =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        if secret.is_empty() || !secret.bytes().all(is_segment) || matches!(secret, "." | "..") {
            checks.say(
                &["http.secret"],
                "it is a segment of a path and has other characters than A-Z a-z 0-9 - . _ ~",
                "choose another one, such as the output of `openssl rand -hex 24`",
            );
        } else if is_public && !has_basic && secret.len() < MIN_SECRET_CHARACTERS {
            checks.say(
                &["http.secret"],
                format!("has {} characters and can be guessed", secret.len()),
                format!(
                    "choose one of at least {MIN_SECRET_CHARACTERS} characters, such as the output of `openssl rand -hex 24`"
                ),
            );
        }
    }
}

fn amqp_and_events(config: &Config, checks: &mut Checks<'_>) {
    let amqp = &config.amqp;
    if let Some(url) = amqp.url.as_ref().map(ExposeSecret::expose_secret)
        && (!(url.starts_with("amqp://") || url.starts_with("amqps://"))
            || url
                .parse::<http::Uri>()
                .map_or(true, |uri| uri.host().is_none()))
    {
        checks.say(
            &["amqp.url"],
            "is not a broker's address",
            "write `amqp://user:password@host:5672/%2f`, or `amqps://…`",
        );
    }
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !(1..=64).contains(&amqp.prefix.len()) || !amqp.prefix.bytes().all(is_name) {
        checks.say(
            &["amqp.prefix"],
            "is not 1 to 64 characters of A-Z a-z 0-9 - _ .",
            "choose another prefix, such as \"smsbridge\"",
        );
    }
    if config.events.engine == Engine::Broker && amqp.url.is_none() && amqp.url_file.is_none() {
        checks.say(
            &["events.engine", "amqp.url"],
            "the engine `broker` needs a broker, and `amqp.url` is not set",
            "set `amqp.url`, or `events.engine = \"auto\"`",
        );
    }
}

/// Two keys that need each other.
fn pair(a: (&str, bool), b: (&str, bool), checks: &mut Checks<'_>) {
    let (set, missing) = match (a, b) {
        ((set, true), (missing, false)) | ((missing, false), (set, true)) => (set, missing),
        _ => return,
    };
    checks.say(
        &[set, missing],
        format!("`{missing}` is not set"),
        format!("set `{missing}` too"),
    );
}

#[cfg(test)]
mod tests;
