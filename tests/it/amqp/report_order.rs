//! A final report that is published while a long append is under way.

use std::sync::Arc;

use futures_util::StreamExt as _;
use smsbridge::{
    events::{EventLog as _, NewEvent, Start},
    proto::v1::StatusGroup,
};

use super::log::{ids, log, read_to_head, report};
use crate::support::broker::TestBroker;

/// P6, within one process: each part of an append waits for the confirms of the part before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_pending_report_of_a_long_append_does_not_follow_the_final_one_that_overtakes_it() {
    let broker = TestBroker::start().await;
    let log = Arc::new(log(&broker).await);
    let pending = |message_id: String| -> NewEvent {
        report(
            &format!("billing.{message_id}"),
            StatusGroup::Pending,
            false,
        )
    };
    for round in 0..8 {
        let mut events: Vec<_> = (0..1_200)
            .map(|n| pending(format!("{round}-{n}")))
            .collect();
        events[1_150] = pending(format!("m{round}"));
        let mut live = log.read(Start::Now, false).await.unwrap();
        let appending = tokio::spawn({
            let log = Arc::clone(&log);
            async move { log.append(Arc::new(events)).await }
        });
        live.next().await.unwrap().unwrap();
        let last = report(&format!("billing.m{round}"), StatusGroup::Delivered, true);
        log.append(Arc::new(vec![last])).await.unwrap();
        appending.await.unwrap().unwrap();
    }
    let events = read_to_head(&log, Start::Since(jiff::Timestamp::UNIX_EPOCH)).await;
    for round in 0..8 {
        let of_message: Vec<_> = ids(&events)
            .iter()
            .zip(&events)
            .filter(|(id, _)| **id == format!("m{round}"))
            .map(|(_, event)| event.r#type.as_str())
            .collect();
        assert_eq!(
            of_message.last(),
            Some(&"report.delivered"),
            "{of_message:?}"
        );
    }
    log.close().await;
}
