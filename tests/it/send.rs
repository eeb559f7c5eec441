//! How a message is sent at most once: ids, sends in doubt, refusals (docs/RELIABILITY.md, P2 and P3).

mod faults;
mod late_logs;
mod many_in_doubt;
mod mistakes;
mod outages;
mod promises;
pub(crate) mod rates;
mod refused_requests;

use std::time::Duration;

use serde_json::{Value, json};
use smsbridge::proto::v1::{
    self, Outcome, account_service_client::AccountServiceClient, event::Payload,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{
    bridge::{TestBridge, text, text_with_id},
    eventually,
    process::BridgeProcess,
    raw_call::RawCaller,
    simulator::TestSimulator,
};

const TO: &str = "41793026727";
const SEND: &str = "/sms/1/text/advanced";
const LOGS: &str = "/sms/1/logs";
/// Short timeouts, so that sends in doubt are resolved early.
const HASTE: [(&str, &str); 4] = [
    ("SMSBRIDGE_INFOBIP__REQUEST_TIMEOUT", "1s"),
    ("SMSBRIDGE_INFOBIP__CONNECT_TIMEOUT", "500ms"),
    ("SMSBRIDGE_SEND__IN_DOUBT_WAIT", "100ms"),
    ("SMSBRIDGE_SEND__IN_DOUBT_FOR", "3s"),
];

fn handset_deliveries(ledger: &[Value]) -> Vec<u64> {
    ledger
        .iter()
        .map(|message| message["handsetDeliveries"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn a_repeated_call_gets_the_response_of_the_first() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let first = bridge
        .sms()
        .send_sms(text_with_id("r1", &[TO, "41793026728"]))
        .await
        .unwrap()
        .into_inner();
    let again = bridge
        .sms()
        .send_sms(text_with_id("r1", &[TO, "41793026728"]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(first, again);
    assert_eq!(simulator.messages().await.len(), 2);

    // The answer survives a restart.
    let folder = bridge.stop().await;
    let bridge = TestBridge::at(&simulator.base_url(), folder, |_| ()).await;
    let again = bridge
        .sms()
        .send_sms(text_with_id("r1", &[TO, "41793026728"]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(first, again);
    assert_eq!(simulator.messages().await.len(), 2);
}

#[tokio::test]
async fn concurrent_calls_with_the_same_id_send_once() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    simulator.fault(json!({"kind": "latency", "probability": 1.0, "ms": 100, "path": "/sms/1/text/advanced"})).await;
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let mut sms = bridge.sms();
            tokio::spawn(async move {
                sms.send_sms(text_with_id("same", &[TO]))
                    .await
                    .unwrap()
                    .into_inner()
            })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(simulator.messages().await.len(), 1);
}

#[tokio::test]
async fn an_id_cannot_be_reused_for_other_content() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    bridge
        .sms()
        .send_sms(text_with_id("r1", &[TO]))
        .await
        .unwrap();
    for other in [
        v1::SendSmsRequest {
            request_id: "r1".into(),
            ..text(&[TO], "something else")
        },
        text_with_id("r1", &["41793026728"]),
        text_with_id("r1", &[TO, "41793026728"]),
    ] {
        let refused = bridge.sms().send_sms(other).await.unwrap_err();
        assert_eq!(refused.code(), Code::AlreadyExists, "{refused:?}");
        assert_eq!(
            refused.get_details_error_info().unwrap().reason,
            "ID_REUSED"
        );
    }
    assert_eq!(simulator.messages().await.len(), 1);
}

#[tokio::test]
async fn the_result_of_a_lost_response_is_found_in_the_logs() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    simulator
        .fault(json!({"kind": "accept_then_drop", "count": 1, "path": "/sms/1/text/advanced"}))
        .await;
    let sent = bridge
        .sms()
        .send_sms(text(&[TO], "once"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(sent.results[0].outcome(), Outcome::Accepted);
    assert_eq!(handset_deliveries(&simulator.all_final().await), [1]);
    assert_eq!(simulator.paths().await, [SEND, LOGS]);
}

/// The process is killed between a request and its durable result, and the API does not remember ids: only the note of the begun
/// send keeps the repeated call from sending again.
#[tokio::test]
async fn sends_of_a_killed_process_are_looked_up_before_a_resend() {
    let simulator = TestSimulator::start().await;
    simulator.fault(json!({"kind": "forget_ids"})).await;
    simulator
        .fault(json!({"kind": "accept_then_drop", "hold": true, "count": 1, "path": "/sms/1/text/advanced"}))
        .await;
    // With the default timeouts the process is killed while it waits for the response.
    let bridge = BridgeProcess::start(&simulator, &[]).await;
    let mut sms = bridge.sms().await;
    let call = tokio::spawn(async move { sms.send_sms(text_with_id("r1", &[TO])).await });
    eventually("the API has the message", || async {
        (simulator.messages().await.len() == 1).then_some(())
    })
    .await;
    let folder = bridge.kill().await;
    call.await.unwrap().unwrap_err();

    let bridge = BridgeProcess::start_in(folder, &simulator, &HASTE).await;
    let mut sms = bridge.sms().await;
    for other in [&["41793026728"][..], &[TO, "41793026728"]] {
        let refused = sms.send_sms(text_with_id("r1", other)).await;
        assert_eq!(refused.unwrap_err().code(), Code::AlreadyExists);
    }
    let again = sms.send_sms(text_with_id("r1", &[TO])).await.unwrap();
    assert_eq!(again.into_inner().results[0].outcome(), Outcome::Accepted);
    // A send that was not begun needs no look-up.
    sms.send_sms(text_with_id("r2", &[TO])).await.unwrap();
    assert_eq!(simulator.paths().await, [SEND, LOGS, SEND]);
    assert_eq!(handset_deliveries(&simulator.all_final().await), [1, 1]);
}

/// The logs of the API no longer have the outcome.
#[tokio::test]
async fn a_send_begun_more_than_a_day_ago_is_never_sent_again() {
    let simulator = TestSimulator::start().await;
    simulator
        .fault(json!({"kind": "latency", "before": true, "ms": 600_000, "count": 1, "path": "/sms/1/text/advanced"}))
        .await;
    // With the default timeouts the process is killed while it waits for the response.
    let bridge = BridgeProcess::start(&simulator, &[]).await;
    let mut sms = bridge.sms().await;
    let call = tokio::spawn(async move { sms.send_sms(text_with_id("r1", &[TO])).await });
    let folder = bridge.folder();
    let begun = eventually("it is noted that the send begins", || {
        let noted = std::fs::read_to_string(folder.join("sends.begun")).unwrap();
        std::future::ready(noted.ends_with(" default.r1\n").then_some(noted))
    })
    .await;
    let folder = bridge.kill().await;
    call.await.unwrap().unwrap_err();
    let (at_ms, rest) = begun.trim_start().split_once(' ').unwrap();
    let at_ms = at_ms.parse::<i64>().unwrap() - 25 * 60 * 60 * 1000;
    std::fs::write(folder.path().join("sends.begun"), format!("{at_ms} {rest}")).unwrap();

    let bridge = BridgeProcess::start_in(folder, &simulator, &HASTE).await;
    let mut sms = bridge.sms().await;
    let again = sms.send_sms(text_with_id("r1", &[TO])).await.unwrap();
    assert_eq!(again.into_inner().results[0].outcome(), Outcome::Unknown);
    assert_eq!(simulator.messages().await.len(), 0);
}

#[tokio::test]
async fn a_send_not_found_in_the_logs_is_sent_again() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    simulator.fault(json!({"kind": "status", "status": 502, "body": "<html>", "count": 1, "path": "/sms/1/text/advanced"})).await;
    let sent = bridge
        .sms()
        .send_sms(text(&[TO], "once"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(sent.results[0].outcome(), Outcome::Accepted);
    assert_eq!(handset_deliveries(&simulator.all_final().await), [1]);
    assert_eq!(simulator.paths().await, [SEND, LOGS, SEND]);
}

#[tokio::test]
async fn a_bad_message_does_not_spoil_its_neighbours_in_a_batch() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    // While one request is slow the other messages queue and share the next one.
    simulator
        .fault(json!({"kind": "latency", "count": 8, "ms": 150, "path": "/sms/1/text/advanced"}))
        .await;
    let calls: Vec<_> = (0..40)
        .map(|n| {
            let mut sms = bridge.sms();
            let to = if n == 30 { "9990100612345" } else { TO };
            tokio::spawn(async move {
                sms.send_sms(text_with_id(&format!("r{n}"), &[to]))
                    .await
                    .unwrap()
                    .into_inner()
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await.unwrap().results[0].outcome());
    }
    let rejected: Vec<_> = (0..40)
        .filter(|n| outcomes[*n] == Outcome::Rejected)
        .collect();
    assert_eq!(rejected, [30]);
    assert!(simulator.requests().await.len() < 40, "requests are shared");
}

/// Each caller waits for its result before its next message. They share requests although the first to return finds the API idle.
#[tokio::test]
async fn callers_who_wait_for_their_answers_share_requests() {
    const CALLERS: usize = 16;
    const ROUNDS: usize = 8;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.send.max_batching_wait = Duration::from_secs(1);
    })
    .await;
    simulator
        .fault(json!({"kind": "latency", "probability": 1.0, "ms": 400, "path": "/sms/1/text/advanced"}))
        .await;
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let mut sms = bridge.sms();
            // The callers differ in the time until their next message.
            let busy_for = Duration::from_millis(caller as u64);
            tokio::spawn(async move {
                for _ in 0..ROUNDS {
                    sms.send_sms(text(&[TO], "hello")).await.unwrap();
                    tokio::time::sleep(busy_for).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    // One request per round, and a few more at the beginning or on a slow machine; without waiting for returning callers at least
    // two per round.
    let requests = simulator.requests().await.len();
    assert!(requests < ROUNDS * 2, "{requests} requests");
}

#[tokio::test]
async fn a_bulk_rejects_an_invalid_message_alone() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let messages = [
        text(&[TO], "fine"),
        text(&["nobody"], "no number"),
        text(&[TO], "fine too"),
    ];
    let bulk = v1::SendSmsBulkRequest {
        bulk_id: "b1".into(),
        messages: messages
            .into_iter()
            .map(|request| request.message.unwrap())
            .collect(),
        ..Default::default()
    };
    let sent = bridge.sms().send_sms_bulk(bulk).await.unwrap().into_inner();
    assert_eq!(sent.bulk_id, "b1");
    let outcomes: Vec<_> = sent.results.iter().map(v1::SendResult::outcome).collect();
    assert_eq!(
        outcomes,
        [Outcome::Accepted, Outcome::Rejected, Outcome::Accepted]
    );
    let refusal = sent.results[1].refusal.as_ref().unwrap();
    assert_eq!(
        (
            refusal.reason.as_str(),
            refusal.violations[0].field.as_str()
        ),
        ("INVALID_REQUEST", "messages[1].destinations[0].to")
    );
    assert_eq!(
        simulator.requests().await.len(),
        1,
        "a caller's bulk is one request"
    );
}

#[tokio::test]
async fn a_bulk_rejects_a_message_without_destinations() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let message = |to: &[&str]| text(to, "Hello").message.unwrap();
    let bulk = |request_id: &str, messages| v1::SendSmsBulkRequest {
        request_id: request_id.into(),
        bulk_id: "b".into(),
        messages,
        ..Default::default()
    };
    let messages = vec![message(&[TO, TO]), message(&[]), message(&[TO])];
    let request = bulk("r", messages);
    let sent = bridge.sms().send_sms_bulk(request.clone()).await.unwrap();
    let results = sent.into_inner().results;
    let rows: Vec<_> = results
        .iter()
        .map(|result| {
            (
                result.message_index,
                result.to.as_str(),
                result.message_id.as_str(),
                result.outcome(),
            )
        })
        .collect();
    let accepted = Outcome::Accepted;
    assert_eq!(
        rows,
        [
            (0, TO, "r~0", accepted),
            (0, TO, "r~1", accepted),
            (1, "", "", Outcome::Rejected),
            (2, TO, "r~2", accepted)
        ]
    );
    let refusal = results[2].refusal.as_ref().unwrap();
    assert_eq!(
        (refusal.reason.as_str(), refusal.retryable),
        ("INVALID_REQUEST", false)
    );
    assert_eq!(refusal.violations[0].field, "messages[1].destinations");
    assert_eq!(results[2].bulk_id, "b");

    // A repeated call gets the same results and adds no event.
    let again = bridge.sms().send_sms_bulk(request).await.unwrap();
    assert_eq!(again.into_inner().results, results);
    let mut events = bridge.all_events().await;
    events.retain(|event| event.r#type == "send.rejected");
    let [event] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(event.request_id, "r");
    assert_eq!(
        event.payload,
        Some(Payload::Result(Box::new(results[2].clone())))
    );

    // With one destination left its id has no suffix, and the event of another request has another id.
    let request = bulk("s", vec![message(&[]), message(&[TO])]);
    let sent = bridge.sms().send_sms_bulk(request).await.unwrap();
    let ids = sent.into_inner().results.into_iter();
    assert_eq!(ids.map(|one| one.message_id).collect::<Vec<_>>(), ["", "s"]);
    let mut events = bridge.all_events().await;
    events.retain(|event| event.r#type == "send.rejected");
    assert_eq!(events.len(), 2);

    // No valid destination is left: the whole call fails.
    let request = bulk("t", vec![message(&[]), message(&["nobody"])]);
    let refused = bridge.sms().send_sms_bulk(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let violations = refused.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<_> = violations.iter().map(|one| one.field.as_str()).collect();
    assert_eq!(
        fields,
        ["messages[0].destinations", "messages[1].destinations[0].to"]
    );
}

#[tokio::test]
async fn a_missed_deadline_is_reported_in_time_and_the_result_is_an_event() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut events = bridge.events().await;
    simulator
        .fault(json!({"kind": "latency", "count": 1, "ms": 6_000, "path": "/sms/1/text/advanced"}))
        .await;
    let refused = RawCaller::connect(bridge.addresses.grpc)
        .await
        .status_within(
            "smsbridge.v1.SmsService/SendSms",
            &text_with_id("late", &[TO]),
            Duration::from_secs(2),
        )
        .await;
    assert_eq!(refused.code(), Code::DeadlineExceeded);
    let info = refused.get_details_error_info().unwrap();
    assert_eq!(info.reason, "DEADLINE_EXCEEDED");
    assert_eq!(
        (
            info.metadata["in_doubt"].as_str(),
            info.metadata["message_ids"].as_str()
        ),
        ("true", "late")
    );
    let message =
        "the deadline passed while the request was in flight: its messages may have been sent";
    assert!(refused.message().starts_with(message), "{refused:?}");
    assert_eq!(events.next_of("send.accepted").await.request_id, "late");
}

#[tokio::test]
async fn an_expired_message_is_not_sent() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut request = text(&[TO], "your code is 1234");
    request.message.as_mut().unwrap().expires_at = Some(smsbridge::proto::Timestamp {
        seconds: 1_000_000_000,
        nanos: 0,
    });
    let sent = bridge.sms().send_sms(request).await.unwrap().into_inner();
    assert_eq!(sent.results[0].outcome(), Outcome::Rejected);
    assert_eq!(sent.results[0].refusal.as_ref().unwrap().reason, "EXPIRED");
    assert!(simulator.requests().await.is_empty());
}

/// Only the API's own 400 and 422, and 413, concern the message. Any other refusal would hit every message, and so would an HTML page
/// with 400: a plain HTTP request to a port of HTTPS gets one.
#[tokio::test]
async fn an_http_error_not_caused_by_the_message_is_an_outage() {
    for status in [
        301, 307, 308, 400, 404, 405, 406, 407, 410, 411, 415, 422, 431, 451,
    ] {
        let simulator = TestSimulator::start().await;
        let bridge = TestBridge::with(&simulator, |config| {
            config.send.retry_for = Duration::ZERO;
        })
        .await;
        simulator
            .fault(json!({"kind": "html", "status": status, "path": "/sms/1/text/advanced"}))
            .await;
        let refused = bridge
            .sms()
            .send_sms(text_with_id("r1", &[TO]))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        assert_eq!(
            refused.get_details_error_info().unwrap().reason,
            "API_UNAVAILABLE"
        );
        assert!(refused.get_details_retry_info().is_some());
        let told = refused.message();
        assert!(told.contains(&format!("HTTP {status}")), "{told}");
        assert!(bridge.all_events().await.is_empty());

        simulator.heal().await;
        let sent = bridge
            .sms()
            .send_sms(text_with_id("r1", &[TO]))
            .await
            .unwrap();
        assert_eq!(
            sent.into_inner().results[0].outcome(),
            Outcome::Accepted,
            "{status}"
        );
    }
}

/// An HTML page with 200 and a redirect that changes the method do not tell the outcome of the send; the logs do.
#[tokio::test]
async fn an_html_page_or_redirect_leaves_a_send_in_doubt() {
    for (status, processed) in [(200, false), (200, true), (302, false), (303, true)] {
        let simulator = TestSimulator::start().await;
        let bridge = TestBridge::start(&simulator).await;
        simulator
            .fault(
                json!({"kind": "html", "status": status, "processed": processed, "count": 1,
                "path": "/sms/1/text/advanced"}),
            )
            .await;
        let sent = bridge
            .sms()
            .send_sms(text_with_id("r1", &[TO]))
            .await
            .unwrap();
        assert_eq!(
            sent.into_inner().results[0].outcome(),
            Outcome::Accepted,
            "{status} {processed}"
        );
        let asked = simulator.paths().await;
        assert!(asked.iter().any(|path| path == "/sms/1/logs"), "{asked:?}");
        assert_eq!(simulator.messages().await.len(), 1);
    }
}

#[tokio::test]
async fn a_send_is_unavailable_and_has_no_event_if_the_api_is_down() {
    let folder = tempfile::tempdir().unwrap();
    let bridge = TestBridge::at("http://127.0.0.1:1", folder, |config| {
        config.send.retry_for = Duration::from_millis(300);
    })
    .await;
    let refused = bridge
        .sms()
        .send_sms(text(&[TO], "Hello"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert_eq!(
        refused.get_details_error_info().unwrap().reason,
        "API_UNAVAILABLE"
    );
    assert!(refused.get_details_retry_info().is_some());
    assert!(
        bridge.all_events().await.is_empty(),
        "no event without a cause"
    );
}

#[tokio::test]
async fn a_wrong_password_is_reported_with_its_config_key() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.infobip.password = Some("wrong".into());
    })
    .await;
    let refused = bridge
        .sms()
        .send_sms(text(&[TO], "Hello"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(
        refused.get_details_error_info().unwrap().reason,
        "API_CREDENTIALS_REFUSED"
    );
    assert!(
        refused.message().contains("infobip.password"),
        "{refused:?}"
    );
    // A read has the same text.
    let read = AccountServiceClient::new(bridge.channel.clone())
        .get_balance(v1::GetBalanceRequest {})
        .await
        .unwrap_err();
    assert_eq!(read.message(), refused.message());
}

#[tokio::test]
async fn an_urgent_message_overtakes_queued_messages() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.send.max_batch = 1;
        config.send.max_requests_in_flight = 1;
    })
    .await;
    // While the first is in flight the others queue.
    simulator
        .fault(json!({"kind": "latency", "count": 1, "ms": 800, "path": "/sms/1/text/advanced"}))
        .await;
    let requests = (0..20).map(|n| {
        let mut request = text_with_id(&format!("r{n}"), &[TO]);
        if n == 19 {
            request.message.as_mut().unwrap().priority = v1::Priority::Urgent.into();
        }
        v1::StreamSmsRequest {
            correlation: n.to_string(),
            request: Some(request),
        }
    });
    let mut answers = bridge
        .sms()
        .stream_sms(tokio_stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    let mut order = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        order.push(answer.correlation);
    }
    assert_eq!(order.len(), 20);
    let urgent = order.iter().position(|one| one == "19").unwrap();
    assert!(urgent < 10, "{order:?}");
}

/// A `send_at` that has passed is judged only of what was not sent before.
#[tokio::test]
async fn a_scheduled_message_keeps_its_result_when_its_time_has_passed() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    // One minute ago is the earliest that is accepted.
    let send_at = jiff::Timestamp::now().as_second() - 50;
    let scheduled = |mut request: v1::SendSmsRequest| {
        request.message.as_mut().unwrap().send_at = Some(smsbridge::proto::Timestamp {
            seconds: send_at,
            nanos: 0,
        });
        request
    };
    let single = || scheduled(text_with_id("single", &[TO]));
    let bulk = || v1::SendSmsBulkRequest {
        request_id: "bulk".into(),
        messages: [scheduled(text(&[TO], "later")), text(&[TO], "now")]
            .map(|request| request.message.unwrap())
            .into(),
        ..Default::default()
    };
    let first = bridge.sms().send_sms(single()).await.unwrap().into_inner();
    let first_bulk = bridge.sms().send_sms_bulk(bulk()).await.unwrap();
    eventually("the time is too long ago", || {
        let ago = jiff::Timestamp::now().as_second() - send_at;
        std::future::ready((ago > 61).then_some(()))
    })
    .await;
    let again = bridge.sms().send_sms(single()).await.unwrap();
    assert_eq!(again.into_inner(), first);
    let again = bridge.sms().send_sms_bulk(bulk()).await.unwrap();
    assert_eq!(again.into_inner().results, first_bulk.into_inner().results);
    assert_eq!(simulator.messages().await.len(), 3);
    let events = bridge.all_events().await;
    assert!(events.iter().all(|event| event.r#type != "send.rejected"));

    // A new message is refused: alone and in a bulk, with a request id and without.
    for request_id in ["new", ""] {
        let mut new = scheduled(text_with_id(request_id, &[TO]));
        let refused = bridge.sms().send_sms(new.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        let violations = refused.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "message.send_at");
        let messages = vec![
            new.message.take().unwrap(),
            text(&[TO], "now").message.unwrap(),
        ];
        let bulk = v1::SendSmsBulkRequest {
            request_id: request_id.into(),
            messages,
            ..Default::default()
        };
        let sent = bridge.sms().send_sms_bulk(bulk).await.unwrap();
        let results = sent.into_inner().results;
        let violations = &results[0].refusal.as_ref().unwrap().violations;
        assert_eq!(violations[0].field, "messages[0].send_at");
        assert_eq!(results[1].outcome(), Outcome::Accepted);
    }
}

#[tokio::test]
async fn a_reused_id_is_rejected_in_one_event_if_its_bulk_is_repeated() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let message = |id: &str, content: &str| {
        let mut message = text(&[TO], content).message.unwrap();
        message.destinations[0].message_id = id.into();
        message
    };
    let bulk = |messages: &[(&str, &str)]| v1::SendSmsBulkRequest {
        request_id: "r".into(),
        messages: messages
            .iter()
            .map(|(id, content)| message(id, content))
            .collect(),
        ..Default::default()
    };
    bridge
        .sms()
        .send_sms_bulk(bulk(&[("m0", "first")]))
        .await
        .unwrap();
    let second = bulk(&[("m0", "second"), ("m1", "second")]);
    for _ in 0..3 {
        let sent = bridge.sms().send_sms_bulk(second.clone()).await.unwrap();
        let results = sent.into_inner().results;
        assert_eq!(results[0].refusal.as_ref().unwrap().reason, "ID_REUSED");
        assert_eq!(results[1].outcome(), Outcome::Accepted);
    }
    let mut events = bridge.all_events().await;
    events.retain(|event| event.r#type == "send.rejected");
    assert_eq!(events.len(), 1);
    // The first content keeps its result.
    let first = bridge.sms().send_sms_bulk(bulk(&[("m0", "first")])).await;
    let results = first.unwrap().into_inner().results;
    assert_eq!(results[0].outcome(), Outcome::Accepted);
}
