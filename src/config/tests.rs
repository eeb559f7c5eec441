//! Tests of loading: from layers to a checked configuration, or to all mistakes. The checks in `check/` have tests of their own,
//! which use the functions here.

use std::{io::Write, path::Path};

use secrecy::ExposeSecret;
use tempfile::NamedTempFile;

use super::*;

pub(super) const CREDENTIALS: [(&str, &str); 2] = [
    ("SMSBRIDGE_INFOBIP__USERNAME", "user"),
    ("SMSBRIDGE_INFOBIP__PASSWORD", "topsecret"),
];

pub(super) fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::with_suffix(".toml").unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

pub(super) fn environment(
    variables: &[(&str, &str)],
) -> impl Iterator<Item = (String, String)> + use<> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    variables.iter().map(owned).collect::<Vec<_>>().into_iter()
}

pub(crate) fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let file = file(text);
    Config::load(Some(file.path()), environment(variables), &[])
}

/// The keys of the mistakes, and the whole report.
fn mistakes(text: &str, variables: &[(&str, &str)]) -> (Vec<String>, String) {
    let errors = load(text, variables).expect_err("it has mistakes");
    let keys = errors.mistakes().iter().map(|mistake| mistake.key.clone());
    (keys.collect(), errors.to_string())
}

pub(super) fn mistake(text: &str, variables: &[(&str, &str)]) -> Mistake {
    let errors = load(text, variables).expect_err("it has a mistake");
    match errors.mistakes() {
        [mistake] => mistake.clone(),
        _ => panic!("one mistake expected: {errors}"),
    }
}

#[test]
fn the_defaults_alone_are_a_valid_configuration() {
    let config = Config::load(None, environment(&[]), &[]).unwrap();
    assert_eq!(config.grpc.listen.to_string(), "127.0.0.1:50051");
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9090");
    assert_eq!(config.amqp.prefix, "smsbridge");
    assert_eq!(config.events.engine, Engine::Auto);
    assert!(config.amqp.url.is_none());
    assert_eq!(config.http.path_secret(), "local");
}

#[test]
fn credentials_in_the_clear_are_noticed() {
    let is_unencrypted = |url: &str| {
        let text = format!("[infobip]\nbase_url = \"{url}\"");
        load(&text, &[]).unwrap().infobip.is_unencrypted()
    };
    assert!(is_unencrypted("http://api.infobip.com"));
    assert!(!is_unencrypted("https://api.infobip.com"));
    assert!(!is_unencrypted("http://127.0.0.1:8090"));
    assert!(!is_unencrypted("http://localhost:8090"));
}

#[test]
fn the_default_of_max_connections_has_one_value() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.grpc.max_connections, DEFAULT_MAX_CONNECTIONS);
}

/// The keys in comments of `defaults.toml` are valid, and no key is missing.
#[test]
fn the_reference_is_complete_and_valid() {
    let mut written = std::collections::BTreeSet::new();
    let mut uncommented = String::new();
    let mut section = String::new();
    for line in DEFAULTS.lines() {
        let line = line
            .strip_prefix("# ")
            .filter(|rest| {
                rest.starts_with('[')
                    || rest.split_once(" = ").is_some_and(|(key, _)| {
                        key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                    })
            })
            .unwrap_or(line);
        uncommented.push_str(line);
        uncommented.push('\n');
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = name.to_owned();
        } else if !line.starts_with('#')
            && let Some((key, _)) = line.split_once(" = ")
        {
            written.insert(format!("{section}.{key}"));
        }
    }
    let tree = layers::parse_defaults(&uncommented).unwrap();
    let pass = read::KeysRead::default();
    Config::deserialize(read::Reader::root(&tree, &pass)).unwrap();
    assert_eq!(pass.unknown.into_inner().len(), 0);
    let known: std::collections::BTreeSet<_> = pass
        .known
        .into_inner()
        .into_iter()
        .filter(|key| key.contains('.') && !key.contains(".inbound."))
        // A section within a section.
        .filter(|key| key != "http.inbound_parameters")
        .collect();
    assert_eq!(known, written);
}

#[test]
fn later_layers_win() {
    let file = file(
        "[grpc]\nlisten = \"127.0.0.1:1001\"\n[send]\nmax_batch = 7\nmax_requests_in_flight = 3\n",
    );
    let variables = [
        ("SMSBRIDGE_SEND__MAX_BATCH", "8"),
        ("SMSBRIDGE_GRPC__LISTEN", "127.0.0.1:1002"),
    ];
    let flags = [("grpc.listen".to_owned(), "127.0.0.1:1003".to_owned())];
    let config = Config::load(Some(file.path()), environment(&variables), &flags).unwrap();
    assert_eq!(config.grpc.listen.port(), 1003);
    assert_eq!(config.send.max_batch, 8);
    assert_eq!(config.send.max_requests_in_flight, 3);
    assert_eq!(config.send.queue_capacity, 20_000);
}

#[test]
fn environment_values_are_parsed_by_the_type_of_their_key() {
    let config = load(
        "",
        &[
            ("SMSBRIDGE_INFOBIP__USERNAME", "4100"),
            ("SMSBRIDGE_INFOBIP__PASSWORD", "0123"),
            ("SMSBRIDGE_GRPC__REFLECTION", "false"),
            ("SMSBRIDGE_SEND__RETRY_FOR", "90s"),
            ("SMSBRIDGE_AMQP__APPLICATION_FROM", "user_id"),
            ("SMSBRIDGE_APPLICATIONS__BILLING_2__DEFAULT_SENDER", "12345"),
            (
                "SMSBRIDGE_APPLICATIONS__BILLING_2__ALLOWED_SENDERS",
                "12345, Shop",
            ),
            (
                "SMSBRIDGE_APPLICATIONS__BILLING_2__ALLOWED_COUNTRY_PREFIXES",
                "[\"41\", \"385\"]",
            ),
            (
                "SMSBRIDGE_APPLICATIONS__BILLING_2__INBOUND",
                "[{ keyword = \"PAY\" }]",
            ),
            ("SMSBRIDGE_HTTP__SECRET", ""),
        ],
    )
    .unwrap();
    assert_eq!(config.infobip.username.as_deref(), Some("4100"));
    assert_eq!(config.infobip.password.unwrap().expose_secret(), "0123");
    assert!(!config.grpc.reflection);
    assert_eq!(config.send.retry_for, Duration::from_secs(90));
    assert_eq!(config.amqp.application_from, ApplicationFrom::UserId);
    assert!(config.http.secret.is_none(), "an empty variable is not set");
    let application = &config.applications["billing-2"];
    assert_eq!(application.default_sender.as_deref(), Some("12345"));
    assert_eq!(application.allowed_senders, ["12345", "Shop"]);
    assert_eq!(application.allowed_country_prefixes, ["41", "385"]);
    assert_eq!(application.inbound[0].keyword.as_deref(), Some("PAY"));
}

#[test]
fn unrelated_environment_variables_are_ignored() {
    load(
        "",
        &[
            ("SMSBRIDGE_TEST_AMQP_URL", "amqp://127.0.0.1"),
            ("SMSBRIDGE_SERVICE_HOST", "10.0.0.1"),
            ("GRPC__LISTEN", "nonsense"),
        ],
    )
    .unwrap();
}

#[test]
fn every_mistake_is_reported_at_once_with_its_key_and_origin() {
    let file =
        file("[grpc]\nlistn = \"127.0.0.1:1\"\nmax_connections = \"many\"\n\n[gprc]\nlisten = 3\n");
    let variables = [
        ("SMSBRIDGE_SEND__MAX_BATCH", "0"),
        ("SMSBRIDGE_ADMIN__LISTEN", "localhost:9090"),
        ("SMSBRIDGE_SEND__RETRY_FOR", "20"),
        ("SMSBRIDGE_INFOBIP", "ignored: no double underscore"),
    ];
    let flags = [("http.listen".to_owned(), "8080".to_owned())];
    let errors = Config::load(Some(file.path()), environment(&variables), &flags).unwrap_err();
    let name = file.path().display();
    let mut reported: Vec<_> = errors
        .mistakes()
        .iter()
        .map(|mistake| (mistake.key.as_str(), mistake.origin.to_string()))
        .collect();
    reported.sort();
    assert_eq!(
        reported,
        [
            (
                "admin.listen",
                "environment SMSBRIDGE_ADMIN__LISTEN".to_owned()
            ),
            ("gprc", format!("{name}:5")),
            ("grpc.listn", format!("{name}:2")),
            ("grpc.max_connections", format!("{name}:3")),
            ("http.listen", "flag --http-listen".to_owned()),
            (
                "send.max_batch",
                "environment SMSBRIDGE_SEND__MAX_BATCH".to_owned()
            ),
            (
                "send.retry_for",
                "environment SMSBRIDGE_SEND__RETRY_FOR".to_owned()
            ),
        ]
    );
    let report = errors.to_string();
    for part in [
        "has 7 mistakes",
        "did you mean `grpc.listen`?",
        "did you mean `grpc`?",
        "a whole number, 0 or more",
        "\"127.0.0.1:50051\"",
        "choose 1 to 1000",
        "\"250ms\"",
    ] {
        assert!(report.contains(part), "{part} in {report}");
    }
}

#[test]
fn an_unknown_key_gets_a_suggestion() {
    let remedy = |text: &str| mistake(text, &[]).remedy;
    assert_eq!(
        remedy("base_url = \"http://x\""),
        "did you mean `infobip.base_url`?"
    );
    assert_eq!(
        remedy("[http]\ntokens_file = \"x\""),
        "did you mean `grpc.tokens_file`?"
    );
    assert_eq!(remedy("[shutdown]\nzzz = 1"), "known keys: shutdown.grace");
    assert_eq!(
        remedy("[applications.a]\ndefault_sendr = \"Shop\""),
        "did you mean `applications.a.default_sender`?"
    );
    let nested = mistake("[[applications.a.inbound]]\nnumbr = \"41\"", &[]);
    assert_eq!(nested.key, "applications.a.inbound.0.numbr");
    assert_eq!(
        nested.remedy,
        "did you mean `applications.a.inbound.0.number`?"
    );
    let variable = mistake("", &[("SMSBRIDGE__GRPC__LISTEN", "x")]);
    assert_eq!(
        (variable.key.as_str(), variable.remedy.as_str()),
        ("_grpc", "did you mean `grpc`?")
    );
}

#[test]
fn a_variable_with_one_underscore_after_its_section_is_a_mistake() {
    for (name, key, remedy) in [
        (
            "SMSBRIDGE_GRPC_LISTEN",
            "grpc.listen",
            "write SMSBRIDGE_GRPC__LISTEN",
        ),
        (
            "SMSBRIDGE_AMQP_URL",
            "amqp.url",
            "write SMSBRIDGE_AMQP__URL",
        ),
    ] {
        let mistake = mistake("", &[(name, "x")]);
        assert_eq!((&mistake.key[..], &mistake.remedy[..]), (key, remedy));
        assert!(mistake.to_string().contains(name), "{mistake}");
    }
    // Of the command line, and of a service with the name of the release in Kubernetes.
    for name in [
        "SMSBRIDGE_CONFIG",
        "SMSBRIDGE_GRPC_SERVICE_HOST",
        "SMSBRIDGE_GRPC_PORT",
    ] {
        load("", &[(name, "x")]).unwrap();
    }
}

#[test]
fn sections_and_values_are_not_confused() {
    assert_eq!(
        mistake("grpc = 3", &[]).problem,
        "is a section, not a value"
    );
    let deeper = mistake("", &[("SMSBRIDGE_GRPC__LISTEN__PORT", "1")]);
    assert_eq!(deeper.key, "grpc.listen");
    assert_eq!(
        deeper.origin.to_string(),
        "environment SMSBRIDGE_GRPC__LISTEN__PORT"
    );
    assert_eq!(mistake("applications = 3", &[]).key, "applications");
    assert_eq!(
        mistake("[applications]\nbilling = true", &[]).key,
        "applications.billing"
    );
    assert_eq!(
        mistake("[amqp]\nprefetch = 70000", &[]).key,
        "amqp.prefetch"
    );
    assert_eq!(
        mistake("[amqp]\nprefetch = 99999999999999999999", &[]).key,
        "amqp.prefetch"
    );
    assert_eq!(
        mistake("[amqp]\nprefix = 2020-01-01", &[]).problem,
        "is a date"
    );
}

#[test]
fn a_file_that_is_not_toml_names_the_line_and_not_its_content() {
    let broken = mistake("[infobip]\nusername = \"u\"\npassword = topsecret\n", &[]);
    assert!(broken.origin.to_string().ends_with(".toml:3"), "{broken}");
    assert!(!broken.to_string().contains("topsecret"), "{broken}");
    let errors = Config::load(
        Some(Path::new("/nonexistent/x.toml")),
        environment(&[]),
        &[],
    );
    let report = errors.unwrap_err().to_string();
    assert!(
        report.contains("/nonexistent/x.toml") && report.contains("--config"),
        "{report}"
    );
}

#[test]
fn messages_never_contain_secrets() {
    let (keys, report) = mistakes(
        "[infobip]\napi_key = 770077\n[http]\nsecret = \"hush/hush\"\nbasic_password = [\"hushhush\"]\n[amqp]\nurl = \"http://guest:hushhush@x\"\n",
        &[("SMSBRIDGE_INFOBIP__PASSWROD", "hushhush")],
    );
    assert_eq!(keys.len(), 5, "{report}");
    for secret in ["770077", "hush"] {
        assert!(!report.contains(secret), "{report}");
    }
    let config = load("", &CREDENTIALS).unwrap();
    assert!(!format!("{config:?}").contains("topsecret"));
}

#[test]
fn effective_values_know_their_origin_and_hide_secrets() {
    let file = file("[send]\nmax_batch = 7\n[[applications.a.inbound]]\nkeyword = \"PAY\"\n");
    let loaded = Config::load_for_serve(Some(file.path()), environment(&CREDENTIALS), &[]).unwrap();
    let value = |key: &str| {
        let found = loaded
            .effective
            .iter()
            .find(|value| value.key == key)
            .unwrap();
        (found.value.clone(), found.origin.to_string())
    };
    let origin = |line: usize| format!("{}:{line}", file.path().display());
    assert_eq!(value("send.max_batch"), (Some("7".to_owned()), origin(2)));
    assert_eq!(
        value("grpc.listen"),
        (Some("\"127.0.0.1:50051\"".to_owned()), "default".to_owned())
    );
    assert_eq!(
        value("infobip.password"),
        (None, "environment SMSBRIDGE_INFOBIP__PASSWORD".to_owned())
    );
    assert_eq!(
        value("applications.a.inbound").0.as_deref(),
        Some("[{ keyword = \"PAY\" }]")
    );
    assert!(
        loaded
            .effective
            .iter()
            .all(|value| !format!("{value:?}").contains("topsecret"))
    );
}

#[test]
fn the_address_for_pushes_has_one_kind_of_credentials() {
    let address = |rest: &str| {
        let text = format!("[http]\npublic_url = \"https://sms.example.com/\"\n{rest}");
        let http = load(&text, &[]).unwrap().http;
        let shown = format!("{http:?}");
        assert!(
            !shown.contains("p@ss") && !shown.contains("p%40ss"),
            "{shown}"
        );
        let url = http.push_url("reports", 1).unwrap();
        url.expose_secret().to_owned()
    };
    let basic = "basic_username = \"info bip\"\nbasic_password = \"p@ss:/\"";
    assert_eq!(
        address(basic),
        "https://info%20bip:p%40ss%3A%2F@sms.example.com/infobip/local/reports"
    );
    let secret = "secret = \"0123456789abcdef\"";
    let by_secret = "https://sms.example.com/infobip/0123456789abcdef/reports";
    assert_eq!(address(secret), by_secret);
    assert_eq!(address(&format!("{basic}\n{secret}")), by_secret);
}
