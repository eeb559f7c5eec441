//! `smsbridge check-config`, `topology` and `token`.

use std::{
    fs::Permissions,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
};

use smsbridge::config::{DEFAULTS, tokens::Tokens};

use super::*;

fn check_config(args: &[&str]) -> Command {
    let mut command = smsbridge();
    command
        .arg("check-config")
        .args(args)
        .env("SMSBRIDGE_INFOBIP__USERNAME", "user");
    command
}

#[tokio::test]
async fn check_config_prints_a_configuration_file() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("events");
    let data_dir = data_dir.to_str().unwrap();
    let printed = end(check_config(&["--events-data-dir", data_dir])
        .env("SMSBRIDGE_INFOBIP__PASSWORD", "secret-password")
        .env("SMSBRIDGE_APPLICATIONS__BILLING__DEFAULT_SENDER", "Billing")
        .env(
            "SMSBRIDGE_APPLICATIONS__BILLING__ALLOWED_SENDERS",
            "Billing, 12345",
        )
        .env("SMSBRIDGE_APPLICATIONS__SHOP__DEFAULT_SENDER", "12345")
        .env("SMSBRIDGE_SEND__MAX_BATCH", "7")
        .env("SMSBRIDGE_GRPC__REFLECTION", "false"))
    .await
    .expect(0)
    .stdout;
    assert!(!printed.contains("secret-password"), "{printed}");
    let read: toml::Table = toml::from_str(&printed).expect(&printed);
    let billing = &read["applications"]["billing"];
    assert_eq!(billing["default_sender"].as_str(), Some("Billing"));
    assert_eq!(
        billing["allowed_senders"],
        toml::Value::from(vec!["Billing", "12345"])
    );
    let shop = &read["applications"]["shop"]["default_sender"];
    assert_eq!(shop.as_str(), Some("12345"));
    assert_eq!(read["send"]["max_batch"].as_integer(), Some(7));
    assert_eq!(read["grpc"]["reflection"].as_bool(), Some(false));
    assert!(printed.contains("# infobip.password"), "{printed}");

    // Saved, it is a configuration with the same values; the secret is set elsewhere.
    let saved = folder.path().join("saved.toml");
    std::fs::write(&saved, &printed).unwrap();
    let again = end(check_config(&["--config", saved.to_str().unwrap()])
        .env("SMSBRIDGE_INFOBIP__PASSWORD", "p"))
    .await
    .expect(0)
    .stdout;
    assert_eq!(toml::from_str::<toml::Table>(&again).unwrap(), read);
    assert!(
        !Path::new(data_dir).exists(),
        "a check leaves nothing behind"
    );
}

#[tokio::test]
async fn check_config_prints_json_and_the_defaults() {
    let lines = end(check_config(&["--json", "--grpc-listen", "127.0.0.1:7"])
        .env("SMSBRIDGE_INFOBIP__PASSWORD", "secret-password")
        .env("SMSBRIDGE_SEND__MAX_BATCH", "7"))
    .await
    .expect(0)
    .json_lines();
    let of = |key: &str| {
        lines
            .iter()
            .find(|line| line["key"] == key)
            .unwrap()
            .clone()
    };
    assert_eq!(
        of("grpc.listen"),
        json!({"key": "grpc.listen", "value": "127.0.0.1:7", "origin": "flag --grpc-listen"})
    );
    assert_eq!(of("send.max_batch")["value"], 7);
    assert_eq!(
        of("infobip.password"),
        json!({
            "key": "infobip.password", "secret": true,
            "origin": "environment SMSBRIDGE_INFOBIP__PASSWORD",
        })
    );
    let defaults = run(["check-config", "--defaults"]).await.expect(0);
    assert_eq!(defaults.stdout, DEFAULTS);
}

#[tokio::test]
async fn check_config_refuses_what_serve_refuses() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let below_a_file = file.path().join("events");
    let below_a_file = below_a_file.to_str().unwrap();
    let urls = [
        "amqp://guest:guest@h:25672x/%2f",
        "amqp://guest:pa/ss@h/%2f",
        "amqp://guest:pa#ss@h/%2f",
        "amqp://guest:guest@h:5672/",
        "amqp://guest:guest@h:5672//",
        "amqp://guest:guest@h:5672/a/b",
        "amqp://guest:guest@h:5672/%ff",
        "amqp://guest:guest@h:5672/%2f?heartbeat=often",
        "http://h/%2f",
    ];
    let broker = urls.map(|url| ("SMSBRIDGE_AMQP__URL", url, "amqp.url"));
    let folder = (
        "SMSBRIDGE_EVENTS__DATA_DIR",
        below_a_file,
        "events.data_dir",
    );
    for (variable, value, key) in broker.into_iter().chain([folder]) {
        for command in ["check-config", "serve"] {
            let ended = end(smsbridge()
                .arg(command)
                .env("SMSBRIDGE_INFOBIP__API_KEY", "k")
                .env("SMSBRIDGE_GRPC__LISTEN", "127.0.0.1:0")
                .env("SMSBRIDGE_HTTP__LISTEN", "127.0.0.1:0")
                .env("SMSBRIDGE_ADMIN__LISTEN", "127.0.0.1:0")
                .env(variable, value))
            .await;
            assert_eq!(ended.status, 64, "{command} {value}: {}", ended.stderr);
            assert!(ended.stderr.contains(key), "{}", ended.stderr);
            assert!(!ended.stderr.contains("pa/ss") && !ended.stderr.contains("pa#ss"));
        }
    }
    for url in [
        "amqp://guest:guest@h:5672/%2f",
        "amqp://guest:guest@h",
        "amqps://u:p%2f@h/orders?heartbeat=5",
    ] {
        end(check_config(&[])
            .env("SMSBRIDGE_INFOBIP__PASSWORD", "p")
            .env("SMSBRIDGE_AMQP__URL", url))
        .await
        .expect(0);
    }
}

#[tokio::test]
async fn check_config_warns_of_an_unencrypted_api() {
    for (url, is_warned) in [
        ("http://api.infobip.com", true),
        ("https://api.infobip.com", false),
        ("http://127.0.0.1:8090", false),
    ] {
        let ended =
            end(check_config(&["--infobip-base-url", url]).env("SMSBRIDGE_INFOBIP__PASSWORD", "p"))
                .await
                .expect(0);
        let warning = ended.stderr.contains("unencrypted: use https://");
        assert_eq!(warning, is_warned, "{url}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn a_limit_is_written_as_in_the_configuration() {
    let ended = end(check_config(&[])
        .env("SMSBRIDGE_INFOBIP__PASSWORD", "p")
        .env("SMSBRIDGE_EVENTS__RETENTION", "0s"))
    .await
    .expect(64);
    assert!(
        ended
            .stderr
            .contains("0s is out of bounds; choose 1s to 372d"),
        "{}",
        ended.stderr
    );
}

/// tracing takes a word that is no level for the name of a target, and then logs nothing.
#[tokio::test]
async fn a_misspelt_log_filter_is_refused_with_what_was_meant() {
    for (filter, remedy) in [
        ("loud", "write a level (off, error, warn"),
        ("inof", "did you mean `info`?"),
        ("info,smsbrige=debug", "did you mean `smsbridge=debug`?"),
    ] {
        for command in ["check-config", "serve"] {
            let refused = end(smsbridge()
                .args([command, "--log-filter", filter])
                .env("SMSBRIDGE_INFOBIP__API_KEY", "k"))
            .await
            .expect(64);
            let entry = filter.rsplit(',').next().unwrap();
            let named = entry.split('=').next().unwrap();
            for part in ["log.filter", named, remedy] {
                assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
            }
        }
    }
}

#[tokio::test]
async fn a_configuration_file_that_cannot_be_read_is_the_only_mistake() {
    let broken = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(broken.path(), "[infobip]\napi_key = k\n").unwrap();
    for (file, cause) in [
        (
            "/nonexistent/smsbridge.toml",
            "can't read /nonexistent/smsbridge.toml",
        ),
        (broken.path().to_str().unwrap(), "is not valid TOML"),
    ] {
        for command in ["check-config", "serve"] {
            let refused = run([command, "--config", file]).await.expect(64);
            let lines: Vec<_> = refused.stderr.lines().collect();
            assert_eq!(lines[0], "error: the configuration has a mistake:");
            assert!(lines[1].contains(cause), "{lines:?}");
            assert_eq!(lines.len(), 2, "{lines:?}");
        }
    }
}

#[tokio::test]
async fn topology_names_the_virtual_host_of_each_entry() {
    let printed = end(smsbridge()
        .args(["topology", "--json"])
        .env("SMSBRIDGE_AMQP__URL", "amqp://guest:guest@h/orders"))
    .await
    .expect(0);
    let definitions: Value = serde_json::from_str(&printed.stdout).unwrap();
    for list in ["exchanges", "queues", "bindings"] {
        let entries = definitions[list].as_array().unwrap();
        assert!(!entries.is_empty(), "{list}");
        for entry in entries {
            assert_eq!(entry["vhost"], "orders", "{entry}");
        }
    }
    let printed = run(["topology", "--json"]).await.expect(0);
    let definitions: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(definitions["queues"][0]["vhost"], "/");
}

#[tokio::test]
async fn a_new_token_is_added_to_the_file_and_printed_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens.toml");
    let path = file.to_str().unwrap();
    let new = |name: &'static str| {
        let args = ["token", "new", "--name", name, "--application", "billing"];
        run([&args[..], &["--file", path]].concat())
    };
    let first = new("first").await.expect(0);
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    std::fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let second = new("second").await.expect(0);
    let text = std::fs::read_to_string(&file).unwrap();
    let tokens = Tokens::parse(&text).unwrap();
    for (printed, name) in [(&first, "first"), (&second, "second")] {
        let token = printed.stdout.strip_suffix('\n').unwrap();
        assert!(!token.contains(char::is_whitespace), "{}", printed.stdout);
        assert_eq!(tokens.find(token).unwrap().name, name);
        assert!(!text.contains(token) && !printed.stderr.contains(token));
        assert!(printed.stderr.contains(path), "{}", printed.stderr);
    }
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "the mode is kept: {mode:o}");

    let twice = new("second").await.expect(64);
    assert!(twice.stderr.contains("used twice"), "{}", twice.stderr);
    assert_eq!(twice.stdout, "");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let others = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(others, 1, "no temporary file is left");

    std::fs::write(&file, "[[token]]\nname = 1\n").unwrap();
    let broken = new("third").await.expect(64);
    assert!(broken.stderr.contains("line 2"), "{}", broken.stderr);
}

#[tokio::test]
async fn a_token_for_a_method_that_does_not_exist_is_refused_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens.toml");
    let path = file.to_str().unwrap();
    let new = |name, method| {
        let args = ["token", "new", "--name", name, "--application", "billing"];
        run([&args[..], &["--method", method, "--file", path]].concat())
    };
    new("good", "smsbridge.v1.SmsService/*").await.expect(0);
    let before = std::fs::read_to_string(&file).unwrap();
    for pattern in [
        "smsbridge.v1.SmsServce/*",
        "smsbridge.v1.SmsService/SendSmss",
    ] {
        let refused = new("typo", pattern).await.expect(64);
        assert!(refused.stderr.contains(pattern), "{}", refused.stderr);
        assert_eq!(refused.stdout, "");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    }

    std::fs::write(&file, before.replace("SmsService", "SmsServce")).unwrap();
    for command in ["check-config", "serve"] {
        let refused = end(smsbridge()
            .arg(command)
            .env("SMSBRIDGE_INFOBIP__API_KEY", "k")
            .env("SMSBRIDGE_EVENTS__DATA_DIR", folder.path())
            .env("SMSBRIDGE_GRPC__TOKENS_FILE", path))
        .await
        .expect(64);
        assert!(
            refused.stderr.contains("SmsServce") && refused.stderr.contains("grpc.tokens_file"),
            "{command}: {}",
            refused.stderr
        );
    }
}

/// Adds a token as the user `uid`. Only root can change to another user.
async fn add_token(binary: &Path, file: &Path, name: &str, uid: u32) -> Ended {
    end(Command::new(binary)
        .args(["token", "new", "--application", "billing"])
        .args(["--name", name, "--file", file.to_str().unwrap()])
        .uid(uid)
        .stdin(Stdio::null()))
    .await
}

#[tokio::test]
async fn a_new_token_leaves_the_owner_of_the_file() {
    const OWNER: (u32, u32) = (64_321, 64_322);
    const STRANGER: u32 = 64_323;
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can give a file to another user");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let file = folder.path().join("tokens.toml");
    // Other users may not be allowed to enter the folder of the built binary.
    let binary = folder.path().join("smsbridge");
    let copied = Command::new("cp")
        .args([Path::new(env!("CARGO_BIN_EXE_smsbridge")), &binary])
        .status()
        .await;
    assert!(copied.unwrap().success());
    let owner = || {
        let metadata = std::fs::metadata(&file).unwrap();
        (metadata.uid(), metadata.gid())
    };
    add_token(&binary, &file, "first", 0).await.expect(0);
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    chown(&file, Some(OWNER.0), Some(OWNER.1)).unwrap();
    add_token(&binary, &file, "second", 0).await.expect(0);
    assert_eq!(owner(), OWNER);

    let before = std::fs::read_to_string(&file).unwrap();
    let refused = add_token(&binary, &file, "third", STRANGER).await.expect(1);
    assert!(
        refused.stderr.contains("owner") && refused.stderr.contains("64321"),
        "{}",
        refused.stderr
    );
    assert_eq!(refused.stdout, "");
    assert_eq!(owner(), OWNER);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    let files = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 2, "no temporary file is left");
}
