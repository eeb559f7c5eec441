//! `smsbridge dead`, `quarantine` and `reconcile`.

use super::*;

#[tokio::test]
async fn dead_lists_in_pages_shows_replays_and_discards() {
    let bridge = ScriptedBridge::start().await;
    let letter = json!({
        "id": "l-17", "time": "2026-11-22T14:00:00Z", "reason": "INVALID_REQUEST", "detail": "no text",
        "application": "billing", "routingKey": "sms.send", "requestId": "order-17", "bodyBytes": "7",
        "cause": "DEAD_LETTER_CAUSE_CALLER",
    });
    let page = |token: &str| json!({"letters": [letter], "nextPageToken": token});
    bridge.answer("list_dead_letters", page(""));
    let ended = run_at(&bridge, ["dead"]).await.expect(0);
    assert!(
        ended
            .stdout
            .contains("l-17  caller  billing      sms.send     order-17"),
        "{}",
        ended.stdout
    );
    assert_eq!(bridge.asked_once("list_dead_letters"), json!({"limit": 50}));

    let bridge = ScriptedBridge::start().await;
    for answer in [page("t1"), json!({"nextPageToken": "t2"}), page("t3")] {
        bridge.answer("list_dead_letters", answer);
    }
    let listing = [
        "dead", "list", "--limit", "2", "--cause", "given_up", "--reason", "RETURNED", "--json",
    ];
    let ended = run_at(&bridge, listing).await.expect(0);
    assert_eq!(ended.json_lines(), [letter.clone(), letter.clone()]);
    assert!(
        ended.stderr.contains("the oldest 2 letters"),
        "{}",
        ended.stderr
    );
    let filter = json!({"reasons": ["RETURNED"], "cause": "DEAD_LETTER_CAUSE_GIVEN_UP"});
    let asked = bridge.asked("list_dead_letters");
    let told: Vec<_> = asked.into_iter().map(|one| one.request).collect();
    assert_eq!(
        told,
        [
            json!({"limit": 2, "filter": filter}),
            json!({"limit": 1, "filter": filter, "pageToken": "t1"}),
            json!({"limit": 1, "filter": filter, "pageToken": "t2"}),
        ]
    );

    let mut whole = letter.clone();
    whole["body"] = json!("eyJhIjoxfQ==");
    bridge.answer("get_dead_letter", json!({"letter": whole}));
    let ended = run_at(&bridge, ["dead", "show", "l-17"]).await.expect(0);
    assert!(
        ended.stdout.starts_with("id: l-17\n") && ended.stdout.ends_with("\n\n{\"a\":1}\n"),
        "{}",
        ended.stdout
    );
    assert_eq!(bridge.asked_once("get_dead_letter"), json!({"id": "l-17"}));
}

#[tokio::test]
async fn dead_replays_and_discards_until_all_letters_were_looked_at() {
    let bridge = ScriptedBridge::start().await;
    for action in ["replay", "discard"] {
        let ended = run_at(&bridge, ["dead", action]).await.expect(64);
        assert!(ended.stderr.contains("--all"), "{}", ended.stderr);
    }
    bridge
        .answer(
            "replay_dead_letters",
            json!({"count": 2, "incomplete": true}),
        )
        .answer("replay_dead_letters", json!({"count": 1}));
    let ended = run_at(&bridge, ["dead", "replay", "--all"]).await.expect(0);
    assert_eq!(ended.stdout, "replayed 3\n");
    let asked = bridge.asked("replay_dead_letters");
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].request, asked[1].request, "what is dead now");
    assert!(asked[0].request["filter"]["diedBefore"].is_string());

    let busy = Status::with_error_details(
        Code::Unavailable,
        "busy",
        ErrorDetails::with_error_info(
            "DEAD_LETTERS_BUSY",
            "smsbridge",
            std::collections::HashMap::new(),
        ),
    );
    bridge
        .refuse("replay_dead_letters", busy)
        .answer("replay_dead_letters", json!({"count": 1}));
    let ended = run_at(&bridge, ["dead", "replay", "a"]).await.expect(0);
    assert!(ended.stderr.contains("is under way"), "{}", ended.stderr);

    let refused = json!({"count": 1, "refused": [{"id": "b", "detail": "no id"}], "refusedCount": 3, "notFound": ["c"]});
    bridge.answer("replay_dead_letters", refused);
    let ended = run_at(&bridge, ["dead", "replay", "a", "b", "c", "--allow-repeat"])
        .await
        .expect(1);
    for said in [
        "not replayed: b: no id",
        "not replayed: 2 more",
        "not found: c",
    ] {
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
    let asked = bridge.asked("replay_dead_letters");
    assert_eq!(
        asked[4].request,
        json!({"ids": ["a", "b", "c"], "allowRepeat": true})
    );

    bridge.answer("discard_dead_letters", json!({"count": 2}));
    let ended = run_at(&bridge, ["dead", "discard", "a", "b"])
        .await
        .expect(0);
    assert_eq!(ended.stdout, "discarded 2\n");
    assert_eq!(
        bridge.asked_once("discard_dead_letters"),
        json!({"ids": ["a", "b"]})
    );
}

/// A call that ends early does not name the letters that it removed.
#[tokio::test]
async fn dead_does_not_call_missing_what_an_earlier_call_of_it_removed() {
    let bridge = ScriptedBridge::start().await;
    for (action, method) in [
        ("replay", "replay_dead_letters"),
        ("discard", "discard_dead_letters"),
    ] {
        let early = json!({"count": 2, "incomplete": true});
        bridge
            .answer(method, early.clone())
            .answer(method, json!({"count": 1, "notFound": ["a", "b"]}));
        let args = ["dead", action, "a", "b", "c", "--json"];
        let ended = run_at(&bridge, args).await.expect(0);
        assert!(!ended.stderr.contains("not found"), "{}", ended.stderr);
        assert!(!ended.stdout.contains("notFound"), "{}", ended.stdout);

        bridge
            .answer(method, early)
            .answer(method, json!({"notFound": ["a", "b", "c"]}));
        let ended = run_at(&bridge, ["dead", action, "a", "b", "c"])
            .await
            .expect(1);
        for said in [
            "not in the queue: a",
            "not in the queue: c",
            "2 of these 3 were removed by this command: 1 was not found",
        ] {
            assert!(ended.stderr.contains(said), "{}", ended.stderr);
        }
    }
}

/// Each call walks from the beginning of the queue.
#[tokio::test]
async fn dead_asks_for_more_time_if_a_call_removed_nothing_in_its_time() {
    let bridge = ScriptedBridge::start().await;
    for (action, method) in [
        ("replay", "replay_dead_letters"),
        ("discard", "discard_dead_letters"),
    ] {
        let none = json!({"incomplete": true, "incompleteDetail": "the time was up"});
        bridge.answer(method, none);
        let args = ["dead", action, "--cause", "caller"];
        let ended = run_at(&bridge, args).await.expect(1);
        assert!(ended.stderr.contains("the time was up"), "{}", ended.stderr);
        assert!(ended.stderr.contains("--timeout"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn quarantine_lists_in_pages_shows_replays_and_discards() {
    let bridge = ScriptedBridge::start().await;
    let body = json!({
        "id": "q-3", "time": "2026-11-22T14:00:00Z", "endpoint": "reports", "detail": "no JSON", "bodyBytes": "1",
        "source": "QUARANTINE_SOURCE_PUSH",
    });
    let page = |token: &str| json!({"bodies": [body], "nextPageToken": token});
    for answer in [page("t1"), json!({"nextPageToken": "t2"}), page("t3")] {
        bridge.answer("list_quarantined", answer);
    }
    let ended = run_at(&bridge, ["quarantine", "list", "--limit", "2", "--json"]).await;
    let ended = ended.expect(0);
    assert_eq!(ended.json_lines(), [body.clone(), body.clone()]);
    assert!(
        ended.stderr.contains("the oldest 2 bodies"),
        "{}",
        ended.stderr
    );
    let asked = bridge.asked("list_quarantined");
    let told: Vec<_> = asked.into_iter().map(|one| one.request).collect();
    assert_eq!(
        told,
        [
            json!({"limit": 2}),
            json!({"limit": 1, "pageToken": "t1"}),
            json!({"limit": 1, "pageToken": "t2"}),
        ]
    );
    bridge.answer("list_quarantined", json!({}));
    let ended = run_at(&bridge, ["quarantine"]).await.expect(0);
    assert!(
        ended.stderr.contains("nothing in quarantine"),
        "{}",
        ended.stderr
    );

    let mut whole = body.clone();
    whole["body"] = json!("/w==");
    bridge.answer("get_quarantined", json!({"body": whole}));
    let ended = run_at(&bridge, ["quarantine", "show", "q-3"])
        .await
        .expect(0);
    let shown = ended.stdout;
    assert!(
        shown.starts_with("id: q-3\n") && shown.ends_with("\n\nff\n"),
        "{shown}"
    );
    assert_eq!(bridge.asked_once("get_quarantined"), json!({"id": "q-3"}));

    for action in ["replay", "discard"] {
        run_at(&bridge, ["quarantine", action]).await.expect(64);
    }
    bridge
        .answer("replay_quarantined", json!({"count": 2, "incomplete": true}))
        .answer(
            "replay_quarantined",
            json!({"count": 1, "unreadable": [{"id": "q-4", "detail": "no rows"}], "unreadableCount": 3}),
        );
    let ended = run_at(&bridge, ["quarantine", "replay", "--all"]).await;
    let ended = ended.expect(1);
    assert_eq!(ended.stdout, "replayed 3\n");
    for said in [
        "still unreadable: q-4: no rows",
        "still unreadable: 2 more",
        "bodies stay in quarantine",
    ] {
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
    bridge
        .answer(
            "discard_quarantined",
            json!({"count": 1, "notFound": ["b"]}),
        )
        .answer("discard_quarantined", json!({"count": 1}));
    let ended = run_at(&bridge, ["quarantine", "discard", "a", "b"]).await;
    let stderr = ended.expect(1).stderr;
    assert!(stderr.contains("not found: b"), "{stderr}");
    run_at(&bridge, ["quarantine", "discard", "--all"])
        .await
        .expect(0);
    let asked = bridge.asked("discard_quarantined");
    let told: Vec<_> = asked.into_iter().map(|one| one.request).collect();
    assert_eq!(told, [json!({"ids": ["a", "b"]}), json!({"all": true})]);
}

#[tokio::test]
async fn reconcile_tells_what_it_found() {
    let bridge = ScriptedBridge::start().await;
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
