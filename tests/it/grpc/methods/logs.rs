//! `SmsService.ListSmsLogs`: pages and filters.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use smsbridge::proto::v1::{self, ErrorGroup, StatusGroup};

use super::{TO, by, in_hours};
use crate::support::{
    bridge::{TestBridge, text_with_id},
    simulator::TestSimulator,
};

#[tokio::test]
async fn logs_of_one_millisecond_are_paged_for_their_application_only() {
    // All rows have the same millisecond: the worst case for pages, which are time windows.
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
        let content = URL_SAFE_NO_PAD.decode(&page_token).unwrap();
        let content = String::from_utf8_lossy(&content);
        assert!(!content.contains("shop"), "ids of others in {content}");
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
