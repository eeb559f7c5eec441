//! The order of the reports of a message, on both engines of the event log.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use smsbridge::{
    events::{NewEvent, SharedEventLog, Start, broker::BrokerLog, embedded::EmbeddedLog},
    message::applications::Applications,
    ops::metrics::Metrics,
    proto::v1::{self, StatusGroup, event::Payload},
};

use crate::support::{DEADLINE, broker::TestBroker};

/// Runs a test on an empty log of each engine.
async fn on_both_engines(test: impl AsyncFn(SharedEventLog)) {
    let folder = tempfile::tempdir().unwrap();
    let an_hour = Duration::from_secs(3600);
    let embedded = EmbeddedLog::open(folder.path(), an_hour, Metrics::new()).unwrap();
    let embedded: SharedEventLog = Arc::new(embedded);
    test(Arc::clone(&embedded)).await;
    embedded.close().await;

    let broker = TestBroker::start().await;
    let on_broker: SharedEventLog = Arc::new(BrokerLog::new(
        broker.publisher().await,
        broker.endpoint(),
        broker.topology(),
        broker.config().confirm_timeout,
        Metrics::new(),
    ));
    test(Arc::clone(&on_broker)).await;
    on_broker.close().await;
}

fn report(message_id: &str, group: StatusGroup, name: &str) -> NewEvent {
    let report = v1::DeliveryReport {
        status: Some(v1::Status {
            name: name.into(),
            group: group.into(),
            ..Default::default()
        }),
        r#final: group == StatusGroup::Delivered,
        ..Default::default()
    };
    NewEvent::report(
        &Applications::default(),
        &format!("billing.{message_id}"),
        report,
        String::new(),
    )
}

fn pending(message_id: &str) -> NewEvent {
    report(message_id, StatusGroup::Pending, "PENDING_ENROUTE")
}

fn delivered(message_id: &str) -> NewEvent {
    report(message_id, StatusGroup::Delivered, "DELIVERED_TO_HANDSET")
}

/// The reports in the log: message ids and types.
async fn reports(log: &SharedEventLog) -> Vec<(String, String)> {
    let start = Start::Since(jiff::Timestamp::UNIX_EPOCH);
    let mut stream = log.read(start, true).await.unwrap();
    let mut reports = Vec::new();
    while let Some(batch) = tokio::time::timeout(DEADLINE, stream.next())
        .await
        .expect("the log is read in time")
    {
        for event in batch.unwrap() {
            let Some(Payload::Report(report)) = event.payload else {
                panic!("{event:?}")
            };
            reports.push((report.message_id, event.r#type));
        }
    }
    reports
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_report_before_its_final_one_in_one_append_is_an_event() {
    on_both_engines(async |log| {
        let both = vec![pending("a"), delivered("a"), pending("a")];
        log.append(Arc::new(both)).await.unwrap();
        log.append(Arc::new(vec![pending("a")])).await.unwrap();
        let expected = ["report.pending", "report.delivered"];
        let expected = expected.map(|r#type| ("a".to_owned(), r#type.to_owned()));
        assert_eq!(reports(&log).await, expected);
    })
    .await;
}

/// The status of a new group may be the true end of the message.
#[tokio::test(flavor = "multi_thread")]
async fn a_report_of_an_unknown_group_after_a_final_one_is_an_event() {
    on_both_engines(async |log| {
        log.append(Arc::new(vec![delivered("a")])).await.unwrap();
        let other = report("a", StatusGroup::Unspecified, "SEEN_BY_HUMAN");
        log.append(Arc::new(vec![other])).await.unwrap();
        let expected = ["report.delivered", "report.other"];
        let expected = expected.map(|r#type| ("a".to_owned(), r#type.to_owned()));
        assert_eq!(reports(&log).await, expected);
    })
    .await;
}
