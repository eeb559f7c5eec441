//! One test for each gRPC method that no other theme holds, over real sockets; the rows of the error table are in `errors`.

mod errors;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pbjson_types::Timestamp;
use serde_json::json;
use smsbridge::{
    config::{Application, InboundRoute},
    grpc::auth::APPLICATION_METADATA,
    proto::v1::{
        self, BulkStatus, ErrorGroup, Outcome, StatusGroup,
        account_service_client::AccountServiceClient, admin_service_client::AdminServiceClient,
        event::Payload, inbox_service_client::InboxServiceClient,
        lookup_service_client::LookupServiceClient,
        reference_service_client::ReferenceServiceClient,
        report_service_client::ReportServiceClient,
    },
};
use tonic::{Code, Request, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1 as reflection, v1alpha as reflection_alpha};
use tonic_types::StatusExt as _;

use crate::support::{
    bridge::{TestBridge, text, text_with_id},
    simulator::TestSimulator,
};

const TO: &str = "41793026727";
const SERVICES: [&str; 8] = [
    "smsbridge.v1.SmsService",
    "smsbridge.v1.ReportService",
    "smsbridge.v1.InboxService",
    "smsbridge.v1.LookupService",
    "smsbridge.v1.EventService",
    "smsbridge.v1.ReferenceService",
    "smsbridge.v1.AccountService",
    "smsbridge.v1.AdminService",
];

/// A call by an application that names itself.
fn by<T>(application: &'static str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert(APPLICATION_METADATA, application.parse().unwrap());
    request
}

/// The code and the stable reason of an error.
fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    let info = status
        .get_details_error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "smsbridge");
    (status.code(), info.reason)
}

fn in_hours(hours: i64) -> Timestamp {
    Timestamp {
        seconds: jiff::Timestamp::now().as_second() + hours * 3600,
        nanos: 0,
    }
}

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
            assert_eq!(refusal.reason, "INVALID_MESSAGE");
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
async fn logs_are_paged_within_one_millisecond_and_seen_by_their_application_only() {
    // All rows are of one millisecond, the worst case for pages that are windows of time.
    let simulator = TestSimulator::frozen().await;
    let bridge = TestBridge::with(&simulator, |config| config.http.public_url = None).await;
    for (application, count) in [("billing", 7), ("shop", 5)] {
        for n in 0..count {
            let message = text_with_id(&format!("{application}-{n}"), &[TO]);
            bridge
                .sms()
                .send_sms(by(application, message))
                .await
                .unwrap();
        }
    }
    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListSmsLogsRequest {
            page_size: 2,
            page_token,
            ..Default::default()
        };
        let page = bridge
            .sms()
            .list_sms_logs(by("billing", request))
            .await
            .unwrap()
            .into_inner();
        assert!(page.logs.len() <= 2);
        seen.extend(page.logs);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert!(seen.iter().all(|log| log.application == "billing"));
    let ids: BTreeSet<_> = seen.iter().map(|log| log.message_id.clone()).collect();
    assert_eq!((seen.len(), ids.len()), (7, 7), "{ids:?}");
}

#[tokio::test]
async fn logs_are_filtered_by_every_field() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.http.public_url = None).await;
    let mut one = text_with_id("one", &[TO]);
    one.bulk_id = "b1".into();
    bridge.sms().send_sms(one).await.unwrap();
    let mut two = text_with_id("two", &["99901006123"]);
    two.message.as_mut().unwrap().from = "Other".into();
    bridge.sms().send_sms(two).await.unwrap();
    simulator.all_final().await;
    let filter = v1::ListSmsLogsRequest::default;
    for (request, found) in [
        (filter(), &["one", "two"][..]),
        (
            v1::ListSmsLogsRequest {
                from: "Other".into(),
                ..filter()
            },
            &["two"],
        ),
        (
            v1::ListSmsLogsRequest {
                to: TO.into(),
                ..filter()
            },
            &["one"],
        ),
        (
            v1::ListSmsLogsRequest {
                bulk_ids: vec!["b1".into()],
                ..filter()
            },
            &["one"],
        ),
        (
            v1::ListSmsLogsRequest {
                message_ids: vec!["two".into(), "three".into()],
                ..filter()
            },
            &["two"],
        ),
        (
            v1::ListSmsLogsRequest {
                general_status: StatusGroup::Rejected.into(),
                ..filter()
            },
            &["two"],
        ),
        (
            v1::ListSmsLogsRequest {
                mcc: "228".into(),
                ..filter()
            },
            &["one"],
        ),
        (
            v1::ListSmsLogsRequest {
                mcc: "228".into(),
                mnc: "99".into(),
                ..filter()
            },
            &[],
        ),
        (
            v1::ListSmsLogsRequest {
                sent_since: Some(in_hours(1)),
                ..filter()
            },
            &[],
        ),
        (
            v1::ListSmsLogsRequest {
                sent_until: Some(in_hours(-1)),
                ..filter()
            },
            &[],
        ),
    ] {
        let told = format!("{request:?}");
        let page = bridge.sms().list_sms_logs(request).await.unwrap();
        let mut ids: Vec<_> = page
            .into_inner()
            .logs
            .into_iter()
            .map(|log| log.message_id)
            .collect();
        ids.sort();
        assert_eq!(ids, found, "{told}");
    }
    let page = bridge.sms().list_sms_logs(filter()).await.unwrap();
    let logs = page.into_inner().logs;
    let one = logs.iter().find(|log| log.message_id == "one").unwrap();
    assert_eq!(
        (one.bulk_id.as_str(), one.from.as_str(), one.text.as_str()),
        ("b1", "InfoSMS", "Hello")
    );
    assert_eq!((one.to.as_str(), one.sms_count), (TO, Some(1)));
    assert!(one.mcc_mnc.starts_with("228"), "{one:?}");
    assert!(one.sent_at.is_some() && one.done_at.is_some());
    let price = one.price.as_ref().unwrap();
    assert_eq!(price.currency, "EUR");
    assert!(price.price_per_message.contains('.'), "{price:?}");
    assert_eq!(one.status.as_ref().unwrap().group(), StatusGroup::Delivered);
    assert_eq!(one.error.as_ref().unwrap().group(), ErrorGroup::Ok);
    assert!(one.source_payload.contains("\"default.one\""));
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
    assert_eq!(moved.into_inner().send_at, Some(later));
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
        assert_eq!(changed.into_inner().status(), wanted);
        let status = bridge
            .sms()
            .get_bulk_status(v1::GetBulkStatusRequest { bulk_id: bulk_id() })
            .await
            .unwrap();
        assert_eq!(status.into_inner().status(), wanted);
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
    tracked.tracking = Some(v1::Tracking {
        track: "SMS".into(),
        r#type: "ONE_TIME_PIN".into(),
        ..Default::default()
    });
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

#[tokio::test]
async fn pulled_reports_are_events_and_only_ones_own_are_shown() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.http.public_url = None).await;
    let mut with_data = text_with_id("mine", &[TO]);
    with_data.bulk_id = "b1".into();
    with_data.message.as_mut().unwrap().callback_data = "invoice 7".into();
    for (application, message) in [
        ("billing", with_data),
        ("shop", text_with_id("theirs", &["41793026728"])),
    ] {
        bridge
            .sms()
            .send_sms(by(application, message))
            .await
            .unwrap();
    }
    simulator.all_final().await;
    let mut reports = ReportServiceClient::new(bridge.channel.clone());
    let pulled = reports
        .pull_delivery_reports(by("billing", v1::PullDeliveryReportsRequest::default()))
        .await
        .unwrap()
        .into_inner();
    let [report] = pulled.reports.as_slice() else {
        panic!("{pulled:?}")
    };
    assert_eq!(
        (report.message_id.as_str(), report.bulk_id.as_str()),
        ("mine", "b1")
    );
    assert_eq!(
        (report.to.as_str(), report.callback_data.as_str()),
        (TO, "invoice 7")
    );
    assert_eq!((report.sms_count, report.r#final), (Some(1), true));
    assert_eq!(report.source(), v1::ReportSource::Pull);
    assert_eq!(report.status.as_ref().unwrap().name, "DELIVERED_TO_HANDSET");
    assert!(report.sent_at.is_some() && report.done_at.is_some());
    assert!(report.price.is_some() && report.error.is_some());
    let of_reports: BTreeSet<_> = bridge
        .all_events()
        .await
        .into_iter()
        .filter(|event| event.r#type == "report.delivered")
        .map(|event| event.application)
        .collect();
    assert_eq!(of_reports, ["billing".into(), "shop".into()].into());
    // The API gives each once.
    let again = reports
        .pull_delivery_reports(v1::PullDeliveryReportsRequest::default())
        .await
        .unwrap();
    assert_eq!(again.into_inner().reports, []);
}

#[tokio::test]
async fn reports_are_pulled_by_bulk_by_message_and_up_to_a_limit() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.http.public_url = None).await;
    for n in 0..5 {
        let mut message = text_with_id(&format!("r{n}"), &[TO]);
        message.bulk_id = format!("b{}", n / 2);
        bridge.sms().send_sms(message).await.unwrap();
    }
    simulator.all_final().await;
    let all = v1::PullDeliveryReportsRequest::default;
    for (request, count) in [
        (
            v1::PullDeliveryReportsRequest {
                message_id: "r0".into(),
                ..all()
            },
            1,
        ),
        (
            v1::PullDeliveryReportsRequest {
                bulk_id: "b1".into(),
                ..all()
            },
            2,
        ),
        (v1::PullDeliveryReportsRequest { limit: 1, ..all() }, 1),
        (all(), 1),
    ] {
        let told = format!("{request:?}");
        let pulled = ReportServiceClient::new(bridge.channel.clone())
            .pull_delivery_reports(request)
            .await
            .unwrap();
        assert_eq!(pulled.into_inner().reports.len(), count, "{told}");
    }
}

#[tokio::test]
async fn received_messages_are_pulled_once_and_listed_as_often_as_wanted() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        let route = InboundRoute {
            number: Some("41790000001".into()),
            keyword: None,
        };
        let shop = Application {
            inbound: vec![route],
            ..Application::default()
        };
        config.applications.insert("shop".into(), shop);
    })
    .await;
    let id = simulator.inbound(TO, "41790000000", "for default").await;
    simulator.inbound(TO, "41790000001", "for the shop").await;
    let mut inbox = InboxServiceClient::new(bridge.channel.clone());
    let pulled = inbox
        .pull_received_messages(by("default", v1::PullReceivedMessagesRequest::default()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (pulled.message_count, pulled.pending_message_count),
        (2, 0),
        "of the whole account"
    );
    let [message] = pulled.messages.as_slice() else {
        panic!("{pulled:?}")
    };
    assert_eq!(
        (message.message_id.as_str(), message.from.as_str()),
        (id.as_str(), TO)
    );
    assert_eq!(
        (message.to.as_str(), message.text.as_str()),
        ("41790000000", "for default")
    );
    assert!(message.received_at.is_some());
    let mut applications: Vec<_> = bridge
        .all_events()
        .await
        .into_iter()
        .map(|event| (event.r#type, event.application))
        .collect();
    applications.sort();
    let received = "inbound.received".to_owned();
    assert_eq!(
        applications,
        [
            (received.clone(), "default".to_owned()),
            (received, "shop".to_owned())
        ]
    );

    let all = v1::ListReceivedMessagesRequest::default;
    for (request, count) in [
        (all(), 1),
        (
            v1::ListReceivedMessagesRequest {
                to: "41790000001".into(),
                limit: 10,
                ..all()
            },
            1,
        ),
        (
            v1::ListReceivedMessagesRequest {
                to: "41790000000".into(),
                ..all()
            },
            0,
        ),
        (
            v1::ListReceivedMessagesRequest {
                received_since: Some(in_hours(1)),
                ..all()
            },
            0,
        ),
        (
            v1::ListReceivedMessagesRequest {
                received_until: Some(in_hours(-1)),
                ..all()
            },
            0,
        ),
        (
            v1::ListReceivedMessagesRequest {
                keyword: "NO_KEYWORD".into(),
                ..all()
            },
            1,
        ),
    ] {
        let told = format!("{request:?}");
        let listed = inbox
            .list_received_messages(by("shop", request))
            .await
            .unwrap();
        assert_eq!(listed.into_inner().messages.len(), count, "{told}");
    }
    let again = inbox
        .pull_received_messages(v1::PullReceivedMessagesRequest { limit: 1 })
        .await
        .unwrap();
    assert_eq!(again.into_inner().messages, []);
}

#[tokio::test]
async fn more_numbers_than_the_api_takes_are_looked_up_in_order() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let to: Vec<String> = (0..2_001)
        .map(|n| (41_793_020_000_u64 + n).to_string())
        .collect();
    let found = LookupServiceClient::new(bridge.channel.clone())
        .lookup_numbers(v1::LookupNumbersRequest {
            to: to.clone(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    let numbers: Vec<_> = found.results.iter().map(|row| row.to.clone()).collect();
    assert_eq!(numbers, to);
    let row = &found.results[0];
    assert!(row.mcc_mnc.starts_with("228"), "{row:?}");
    let network = row.original_network.as_ref().unwrap();
    assert_eq!(
        (
            network.country_name.as_str(),
            network.country_prefix.as_str()
        ),
        ("Switzerland", "41")
    );
    assert!(row.ported.is_some() && row.status.is_some() && row.error.is_some());
    assert!(row.source_payload.contains(&to[0]));
    assert_eq!(simulator.requests().await.len(), 3);
}

#[tokio::test]
async fn a_requested_lookup_becomes_an_event_of_the_application_that_asked() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut events = bridge.events().await;
    let request = v1::RequestNumberLookupRequest {
        to: vec![TO.into()],
    };
    let taken = LookupServiceClient::new(bridge.channel.clone())
        .request_number_lookup(by("shop", request))
        .await
        .unwrap()
        .into_inner();
    let status = taken.results[0].status.as_ref().unwrap();
    assert_eq!(status.name, "PENDING_WAITING_DELIVERY");
    let event = events.next_of("lookup.completed").await;
    assert_eq!(event.application, "shop");
    let Some(Payload::Lookup(lookup)) = event.payload else {
        panic!("no look-up")
    };
    assert_eq!(lookup.to, TO);
}

#[tokio::test]
async fn the_code_tables_are_the_manuals() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut reference = ReferenceServiceClient::new(bridge.channel.clone());
    let statuses = reference
        .list_statuses(v1::ListStatusesRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((statuses.statuses.len(), statuses.groups.len()), (34, 6));
    let groups: Vec<_> = statuses
        .groups
        .iter()
        .map(|group| (group.id, group.name.as_str(), group.r#final))
        .collect();
    assert_eq!(
        groups,
        [
            (0, "ACCEPTED", false),
            (1, "PENDING", false),
            (2, "UNDELIVERABLE", true),
            (3, "DELIVERED", true),
            (4, "EXPIRED", true),
            (5, "REJECTED", true)
        ]
    );
    let delivered = statuses.statuses.iter().find(|row| row.id == 5).unwrap();
    assert_eq!(
        (delivered.name.as_str(), delivered.group()),
        ("DELIVERED_TO_HANDSET", StatusGroup::Delivered)
    );

    let errors = reference
        .list_errors(v1::ListErrorsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((errors.errors.len(), errors.groups.len()), (91, 4));
    let absent = errors.errors.iter().find(|row| row.id == 27).unwrap();
    assert_eq!(
        (absent.name.as_str(), absent.group(), absent.permanent),
        ("EC_ABSENT_SUBSCRIBER", ErrorGroup::Handset, false)
    );
}

#[tokio::test]
async fn the_balance_is_a_decimal_string() {
    let simulator = TestSimulator::with(|config| {
        config.balance_micros = 12_345_600;
        config.currency = "CHF".into();
    })
    .await;
    let bridge = TestBridge::start(&simulator).await;
    let balance = AccountServiceClient::new(bridge.channel.clone())
        .get_balance(v1::GetBalanceRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (balance.balance.as_str(), balance.currency.as_str()),
        ("12.3456", "CHF")
    );
}

#[tokio::test]
async fn the_operators_service_says_that_it_is_not_built() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut admin = AdminServiceClient::new(bridge.channel.clone());
    let answers = [
        refusal(
            admin
                .list_dead_letters(v1::ListDeadLettersRequest::default())
                .await,
        ),
        refusal(
            admin
                .replay_dead_letters(v1::ReplayDeadLettersRequest::default())
                .await,
        ),
        refusal(
            admin
                .discard_dead_letters(v1::DiscardDeadLettersRequest::default())
                .await,
        ),
        refusal(
            admin
                .list_quarantined(v1::ListQuarantinedRequest::default())
                .await,
        ),
        refusal(
            admin
                .replay_quarantined(v1::ReplayQuarantinedRequest::default())
                .await,
        ),
        refusal(
            admin
                .discard_quarantined(v1::DiscardQuarantinedRequest::default())
                .await,
        ),
        refusal(admin.reconcile(v1::ReconcileRequest::default()).await),
    ];
    for answer in answers {
        assert_eq!(answer, (Code::Unimplemented, "NOT_BUILT_YET".into()));
    }
}

#[tokio::test]
async fn every_service_is_healthy_and_found_by_reflection() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut health = HealthClient::new(bridge.channel.clone());
    // What of the operator's service is not built has no health.
    let built = SERVICES
        .iter()
        .copied()
        .filter(|one| !one.ends_with("AdminService"));
    for service in built.chain([""]) {
        let check = HealthCheckRequest {
            service: service.into(),
        };
        let said = health.check(check).await.unwrap().into_inner();
        assert_eq!(said.status(), ServingStatus::Serving, "{service}");
    }
    let unknown = HealthCheckRequest {
        service: "smsbridge.v1.Nothing".into(),
    };
    assert_eq!(
        health.check(unknown).await.unwrap_err().code(),
        Code::NotFound
    );

    use reflection::server_reflection_request::MessageRequest;
    let ask = reflection::ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut client =
        reflection::server_reflection_client::ServerReflectionClient::new(bridge.channel.clone());
    let mut answers = client
        .server_reflection_info(tokio_stream::iter([ask]))
        .await
        .unwrap()
        .into_inner();
    use reflection::server_reflection_response::MessageResponse;
    let answer = answers.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let listed: BTreeSet<_> = list.service.into_iter().map(|one| one.name).collect();
    for service in SERVICES {
        assert!(listed.contains(service), "{service}: {listed:?}");
    }

    use reflection_alpha::server_reflection_request::MessageRequest as AlphaRequest;
    let ask = reflection_alpha::ServerReflectionRequest {
        message_request: Some(AlphaRequest::FileContainingSymbol(SERVICES[0].into())),
        ..Default::default()
    };
    let mut client = reflection_alpha::server_reflection_client::ServerReflectionClient::new(
        bridge.channel.clone(),
    );
    let mut answers = client
        .server_reflection_info(tokio_stream::iter([ask]))
        .await
        .unwrap()
        .into_inner();
    use reflection_alpha::server_reflection_response::MessageResponse as AlphaResponse;
    let answer = answers.message().await.unwrap().unwrap();
    assert!(matches!(
        answer.message_response,
        Some(AlphaResponse::FileDescriptorResponse(_))
    ));
}

#[tokio::test]
async fn a_pull_answers_before_its_deadline_and_loses_nothing() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut events = bridge.events().await;
    simulator.inbound(TO, "41790000000", "Hi").await;
    simulator
        .fault(json!({"kind": "latency", "count": 1, "ms": 900, "path": "/sms/1/inbox/reports"}))
        .await;
    let mut request = Request::new(v1::PullReceivedMessagesRequest::default());
    request.set_timeout(Duration::from_millis(500));
    let mut inbox = InboxServiceClient::new(bridge.channel.clone());
    assert_eq!(
        refusal(inbox.pull_received_messages(request).await),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".into())
    );
    events.next_of("inbound.received").await;
}
