//! `ReportService` and `InboxService`: rows that the API returns only once, and the log of the inbox.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use smsbridge::{
    config::{Application, InboundRoute},
    proto::v1::{
        self, inbox_service_client::InboxServiceClient, report_service_client::ReportServiceClient,
    },
};
use tonic::Code;

use super::{TO, by, in_hours, refusal};
use crate::support::{
    bridge::{TestBridge, text_with_id},
    raw_call::RawCaller,
    simulator::TestSimulator,
};

#[tokio::test]
async fn pulled_reports_become_events_and_callers_see_only_their_own() {
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
    // The API returns each report only once.
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
async fn received_messages_are_pulled_once_and_can_be_listed_repeatedly() {
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
async fn a_pull_that_misses_its_deadline_still_stores_its_messages() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut events = bridge.events().await;
    simulator.inbound(TO, "41790000000", "Hi").await;
    simulator
        .fault(json!({"kind": "latency", "count": 1, "ms": 4_000, "path": "/sms/1/inbox/reports"}))
        .await;
    let status = RawCaller::connect(bridge.addresses.grpc)
        .await
        .status_within(
            "smsbridge.v1.InboxService/PullReceivedMessages",
            &v1::PullReceivedMessagesRequest::default(),
            Duration::from_secs(2),
        )
        .await;
    assert_eq!(
        refusal::<()>(Err(status)),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".into())
    );
    events.next_of("inbound.received").await;
}
