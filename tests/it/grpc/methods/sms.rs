//! `SmsService` without plain sends: streams, previews, scheduled bulks, conversions.

use std::collections::BTreeMap;

use serde_json::json;
use smsbridge::proto::v1::{self, BulkStatus, Outcome, event, outbound_message::Content};
use tonic::Code;

use super::{TO, by, in_hours, refusal};
use crate::support::{
    bridge::{TestBridge, text, text_with_id},
    simulator::TestSimulator,
};

#[tokio::test]
async fn a_stream_answers_each_message_with_its_correlation() {
    const MESSAGES: usize = 3_000;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.http.public_url = None).await;
    let requests = (0..MESSAGES).map(|n| v1::StreamSmsRequest {
        correlation: format!("c{n}"),
        request: Some(if n == 7 {
            text(&["nobody"], "Hello")
        } else {
            text_with_id(&format!("s{n}"), &[TO])
        }),
    });
    // The caller half-closes right after the last message.
    let mut answers = bridge
        .sms()
        .stream_sms(tokio_stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    let mut outcomes = BTreeMap::new();
    while let Some(answer) = answers.message().await.unwrap() {
        let [result] = answer.results.as_slice() else {
            panic!("{answer:?}")
        };
        if answer.correlation == "c7" {
            let refusal = result.refusal.as_ref().unwrap();
            assert_eq!(refusal.reason, "INVALID_REQUEST");
            assert_eq!(refusal.violations[0].field, "message.destinations[0].to");
        } else {
            assert_eq!(result.message_id, answer.correlation.replace('c', "s"));
        }
        let before = outcomes.insert(answer.correlation, result.outcome());
        assert_eq!(before, None, "one answer for each message");
    }
    assert_eq!(outcomes.len(), MESSAGES);
    let rejected: Vec<_> = outcomes
        .iter()
        .filter(|(_, outcome)| **outcome != Outcome::Accepted)
        .collect();
    assert_eq!(rejected, [(&"c7".to_owned(), &Outcome::Rejected)]);
    assert_eq!(simulator.messages().await.len(), MESSAGES - 1);
}

/// The results of one message on a stream of its own.
async fn streamed(bridge: &TestBridge, request: v1::SendSmsRequest) -> Vec<v1::SendResult> {
    let request = v1::StreamSmsRequest {
        correlation: "mine".into(),
        request: Some(request),
    };
    let mut answers = bridge
        .sms()
        .stream_sms(tokio_stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!(answer.correlation, "mine");
    assert!(answers.message().await.unwrap().is_none(), "one answer");
    answer.results
}

/// Two destinations, the second with an id from the caller.
fn to_two(request_id: &str, second: &str) -> v1::SendSmsRequest {
    let mut request = text_with_id(request_id, &[TO, second]);
    let message = request.message.as_mut().unwrap();
    message.destinations[1].message_id = format!("{request_id}-2");
    request
}

#[track_caller]
fn assert_each_is_refused(
    request_id: &str,
    results: &[v1::SendResult],
    reason: &str,
    outcome: Outcome,
) {
    let rows: Vec<_> = results
        .iter()
        .map(|result| {
            let refusal = result.refusal.as_ref().unwrap();
            let (to, id) = (result.to.as_str(), result.message_id.clone());
            (to, id, refusal.reason.as_str(), result.outcome())
        })
        .collect();
    assert_eq!(
        rows,
        [
            (TO, format!("{request_id}~0"), reason, outcome),
            ("41793026728", format!("{request_id}-2"), reason, outcome)
        ]
    );
}

#[tokio::test]
async fn a_stream_names_each_destination_of_an_invalid_message() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let invalid = ("INVALID_REQUEST", Outcome::Rejected);

    // An empty text.
    let mut request = to_two("empty", "+41793026728");
    request.message.as_mut().unwrap().content = Some(Content::Text(String::new()));
    let results = streamed(&bridge, request).await;
    assert_each_is_refused("empty", &results, invalid.0, invalid.1);
    let violation = &results[1].refusal.as_ref().unwrap().violations[0];
    assert_eq!(violation.field, "message.text");

    // An invalid bulk id.
    let mut request = to_two("bulk", "41793026728");
    request.bulk_id = "~".into();
    let results = streamed(&bridge, request).await;
    assert_each_is_refused("bulk", &results, invalid.0, invalid.1);

    // One invalid destination of two.
    let results = streamed(&bridge, to_two("one", "nobody")).await;
    let rows: Vec<_> = results
        .iter()
        .map(|result| {
            (
                result.to.as_str(),
                result.message_id.as_str(),
                result.outcome(),
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            (TO, "one~0", Outcome::Rejected),
            ("nobody", "one-2", Outcome::Rejected)
        ]
    );
    let violation = &results[0].refusal.as_ref().unwrap().violations[0];
    assert_eq!(violation.field, "message.destinations[1].to");

    // Without destinations, and without a message.
    for request in [text(&[], "Hello"), v1::SendSmsRequest::default()] {
        let results = streamed(&bridge, request).await;
        let [result] = results.as_slice() else {
            panic!("{results:?}")
        };
        assert_eq!((result.to.as_str(), result.message_id.as_str()), ("", ""));
        let violation = &result.refusal.as_ref().unwrap().violations[0];
        assert_eq!(violation.field, "message.destinations");
    }

    // The violations of many destinations fit into one response.
    let nobody = vec!["nobody"; 5_000];
    let results = streamed(&bridge, text(&nobody, "Hello")).await;
    assert_eq!(results.len(), 5_000);
    assert!(
        results
            .iter()
            .all(|one| one.refusal.as_ref().unwrap().violations.len() == 1)
    );
    assert!(simulator.requests().await.is_empty());
}

#[tokio::test]
async fn a_stream_names_each_destination_of_a_message_that_failed() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    // Each id was used for other content.
    let (mut first, mut second) = (to_two("used", "41793026728"), to_two("used", "41793026728"));
    for (request, text) in [(&mut first, "one"), (&mut second, "other")] {
        request.message.as_mut().unwrap().content = Some(Content::Text(text.into()));
    }
    streamed(&bridge, first).await;
    let results = streamed(&bridge, second).await;
    assert_each_is_refused("used", &results, "ID_REUSED", Outcome::Rejected);
    let detail = &results[1].refusal.as_ref().unwrap().detail;
    assert!(detail.contains("`used-2`"), "{detail}");

    // The API refuses the credentials.
    simulator
        .fault(json!({"kind": "status", "status": 401, "count": 1}))
        .await;
    let results = streamed(&bridge, to_two("refused", "41793026728")).await;
    assert_each_is_refused(
        "refused",
        &results,
        "API_CREDENTIALS_REFUSED",
        Outcome::Rejected,
    );

    // The queue has room for one destination.
    let full = TestBridge::with(&simulator, |config| config.send.queue_capacity = 1).await;
    let results = streamed(&full, to_two("full", "41793026728")).await;
    assert_each_is_refused("full", &results, "QUEUE_FULL", Outcome::Rejected);
    assert!(results[0].refusal.as_ref().unwrap().retryable);

    // The API is down.
    let nothing = "http://127.0.0.1:1";
    let down = TestBridge::at(nothing, tempfile::tempdir().unwrap(), |_| ()).await;
    let results = streamed(&down, to_two("down", "41793026728")).await;
    assert_each_is_refused("down", &results, "API_UNAVAILABLE", Outcome::Rejected);
    assert!(results[0].refusal.as_ref().unwrap().retryable);
}

#[tokio::test]
async fn preview_sms_returns_the_vectors_of_the_reference() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let turkish = "Mesaj gönderimi yapmadan önce önizleme seçeneğini kullanmanız doğru karar vermenize yardımcı olur.";
    for (text, language_code, expected) in [
        (
            "Let's see how many characters remain unused in this message.",
            "",
            &[("", 1, 100)][..],
        ),
        (turkish, "TR", &[("", 2, 36), ("TR", 1, 57)]),
    ] {
        let answer = bridge
            .sms()
            .preview_sms(v1::PreviewSmsRequest {
                text: text.into(),
                language_code: language_code.into(),
                ..Default::default()
            })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(answer.original_text, text);
        let previews: Vec<_> = answer
            .previews
            .iter()
            .map(|preview| {
                (
                    preview.language_code.as_str(),
                    preview.message_count,
                    preview.characters_remaining,
                )
            })
            .collect();
        assert_eq!(previews, expected);
    }
    let greek = v1::PreviewSmsRequest {
        text: "Ένα".into(),
        transliteration: "GREEK".into(),
        ..Default::default()
    };
    let previews = bridge.sms().preview_sms(greek).await.unwrap().into_inner();
    assert_eq!(previews.previews[1].transliteration, "GREEK");
    assert_ne!(previews.previews[1].text_preview, "Ένα");
}

#[tokio::test]
async fn a_scheduled_bulk_is_read_moved_paused_resumed_and_cancelled() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let (first, later) = (in_hours(5), in_hours(9));
    let mut scheduled = text(&[TO], "later");
    scheduled.bulk_id = "spring".into();
    scheduled.message.as_mut().unwrap().send_at = Some(first);
    let sent = bridge.sms().send_sms(scheduled).await.unwrap().into_inner();
    assert_eq!(sent.bulk_id, "spring");
    let bulk_id = || "spring".to_owned();

    let get = || v1::GetBulkRequest { bulk_id: bulk_id() };
    let bulk = bridge.sms().get_bulk(get()).await.unwrap().into_inner();
    assert_eq!((bulk.bulk_id, bulk.send_at), (bulk_id(), Some(first)));
    let moved = v1::RescheduleBulkRequest {
        bulk_id: bulk_id(),
        send_at: Some(later),
    };
    let moved = bridge.sms().reschedule_bulk(moved).await.unwrap();
    let moved = moved.into_inner();
    assert_eq!((moved.bulk_id, moved.send_at), (bulk_id(), Some(later)));
    let bulk = bridge.sms().get_bulk(get()).await.unwrap().into_inner();
    assert_eq!(bulk.send_at, Some(later));

    for wanted in [
        BulkStatus::Paused,
        BulkStatus::Pending,
        BulkStatus::Canceled,
    ] {
        let change = v1::UpdateBulkStatusRequest {
            bulk_id: bulk_id(),
            status: wanted.into(),
        };
        let changed = bridge.sms().update_bulk_status(change).await.unwrap();
        let changed = changed.into_inner();
        assert_eq!((changed.status(), changed.bulk_id), (wanted, bulk_id()));
        let status = bridge
            .sms()
            .get_bulk_status(v1::GetBulkStatusRequest { bulk_id: bulk_id() })
            .await
            .unwrap();
        let status = status.into_inner();
        assert_eq!((status.status(), status.bulk_id), (wanted, bulk_id()));
    }
    // The bulk of another application is not found.
    assert_eq!(
        refusal(bridge.sms().get_bulk(by("shop", get())).await),
        (Code::NotFound, "API_NOT_FOUND".into())
    );
}

#[tokio::test]
async fn a_conversion_is_counted_in_the_process_of_its_message() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut tracked = text_with_id("pin-1", &[TO]);
    tracked.tracking = Some(Box::new(v1::Tracking {
        track: "SMS".into(),
        r#type: "ONE_TIME_PIN".into(),
        ..Default::default()
    }));
    let sent = bridge.sms().send_sms(tracked).await.unwrap().into_inner();
    assert!(!sent.tracking_process_key.is_empty());
    let confirm = v1::ConfirmConversionRequest {
        message_id: "pin-1".into(),
    };
    let confirmed = bridge.sms().confirm_conversion(confirm).await.unwrap();
    assert_eq!(
        confirmed.into_inner().process_key,
        sent.tracking_process_key
    );
    let conversions = simulator.get("/_sim/conversions").await;
    assert_eq!(conversions["conversions"][0]["messageId"], "default.pin-1");
}

/// The number of destinations is the mistake, so they get no result each: an empty one is two bytes of the request.
#[tokio::test]
async fn a_stream_answers_once_for_a_message_with_too_many_destinations() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let nobody = vec![""; 20_000];
    let results = streamed(&bridge, text(&nobody, "Hello")).await;
    assert_eq!(results.len(), 1);
    let result = &results[0];
    assert_eq!((result.to.as_str(), result.message_id.as_str()), ("", ""));
    let refusal = result.refusal.as_ref().unwrap();
    assert_eq!(
        (refusal.reason.as_str(), refusal.retryable),
        ("INVALID_REQUEST", false)
    );
    assert!(refusal.violations[0].description.contains("20000"));
    assert!(simulator.requests().await.is_empty());
}

/// Results repeat texts of the request that were never validated.
#[tokio::test]
async fn results_of_an_invalid_request_cut_its_texts() {
    const LONG: usize = 100_000;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut request = text_with_id(&"r".repeat(LONG), &[&"\u{1}".repeat(LONG), TO]);
    request.bulk_id = "b".repeat(LONG);
    let message = request.message.as_mut().unwrap();
    message.destinations[1].message_id = "m".repeat(LONG);
    let results = streamed(&bridge, request).await;
    assert_eq!(results.len(), 2);
    for result in &results {
        for text in [&result.to, &result.message_id, &result.bulk_id] {
            assert!(text.len() <= 1_024, "{} bytes", text.len());
        }
    }
    assert!(results[0].to.ends_with("(cut: 100000 bytes)"));

    // In the event of an invalid message in a bulk as well.
    let mut invalid = text(&[&"\u{1}".repeat(LONG)], "Hello").message.unwrap();
    invalid.destinations[0].message_id = "m".repeat(LONG);
    let bulk = v1::SendSmsBulkRequest {
        messages: vec![text(&[TO], "Hello").message.unwrap(), invalid],
        ..Default::default()
    };
    bridge.sms().send_sms_bulk(bulk).await.unwrap();
    for event in bridge.all_events().await {
        let Some(event::Payload::Result(result)) = event.payload else {
            continue;
        };
        for text in [&result.to, &result.message_id] {
            assert!(text.len() <= 1_024, "{} bytes", text.len());
        }
    }
}
