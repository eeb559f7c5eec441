//! `smsbridge reports`, `inbox` and `lookup`.

use super::*;

#[tokio::test]
async fn reports_and_inbox_pull_or_list() {
    let bridge = ScriptedBridge::start().await;
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
    let bridge = ScriptedBridge::start().await;
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
async fn lookup_reads_the_numbers_of_a_file_with_other_columns() {
    let bridge = ScriptedBridge::start().await;
    bridge.answer("lookup_numbers", json!({"results": []}));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "name,to,text\nAna,41,Hello\nBob,42,Hi\n").unwrap();
    run_at(&bridge, ["lookup", "--file", file.path().to_str().unwrap()])
        .await
        .expect(0);
    assert_eq!(
        bridge.asked_once("lookup_numbers"),
        json!({"to": ["41", "42"]})
    );
}
