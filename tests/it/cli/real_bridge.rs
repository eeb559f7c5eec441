//! The commands against a bridge with a simulator: one command finds what another one did.

use super::*;
use crate::support::{
    bridge::TestBridge, broker::TestBroker, eventually, simulator::TestSimulator,
};

async fn run_at<'a>(bridge: &TestBridge, args: impl AsRef<[&'a str]>) -> Ended {
    end(smsbridge()
        .env(
            "SMSBRIDGE_ADDRESS",
            format!("http://{}", bridge.addresses.grpc),
        )
        .args(args.as_ref()))
    .await
}

/// The built binary lists, shows, replays and discards what a bridge could not read.
#[tokio::test]
async fn quarantined_bodies_are_replayed_and_discarded() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let client = reqwest::Client::new();
    for body in [
        "<html>",
        r#"{"results":[{"messageId":"billing.a","status":{"groupId":3}},7]}"#,
    ] {
        let pushing = client.post(bridge.webhook("reports")).body(body);
        assert_eq!(pushing.send().await.unwrap().status(), 200);
    }
    let listed = run_at(&bridge, ["quarantine", "--json"]).await.expect(0);
    let listed = listed.json_lines();
    let ids: Vec<_> = listed
        .iter()
        .map(|one| one["id"].as_str().unwrap())
        .collect();
    assert_eq!((ids.len(), &listed[1]["isRow"]), (2, &json!(true)));
    let shown = run_at(&bridge, ["quarantine", "show", ids[0]])
        .await
        .expect(0);
    assert!(shown.stdout.ends_with("\n\n<html>\n"), "{}", shown.stdout);

    let replayed = run_at(&bridge, ["quarantine", "replay", "--all"])
        .await
        .expect(1);
    assert_eq!(replayed.stdout, "replayed 0\n");
    for id in &ids {
        let said = format!("still unreadable: {id}: ");
        assert!(replayed.stderr.contains(&said), "{}", replayed.stderr);
    }
    let discarded = run_at(&bridge, ["quarantine", "discard", ids[0], "17"])
        .await
        .expect(1);
    assert_eq!(discarded.stdout, "discarded 1\n");
    assert!(
        discarded.stderr.contains("not found: 17"),
        "{}",
        discarded.stderr
    );
    run_at(&bridge, ["quarantine", "discard", "--all"])
        .await
        .expect(0);
    let listed = run_at(&bridge, ["quarantine"]).await.expect(0);
    assert!(
        listed.stderr.contains("nothing in quarantine"),
        "{}",
        listed.stderr
    );
    bridge.stop().await;
}

#[tokio::test]
async fn events_and_logs_show_sent_messages() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let args = [
        "send",
        "41793026727",
        "385911234567",
        "--text",
        "Hello",
        "--request-id",
        "r",
        "--json",
    ];
    let sent = run_at(&bridge, args).await.expect(0).json_lines();
    assert_eq!(sent[0]["results"][1]["messageId"], "r~1");
    // A repeated command prints the same result and sends nothing.
    assert_eq!(run_at(&bridge, args).await.expect(0).json_lines(), sent);
    assert_eq!(simulator.messages().await.len(), 2);

    let reports = eventually("both reports are events", async || {
        let args = ["events", "--type", "report.*", "--json"];
        let reports = run_at(&bridge, args).await.expect(0).json_lines();
        (reports.len() == 2).then_some(reports)
    })
    .await;
    let cursor = reports[0]["cursor"].as_str().unwrap();
    let args = ["events", "--type", "report.*", "--json", "--from", cursor];
    let rest = run_at(&bridge, args).await.expect(0).json_lines();
    assert_eq!(rest, reports[1..]);

    let args = ["logs", "--json", "--since", "1h", "--message-id", "r~1"];
    let logs = run_at(&bridge, args).await.expect(0).json_lines();
    assert_eq!(logs.len(), 1);
    assert_eq!(
        (&logs[0]["to"], &logs[0]["text"]),
        (&json!("385911234567"), &json!("Hello"))
    );
    let story = run_at(&bridge, ["message", "r~1"]).await.expect(0).stdout;
    let types: Vec<_> = story
        .split_whitespace()
        .filter(|word| word.contains('.'))
        .collect();
    assert_eq!(
        &types[..2],
        ["send.accepted", "report.delivered"],
        "{story}"
    );
    let unknown = run_at(&bridge, ["message", "r~7"]).await.expect(1).stderr;
    assert!(unknown.contains("MESSAGE_NOT_FOUND"), "{unknown}");
    let looked_up = run_at(&bridge, ["lookup", "41793026727"]).await.expect(0);
    assert!(looked_up.stdout.contains("22801"), "{}", looked_up.stdout);
    bridge.stop().await;
}

#[tokio::test]
async fn pulled_rows_are_printed_once_and_kept_as_events() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.http.public_url = None).await;
    run_at(
        &bridge,
        ["send", "41793026727", "--text", "x", "--request-id", "r"],
    )
    .await
    .expect(0);
    simulator
        .inbound("41793026727", "41790000000", "Hi there")
        .await;
    let reports = eventually("the report is unread", async || {
        let reports = run_at(&bridge, ["reports", "--json"])
            .await
            .expect(0)
            .json_lines();
        (!reports.is_empty()).then_some(reports)
    })
    .await;
    assert_eq!((reports.len(), &reports[0]["messageId"]), (1, &json!("r")));
    let messages = run_at(&bridge, ["inbox", "--json"])
        .await
        .expect(0)
        .json_lines();
    assert_eq!(
        (messages.len(), &messages[0]["text"]),
        (1, &json!("Hi there"))
    );

    let again = run_at(&bridge, ["inbox"]).await.expect(0);
    assert_eq!(
        (&*again.stdout, &*again.stderr),
        ("", "no unread messages\n")
    );
    let listed = run_at(&bridge, ["inbox", "--list", "--json"])
        .await
        .expect(0);
    assert_eq!(listed.json_lines(), messages);
    let args = ["events", "--type", "report.#", "inbound.#", "--json"];
    let events = run_at(&bridge, args).await.expect(0).json_lines();
    let types: Vec<_> = events.iter().map(|event| &event["type"]).collect();
    assert_eq!(types, ["report.delivered", "inbound.received"]);
    bridge.stop().await;
}

#[tokio::test]
async fn a_repeated_file_is_sent_once() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let numbers: Vec<_> = (0..2000).map(|n| format!("4179{n:07}")).collect();
    std::fs::write(file.path(), numbers.join("\n")).unwrap();
    let file = file.path().to_str().unwrap();
    let args = ["send", "--file", file, "--text", "x", "--request-id", "run"];
    for _ in 0..2 {
        let ended = run_at(&bridge, args).await.expect(0);
        assert!(
            ended
                .stderr
                .starts_with("2000 sent: 2000 accepted, 0 rejected, 0 unknown"),
            "{}",
            ended.stderr
        );
    }
    assert_eq!(simulator.messages().await.len(), 2000);
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_found_shown_replayed_and_discarded() {
    let broker = TestBroker::start().await;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.amqp = broker.config()).await;
    drop(broker.publisher().await);
    let client = broker.client().await;
    let commands = broker.topology().commands();
    for (request_id, body) in [("empty", "{}"), ("broken", "{")] {
        let properties = lapin::BasicProperties::default().with_message_id(request_id.into());
        client
            .publish(&commands, "sms.send", properties, body.as_bytes())
            .await;
    }
    let letters = eventually("both are dead", async || {
        let args = ["dead", "--cause", "caller", "--json"];
        let letters = run_at(&bridge, args).await.expect(0).json_lines();
        (letters.len() == 2).then_some(letters)
    })
    .await;
    let letter = |request_id: &str| {
        let of_request = |one: &&Value| one["requestId"] == request_id;
        let found = letters.iter().find(of_request).unwrap();
        found["id"].as_str().unwrap()
    };
    let shown = run_at(&bridge, ["dead", "show", letter("broken")])
        .await
        .expect(0)
        .stdout;
    assert!(shown.contains("reason: UNREADABLE_REQUEST\n"), "{shown}");
    assert!(shown.ends_with("\n\n{\n"), "{shown}");

    let discarded = run_at(&bridge, ["dead", "discard", letter("broken")]).await;
    assert_eq!(discarded.expect(0).stdout, "discarded 1\n");
    let gone = run_at(&bridge, ["dead", "show", letter("broken")]).await;
    let said = gone.expect(1).stderr;
    assert!(said.contains("DEAD_LETTER_NOT_FOUND"), "{said}");

    // Its mistake is still there.
    let replayed = run_at(&bridge, ["dead", "replay", "--all"]).await;
    assert_eq!(replayed.expect(0).stdout, "replayed 1\n");
    let again = eventually("it is dead again", async || {
        let listed = run_at(&bridge, ["dead", "list", "--all", "--json"]).await;
        listed.expect(0).json_lines().pop()
    })
    .await;
    assert_eq!(again["replayedFrom"], letter("empty"));
    bridge.stop().await;
}
