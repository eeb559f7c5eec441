//! `smsbridge send --file`.

use super::*;
use crate::support::eventually;

/// Runs `send --file -` with `input` on stdin.
async fn send_file(bridge: &ScriptedBridge, args: &[&str], input: &str) -> Ended {
    let mut child = smsbridge()
        .args(["send", "--file", "-", "--request-id", "run"])
        .args(["--address", &bridge.address])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    ended(child).await
}

#[tokio::test]
async fn send_file_sends_each_record_and_lists_failures() {
    let bridge = ScriptedBridge::start().await;
    let input = "to,text,message_id,from\n41,own text,m-1,Shop\n\n42,,,\n043,,,\n";
    let ended = send_file(&bridge, &["--text", "Hello", "--from", "Info"], input)
        .await
        .expect(1);
    assert_eq!(
        ended.stdout.lines().skip(1).collect::<Vec<_>>(),
        [
            "5       043           run:3                                 rejected  REJECTED_DESTINATION (52)"
        ]
    );
    assert!(
        ended
            .stderr
            .starts_with("3 sent: 2 accepted, 1 rejected, 0 unknown, in "),
        "{}",
        ended.stderr
    );
    assert!(
        ended
            .stderr
            .ends_with("error: 1 of 3 messages was rejected\n")
    );
    let asked: Vec<_> = bridge
        .asked("stream_sms")
        .into_iter()
        .map(|asked| asked.request)
        .collect();
    let request = |line: &str, id: &str, message: Value| json!({"correlation": line, "request": {"requestId": id, "message": message}});
    assert_eq!(
        asked,
        [
            request(
                "2",
                "run:1",
                json!({"from": "Shop", "destinations": [{"to": "41", "messageId": "m-1"}], "text": "own text"})
            ),
            request(
                "4",
                "run:2",
                json!({"from": "Info", "destinations": [{"to": "42"}], "text": "Hello"})
            ),
            request(
                "5",
                "run:3",
                json!({"from": "Info", "destinations": [{"to": "043"}], "text": "Hello"})
            ),
        ]
    );
}

#[tokio::test]
async fn send_file_bounds_messages_in_flight() {
    let bridge = ScriptedBridge::start().await;
    bridge.answer_stream_from(3);
    let numbers: Vec<_> = (1..=7).map(|n| format!("4179{n}")).collect();
    let args = ["--text", "x", "--in-flight", "3", "--json"];
    let ended = send_file(&bridge, &args, &numbers.join("\n"))
        .await
        .expect(0);
    assert_eq!(ended.json_lines().len(), 7);
    assert_eq!(ended.json_lines()[0]["results"][0]["messageId"], "run:1");
    assert_eq!(bridge.most_unanswered(), 3);
}

#[tokio::test]
async fn a_broken_stream_prints_how_to_repeat_the_run() {
    let bridge = ScriptedBridge::start().await;
    bridge.answer_stream_from(4);
    bridge.break_stream_after(2);
    let ended = send_file(&bridge, &["--text", "x"], "to\n41\n42\n43\n44\n")
        .await
        .expect(1);
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert!(
        lines[0].starts_with("4 sent: 2 accepted, 0 rejected, 0 unknown, 2 unanswered"),
        "{lines:?}"
    );
    assert_eq!(
        lines[1..],
        [
            "error: UNAVAILABLE: going away",
            "  Repeat the command with --request-id run: nothing is sent twice"
        ]
    );
}

#[tokio::test]
async fn an_invalid_record_stops_the_file_and_earlier_records_are_sent() {
    let bridge = ScriptedBridge::start().await;
    let ended = send_file(&bridge, &[], "to,text\n41,a\n42,b\n43,c,d\n44,e\n")
        .await
        .expect(64);
    assert!(
        ended.stderr.contains("2 accepted")
            && ended
                .stderr
                .contains("stdin, line 4: 3 fields where the header has 2"),
        "{}",
        ended.stderr
    );
    assert_eq!(bridge.asked("stream_sms").len(), 2);

    let ended = send_file(&bridge, &[], "number,text\n41,a\n")
        .await
        .expect(64);
    assert!(
        ended
            .stderr
            .contains("unknown column `number`: the header may have to, text"),
        "{}",
        ended.stderr
    );
    assert_eq!(bridge.asked("stream_sms").len(), 2, "nothing more was sent");
}

#[tokio::test]
async fn messages_that_were_not_sent_are_counted_apart_with_the_way_to_repeat() {
    let bridge = ScriptedBridge::start().await;
    let ended = send_file(&bridge, &["--text", "x"], "991\n992\n993\n")
        .await
        .expect(1);
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert!(lines[0].starts_with("0 sent, 3 not sent, in "), "{lines:?}");
    assert_eq!(
        lines[1..],
        [
            "error: 3 of 3 messages were not sent",
            "  Repeat the command with --request-id run: nothing is sent twice"
        ]
    );
    assert!(
        ended.stdout.contains("  not sent  API_UNAVAILABLE"),
        "{}",
        ended.stdout
    );

    let ended = send_file(&bridge, &["--text", "x"], "41\n043\n992\n981\n")
        .await
        .expect(1);
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert!(
        lines[0].starts_with("3 sent: 1 accepted, 1 rejected, 1 unknown; 1 not sent, in "),
        "{lines:?}"
    );
    assert_eq!(
        lines[1..],
        [
            "error: of 4 messages, 1 was rejected, 1 has an unknown outcome, 1 was not sent",
            "  Repeat the command with --request-id run: nothing is sent twice"
        ]
    );
}

#[tokio::test]
async fn a_file_without_a_header_is_reported_as_such() {
    let bridge = ScriptedBridge::start().await;
    let ended = send_file(&bridge, &[], "41793026727,Hello\n41793026728,Hi\n")
        .await
        .expect(64);
    assert!(
        ended.stderr.contains(
            "stdin, line 1: the first line is no header: a file with several columns needs one, such as `to,text`"
        ),
        "{}",
        ended.stderr
    );
}

/// The rest of the file is still to come when the command is interrupted.
#[tokio::test]
async fn ctrl_c_prints_what_was_sent_and_how_to_repeat_the_run() {
    let bridge = ScriptedBridge::start().await;
    bridge.answer_stream_from(usize::MAX);
    let mut child = smsbridge()
        .args(["send", "--file", "-", "--request-id", "run", "--text", "x"])
        .args(["--in-flight", "3", "--address", &bridge.address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"to\n41\n42\n43\n44\n").await.unwrap();
    eventually("the bridge has the messages", async || {
        (bridge.asked("stream_sms").len() == 3).then_some(())
    })
    .await;
    interrupt(&child).await;
    let ended = ended(child).await.expect(130);
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert!(
        lines[0].starts_with("3 sent: 0 accepted, 0 rejected, 0 unknown, 3 unanswered, in "),
        "{lines:?}"
    );
    assert_eq!(
        lines[1..],
        [
            "error: interrupted: the records after line 4 were not sent; 3 messages have no result and may have been sent",
            "  Repeat the command with --request-id run: nothing is sent twice"
        ]
    );
    drop(stdin);
}
