//! `smsbridge logs` and `smsbridge events`: paging, limits, following.

use super::*;

#[tokio::test]
async fn logs_reads_all_pages_and_waits_for_the_quota() {
    let bridge = ScriptedBridge::start().await;
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
    let bridge = ScriptedBridge::start().await;
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
        "id": id, "time": "2026-11-22T14:00:00.500Z", "type": "report.delivered", "application": "default",
        "cursor": cursor,
        "report": {"messageId": id, "to": "41793026727", "status": {"id": 5, "name": "DELIVERED_TO_HANDSET"}},
    })
}

#[tokio::test]
async fn events_stops_at_the_end_of_the_log() {
    let bridge = ScriptedBridge::start().await;
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
    assert_eq!(ended.stderr, "continue with: smsbridge events --from c2\n");
    assert_eq!(
        bridge.asked_once("stream_events"),
        json!({
            "since": "1970-01-01T00:00:00Z",
            "filter": {"types": ["report.#"], "messageIds": ["a"]},
            "endAtHead": true,
        })
    );
}

/// The clocks of the client and of the bridge may differ by some minutes, and no event is to be missed.
#[track_caller]
fn assert_is_minutes_ago(time: &Value) {
    let at: jiff::Timestamp = time.as_str().unwrap().parse().unwrap();
    let ago = jiff::Timestamp::now().duration_since(at).as_secs();
    assert!((240..600).contains(&ago), "{time} is {ago} s ago");
}

#[tokio::test]
async fn a_follower_of_an_empty_log_starts_minutes_before_its_clock() {
    let bridge = ScriptedBridge::start().await;
    let follow = async |args: &[&str], reads: usize| {
        for _ in 0..reads {
            bridge.answer("stream_events", json!([]));
        }
        bridge.refuse("stream_events", Status::invalid_argument("enough"));
        let args = [&["events", "--last", "3", "--follow"], args].concat();
        run_at(&bridge, args).await.expect(1);
        let asked = bridge.asked("stream_events");
        let last = asked.last().unwrap().request.clone();
        assert!(last.get("endAtHead").is_none(), "{last}");
        last["since"].clone()
    };
    // The last minute, the last hour, the last day, everything.
    assert_is_minutes_ago(&follow(&[], 4).await);
    // Not before --since.
    let since = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(30);
    let started = follow(&["--since", &since.to_string()], 1).await;
    let started: jiff::Timestamp = started.as_str().unwrap().parse().unwrap();
    assert_eq!(started, since);
}

#[tokio::test]
async fn a_follower_reconnects_behind_its_last_event() {
    let bridge = ScriptedBridge::start().await;
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
    assert_is_minutes_ago(&asked[1].1["since"]);
    assert_eq!(asked[2].1["cursor"], "c1");
    assert_eq!(asked[3].1["cursor"], "c2");
}

#[tokio::test]
async fn a_closed_pipe_ends_the_command_without_an_error() {
    let bridge = ScriptedBridge::start().await;
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
async fn events_prints_the_last_events() {
    let bridge = ScriptedBridge::start().await;
    let all = [event("a", "c1"), event("b", "c2"), event("c", "c3")];
    // Few events are recent: the command reads further back.
    bridge
        .answer("stream_events", json!([all[2]]))
        .answer("stream_events", json!(all));
    let ended = run_at(&bridge, ["events", "--last", "2", "--json"])
        .await
        .expect(0);
    assert_eq!(ended.json_lines(), all[1..]);
    let asked = bridge.asked("stream_events");
    assert!(asked.iter().all(|asked| asked.request["endAtHead"] == true));
    let since: Vec<_> = asked.iter().map(|asked| &asked.request["since"]).collect();
    assert!(since[1].as_str() < since[0].as_str(), "{since:?}");

    // A follower continues behind them.
    bridge
        .answer("stream_events", json!(all))
        .answer("stream_events", json!([event("d", "c4")]))
        .refuse("stream_events", Status::invalid_argument("enough"));
    let args = ["events", "--last", "1", "--follow", "--json"];
    let ended = run_at(&bridge, args).await.expect(1);
    assert_eq!(ended.json_lines(), [event("c", "c3"), event("d", "c4")]);
    assert_eq!(bridge.asked("stream_events")[3].request["cursor"], "c3");

    // Less than the limit: everything since the given time.
    for _ in 0..4 {
        bridge.answer("stream_events", json!([all[0]]));
    }
    let args = [
        "events",
        "--last",
        "5",
        "--since",
        "2026-11-22T14:00:00Z",
        "--json",
    ];
    assert_eq!(run_at(&bridge, args).await.expect(0).json_lines(), all[..1]);
    let asked = bridge.asked("stream_events");
    let since = &asked.last().unwrap().request["since"];
    assert!(since.as_str().unwrap().starts_with("2026-11-22T14:00:00"));
}

#[tokio::test]
async fn events_shows_the_request_and_the_mistakes_of_an_invalid_command() {
    let bridge = ScriptedBridge::start().await;
    bridge.answer(
        "stream_events",
        json!([{
            "id": "e", "time": "2026-11-22T14:00:00Z", "type": "command.invalid", "application": "billing",
            "cursor": "c", "requestId": "order-17",
            "invalidCommand": {
                "reason": "INVALID_REQUEST", "routingKey": "sms.send",
                "detail": "the command has 2 mistakes: message.text is empty",
                "violations": [
                    {"field": "message.text", "description": "is empty"},
                    {"field": "message.from", "description": "must have 3 to 11 characters"},
                ],
            },
        }]),
    );
    let ended = run_at(&bridge, ["events"]).await.expect(0);
    let row = ended.stdout.lines().nth(1).unwrap();
    assert!(
        row.ends_with(
            "order-17  sms.send  INVALID_REQUEST  the command has 2 mistakes: message.text is empty; \
             message.from must have 3 to 11 characters"
        ),
        "{row}"
    );
}

#[tokio::test]
async fn json_has_times_as_proto_json_writes_them() {
    let bridge = ScriptedBridge::start().await;
    let text = json!({"messageId": "m", "to": "1", "text": "at 2026-11-22T14:00:00+00:00", "sentAt": "2026-11-22T14:00:00Z"});
    bridge.answer("list_sms_logs", json!({"logs": [text]}));
    let ended = run_at(&bridge, ["logs", "--json"]).await.expect(0);
    assert_eq!(ended.json_lines(), [text]);
}
