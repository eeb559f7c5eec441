//! What no single key can say of itself: secrets from files, keys that need or exclude each other, addresses that would be
//! open to everybody, bounds of numbers.
//!
//! Invariant: a check whose keys were mistaken already says nothing, so that one slip is one mistake.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};

use super::{
    Config, Engine,
    layers::Node,
    mistake::{Mistake, Origin},
    tls::TlsFiles,
    tokens::Tokens,
};
use crate::message::{
    address::check_sender,
    id::{ApplicationName, FOREIGN_APPLICATION},
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

fn secrets_from_files(config: &mut Config, checks: &mut Checks<'_>) {
    let mut resolve = |key: &str, secret: &mut Option<SecretString>, file: &Option<PathBuf>| {
        let file_key = format!("{key}_file");
        let Some(path) = file else { return };
        if secret.is_some() {
            checks.say(
                &[&file_key, key],
                format!("`{key}` is set too"),
                "keep one of the two",
            );
            return;
        }
        match read_secret(path) {
            Ok(read) => *secret = Some(read),
            Err(problem) => checks.say(
                &[&file_key],
                problem,
                format!("name a file that holds the value, or set `{key}`"),
            ),
        }
    };
    let Config {
        infobip,
        http,
        amqp,
        ..
    } = config;
    resolve(
        "infobip.password",
        &mut infobip.password,
        &infobip.password_file,
    );
    resolve(
        "infobip.api_key",
        &mut infobip.api_key,
        &infobip.api_key_file,
    );
    resolve("http.secret", &mut http.secret, &http.secret_file);
    resolve(
        "http.basic_password",
        &mut http.basic_password,
        &http.basic_password_file,
    );
    resolve("amqp.url", &mut amqp.url, &amqp.url_file);
}

/// The content of a file without the newline that editors end it with.
fn read_secret(path: &Path) -> Result<SecretString, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("can't read {}: {error}", path.display()))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(format!("{} is empty", path.display()));
    }
    Ok(SecretString::from(text))
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

/// Two listeners on one port: the second one would fail later, and less clearly.
fn listeners(config: &Config, checks: &mut Checks<'_>) {
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
            checks.say(
                &[key, other],
                format!("`{other}` listens on port {} already", address.port()),
                "give each its own port",
            );
        }
    }
}

fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() != 0
        && a.port() == b.port()
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

fn bounds(config: &Config, checks: &mut Checks<'_>) {
    let count = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    let Config {
        infobip,
        send,
        grpc,
        http,
        amqp,
        events,
        shutdown,
        ..
    } = config;
    let connection_calls = u64::from(grpc.max_concurrent_calls_per_connection);
    for (key, value, min, max) in [
        (
            "infobip.log_requests_per_minute",
            u64::from(infobip.log_requests_per_minute),
            1,
            100_000,
        ),
        (
            "infobip.max_response_bytes",
            count(infobip.max_response_bytes),
            1024,
            1 << 30,
        ),
        ("send.max_batch", count(send.max_batch), 1, 1_000),
        (
            "send.max_requests_in_flight",
            count(send.max_requests_in_flight),
            1,
            10_000,
        ),
        (
            "send.queue_capacity",
            count(send.queue_capacity),
            1,
            10_000_000,
        ),
        (
            "grpc.max_message_bytes",
            count(grpc.max_message_bytes),
            1024,
            1 << 30,
        ),
        (
            "grpc.max_concurrent_calls_per_connection",
            connection_calls,
            1,
            1_000_000,
        ),
        (
            "grpc.max_concurrent_calls",
            count(grpc.max_concurrent_calls),
            1,
            1_000_000,
        ),
        (
            "grpc.max_connections",
            count(grpc.max_connections),
            1,
            1_000_000,
        ),
        (
            "http.max_body_bytes",
            count(http.max_body_bytes),
            1024,
            1 << 30,
        ),
        ("amqp.prefetch", u64::from(amqp.prefetch), 1, 65_535),
    ] {
        if !(min..=max).contains(&value) {
            checks.say(
                &[key],
                format!("{value} is out of bounds"),
                format!("choose {min} to {max}"),
            );
        }
    }
    let ms = Duration::from_millis;
    let (hour, month) = (ms(3_600_000), ms(31 * 24 * 3_600_000));
    for (key, value, min, max) in [
        (
            "infobip.connect_timeout",
            infobip.connect_timeout,
            ms(1),
            hour,
        ),
        (
            "infobip.request_timeout",
            infobip.request_timeout,
            ms(1),
            hour,
        ),
        ("send.retry_for", send.retry_for, ms(0), hour * 24),
        ("send.gather_for", send.gather_for, ms(0), ms(1000)),
        ("send.in_doubt_wait", send.in_doubt_wait, ms(1), hour),
        ("send.in_doubt_for", send.in_doubt_for, ms(1), hour * 48),
        (
            "grpc.keepalive_interval",
            grpc.keepalive_interval,
            ms(1_000),
            hour * 24,
        ),
        (
            "grpc.keepalive_timeout",
            grpc.keepalive_timeout,
            ms(100),
            hour,
        ),
        (
            "grpc.max_connection_age",
            grpc.max_connection_age,
            ms(1_000),
            month,
        ),
        (
            "grpc.max_connection_age_grace",
            grpc.max_connection_age_grace,
            ms(0),
            hour * 24,
        ),
        ("amqp.confirm_timeout", amqp.confirm_timeout, ms(1), hour),
        (
            "amqp.stream_retention",
            amqp.stream_retention,
            ms(1_000),
            month * 12,
        ),
        ("events.retention", events.retention, ms(1_000), month * 12),
        ("shutdown.grace", shutdown.grace, ms(1), hour),
    ] {
        if !(min..=max).contains(&value) {
            checks.say(
                &[key],
                format!("{value:?} is out of bounds"),
                format!("choose {min:?} to {max:?}"),
            );
        }
    }
    if send.in_doubt_for <= infobip.request_timeout && send.in_doubt_for >= ms(1) {
        // What the logs do not show counts as never sent only when a request could no longer be under way.
        checks.say(
            &["send.in_doubt_for", "infobip.request_timeout"],
            "is not longer than infobip.request_timeout",
            "choose a longer one, or no doubt can be resolved",
        );
    }
    if infobip.connect_timeout >= infobip.request_timeout && infobip.request_timeout >= ms(1) {
        // A request that timed out is in doubt; one that found no connection is not.
        checks.say(
            &["infobip.connect_timeout", "infobip.request_timeout"],
            "is not shorter than infobip.request_timeout",
            "choose a shorter one, so that an API that is down is known to be",
        );
    }
}

fn applications(config: &Config, checks: &mut Checks<'_>) {
    let mut routes: BTreeMap<(Option<&str>, Option<String>), &str> = BTreeMap::new();
    for (name, application) in &config.applications {
        let key = format!("applications.{name}");
        if let Err(error) = ApplicationName::parse(name) {
            checks.say(&[&key], error.to_string(), "rename it");
        } else if name == FOREIGN_APPLICATION {
            checks.say(
                &[&key],
                "this name stands for what the account did without the bridge",
                "rename it",
            );
        }
        let senders_key = format!("{key}.allowed_senders");
        let default_key = format!("{key}.default_sender");
        let allowed = &application.allowed_senders;
        for sender in allowed {
            if let Err(error) = check_sender(sender) {
                checks.say(
                    &[&senders_key],
                    format!("`{sender}`: {error}"),
                    "correct it",
                );
            }
        }
        if let Some(sender) = &application.default_sender {
            if let Err(error) = check_sender(sender) {
                checks.say(&[&default_key], error.to_string(), "correct it");
            } else if !allowed.is_empty() && !allowed.contains(sender) {
                checks.say(
                    &[&default_key, &senders_key],
                    format!("is not one of `{senders_key}`"),
                    "add it there, or choose one of them",
                );
            }
        }
        for prefix in &application.allowed_country_prefixes {
            let fits = (1..=8).contains(&prefix.len())
                && prefix.bytes().all(|b| b.is_ascii_digit())
                && !prefix.starts_with('0');
            if !fits {
                checks.say(
                    &[&format!("{key}.allowed_country_prefixes")],
                    format!("`{prefix}` is not a calling code"),
                    "write digits without + or 00, such as \"41\"",
                );
            }
        }
        for route in &application.inbound {
            let inbound_key = format!("{key}.inbound");
            let is_number = |number: &String| {
                (1..=64).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit())
            };
            if !route.number.as_ref().is_none_or(is_number) {
                checks.say(
                    &[&inbound_key],
                    "a number in it has other characters than digits",
                    "write it as the API does: digits only, in international format",
                );
            }
            let matched = (
                route.number.as_deref(),
                route.keyword.as_ref().map(|keyword| keyword.to_lowercase()),
            );
            if let Some(other) = routes.insert(matched, name)
                && other != name
            {
                checks.say(
                    &[&inbound_key],
                    format!("`applications.{other}.inbound` has the same route"),
                    "keep it in one of them",
                );
            }
        }
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

/// An `http` or `https` URL without a path; a final slash is removed.
fn base_address(key: &str, url: &mut String, checks: &mut Checks<'_>) {
    let problem = match url.parse::<http::Uri>() {
        Err(_) => Some("is not a URL"),
        Ok(uri) => match (uri.scheme_str(), uri.authority()) {
            (Some("http" | "https"), Some(authority)) => {
                if authority.as_str().contains('@') {
                    Some("has a username in it")
                } else if uri.path() != "/" && !uri.path().is_empty() || uri.query().is_some() {
                    Some("has a path")
                } else {
                    None
                }
            }
            _ => Some("is not an http or https URL"),
        },
    };
    match problem {
        Some(problem) => checks.say(
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

fn is_loopback_url(url: &str) -> bool {
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
