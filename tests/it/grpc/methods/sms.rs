//! `SmsService` beside plain sends: streams, previews, scheduled bulks, conversions.

use std::collections::BTreeMap;

use smsbridge::proto::v1::{self, BulkStatus, Outcome};
use tonic::Code;

use super::{TO, by, in_hours, refusal};
use crate::support::{
    bridge::{TestBridge, text, text_with_id},
    simulator::TestSimulator,
};

#[tokio::test]
async fn a_stream_answers_each_message_under_its_correlation_and_drains() {
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
    // The caller's side ends at once after the last message.
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

#[tokio::test]
async fn previews_are_the_vectors_of_the_reference() {
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
    // Another application's bulk is none.
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
