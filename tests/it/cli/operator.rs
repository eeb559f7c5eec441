//! `smsbridge dead`, `quarantine` and `reconcile`.

use super::*;

#[tokio::test]
async fn dead_and_quarantine_list_show_replay_and_discard() {
    let bridge = ScriptedBridge::start().await;
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
        json!({"since": "2026-11-22T08:00:00Z"})
    );
}
