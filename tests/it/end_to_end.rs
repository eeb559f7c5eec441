//! The main flows, end to end, on the embedded log: messages are sent, reports and received messages become events.

use serde_json::json;
use smsbridge::proto::v1::{Outcome, event::Payload};

use crate::support::{
    DEADLINE,
    bridge::{TestBridge, text, text_with_id},
    eventually,
    simulator::TestSimulator,
};

#[tokio::test]
async fn a_text_to_two_numbers_is_accepted_and_reported() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut events = bridge.events().await;

    let sent = bridge
        .sms()
        .send_sms(text(&["41793026727", "+385 91 123-4567"], "Hello"))
        .await
        .unwrap()
        .into_inner();

    let outcomes: Vec<_> = sent
        .results
        .iter()
        .map(|result| (result.to.as_str(), result.outcome()))
        .collect();
    assert_eq!(
        outcomes,
        [
            ("41793026727", Outcome::Accepted),
            ("385911234567", Outcome::Accepted)
        ]
    );
    assert_ne!(sent.results[0].message_id, sent.results[1].message_id);

    let mut delivered = Vec::new();
    for _ in 0..2 {
        let event = events.next_of("report.delivered").await;
        assert_eq!(event.application, "default");
        let Some(Payload::Report(report)) = event.payload else {
            panic!("no report")
        };
        assert!(report.r#final);
        delivered.push(report.message_id);
    }
    delivered.sort();
    let mut ids: Vec<_> = sent
        .results
        .iter()
        .map(|result| result.message_id.clone())
        .collect();
    ids.sort();
    assert_eq!(delivered, ids);
    // The wire id begins with the application.
    let on_the_wire = simulator.messages().await;
    assert!(on_the_wire.iter().all(|message| {
        message["messageId"]
            .as_str()
            .unwrap()
            .starts_with("default.")
    }));
}

#[tokio::test]
async fn a_rejection_is_a_result_not_an_error() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let sent = bridge
        .sms()
        .send_sms(text(&["999010061234"], "Hello"))
        .await
        .unwrap()
        .into_inner();
    let [result] = sent.results.as_slice() else {
        panic!("{sent:?}")
    };
    assert_eq!(result.outcome(), Outcome::Rejected);
    assert_eq!(result.status.as_ref().unwrap().name, "REJECTED_NETWORK");
    let types: Vec<_> = bridge
        .all_events()
        .await
        .into_iter()
        .map(|event| event.r#type)
        .collect();
    assert_eq!(types, ["send.rejected"]);
}

#[tokio::test]
async fn a_message_from_a_phone_is_an_event() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut events = bridge.events().await;
    let template =
        "?sender=%2B41793026727&receiver=41790000000&text=Hi&messageId=mo-1&datacoding=0";
    let answer = reqwest::get(bridge.webhook("inbound") + template)
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let event = events.next_of("inbound.received").await;
    let Some(Payload::Received(received)) = event.payload else {
        panic!("no message")
    };
    assert_eq!(
        (received.message_id.as_str(), received.text.as_str()),
        ("mo-1", "Hi")
    );

    // A second identical push is the same event.
    reqwest::get(bridge.webhook("inbound") + template)
        .await
        .unwrap();
    assert_eq!(bridge.all_events().await.len(), 1);
}

#[tokio::test]
async fn an_unreadable_push_is_answered_with_200_and_quarantined() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let client = reqwest::Client::new();
    let answer = client
        .post(bridge.webhook("reports"))
        .body("<html>502</html>")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let too_large = vec![b' '; 5 << 20];
    let answer = client
        .post(bridge.webhook("reports"))
        .body(too_large)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 413);

    let folder = bridge.stop().await;
    let log = rusqlite::Connection::open(folder.path().join("events.sqlite")).unwrap();
    let kept: (String, Vec<u8>) = log
        .query_row("SELECT endpoint, body FROM quarantine", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(kept, ("reports".into(), b"<html>502</html>".to_vec()));
}

#[tokio::test]
async fn events_are_read_again_from_a_cursor_after_a_restart() {
    use smsbridge::proto::v1::{StreamEventsRequest, stream_events_request::Start};
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut events = bridge.events().await;
    for n in 0..3 {
        bridge
            .sms()
            .send_sms(text_with_id(&format!("r{n}"), &["41793026727"]))
            .await
            .unwrap();
    }
    let first = events.next().await;
    let folder = bridge.stop().await;

    let bridge = TestBridge::at(&simulator.base_url(), folder, |_| ()).await;
    let all = bridge.all_events().await;
    assert_eq!(all[0].id, first.id);
    let after = StreamEventsRequest {
        start: Some(Start::Cursor(first.cursor.clone())),
        end_at_head: true,
        ..Default::default()
    };
    let second = bridge.read(after).await.next().await;
    assert_eq!(second.id, all[1].id);
}

#[tokio::test]
async fn sends_in_flight_at_shutdown_end_with_a_result() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.http.public_url = None).await;
    simulator.fault(json!({"kind": "latency", "probability": 1.0, "ms": 300, "path": "/sms/1/text/advanced"})).await;
    let calls: Vec<_> = (0..100)
        .map(|n| {
            let mut sms = bridge.sms();
            tokio::spawn(async move {
                sms.send_sms(text_with_id(&format!("r{n}"), &["41793026727"]))
                    .await
            })
        })
        .collect();
    eventually("a request is under way", || async {
        (!simulator.requests().await.is_empty()).then_some(())
    })
    .await;
    bridge.begin_to_stop();

    let mut accepted = Vec::new();
    for call in calls {
        let answer = tokio::time::timeout(DEADLINE, call)
            .await
            .expect("an answer")
            .unwrap();
        match answer {
            Ok(answer) => accepted.push(answer.into_inner().results[0].message_id.clone()),
            // A call that the shutdown refused sent nothing: UNAVAILABLE tells the caller to repeat it.
            Err(status) => assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}"),
        }
    }
    let folder = bridge.stop().await;

    // The ledger of the simulator, the responses and the events agree.
    let mut ledger: Vec<_> = simulator
        .messages()
        .await
        .iter()
        .map(|message| {
            message["messageId"]
                .as_str()
                .unwrap()
                .strip_prefix("default.")
                .unwrap()
                .to_owned()
        })
        .collect();
    ledger.sort();
    accepted.sort();
    assert_eq!(ledger, accepted);
    let bridge = TestBridge::at(&simulator.base_url(), folder, |_| ()).await;
    let mut events: Vec<_> = bridge
        .all_events()
        .await
        .into_iter()
        .filter(|event| event.r#type == "send.accepted")
        .map(|event| event.request_id)
        .collect();
    events.sort();
    assert_eq!(events, accepted);
}
