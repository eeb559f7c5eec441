//! The client commands of the built binary: their requests, their output and their exit status.

use std::{ffi::OsStr, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::Command,
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use self::recorded_bridge::RecordedBridge;

mod demo;
mod real_bridge;
mod recorded_bridge;
mod send_file;

/// Timeout of one command.
const DEADLINE: Duration = Duration::from_secs(60);

/// How a command ended.
struct Ended {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Ended {
    #[track_caller]
    fn expect(self, status: i32) -> Self {
        assert_eq!(
            self.status, status,
            "exit status; stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self
    }

    fn json_lines(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// The built binary, without the SMSBRIDGE_ variables of this process.
fn smsbridge() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smsbridge"));
    for (name, _) in std::env::vars() {
        if name.starts_with("SMSBRIDGE_") {
            command.env_remove(name);
        }
    }
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

async fn run(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ended {
    end(smsbridge().args(args)).await
}

async fn run_at<'a>(bridge: &RecordedBridge, args: impl AsRef<[&'a str]>) -> Ended {
    end(smsbridge()
        .env("SMSBRIDGE_ADDRESS", &bridge.address)
        .args(args.as_ref()))
    .await
}

async fn end(command: &mut Command) -> Ended {
    let output = tokio::time::timeout(DEADLINE, command.output())
        .await
        .expect("the command ends")
        .unwrap();
    Ended {
        status: output.status.code().expect("an exit status"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

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
    let bridge = RecordedBridge::start().await;
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
                "sendAt": "2026-12-24T18:00:00+00:00",
                "priority": "PRIORITY_URGENT",
            },
        })
    );
    assert!(bridge.asked("send_sms")[0].has_deadline);
}

#[tokio::test]
async fn send_generates_a_request_id_and_reads_hex() {
    let bridge = RecordedBridge::start().await;
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
    let bridge = RecordedBridge::start().await;
    bridge.answer("send_sms", two_accepted());
    let ended = run_at(&bridge, ["send", "1", "2", "--text", "x", "--json"])
        .await
        .expect(0);
    assert_eq!(ended.json_lines(), [two_accepted()]);
}

#[tokio::test]
async fn send_fails_if_a_message_was_not_accepted() {
    let bridge = RecordedBridge::start().await;
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
        "error: 2 of 3 messages were not accepted (request id r)\n"
    );
}

#[tokio::test]
async fn an_error_prints_all_its_details() {
    let bridge = RecordedBridge::start().await;
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
async fn a_send_in_doubt_prints_how_to_repeat_it() {
    let bridge = RecordedBridge::start().await;
    let mut details = ErrorDetails::new();
    details.set_retry_info(Some(Duration::from_millis(1500)));
    let status = Status::with_error_details(Code::Unavailable, "the API is down", details);
    bridge.refuse("send_sms", status);
    let args = ["send", "1", "--text", "x", "--request-id", "order-17"];
    let ended = run_at(&bridge, args).await.expect(1);
    assert_eq!(
        ended.stderr,
        "error: UNAVAILABLE: the API is down\n\
         \x20 try again in 1.5s\n\
         \x20 Repeat the command with --request-id order-17: nothing is sent twice\n"
    );
}

#[tokio::test]
async fn the_token_comes_from_environment_argument_or_file() {
    let bridge = RecordedBridge::start().await;
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
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let ended = run(["reports", "--address", &address]).await.expect(1);
    for expected in [&*address, "refused", "smsbridge serve", "smsbridge demo"] {
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
async fn logs_reads_all_pages_and_waits_for_the_quota() {
    let bridge = RecordedBridge::start().await;
    let row = |id: &str| json!({"messageId": id, "to": "41", "status": {"id": 5, "name": "DELIVERED_TO_HANDSET"}});
    let mut details = ErrorDetails::new();
    details.set_retry_info(Some(Duration::from_millis(10)));
    let used_up = Status::with_error_details(Code::ResourceExhausted, "quota", details);
    bridge
        .answer(
            "list_sms_logs",
            json!({"logs": [row("a")], "nextPageToken": "2"}),
        )
        .answer("list_sms_logs", json!({"nextPageToken": "3"}))
        .refuse("list_sms_logs", used_up)
        .answer("list_sms_logs", json!({"logs": [row("b")]}));
    let ended = run_at(
        &bridge,
        [
            "logs",
            "--all",
            "--json",
            "--to",
            "41",
            "--status",
            "delivered",
        ],
    )
    .await
    .expect(0);
    assert_eq!(ended.json_lines(), [row("a"), row("b")]);
    assert!(ended.stderr.contains("quota"), "{}", ended.stderr);
    let asked = bridge.asked("list_sms_logs");
    let page = |token: Option<&str>| {
        let mut page =
            json!({"to": "41", "generalStatus": "STATUS_GROUP_DELIVERED", "pageSize": 1000});
        if let Some(token) = token {
            page["pageToken"] = token.into();
        }
        page
    };
    assert_eq!(
        asked.iter().map(|asked| &asked.request).collect::<Vec<_>>(),
        [
            &page(None),
            &page(Some("2")),
            &page(Some("3")),
            &page(Some("3"))
        ]
    );
}

#[tokio::test]
async fn logs_stops_at_the_limit_and_prints_a_hint() {
    let bridge = RecordedBridge::start().await;
    let row = json!({"messageId": "a", "text": "two\nlines", "application": "billing"});
    bridge.answer(
        "list_sms_logs",
        json!({"logs": [row, row], "nextPageToken": "2"}),
    );
    let ended = run_at(&bridge, ["logs", "--limit", "2"]).await.expect(0);
    assert!(
        ended
            .stdout
            .ends_with("a           billing      two\\nlines\n"),
        "{}",
        ended.stdout
    );
    assert!(ended.stderr.contains("--all"), "{}", ended.stderr);
    assert_eq!(bridge.asked_once("list_sms_logs")["pageSize"], 2);
}

fn event(id: &str, cursor: &str) -> Value {
    json!({
        "id": id, "time": "2026-11-22T14:00:00+00:00", "type": "report.delivered", "application": "default",
        "cursor": cursor,
        "report": {"messageId": id, "to": "41793026727", "status": {"id": 5, "name": "DELIVERED_TO_HANDSET"}},
    })
}

#[tokio::test]
async fn events_stops_at_the_end_of_the_log() {
    let bridge = RecordedBridge::start().await;
    bridge.answer("stream_events", json!([event("a", "c1"), event("b", "c2")]));
    let ended = run_at(
        &bridge,
        ["events", "--type", "report.#", "--message-id", "a"],
    )
    .await
    .expect(0);
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{}", ended.stdout);
    assert!(lines[0].starts_with("TIME                  TYPE"));
    assert!(
        lines[1].contains("report.delivered") && lines[1].ends_with("DELIVERED_TO_HANDSET (5)")
    );
    assert!(ended.stderr.contains("--from c2"), "{}", ended.stderr);
    assert_eq!(
        bridge.asked_once("stream_events"),
        json!({
            "since": "1970-01-01T00:00:00+00:00",
            "filter": {"types": ["report.#"], "messageIds": ["a"]},
            "endAtHead": true,
        })
    );
}

#[tokio::test]
async fn a_follower_reconnects_behind_its_last_event() {
    let bridge = RecordedBridge::start().await;
    let mut details = ErrorDetails::new();
    details.set_error_info(
        "CURSOR_TOO_OLD",
        "smsbridge",
        [("oldest_cursor".into(), "c9".into())],
    );
    bridge
        .answer("stream_events", json!([{"error": "going away"}]))
        .answer(
            "stream_events",
            json!([event("a", "c1"), {"error": "going away"}]),
        )
        .answer("stream_events", json!([event("b", "c2")]))
        .refuse(
            "stream_events",
            Status::with_error_details(Code::OutOfRange, "the log begins later", details),
        );
    let ended = run_at(&bridge, ["events", "--follow", "--json"])
        .await
        .expect(1);
    assert_eq!(ended.json_lines(), [event("a", "c1"), event("b", "c2")]);
    let last = ended.stderr.lines().rev().take(2).collect::<Vec<_>>();
    assert_eq!(
        last,
        [
            "  oldest_cursor = c9",
            "error: OUT_OF_RANGE (CURSOR_TOO_OLD): the log begins later"
        ]
    );
    let asked: Vec<_> = bridge
        .asked("stream_events")
        .into_iter()
        .map(|asked| (asked.has_deadline, asked.request))
        .collect();
    assert_eq!(asked[0], (false, json!({"filter": {}})), "from now on");
    assert!(
        asked[1].1["since"].is_string(),
        "nothing is missed: {asked:?}"
    );
    assert_eq!(asked[2].1["cursor"], "c1");
    assert_eq!(asked[3].1["cursor"], "c2");
}

#[tokio::test]
async fn a_closed_pipe_ends_the_command_without_an_error() {
    let bridge = RecordedBridge::start().await;
    let many: Vec<_> = (0..20_000).map(|n| event(&n.to_string(), "c")).collect();
    bridge.answer("stream_events", json!(many));
    let mut child = smsbridge()
        .args(["events", "--address", &bridge.address])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).await.unwrap();
    assert!(line.starts_with("TIME"));
    drop(stdout);
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output())
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[tokio::test]
async fn reports_and_inbox_pull_or_list() {
    let bridge = RecordedBridge::start().await;
    bridge.answer(
        "pull_delivery_reports",
        json!({"reports": [{
            "messageId": "m", "to": "41793026727", "doneAt": "2026-11-22T14:00:00Z", "smsCount": 2,
            "price": {"pricePerMessage": "0.01", "currency": "EUR"},
            "status": {"id": 4, "name": "UNDELIVERABLE_NOT_DELIVERED"},
            "error": {"id": 27, "name": "EC_ABSENT_SUBSCRIBER", "permanent": true},
        }]}),
    );
    let ended = run_at(&bridge, ["reports", "--message-id", "m", "--limit", "7"])
        .await
        .expect(0);
    let line = "2026-11-22T14:00:00Z  41793026727  m           2         0.01 EUR  \
                UNDELIVERABLE_NOT_DELIVERED (4)  EC_ABSENT_SUBSCRIBER (27), permanent";
    assert_eq!(ended.stdout.lines().nth(1), Some(line));
    assert_eq!(
        bridge.asked_once("pull_delivery_reports"),
        json!({"messageId": "m", "limit": 7})
    );

    let message =
        json!({"messageId": "i", "from": "385911234567", "to": "41790000000", "data": "3q0="});
    bridge
        .answer(
            "pull_received_messages",
            json!({"messages": [message], "pendingMessageCount": 3}),
        )
        .answer("list_received_messages", json!({"messages": [message]}));
    let ended = run_at(&bridge, ["inbox"]).await.expect(0);
    assert!(ended.stdout.ends_with("0xdead\n"), "{}", ended.stdout);
    assert!(ended.stderr.contains("3 more"), "{}", ended.stderr);
    let ended = run_at(&bridge, ["inbox", "--list", "--keyword", "STOP", "--json"])
        .await
        .expect(0);
    assert_eq!(ended.json_lines(), [message]);
    assert_eq!(
        bridge.asked_once("list_received_messages"),
        json!({"limit": 50, "keyword": "STOP"})
    );
    run_at(&bridge, ["inbox", "--since", "1h"]).await.expect(64);
}

#[tokio::test]
async fn lookup_sends_a_thousand_numbers_per_call() {
    let bridge = RecordedBridge::start().await;
    bridge
        .answer(
            "lookup_numbers",
            json!({"results": [{
                "to": "41", "mccMnc": "22801", "ported": true,
                "originalNetwork": {"networkName": "Swisscom", "countryName": "Switzerland"},
                "portedNetwork": {"networkName": "Salt", "countryName": "Switzerland"},
                "status": {"id": 5, "name": "DELIVERED_TO_HANDSET"},
            }]}),
        )
        .answer("lookup_numbers", json!({"results": []}));
    let file = tempfile::NamedTempFile::new().unwrap();
    let numbers: Vec<_> = (0..1001).map(|n| format!("4179{n:07}")).collect();
    std::fs::write(file.path(), numbers.join("\n")).unwrap();
    let ended = run_at(&bridge, ["lookup", "--file", file.path().to_str().unwrap()])
        .await
        .expect(0);
    let line =
        "41      DELIVERED_TO_HANDSET (5)  22801    Swisscom, Switzerland  Salt, Switzerland";
    assert_eq!(ended.stdout.lines().nth(1), Some(line));
    let asked = bridge.asked("lookup_numbers");
    let sizes: Vec<_> = asked
        .iter()
        .map(|asked| asked.request["to"].as_array().unwrap().len())
        .collect();
    assert_eq!(sizes, [1000, 1]);

    bridge.answer("request_number_lookup", json!({"results": [{"to": "41"}]}));
    run_at(&bridge, ["lookup", "41", "--async"]).await.expect(0);
    assert_eq!(
        bridge.asked_once("request_number_lookup"),
        json!({"to": ["41"]})
    );
}

#[tokio::test]
async fn dead_and_quarantine_list_show_replay_and_discard() {
    let bridge = RecordedBridge::start().await;
    let letter = json!({
        "id": "order-17", "time": "2026-11-22T14:00:00Z", "reason": "INVALID_REQUEST", "detail": "no text",
        "application": "billing", "routingKey": "sms.send", "body": "eyJhIjox\nfQ==".replace('\n', ""),
        "contentType": "application/json",
    });
    for _ in 0..3 {
        bridge.answer("list_dead_letters", json!({"letters": [letter]}));
    }
    bridge
        .answer("replay_dead_letters", json!({"count": 2}))
        .answer("discard_dead_letters", json!({"count": 1}));
    let ended = run_at(&bridge, ["dead"]).await.expect(0);
    assert!(
        ended.stdout.contains("order-17  billing      sms.send"),
        "{}",
        ended.stdout
    );
    let ended = run_at(&bridge, ["dead", "show", "order-17"])
        .await
        .expect(0);
    assert!(
        ended.stdout.starts_with("id: order-17\n") && ended.stdout.ends_with("\n\n{\"a\":1}\n"),
        "{}",
        ended.stdout
    );
    run_at(&bridge, ["dead", "show", "other"]).await.expect(1);
    let ended = run_at(&bridge, ["dead", "replay", "--all"]).await.expect(0);
    assert_eq!(ended.stdout, "replayed 2\n");
    assert_eq!(bridge.asked_once("replay_dead_letters"), json!({}));
    run_at(&bridge, ["dead", "discard", "a", "b"])
        .await
        .expect(0);
    assert_eq!(
        bridge.asked_once("discard_dead_letters"),
        json!({"ids": ["a", "b"]})
    );

    let body = json!({"id": "3", "endpoint": "reports", "body": "/w==", "detail": "no JSON"});
    for _ in 0..2 {
        bridge.answer("list_quarantined", json!({"bodies": [body]}));
    }
    bridge
        .answer("replay_quarantined", json!({"count": 1}))
        .answer("discard_quarantined", json!({"count": 1}));
    let ended = run_at(&bridge, ["quarantine", "--json", "--limit", "9"])
        .await
        .expect(0);
    assert_eq!(ended.json_lines(), [body]);
    assert_eq!(bridge.asked_once("list_quarantined"), json!({"limit": 9}));
    let ended = run_at(&bridge, ["quarantine", "show", "3"]).await.expect(0);
    assert!(ended.stdout.ends_with("\n\nff\n"), "{}", ended.stdout);
    let ended = run_at(&bridge, ["quarantine", "replay", "3", "--json"])
        .await
        .expect(0);
    assert_eq!(ended.json_lines(), [json!({"count": 1})]);
    run_at(&bridge, ["quarantine", "discard", "3"])
        .await
        .expect(0);

    bridge.answer(
        "reconcile",
        json!({"rowsRead": "12", "reportsPublished": "3"}),
    );
    let ended = run_at(&bridge, ["reconcile", "--since", "2026-11-22T08:00:00Z"])
        .await
        .expect(0);
    assert_eq!(ended.stdout, "ROWS READ  REPORTS PUBLISHED\n12         3\n");
    assert_eq!(
        bridge.asked_once("reconcile"),
        json!({"since": "2026-11-22T08:00:00+00:00"})
    );
}
