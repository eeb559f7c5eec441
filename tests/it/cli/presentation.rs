//! Help, colours, and tables that fit the terminal.

use super::{
    terminal::{run_on_terminal, without_colours},
    *,
};

const ID: &str = "019abd26-7a3c-7b11-8a52-0d6f3a5c2e19~0";

fn log_row() -> Value {
    json!({
        "messageId": ID, "to": "385911234567", "from": "InfoSMS", "application": "billing",
        "sentAt": "2026-11-22T14:00:00Z", "smsCount": 2,
        "text": "A text that is much longer than the terminal is wide, and that is therefore shortened",
        "price": {"pricePerMessage": "0.01", "currency": "EUR"},
        "status": {"id": 4, "name": "UNDELIVERABLE_NOT_DELIVERED"},
        "error": {"id": 27, "name": "EC_ABSENT_SUBSCRIBER", "permanent": true},
    })
}

fn at(bridge: &ScriptedBridge, args: &[&str]) -> Command {
    let mut command = smsbridge();
    command.env("SMSBRIDGE_ADDRESS", &bridge.address).args(args);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_fit_the_terminal_and_keep_ids_whole() {
    let bridge = ScriptedBridge::start().await;
    for columns in [80, 100, 120, 160, 240] {
        bridge.answer("list_sms_logs", json!({"logs": [log_row()]}));
        let (status, text) = run_on_terminal(at(&bridge, &["logs"]), columns, None).await;
        let text = without_colours(&text);
        assert_eq!(status, 0, "{text}");
        for line in text.lines() {
            let width = line.chars().count();
            assert!(
                width <= columns.into(),
                "{columns} columns: {width}\n{text}"
            );
        }
        for whole in [ID, "385911234567"] {
            assert!(text.contains(whole), "{columns} columns: {text}");
        }
        let is_complete = ["PRICE", "APPLICATION", "EC_ABSENT_SUBSCRIBER (27)"]
            .iter()
            .all(|expected| text.contains(expected));
        assert_eq!(is_complete, columns == 240, "{columns} columns: {text}");
        // A column that is left out is named.
        assert_eq!(text.contains("--json shows"), columns < 160, "{text}");
    }
    bridge.answer("list_sms_logs", json!({"logs": [log_row()]}));
    let piped = run_at(&bridge, ["logs"]).await.expect(0);
    assert!(piped.stdout.lines().all(|line| line.len() > 180));
    assert!(piped.stdout.ends_with("shortened\n"), "{}", piped.stdout);
    assert_eq!(piped.stderr, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_fit_the_terminal() {
    let bridge = ScriptedBridge::start().await;
    let event = json!({
        "id": "e", "time": "2026-11-22T14:00:00Z", "type": "report.undeliverable",
        "application": "billing", "cursor": "c1",
        "report": {"messageId": ID, "to": "385911234567",
            "status": {"id": 4, "name": "UNDELIVERABLE_NOT_DELIVERED"}},
    });
    bridge.answer("stream_events", json!([event, event]));
    let (status, text) = run_on_terminal(at(&bridge, &["events"]), 80, None).await;
    let text = without_colours(&text);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains(ID), "{text}");
    let widths: Vec<_> = text.lines().map(|line| line.chars().count()).collect();
    assert!(widths.iter().all(|width| *width <= 80), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn colours_are_printed_to_terminals_only_and_never_with_no_color() {
    let bridge = ScriptedBridge::start().await;
    let results = json!({"results": [
        {"to": "1", "messageId": "r", "outcome": "OUTCOME_ACCEPTED"},
        {"to": "2", "messageId": "s", "outcome": "OUTCOME_REJECTED"},
    ]});
    let send = ["send", "1", "2", "--text", "x"];
    let mut coloured = Vec::new();
    for (name, value) in [("A", "b"), ("NO_COLOR", "1"), ("TERM", "dumb")] {
        bridge.answer("send_sms", results.clone());
        let mut command = Command::new("env");
        command.env("TERM", if name == "TERM" { value } else { "xterm" });
        command.args([
            format!("{name}={value}").as_str(),
            env!("CARGO_BIN_EXE_smsbridge"),
        ]);
        command.env("SMSBRIDGE_ADDRESS", &bridge.address).args(send);
        let (status, text) = run_on_terminal(command, 120, None).await;
        assert_eq!(status, 1, "{text}");
        assert!(
            text.contains("accepted") && text.contains("error"),
            "{text}"
        );
        coloured.push(text.contains("\u{1b}["));
        if name == "A" {
            let plain = without_colours(&text);
            assert!(plain.contains("\nerror: "), "{plain}");
            for coloured in ["\u{1b}[32maccepted", "\u{1b}[31mrejected", "\u{1b}[1m"] {
                assert!(text.contains(coloured), "{text:?}");
            }
        }
    }
    assert_eq!(coloured, [true, false, false]);
    bridge.answer("send_sms", results.clone());
    let piped = run_at(&bridge, send).await.expect(1);
    assert!(!format!("{}{}", piped.stdout, piped.stderr).contains('\u{1b}'));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_no_colours_with_no_color() {
    for (variable, has_colours) in [("A=b", true), ("NO_COLOR=1", false)] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("env");
        command
            .args([variable, env!("CARGO_BIN_EXE_smsbridge"), "serve"])
            .args([
                "--grpc-listen",
                "127.0.0.1:0",
                "--http-listen",
                "127.0.0.1:0",
            ])
            .args(["--admin-listen", "127.0.0.1:0"])
            .args(["--infobip-base-url", "http://127.0.0.1:1"])
            .arg("--events-data-dir")
            .arg(folder.path())
            .env("SMSBRIDGE_INFOBIP__API_KEY", "k")
            .kill_on_drop(true);
        let (_, text) = run_on_terminal(command, 200, Some("INFO")).await;
        assert_eq!(text.contains("\u{1b}["), has_colours, "{text}");
    }
}

#[tokio::test]
async fn commands_that_are_not_built_are_not_in_the_help() {
    let help = run(["--help"]).await.expect(0).stdout;
    let hidden = "reconcile";
    let is_listed = help
        .lines()
        .any(|line| line.trim_start().starts_with(hidden));
    assert!(!is_listed, "{help}");
    let own = run([hidden, "--help"]).await.expect(0).stdout;
    assert!(own.contains("UNIMPLEMENTED"), "{own}");
    let readme = include_str!("../../../README.md");
    assert!(!readme.contains("`reconcile`"), "README.md lists {hidden}");
    let again = run(["help", "--help"]).await.expect(0).stdout;
    assert_eq!(again, help);
    let of_send = run(["help", "send", "--help"]).await.expect(0).stdout;
    assert_eq!(of_send, run(["help", "send"]).await.expect(0).stdout);
}

/// No line of a paragraph ends before the edge of the terminal, as a fixed line break would make it.
#[tokio::test(flavor = "multi_thread")]
async fn paragraphs_of_the_help_fill_the_width_of_the_terminal() {
    let all = run(["--help"]).await.expect(0).stdout;
    let (_, commands) = all.split_once("Commands:\n").unwrap();
    let commands = commands.lines().take_while(|line| !line.is_empty());
    let commands: Vec<_> = commands
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() > 14, "{commands:?}");
    for columns in [60, 80] {
        for command in &commands {
            let mut help = smsbridge();
            help.args([command, "--help"]);
            let (status, text) = run_on_terminal(help, columns, None).await;
            assert_eq!(status, 0, "{text}");
            let text = without_colours(&text);
            let lines: Vec<_> = text.lines().collect();
            for pair in lines.windows(2) {
                let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
                if !is_prose(pair[0]) || !is_prose(pair[1]) || pair[0].ends_with(':') {
                    continue;
                }
                let next = pair[1].split(' ').next().unwrap_or_default();
                let filled = pair[0].chars().count() + 1 + next.chars().count();
                assert!(
                    filled > columns.into(),
                    "{command}, {columns} columns, a line ends early: {pair:?}\n{text}"
                );
            }
        }
    }
}

#[tokio::test]
async fn completions_are_printed_for_each_shell() {
    for (shell, expected) in [
        ("bash", "complete -F _smsbridge"),
        ("zsh", "#compdef smsbridge"),
        ("fish", "complete -c smsbridge"),
    ] {
        let ended = run(["completions", shell]).await.expect(0);
        assert!(ended.stdout.contains(expected), "{shell}");
        assert!(ended.stdout.contains("check-config"), "{shell}");
        assert!(!ended.stdout.contains("reconcile"), "{shell}: not built");
    }
    run(["completions", "cmd.exe"]).await.expect(64);
}
