//! `smsbridge send`: the request, the output and the exit status.

use tokio::{io::AsyncReadExt as _, net::TcpListener};

use super::*;
use crate::support::{bridge::TestBridge, broker::TestBroker, simulator::TestSimulator};

const BROKER_VARIABLE: &str = "SMSBRIDGE_AMQP__URL";

fn two_accepted() -> Value {
    json!({"results": [
        {"to": "41793026727", "messageId": "r~0", "outcome": "OUTCOME_ACCEPTED", "smsCount": 1,
         "status": {"id": 7, "name": "PENDING_ENROUTE"}},
        {"to": "385911234567", "messageId": "r~1", "outcome": "OUTCOME_ACCEPTED", "smsCount": 1,
         "status": {"id": 7, "name": "PENDING_ENROUTE"}},
    ]})
}

#[tokio::test]
async fn send_puts_all_options_into_the_request() {
    let bridge = ScriptedBridge::start().await;
    bridge.answer("send_sms", two_accepted());
    let ended = run_at(
        &bridge,
        [
            "send",
            "41793026727",
            "385911234567",
            "--text",
            "Hello",
            "--from",
            "InfoSMS",
            "--request-id",
            "r",
            "--urgent",
            "--validity",
            "30m",
            "--send-at",
            "2026-12-24T18:00:00Z",
            "--flash",
        ],
    )
    .await
    .expect(0);
    assert_eq!(
        ended.stdout,
        "TO            MESSAGE ID  OUTCOME   SEGMENTS  STATUS\n\
         41793026727   r~0         accepted  1         PENDING_ENROUTE (7)\n\
         385911234567  r~1         accepted  1         PENDING_ENROUTE (7)\n"
    );
    assert_eq!(
        bridge.asked_once("send_sms"),
        json!({
            "requestId": "r",
            "message": {
                "from": "InfoSMS",
                "destinations": [{"to": "41793026727"}, {"to": "385911234567"}],
                "text": "Hello",
                "flash": true,
                "validityPeriod": "1800s",
                "sendAt": "2026-12-24T18:00:00Z",
                "priority": "PRIORITY_URGENT",
            },
        })
    );
    assert!(bridge.asked("send_sms")[0].has_deadline);
}

#[tokio::test]
async fn send_generates_a_request_id_and_reads_hex() {
    let bridge = ScriptedBridge::start().await;
    for _ in 0..2 {
        bridge.answer("send_sms", two_accepted());
        let hex = ["send", "41793026727", "--hex", "0048006f"];
        run_at(&bridge, [&hex[..], &["--data-coding", "8"]].concat())
            .await
            .expect(0);
    }
    let asked = bridge.asked("send_sms");
    let ids: Vec<_> = asked
        .iter()
        .map(|asked| &asked.request["requestId"])
        .collect();
    assert!(ids[0].as_str().is_some_and(|id| id.len() == 36), "{ids:?}");
    assert_ne!(ids[0], ids[1]);
    assert_eq!(
        asked[0].request["message"]["binary"],
        json!({"data": "AEgAbw==", "dataCoding": 8})
    );
}

#[tokio::test]
async fn json_output_is_proto_json() {
    let bridge = ScriptedBridge::start().await;
    bridge.answer("send_sms", two_accepted());
    let ended = run_at(&bridge, ["send", "1", "2", "--text", "x", "--json"])
        .await
        .expect(0);
    assert_eq!(ended.json_lines(), [two_accepted()]);
}

#[tokio::test]
async fn send_fails_if_a_message_was_not_accepted() {
    let bridge = ScriptedBridge::start().await;
    bridge.answer(
        "send_sms",
        json!({"results": [
            {"to": "1", "messageId": "r~0", "outcome": "OUTCOME_ACCEPTED"},
            {"to": "2", "messageId": "r~1", "outcome": "OUTCOME_REJECTED",
             "refusal": {"reason": "EXPIRED", "detail": "came too late"}},
            {"to": "3", "messageId": "r~2", "outcome": "OUTCOME_UNKNOWN"},
        ]}),
    );
    let ended = run_at(
        &bridge,
        ["send", "1", "2", "3", "--text", "x", "--request-id", "r"],
    )
    .await
    .expect(1);
    assert!(
        ended
            .stdout
            .contains("rejected            EXPIRED: came too late"),
        "{}",
        ended.stdout
    );
    assert_eq!(
        ended.stderr,
        "error: of 3 messages, 1 was rejected, 1 has an unknown outcome\n\
         \x20 Repeat the command with --request-id r: nothing is sent twice\n"
    );
}

#[tokio::test]
async fn a_send_in_doubt_prints_how_to_repeat_it() {
    let bridge = ScriptedBridge::start().await;
    let mut details = ErrorDetails::new();
    details.set_retry_info(Some(Duration::from_millis(1550)));
    let status = Status::with_error_details(Code::Unavailable, "the API is down", details);
    bridge.refuse("send_sms", status);
    let args = ["send", "1", "--text", "x", "--request-id", "order-17"];
    let ended = run_at(&bridge, args).await.expect(1);
    assert_eq!(
        ended.stderr,
        "error: UNAVAILABLE: the API is down\n\
         \x20 try again in 1.6 s\n\
         \x20 Repeat the command with --request-id order-17: nothing is sent twice\n"
    );
}

#[tokio::test]
async fn a_final_rejection_is_not_to_be_repeated() {
    let bridge = ScriptedBridge::start().await;
    bridge.answer(
        "send_sms",
        json!({"results": [{"to": "1", "messageId": "r", "outcome": "OUTCOME_REJECTED",
            "status": {"id": 6, "name": "REJECTED_NETWORK"}}]}),
    );
    let ended = run_at(&bridge, ["send", "1", "--text", "x", "--request-id", "r"])
        .await
        .expect(1);
    assert_eq!(
        ended.stderr,
        "error: 1 of 1 messages was rejected (request id r)\n"
    );
}

#[tokio::test]
async fn a_wrong_broker_url_is_not_quoted() {
    let send = ["send", "41793026727", "--text", "x", "--amqp-url"];
    for url in [
        "amqp:me:secret@host",
        "http://me:secret@host",
        "amqp://me:12/secret@host",
        "amqp://me:pw@host/secret?verify=none",
    ] {
        let given = run([&send[..], &[url]].concat()).await.expect(64);
        let read = end(smsbridge().args(send).arg("env").env(BROKER_VARIABLE, url))
            .await
            .expect(64);
        for (ended, name) in [(given, "--amqp-url"), (read, BROKER_VARIABLE)] {
            assert!(ended.stderr.contains(name), "{}", ended.stderr);
            let quotes = ended.stderr.contains("me:") || ended.stderr.contains("secret");
            assert!(!quotes, "{}", ended.stderr);
        }
    }
    let unset = run([&send[..], &["env"]].concat()).await.expect(64);
    assert!(unset.stderr.contains(BROKER_VARIABLE), "{}", unset.stderr);
}

#[tokio::test]
async fn a_broker_in_the_environment_is_not_used_unless_asked_for() {
    let bridge = ScriptedBridge::start().await;
    bridge.answer("send_sms", two_accepted());
    end(smsbridge()
        .args(["send", "1", "2", "--text", "x"])
        .env("SMSBRIDGE_ADDRESS", &bridge.address)
        .env(BROKER_VARIABLE, "amqp://guest:guest@127.0.0.1:1/%2f"))
    .await
    .expect(0);
    bridge.asked_once("send_sms");
}

#[tokio::test]
async fn a_command_without_a_reply_names_the_usual_cause() {
    let broker = TestBroker::start().await;
    let _declared = broker.publisher().await;
    for (priority, queue) in [("", "send.normal"), ("--urgent", "send.urgent")] {
        let mut command = smsbridge();
        command
            .args(["send", "1", "--text", "x", "--request-id", "order-17"])
            .args(["--amqp-url", "env", "--amqp-prefix", &broker.prefix])
            .args(["--timeout", "1s"])
            .args(Some(priority).filter(|flag| !flag.is_empty()))
            .env(BROKER_VARIABLE, &broker.url);
        let ended = end(&mut command).await.expect(1);
        for part in [
            "no reply within 1 s",
            "the API is down",
            &format!("{}.{queue}", broker.prefix),
            "--request-id order-17",
        ] {
            assert!(ended.stderr.contains(part), "{part} in {}", ended.stderr);
        }
    }
}

/// `send --amqp-url` on a test's broker.
fn send_command(broker: &TestBroker, args: &[&str]) -> Command {
    let mut command = smsbridge();
    command
        .args(["send", "41793026727", "--amqp-url", "env"])
        .args(["--amqp-prefix", &broker.prefix])
        .args(args)
        .env(BROKER_VARIABLE, &broker.url);
    command
}

/// The timeout is longer than that of the test: only the reply can end the command.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_dead_is_reported_at_once_with_its_reason() {
    let broker = TestBroker::start().await;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.amqp = broker.config()).await;
    let _declared = broker.publisher().await;
    for (text, id, reason) in [
        ("", "order-17", "INVALID_REQUEST: message.text "),
        ("x", "no id", "INVALID_REQUEST_ID: "),
    ] {
        let args = ["--text", text, "--request-id", id, "--timeout", "10m"];
        let ended = end(&mut send_command(&broker, &args)).await.expect(1);
        assert_eq!(ended.stdout, "");
        let expected = format!("error: the command cannot be carried out: {reason}");
        assert!(ended.stderr.starts_with(&expected), "{}", ended.stderr);
        let queue = format!(
            "  It is in the queue {}.dead (request id {id})\n",
            broker.prefix
        );
        assert!(ended.stderr.ends_with(&queue), "{}", ended.stderr);
    }
    // A valid one gets its reply as before.
    let sent = end(&mut send_command(&broker, &["--text", "x"]))
        .await
        .expect(0);
    assert!(sent.stdout.contains("  accepted  "), "{}", sent.stdout);
    bridge.stop().await;
}

#[tokio::test]
async fn a_command_for_an_exchange_that_nobody_declared_names_the_remedy() {
    let broker = TestBroker::start().await;
    let ended = end(&mut send_command(&broker, &["--text", "x"]))
        .await
        .expect(1);
    for part in [
        &format!("the exchange `{}.commands` does not exist", broker.prefix),
        "smsbridge topology --declare",
        "--amqp-prefix",
    ] {
        assert!(ended.stderr.contains(part), "{part} in {}", ended.stderr);
    }
    assert!(!ended.stderr.contains("NOT_FOUND"), "{}", ended.stderr);
    let long = "p".repeat(300);
    let id = end(&mut send_command(
        &broker,
        &["--text", "x", "--request-id", &long],
    ))
    .await;
    assert!(id.expect(64).stderr.contains("--request-id"));
}

#[tokio::test]
async fn ctrl_c_prints_how_to_repeat_a_message_that_may_have_been_sent() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let child = smsbridge()
        .args(["send", "1", "--text", "x", "--request-id", "order-17"])
        .args(["--address", &address])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut connection, _) = silent.accept().await.unwrap();
    connection.read_u8().await.unwrap();
    interrupt(&child).await;
    let ended = ended(child).await.expect(130);
    assert_eq!(
        ended.stderr,
        "error: interrupted before the result was there: the message may have been sent\n\
         \x20 Repeat the command with --request-id order-17: nothing is sent twice\n"
    );
}
