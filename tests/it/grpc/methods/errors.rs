//! A test for each row of the error table (docs/ERRORS.md) that a caller can cause and no other module covers.

use std::time::Duration;

use serde_json::{Value, json};
use smsbridge::{
    config::Application,
    proto::v1::{
        self, Outcome, account_service_client::AccountServiceClient,
        event_service_client::EventServiceClient, inbox_service_client::InboxServiceClient,
        lookup_service_client::LookupServiceClient, stream_events_request::Start,
    },
};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{any, body_string_contains},
};

use super::{TO, by, in_hours, refusal};
use crate::support::{
    bridge::{TestBridge, text, text_with_id},
    eventually,
    simulator::TestSimulator,
};

/// The status of `GetBalance` while the API has this fault.
async fn balance_with(fault: Value) -> Status {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    simulator.fault(fault).await;
    AccountServiceClient::new(bridge.channel.clone())
        .get_balance(v1::GetBalanceRequest {})
        .await
        .unwrap_err()
}

#[tokio::test]
async fn api_errors_of_a_read_map_to_the_documented_statuses() {
    for (fault, code, reason, waits) in [
        (
            json!({"kind": "status", "status": 429}),
            Code::ResourceExhausted,
            "API_RATE_LIMITED",
            true,
        ),
        (
            json!({"kind": "status", "status": 400}),
            Code::InvalidArgument,
            "API_REFUSED",
            false,
        ),
        (
            json!({"kind": "status", "status": 405}),
            Code::FailedPrecondition,
            "API_REFUSED",
            false,
        ),
        (
            json!({"kind": "status", "status": 404}),
            Code::NotFound,
            "API_NOT_FOUND",
            false,
        ),
        (
            json!({"kind": "status", "status": 403}),
            Code::FailedPrecondition,
            "API_CREDENTIALS_REFUSED",
            false,
        ),
        (
            json!({"kind": "html"}),
            Code::Unavailable,
            "API_ANSWER_LOST",
            true,
        ),
        (
            json!({"kind": "reset"}),
            Code::Unavailable,
            "API_ANSWER_LOST",
            true,
        ),
    ] {
        let status = balance_with(fault.clone()).await;
        assert_eq!(
            status.get_details_retry_info().is_some(),
            waits,
            "{fault}: {status:?}"
        );
        assert_eq!(
            refusal::<()>(Err(status)),
            (code, reason.to_owned()),
            "{fault}"
        );
    }
}

#[tokio::test]
async fn a_read_is_unavailable_if_the_api_refuses_connections() {
    let folder = tempfile::tempdir().unwrap();
    let bridge = TestBridge::at("http://127.0.0.1:1", folder, |_| ()).await;
    let answer = AccountServiceClient::new(bridge.channel.clone())
        .get_balance(v1::GetBalanceRequest {})
        .await;
    assert_eq!(
        refusal(answer),
        (Code::Unavailable, "API_UNAVAILABLE".into())
    );
}

#[tokio::test]
async fn an_html_response_to_a_read_is_unreadable() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    simulator
        .fault(json!({"kind": "html", "status": 200}))
        .await;
    let answer = bridge
        .sms()
        .list_sms_logs(v1::ListSmsLogsRequest::default())
        .await;
    let unreadable = (Code::Unavailable, "API_ANSWER_UNREADABLE".to_owned());
    assert_eq!(refusal(answer), unreadable);
    let answer = InboxServiceClient::new(bridge.channel.clone())
        .pull_received_messages(v1::PullReceivedMessagesRequest::default())
        .await;
    assert_eq!(refusal(answer), unreadable);
}

#[tokio::test]
async fn a_full_queue_refuses_a_send_with_a_retry_delay() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.send.queue_capacity = 1).await;
    let status = bridge
        .sms()
        .send_sms(text(&[TO, "41793026728"], "Hello"))
        .await
        .unwrap_err();
    assert!(status.get_details_retry_info().is_some());
    assert_eq!(
        refusal::<()>(Err(status)),
        (Code::ResourceExhausted, "QUEUE_FULL".into())
    );
    assert!(simulator.requests().await.is_empty());
}

#[tokio::test]
async fn an_exhausted_log_quota_refuses_a_read_with_a_retry_delay() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.infobip.log_requests_per_minute = 2;
    })
    .await;
    let mut denied = None;
    for _ in 0..3 {
        let answer = bridge
            .sms()
            .list_sms_logs(v1::ListSmsLogsRequest::default())
            .await;
        denied = answer.err().or(denied);
    }
    let status = denied.expect("more than the quota");
    assert!(status.get_details_retry_info().is_some());
    assert_eq!(
        refusal::<()>(Err(status)),
        (Code::ResourceExhausted, "LOG_QUOTA_EXHAUSTED".into())
    );
}

#[tokio::test]
async fn a_malformed_cursor_is_an_invalid_argument() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let answer = EventServiceClient::new(bridge.channel.clone())
        .stream_events(v1::StreamEventsRequest {
            start: Some(Start::Cursor("nonsense".into())),
            ..Default::default()
        })
        .await;
    assert_eq!(
        refusal(answer.map(|_| ())),
        (Code::InvalidArgument, "BAD_CURSOR".into())
    );
}

#[tokio::test]
async fn an_asynchronous_lookup_requires_a_public_url() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.http.public_url = None).await;
    let status = LookupServiceClient::new(bridge.channel.clone())
        .request_number_lookup(v1::RequestNumberLookupRequest {
            to: vec![TO.into()],
        })
        .await
        .unwrap_err();
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.metadata["key"], "http.public_url");
    assert_eq!(
        refusal::<()>(Err(status)),
        (Code::FailedPrecondition, "NOT_CONFIGURED".into())
    );
}

#[tokio::test]
async fn an_invalid_application_name_is_refused() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let answer = bridge
        .sms()
        .send_sms(by("No Application", text(&[TO], "Hello")))
        .await;
    assert_eq!(
        refusal(answer),
        (Code::InvalidArgument, "INVALID_APPLICATION".into())
    );
}

#[tokio::test]
async fn invalid_requests_name_the_field_and_do_not_reach_the_api() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut sms = bridge.sms();
    let mut lookup = LookupServiceClient::new(bridge.channel.clone());
    let logs = v1::ListSmsLogsRequest::default;
    let bulk = |status: v1::BulkStatus| v1::UpdateBulkStatusRequest {
        bulk_id: "b".into(),
        status: status.into(),
    };
    let moved = |hours: i64| v1::RescheduleBulkRequest {
        bulk_id: "b".into(),
        send_at: Some(in_hours(hours)),
    };
    let numbers = |to: &[&str]| v1::LookupNumbersRequest {
        to: to.iter().map(|to| (*to).to_owned()).collect(),
        ..Default::default()
    };
    let refused: Vec<(&str, Status)> = vec![
        (
            "message",
            sms.send_sms(v1::SendSmsRequest::default())
                .await
                .unwrap_err(),
        ),
        (
            "page_size",
            sms.list_sms_logs(v1::ListSmsLogsRequest {
                page_size: 1001,
                ..logs()
            })
            .await
            .unwrap_err(),
        ),
        (
            "page_token",
            sms.list_sms_logs(v1::ListSmsLogsRequest {
                page_token: "?".into(),
                ..logs()
            })
            .await
            .unwrap_err(),
        ),
        (
            "message_ids[1]",
            sms.list_sms_logs(v1::ListSmsLogsRequest {
                message_ids: vec!["fine".into(), "not fine".into()],
                ..logs()
            })
            .await
            .unwrap_err(),
        ),
        (
            "text",
            sms.preview_sms(v1::PreviewSmsRequest::default())
                .await
                .unwrap_err(),
        ),
        (
            "bulk_id",
            sms.get_bulk(v1::GetBulkRequest::default())
                .await
                .unwrap_err(),
        ),
        ("send_at", sms.reschedule_bulk(moved(-1)).await.unwrap_err()),
        (
            "status",
            sms.update_bulk_status(bulk(v1::BulkStatus::Finished))
                .await
                .unwrap_err(),
        ),
        (
            "message_id",
            sms.confirm_conversion(v1::ConfirmConversionRequest::default())
                .await
                .unwrap_err(),
        ),
        ("to", lookup.lookup_numbers(numbers(&[])).await.unwrap_err()),
        (
            "to[1]",
            lookup
                .lookup_numbers(numbers(&[TO, "nobody"]))
                .await
                .unwrap_err(),
        ),
        (
            "limit",
            InboxServiceClient::new(bridge.channel.clone())
                .pull_received_messages(v1::PullReceivedMessagesRequest { limit: -1 })
                .await
                .unwrap_err(),
        ),
    ];
    for (field, status) in refused {
        let fields: Vec<_> = status
            .get_details_bad_request()
            .unwrap_or_else(|| panic!("{field}: {status:?}"))
            .field_violations
            .into_iter()
            .map(|violation| violation.field)
            .collect();
        assert_eq!(fields, [field]);
        assert_eq!(
            refusal::<()>(Err(status)),
            (Code::InvalidArgument, "INVALID_REQUEST".into())
        );
    }
    assert!(simulator.requests().await.is_empty());
}

#[tokio::test]
async fn guards_reject_a_destination_with_their_reason() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        let guarded = Application {
            allowed_senders: vec!["InfoSMS".into()],
            allowed_country_prefixes: vec!["41".into()],
            max_messages_per_number_per_hour: 1,
            ..Application::default()
        };
        config.applications.insert("guarded".into(), guarded);
    })
    .await;
    let mut other_sender = text(&[TO], "Hello");
    other_sender.message.as_mut().unwrap().from = "Other".into();
    for (request, reason) in [
        (text(&[TO], "Hello"), None),
        (text(&[TO], "Hello"), Some("NUMBER_CAP_REACHED")),
        (
            text(&["385911234567"], "Hello"),
            Some("COUNTRY_NOT_ALLOWED"),
        ),
        (other_sender, Some("SENDER_NOT_ALLOWED")),
    ] {
        let sent = bridge
            .sms()
            .send_sms(by("guarded", request))
            .await
            .unwrap()
            .into_inner();
        let refusal = sent.results[0].refusal.as_ref();
        assert_eq!(refusal.map(|refusal| refusal.reason.as_str()), reason);
    }
    assert_eq!(simulator.messages().await.len(), 1);
}

/// Callers repeat a call that failed because the API was down, with the same id or without one.
#[tokio::test]
async fn a_message_that_is_not_sent_does_not_count_against_the_cap() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        let guarded = Application {
            max_messages_per_number_per_hour: 1,
            ..Application::default()
        };
        config.applications.insert("guarded".into(), guarded);
        config.send.retry_for = Duration::from_millis(100);
    })
    .await;
    let send =
        async |request: v1::SendSmsRequest| bridge.sms().send_sms(by("guarded", request)).await;
    let down = json!({"kind": "html", "status": 404, "path": "/sms/1/text/advanced"});
    simulator.fault(down).await;
    for request in [text_with_id("r1", &[TO]), text(&[TO], "Hello")] {
        for _ in 0..2 {
            assert_eq!(refusal(send(request.clone()).await).1, "API_UNAVAILABLE");
        }
    }
    simulator.heal().await;
    eventually("it is sent", async || {
        let sent = send(text_with_id("r1", &[TO])).await.ok()?.into_inner();
        assert_eq!(sent.results[0].outcome(), v1::Outcome::Accepted);
        Some(())
    })
    .await;
    let sent = send(text_with_id("r2", &[TO])).await.unwrap().into_inner();
    let refusal = sent.results[0].refusal.as_ref().unwrap();
    assert_eq!(refusal.reason, "NUMBER_CAP_REACHED");
}

/// An API that refuses every request containing the text "bad" and accepts all others.
async fn api_that_refuses_one() -> MockServer {
    let api = MockServer::start().await;
    let refused = json!({"requestError": {"serviceException": {"messageId": "BAD_REQUEST", "text": "Bad request"}}});
    Mock::given(body_string_contains("\"bad\""))
        .respond_with(ResponseTemplate::new(400).set_body_json(refused))
        .mount(&api)
        .await;
    let accept = |request: &wiremock::Request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let sent = body["messages"].as_array().unwrap().iter();
        let rows: Vec<_> = sent
            .flat_map(|message| message["destinations"].as_array().unwrap())
            .map(|to| {
                json!({"to": to["to"], "messageId": to["messageId"], "smsCount": 1,
                       "status": {"groupId": 1, "groupName": "PENDING", "id": 7, "name": "PENDING_ENROUTE"}})
            })
            .collect();
        ResponseTemplate::new(200).set_body_json(json!({"messages": rows}))
    };
    Mock::given(any()).respond_with(accept).mount(&api).await;
    api
}

#[tokio::test]
async fn a_message_that_the_api_refuses_does_not_reject_its_batch() {
    let api = api_that_refuses_one().await;
    let folder = tempfile::tempdir().unwrap();
    let bridge = TestBridge::at(&api.uri(), folder, |_| ()).await;
    let messages = ["fine", "bad", "fine too"].map(|said| text(&[TO], said).message.unwrap());
    let bulk = v1::SendSmsBulkRequest {
        messages: messages.into(),
        ..Default::default()
    };
    let sent = bridge.sms().send_sms_bulk(bulk).await.unwrap().into_inner();
    let outcomes: Vec<_> = sent.results.iter().map(v1::SendResult::outcome).collect();
    assert_eq!(
        outcomes,
        [Outcome::Accepted, Outcome::Rejected, Outcome::Accepted]
    );
    let refusal = sent.results[1].refusal.as_ref().unwrap();
    assert_eq!(
        (refusal.reason.as_str(), refusal.retryable),
        ("API_REFUSED", false)
    );
    let requests = api.received_requests().await.unwrap();
    let first: Value = serde_json::from_slice(&requests[0].body).unwrap();
    let shared = first["messages"].as_array().unwrap().len();
    assert_eq!(shared, 3, "all shared the request that was refused");
}

/// A stream of messages that stays open until its sender is dropped.
async fn open_stream(
    bridge: &TestBridge,
) -> (
    tokio::sync::mpsc::Sender<v1::StreamSmsRequest>,
    tonic::Streaming<v1::StreamSmsResponse>,
) {
    let (say, said) = tokio::sync::mpsc::channel(1);
    let said = tokio_stream::wrappers::ReceiverStream::new(said);
    let answers = bridge.sms().stream_sms(Request::new(said)).await.unwrap();
    (say, answers.into_inner())
}

#[tokio::test]
async fn an_open_stream_ends_when_the_bridge_stops() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let (_open, mut answers) = open_stream(&bridge).await;
    bridge.begin_to_stop();
    assert_eq!(
        refusal(answers.message().await),
        (Code::Unavailable, "SHUTTING_DOWN".into())
    );
}

#[tokio::test]
async fn messages_in_flight_on_a_stream_are_answered_before_shutdown() {
    let simulator = TestSimulator::start().await;
    simulator
        .fault(json!({"kind": "latency", "ms": 400, "path": "/sms/1/text/advanced"}))
        .await;
    let bridge = TestBridge::start(&simulator).await;
    let (say, mut answers) = open_stream(&bridge).await;
    let message = v1::StreamSmsRequest {
        correlation: "mine".into(),
        request: Some(text(&[TO], "under way")),
    };
    say.send(message).await.unwrap();
    eventually("the request is under way", async || {
        (!simulator.requests().await.is_empty()).then_some(())
    })
    .await;
    bridge.begin_to_stop();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!(answer.correlation, "mine");
    assert_eq!(answer.results[0].outcome(), Outcome::Accepted);
    assert_eq!(
        refusal(answers.message().await),
        (Code::Unavailable, "SHUTTING_DOWN".into())
    );
}
