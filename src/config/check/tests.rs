//! Tests of the checks of each section, apart from the modules that have tests of their own.

use crate::config::{
    Config,
    tests::{CREDENTIALS, environment, file, load, mistake},
};

#[test]
fn credentials_come_in_pairs() {
    assert_eq!(
        mistake("[infobip]\nusername = \"u\"", &[]).problem,
        "`infobip.password` is not set"
    );
    assert_eq!(
        mistake("[infobip]\npassword = \"p\"", &[]).problem,
        "`infobip.username` is not set"
    );
    assert_eq!(
        mistake("[http]\nbasic_username = \"u\"", &[]).problem,
        "`http.basic_password` is not set"
    );
    let both = mistake("[infobip]\napi_key = \"k\"", &CREDENTIALS);
    assert_eq!(both.key, "infobip.api_key");
}

#[test]
fn serve_needs_credentials_and_readable_files() {
    let without = load("", &[]).unwrap();
    let report = without.validate_for_serve().unwrap_err().to_string();
    for key in ["infobip.username", "infobip.password", "infobip.api_key"] {
        assert!(report.contains(key), "{report}");
    }
    load("", &CREDENTIALS)
        .unwrap()
        .validate_for_serve()
        .unwrap();
    load("[infobip]\napi_key = \"k\"", &[])
        .unwrap()
        .validate_for_serve()
        .unwrap();
    let gone = load("[grpc]\ntokens_file = \"/nonexistent/t\"", &CREDENTIALS).unwrap();
    let report = gone.validate_for_serve().unwrap_err().to_string();
    assert!(
        report.contains("grpc.tokens_file") && report.contains("/nonexistent/t"),
        "{report}"
    );
    let mut variables = CREDENTIALS.to_vec();
    variables.push(("SMSBRIDGE_GRPC__TOKENS_FILE", "/nonexistent/t"));
    let errors = Config::load_for_serve(None, environment(&variables), &[]);
    let origin = errors.err().unwrap().mistakes()[0].origin.to_string();
    assert_eq!(origin, "environment SMSBRIDGE_GRPC__TOKENS_FILE");
    // With the other mistakes, and one slip is one mistake.
    let file = file("[send]\nmax_batch = 0\n[infobip]\nusername = 3\n");
    let errors = Config::load_for_serve(Some(file.path()), environment(&[]), &[])
        .err()
        .unwrap();
    assert_eq!(errors.mistakes().len(), 2, "{errors}");
}

#[test]
fn open_addresses_need_authentication() {
    let grpc = "[grpc]\nlisten = \"0.0.0.0:50051\"\n";
    assert_eq!(mistake(grpc, &[]).key, "grpc.listen");
    load(&format!("{grpc}allow_insecure = true"), &[]).unwrap();
    load(&format!("{grpc}tokens_file = \"t\""), &[]).unwrap();
    let tls = "tls_cert_file = \"c\"\ntls_key_file = \"k\"\n";
    assert_eq!(
        mistake(&format!("{grpc}{tls}"), &[]).key,
        "grpc.listen",
        "TLS alone authenticates no client"
    );
    load(&format!("{grpc}{tls}tls_client_ca_file = \"a\""), &[]).unwrap();

    let http = "[http]\nlisten = \"[::]:8080\"\n";
    assert_eq!(mistake(http, &[]).key, "http.listen");
    load(&format!("{http}allow_insecure = true"), &[]).unwrap();
    load(&format!("{http}secret = \"0123456789abcdef\""), &[]).unwrap();
    load(
        &format!("{http}basic_username = \"u\"\nbasic_password = \"p\""),
        &[],
    )
    .unwrap();
    assert_eq!(
        mistake(&format!("{http}secret = \"short\""), &[]).key,
        "http.secret"
    );
    load("[http]\nsecret = \"short\"", &[]).unwrap();
    let tunnel = "[http]\npublic_url = \"https://sms.example.com\"\n";
    assert_eq!(
        mistake(tunnel, &[]).key,
        "http.public_url",
        "a tunnel exposes a loopback address"
    );
    load("[http]\npublic_url = \"http://127.0.0.1:8080\"", &[]).unwrap();
}

#[test]
fn no_credentials_of_webhooks_are_weak_or_empty() {
    let public = "[http]\nlisten = \"0.0.0.0:8080\"\n";
    let basic = "basic_username = \"u\"\nbasic_password = \"p\"\n";
    // Either of the two admits a push.
    let weak = mistake(&format!("{public}{basic}secret = \"short\""), &[]);
    assert_eq!(weak.key, "http.secret", "{weak}");
    for (username, password, key) in [
        ("", "p", "http.basic_username"),
        ("u", "", "http.basic_password"),
    ] {
        let text =
            format!("{public}basic_username = \"{username}\"\nbasic_password = \"{password}\"");
        assert_eq!(mistake(&text, &[]).key, key);
    }
}

#[test]
fn the_address_for_pushes_is_not_too_long_for_the_api() {
    let text = |password: &str| {
        format!(
            "[http]\npublic_url = \"https://sms.example.com\"\nbasic_username = \"u\"\nbasic_password = \"{password}\""
        )
    };
    load(&text(&"p".repeat(1800)), &[]).unwrap();
    // Each of these has three characters in a URL.
    let encoded = mistake(&text(&"?".repeat(700)), &[]);
    assert_eq!(encoded.key, "http.public_url", "{encoded}");
    assert!(encoded.problem.contains("2048"), "{encoded}");
    assert!(!encoded.to_string().contains("??"), "{encoded}");
    let secret = "s".repeat(2100);
    let text = format!("[http]\npublic_url = \"https://x\"\nsecret = \"{secret}\"");
    assert_eq!(mistake(&text, &[]).key, "http.public_url");
}

#[test]
fn tls_files_are_required_together() {
    assert_eq!(
        mistake("[grpc]\ntls_cert_file = \"c\"", &[]).problem,
        "`grpc.tls_key_file` is not set"
    );
    assert_eq!(
        mistake("[grpc]\ntls_client_ca_file = \"c\"", &[]).key,
        "grpc.tls_client_ca_file"
    );
}

#[test]
fn tls_files_of_the_broker_need_each_other_and_tls() {
    let amqps = "[amqp]\nurl = \"amqps://u:p@broker/%2f\"\n";
    assert_eq!(
        mistake(&format!("{amqps}tls_cert_file = \"c\""), &[]).problem,
        "`amqp.tls_key_file` is not set"
    );
    load(&format!("{amqps}tls_ca_file = \"c\""), &[]).unwrap();
    let amqp = "[amqp]\nurl = \"amqp://u:p@broker/%2f\"\n";
    let useless = mistake(&format!("{amqp}tls_ca_file = \"c\""), &[]);
    assert_eq!(useless.key, "amqp.tls_ca_file");
}

#[test]
fn the_broker_engine_needs_a_broker() {
    assert_eq!(
        mistake("[events]\nengine = \"broker\"", &[]).key,
        "events.engine"
    );
    load(
        "[events]\nengine = \"broker\"\n[amqp]\nurl = \"amqp://guest:guest@127.0.0.1:5672/%2f\"",
        &[],
    )
    .unwrap();
    assert_eq!(
        mistake("[amqp]\nurl = \"127.0.0.1:5672\"", &[]).key,
        "amqp.url"
    );
}

#[test]
fn the_stream_of_the_broker_has_no_limit_of_size_here() {
    let limited = "[events]\nmax_bytes = 1073741824\n";
    load(limited, &[]).unwrap();
    let broker = format!("{limited}[amqp]\nurl = \"amqp://guest:guest@127.0.0.1:5672/%2f\"");
    assert_eq!(mistake(&broker, &[]).key, "events.max_bytes");
}

#[test]
fn the_url_of_the_broker_is_checked_without_quoting_it() {
    let section = |url: &str| format!("[amqp]\nurl = \"{url}\"");
    for url in [
        "AMQPS://guest:guest@broker/%2f",
        "amqp://u:p@[2001:db8::1]:5673/sms",
        "amqp://broker?heartbeat=5&connection_timeout=1000&channel_max=9&frame_max=8192&auth_mechanism=plain",
    ] {
        load(&section(url), &[]).unwrap();
    }
    for (url, part) in [
        ("amqp:///%2f", "has no host"),
        ("amqp:me:secret@broker", "is not the URL"),
        ("amqp://broker/.", "virtual host"),
        // With a `/` or a `?` in it, the rest of a password is read as something else.
        ("amqp://me:12/secret@broker", "`@` in the virtual host"),
        ("amqp://me:12?secret@broker/sms", "an unknown option"),
        ("amqp://broker?cacertfile=/secret.pem", "`cacertfile`"),
        ("amqps://broker/sms?verify=secret", "`verify`"),
    ] {
        let refused = mistake(&section(url), &[]);
        assert_eq!(refused.key, "amqp.url", "{url}");
        assert!(refused.problem.contains(part), "{url}: {refused}");
        assert!(!refused.to_string().contains("secret"), "{refused}");
    }
}

#[test]
fn only_the_embedded_engine_needs_its_folder() {
    let not_a_folder = file("");
    let folder = not_a_folder.path().join("events");
    let refused = |engine: &str, broker: &str| {
        let text = format!(
            "[events]\ndata_dir = \"{}\"\nengine = \"{engine}\"\n{broker}",
            folder.display()
        );
        let checked = load(&text, &CREDENTIALS).unwrap().validate_for_serve();
        checked.err().map(|errors| errors.mistakes()[0].key.clone())
    };
    let broker = "[amqp]\nurl = \"amqp://guest:guest@127.0.0.1:5672/%2f\"";
    assert_eq!(refused("auto", broker), None);
    assert_eq!(refused("broker", broker), None);
    let key = Some("events.data_dir".to_owned());
    assert_eq!(refused("auto", ""), key);
    assert_eq!(refused("embedded", ""), key);
    assert_eq!(refused("embedded", broker), key);
}

#[test]
fn the_log_filter_is_checked() {
    assert_eq!(
        mistake("[log]\nfilter = \"smsbridge=loud\"", &[]).key,
        "log.filter"
    );
    // tracing takes it for the name of a target.
    assert_eq!(mistake("[log]\nfilter = \"loud\"", &[]).key, "log.filter");
    assert_eq!(
        mistake("[log]\nformat = \"yaml\"", &[]).remedy,
        "give one of auto, text, json"
    );
}

#[test]
fn other_nodes_are_addresses_beside_that_of_the_url() {
    const URL: &str = "url = \"amqp://u:p@broker/%2f\"";
    let section = |nodes: &str| format!("[amqp]\n{URL}\nother_nodes = {nodes}");
    let config = load(&section("[\"rabbit-2\", \"[::1]:5673\"]"), &[]).unwrap();
    assert_eq!(config.amqp.other_nodes, ["rabbit-2", "[::1]:5673"]);
    let mistaken = |text: &str| {
        let mistake = mistake(text, &[]);
        assert_eq!(mistake.key, "amqp.other_nodes", "{mistake}");
        assert!(!mistake.to_string().contains("secret"), "{mistake}");
        mistake
    };
    let url = mistaken(&section("[\"rabbit-2\", \"amqp://u:secret@rabbit-3\"]"));
    assert!(url.problem.contains("entry 2"), "{url}");
    assert!(url.remedy.contains("`host:port`"), "{url}");
    let alone = mistaken("[amqp]\nother_nodes = [\"rabbit-2\"]");
    assert!(alone.problem.contains("`amqp.url`"), "{alone}");
    let many = format!("{:?}", ["rabbit-2"; 16]);
    let many = mistaken(&section(&many));
    assert!(many.problem.contains("has 16 nodes"), "{many}");
}
