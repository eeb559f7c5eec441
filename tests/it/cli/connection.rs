//! Behaviour shared by all client commands: connection, token, errors, and the checks of the command line.

use super::*;
use crate::support::{bridge::TestBridge, simulator::TestSimulator};

#[tokio::test]
async fn an_error_prints_all_its_details() {
    let bridge = ScriptedBridge::start().await;
    let mut details =
        ErrorDetails::with_error_info("INVALID_REQUEST", "smsbridge", [("a".into(), "b".into())]);
    details.set_bad_request(vec![
        FieldViolation::new("message.text", "is empty"),
        FieldViolation::new("message.destinations[0].to", "has no digits"),
    ]);
    let status = Status::with_error_details(Code::InvalidArgument, "2 mistakes", details);
    bridge.refuse("send_sms", status);
    let ended = run_at(&bridge, ["send", "x", "--text", ""]).await.expect(1);
    assert_eq!(
        ended.stderr,
        "error: INVALID_ARGUMENT (INVALID_REQUEST): 2 mistakes\n\
         \x20 message.text: is empty\n\
         \x20 message.destinations[0].to: has no digits\n\
         \x20 a = b\n"
    );
    assert_eq!(ended.stdout, "");
}

#[tokio::test]
async fn the_token_comes_from_environment_argument_or_file() {
    let bridge = ScriptedBridge::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "from-file\n").unwrap();
    let file = file.path().to_str().unwrap();
    for _ in 0..3 {
        bridge.answer("reconcile", json!({}));
    }
    let from_environment = smsbridge()
        .env("SMSBRIDGE_TOKEN", "from-environment")
        .args(["reconcile", "--address", &bridge.address])
        .output();
    assert!(from_environment.await.unwrap().status.success());
    run_at(&bridge, ["reconcile", "--token", "from-argument"])
        .await
        .expect(0);
    let from_file = smsbridge()
        .env("SMSBRIDGE_TOKEN", "from-environment")
        .args([
            "reconcile",
            "--address",
            &bridge.address,
            "--token-file",
            file,
        ])
        .output();
    assert!(from_file.await.unwrap().status.success());
    let asked = bridge.asked("reconcile");
    let tokens: Vec<_> = asked
        .iter()
        .map(|asked| asked.authorization.as_deref().unwrap())
        .collect();
    assert_eq!(
        tokens,
        [
            "Bearer from-environment",
            "Bearer from-argument",
            "Bearer from-file"
        ]
    );
}

#[tokio::test]
async fn an_unreachable_bridge_prints_the_address_and_the_remedy() {
    let address = "http://127.0.0.1:1";
    let ended = run(["reports", "--address", address]).await.expect(1);
    for expected in [address, "refused", "smsbridge serve", "smsbridge demo"] {
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_port_without_grpc_prints_what_to_check() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let _ = connection
                .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                .await;
        }
    });
    let ended = run(["reports", "--address", &address]).await.expect(1);
    for expected in ["the connection broke: ", "the bridge's gRPC port"] {
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    }
    server.abort();
}

#[tokio::test]
async fn an_invalid_command_line_exits_with_64() {
    for args in [
        &["send"][..],
        &["send", "1"],
        &["send", "1", "--text", "x", "--hex", "00"],
        &["send", "1", "--hex", "0"],
        &["send", "1", "2", "--text", "x", "--message-id", "m"],
        &["nonsense"],
        &["events", "--since", "yesterday"],
        &["events", "--since", "1h", "--from", "c"],
        &["logs", "--limit", "0"],
        &["reports", "--address", "nowhere"],
        &["reports", "--address", "ftp://127.0.0.1:1"],
        &["reports", "--token-file", "/nonexistent/token"],
        &["reports", "--ca-file", "/nonexistent/ca"],
        &[
            "reports",
            "--address",
            "https://localhost:1",
            "--ca-file",
            "/nonexistent/ca",
        ],
        &["send", "--file", "/nonexistent/numbers.csv"],
        &["dead", "replay"],
        &[],
    ] {
        let ended = run(args).await;
        assert_eq!(ended.status, 64, "{args:?}: {}", ended.stderr);
        assert!(!ended.stderr.is_empty(), "{args:?}");
        assert_eq!(ended.stdout, "", "{args:?}");
    }
    for args in [&["--help"][..], &["--version"], &["send", "--help"]] {
        let ended = run(args).await.expect(0);
        assert!(!ended.stdout.is_empty(), "{args:?}");
    }
}

#[tokio::test]
async fn an_address_needs_no_scheme() {
    let bridge = ScriptedBridge::start().await;
    let address = bridge.address.strip_prefix("http://").unwrap();
    bridge.answer("pull_delivery_reports", json!({}));
    run(["reports", "--address", address]).await.expect(0);
}

#[tokio::test]
async fn the_admin_port_prints_what_to_check() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let address = bridge.addresses.admin.to_string();
    let ended = run(["reports", "--address", &address]).await.expect(1);
    let expected = "check that --address is the bridge's gRPC port";
    assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    bridge.stop().await;
}

#[tokio::test]
async fn an_unknown_issuer_prints_the_option_for_its_certificate() {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [cert_file, key_file] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    std::fs::write(&cert_file, key.cert.pem()).unwrap();
    std::fs::write(&key_file, key.signing_key.serialize_pem()).unwrap();
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.grpc.tls_cert_file = Some(cert_file);
        config.grpc.tls_key_file = Some(key_file);
    })
    .await;
    let address = format!("https://localhost:{}", bridge.addresses.grpc.port());
    let ended = run(["reports", "--address", &address]).await.expect(1);
    assert!(ended.stderr.contains("UnknownIssuer"), "{}", ended.stderr);
    assert!(ended.stderr.contains("--ca-file FILE"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("Start one"), "{}", ended.stderr);
    bridge.stop().await;
}
