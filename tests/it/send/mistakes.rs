//! All mistakes of a request are reported at once, those of its ids included, on every method that sends.

use smsbridge::proto::v1::{self, FieldViolation};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::TO;
use crate::support::{
    bridge::{TestBridge, text},
    simulator::TestSimulator,
};

/// A request with mistakes in its ids, its tracking, its destination and its text.
fn wrong() -> v1::SendSmsRequest {
    v1::SendSmsRequest {
        request_id: "~".into(),
        bulk_id: "~".into(),
        tracking: Some(Box::default()),
        ..text(&["nobody"], "")
    }
}

const OF_THE_REQUEST: [&str; 3] = ["request_id", "bulk_id", "tracking.track"];

fn fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "INVALID_REQUEST");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    violations.into_iter().map(|one| one.field).collect()
}

#[tokio::test]
async fn mistakes_of_ids_do_not_hide_those_of_messages() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let refused = bridge.sms().send_sms(wrong()).await.unwrap_err();
    let of_the_message = ["message.destinations[0].to", "message.text"];
    let single = [&OF_THE_REQUEST[..], &of_the_message].concat();
    assert_eq!(fields(&refused), single);
    // The first mistakes are in the text.
    let begin = "5 mistakes: request_id must be 1 to 128 characters: A-Z, a-z, 0-9, _ . : -; bulk_id must be ";
    assert!(refused.message().starts_with(begin), "{refused:?}");

    let fine = text(&[TO], "fine").message.unwrap();
    let request = wrong();
    let bulk = v1::SendSmsBulkRequest {
        request_id: request.request_id,
        bulk_id: request.bulk_id,
        tracking: request.tracking,
        messages: vec![fine, request.message.unwrap()],
    };
    let refused = bridge.sms().send_sms_bulk(bulk).await.unwrap_err();
    let of_messages = ["messages[1].destinations[0].to", "messages[1].text"];
    assert_eq!(
        fields(&refused),
        [&OF_THE_REQUEST[..], &of_messages].concat()
    );

    // On a stream the mistakes of the correlation, too.
    let long = "é".repeat(129);
    let requests = [
        v1::StreamSmsRequest {
            correlation: long.clone(),
            request: Some(wrong()),
        },
        v1::StreamSmsRequest {
            correlation: "next".into(),
            request: Some(text(&[TO], "fine")),
        },
    ];
    let answers = bridge.sms().stream_sms(tokio_stream::iter(requests)).await;
    let mut answers = answers.unwrap().into_inner();
    let mut answered = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        answered.push(answer);
    }
    answered.sort_by_key(|answer| answer.correlation == "next");
    let [refused, fine] = answered.as_slice() else {
        panic!("{answered:?}")
    };
    assert_eq!(refused.correlation, "é".repeat(128), "its beginning");
    let refusal = refused.results[0].refusal.as_ref().unwrap();
    let named = |violations: &[FieldViolation]| -> Vec<String> {
        violations.iter().map(|one| one.field.clone()).collect()
    };
    assert_eq!(
        named(&refusal.violations),
        [&["correlation"][..], &single].concat()
    );
    assert!(
        refusal.detail.starts_with("6 mistakes: correlation "),
        "{refusal:?}"
    );
    assert_eq!(fine.results[0].outcome(), v1::Outcome::Accepted);
    assert_eq!(simulator.messages().await.len(), 1);
}

#[tokio::test]
async fn one_mistake_is_the_text_of_the_status() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut requests = vec![(
        text(&[TO], ""),
        "message.text is empty: give at least one character",
    )];
    let without_message = v1::SendSmsRequest::default();
    requests.push((without_message, "message is missing"));
    let many = text(&[TO; 10_001], "Hello");
    requests.push((
        many,
        "message.destinations has 10001 entries: the maximum is 10000",
    ));
    for (request, message) in requests {
        let refused = bridge.sms().send_sms(request).await.unwrap_err();
        assert_eq!(refused.message(), message);
    }
    // A request without a message has other mistakes as well.
    let request = v1::SendSmsRequest {
        message: None,
        ..wrong()
    };
    let refused = bridge.sms().send_sms(request).await.unwrap_err();
    let expected = [&OF_THE_REQUEST[..2], &["message"], &OF_THE_REQUEST[2..]].concat();
    assert_eq!(fields(&refused), expected);

    // A result describes its message in the same words, with the names of its own request.
    let bulk = v1::SendSmsBulkRequest {
        messages: [text(&[TO], "fine"), text(&["", TO], "")]
            .map(|request| request.message.unwrap())
            .into(),
        ..Default::default()
    };
    let sent = bridge.sms().send_sms_bulk(bulk).await.unwrap().into_inner();
    let refusal = sent.results[1].refusal.as_ref().unwrap();
    let begin = "2 mistakes: messages[1].destinations[0].to has no digits: ";
    assert!(refusal.detail.starts_with(begin), "{refusal:?}");
}

/// The violations of a repeated field that names days are bounded by the number of days.
#[tokio::test]
async fn a_window_has_at_most_seven_days() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut request = text(&[TO], "Hello");
    request.message.as_mut().unwrap().delivery_time_window =
        Some(Box::new(v1::DeliveryTimeWindow {
            days: vec![0; 1_000_000],
            ..Default::default()
        }));
    let refused = bridge.sms().send_sms(request).await.unwrap_err();
    assert_eq!(
        fields(&refused),
        ["message.delivery_time_window.days"],
        "{refused:?}"
    );
}

/// A retryable refusal would make a command repeat for ever: the ids stay used.
#[tokio::test]
async fn used_ids_of_an_invalid_bulk_are_refused_for_good_with_its_mistakes() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let bulk = |texts: [&str; 2]| v1::SendSmsBulkRequest {
        messages: texts
            .iter()
            .enumerate()
            .map(|(index, words)| {
                let mut message = text(&[TO], words).message.unwrap();
                message.destinations[0].message_id = format!("used-{index}");
                message
            })
            .collect(),
        ..Default::default()
    };
    let sent = bridge.sms().send_sms_bulk(bulk(["one", "two"])).await;
    sent.unwrap();
    let sent = bridge.sms().send_sms_bulk(bulk(["other", ""])).await;
    let results = sent.unwrap().into_inner().results;
    let refusals: Vec<_> = results
        .iter()
        .map(|result| {
            let refusal = result.refusal.as_ref().unwrap();
            let fields = refusal.violations.iter().map(|one| one.field.as_str());
            let fields: Vec<_> = fields.collect();
            (refusal.reason.as_str(), refusal.retryable, fields)
        })
        .collect();
    assert_eq!(
        refusals,
        [
            ("ID_REUSED", false, vec![]),
            ("ID_REUSED", false, vec!["messages[1].text"])
        ]
    );
    assert_eq!(simulator.messages().await.len(), 2);
}
