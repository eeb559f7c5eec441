//! The embedded log and time: what retention removes and what stays known.

use std::{path::Path, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use smsbridge::{
    events::{
        BeginSends, EarlierSend, EventLog as _, NewEvent, ReadError, SendJournal as _, Start,
        SubscriptionKey, Visibility,
        embedded::EmbeddedLog,
        subscription::{AttachError, Subscriber, Subscriptions},
    },
    message::{applications::Applications, id::ApplicationName},
    ops::metrics::Metrics,
    proto::v1::{self, StatusGroup},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::support::eventually;

const HOUR: Duration = Duration::from_secs(3600);

fn open(folder: &Path, retention: Duration) -> EmbeddedLog {
    EmbeddedLog::open(folder, retention, Metrics::new()).unwrap()
}

fn sent(message_id: &str) -> NewEvent {
    let result = v1::SendResult {
        message_id: message_id.into(),
        outcome: v1::Outcome::Accepted.into(),
        ..Default::default()
    };
    let application = ApplicationName::parse("shop").unwrap();
    let digest = Some([7; 16]);
    NewEvent::send_result(
        &application,
        "r",
        digest,
        Box::new(result),
        Timestamp::now(),
    )
}

fn report(group: StatusGroup) -> NewEvent {
    let report = v1::DeliveryReport {
        status: Some(v1::Status {
            name: group.as_str_name().into(),
            group: group.into(),
            ..Default::default()
        }),
        r#final: group == StatusGroup::Delivered,
        ..Default::default()
    };
    NewEvent::report(&Applications::default(), "shop.m", report, String::new())
}

/// Appends results of messages with these numbers, in one chunk for each call.
async fn append(log: &EmbeddedLog, numbers: std::ops::Range<usize>) {
    let results = numbers.map(|n| sent(&n.to_string())).collect();
    log.append(Arc::new(results)).await.unwrap();
}

fn numbers(events: &[v1::Event]) -> Vec<String> {
    let results = events.iter().map(|event| match &event.payload {
        Some(v1::event::Payload::Result(result)) => result.message_id.clone(),
        other => panic!("{other:?}"),
    });
    results.collect()
}

async fn read(log: &EmbeddedLog, start: Start) -> Vec<v1::Event> {
    let mut stream = log.read(start, true).await.unwrap();
    let mut events = Vec::new();
    while let Some(batch) = stream.next().await {
        events.extend(batch.unwrap());
    }
    events
}

async fn read_all(log: &EmbeddedLog) -> Vec<v1::Event> {
    read(log, Start::Since(Timestamp::UNIX_EPOCH)).await
}

/// Changes the file beside the log.
fn change(folder: &Path, statements: &str) {
    let file = rusqlite::Connection::open(folder.join("events.sqlite")).unwrap();
    file.busy_timeout(Duration::from_secs(10)).unwrap();
    file.execute_batch(statements).unwrap();
}

/// Removes the first chunk, as retention does.
fn remove_the_first_chunk(folder: &Path) {
    change(
        folder,
        "BEGIN IMMEDIATE;
         UPDATE log SET head = max(head, (SELECT min(last_seq) FROM chunk));
         DELETE FROM chunk WHERE last_seq = (SELECT min(last_seq) FROM chunk);
         COMMIT;",
    );
}

/// Lets everything in a log look older, or newer if it is negative.
fn age(folder: &Path, by: SignedDuration) {
    let by_ms = by.as_millis();
    change(
        folder,
        &format!("UPDATE chunk SET appended_at_ms = appended_at_ms - ({by_ms})"),
    );
}

#[tokio::test]
async fn a_reader_whose_next_events_were_removed_is_out_of_range() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), HOUR);
    // More than one batch of a reader.
    append(&log, 0..256).await;
    append(&log, 256..300).await;
    append(&log, 300..303).await;
    let mut slow = log
        .read(Start::Since(Timestamp::UNIX_EPOCH), false)
        .await
        .unwrap();
    let first = slow.next().await.unwrap().unwrap();
    assert_eq!(first.len(), 256);
    remove_the_first_chunk(folder.path());
    remove_the_first_chunk(folder.path());

    let Some(Err(ReadError::OutOfRange {
        cursor,
        oldest_cursor,
    })) = slow.next().await
    else {
        panic!("events were skipped")
    };
    assert_eq!(cursor, first[255].cursor);
    let rest = read(&log, Start::After(oldest_cursor)).await;
    assert_eq!(numbers(&rest), ["300", "301", "302"]);
    let rest = read_all(&log).await;
    assert_eq!(
        numbers(&rest),
        ["300", "301", "302"],
        "no particular one was asked for"
    );

    let mut follower = log.read(Start::Now, false).await.unwrap();
    append(&log, 303..304).await;
    for _ in 0..2 {
        remove_the_first_chunk(folder.path());
    }
    assert!(
        matches!(
            follower.next().await,
            Some(Err(ReadError::OutOfRange { .. }))
        ),
        "all of them are gone"
    );
    log.close().await;
}

#[tokio::test]
async fn a_subscription_whose_next_events_were_removed_says_so_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(open(folder.path(), HOUR));
    let subscriptions = Subscriptions::new(
        log.clone(),
        log.clone(),
        TaskTracker::new(),
        CancellationToken::new(),
    );
    let key = SubscriptionKey {
        application: "shop".into(),
        name: "x".into(),
    };
    let subscriber = Subscriber {
        filter: None,
        visibility: Visibility::OwnApplication,
        max_outstanding: 10,
    };
    let attach = async || subscriptions.attach(key.clone(), subscriber.clone()).await;
    attach().await.unwrap().handle.detach().await;
    append(&log, 0..2).await;
    append(&log, 2..4).await;
    remove_the_first_chunk(folder.path());
    let refused = attach().await.err();
    let Some(AttachError::Log(ReadError::OutOfRange { oldest_cursor, .. })) = refused else {
        panic!("{refused:?}")
    };
    let mut attached = attach().await.unwrap();
    assert_eq!((attached.created, attached.cursor), (false, oldest_cursor));
    let first = attached.deliveries.recv().await.unwrap();
    assert_eq!(numbers(&[first.event.unwrap()]), ["2"]);
    attached.handle.detach().await;
    log.close().await;
}

/// Also tests that a file without the table of removed events, of an earlier version, can be opened.
#[tokio::test]
async fn ids_and_final_reports_are_known_for_longer_than_a_short_retention() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), HOUR);
    let events = vec![report(StatusGroup::Delivered), sent("1")];
    log.append(Arc::new(events)).await.unwrap();
    log.close().await;
    age(folder.path(), SignedDuration::from_mins(30));
    change(folder.path(), "DROP TABLE IF EXISTS trimmed");

    let log = open(folder.path(), Duration::from_secs(60));
    eventually("the events are removed", async || {
        read_all(&log).await.is_empty().then_some(())
    })
    .await;
    let repeated = vec![
        report(StatusGroup::Delivered),
        report(StatusGroup::Pending),
        sent("1"),
    ];
    log.append(Arc::new(repeated)).await.unwrap();
    assert_eq!(read_all(&log).await, []);
    let begin = BeginSends {
        sends: vec![("shop.1".into(), [7; 16]), ("shop.2".into(), [7; 16])],
        ..BeginSends::default()
    };
    // Its result is gone, so it is looked up.
    let earlier = log.begin(begin).await.unwrap().sends;
    assert!(
        matches!(
            &earlier[..],
            [
                Some(EarlierSend::Interrupted {
                    digest: [7, ..],
                    ..
                }),
                None
            ]
        ),
        "{earlier:?}"
    );
    log.close().await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_over_a_restart_hides_no_event_from_readers_that_start_at_a_time()
{
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), HOUR);
    append(&log, 0..1).await;
    log.close().await;
    // As if the clock had been right until now, and two hours late from now on.
    age(folder.path(), SignedDuration::from_hours(-2));
    let log = open(folder.path(), HOUR);
    append(&log, 1..2).await;
    append(&log, 2..3).await;
    let an_hour_ago = Timestamp::now() + HOUR;
    let read = read(&log, Start::Since(an_hour_ago)).await;
    assert_eq!(numbers(&read), ["0", "1", "2"]);
    log.close().await;
}

/// One step removes events of several days at once. A send is not younger for that: the API's logs may no longer have it.
#[tokio::test]
async fn a_send_is_not_younger_because_its_result_was_removed_with_a_later_one() {
    let folder = tempfile::tempdir().unwrap();
    for (id, age_by) in [("1", 30 * 60), ("2", 5)] {
        let log = open(folder.path(), HOUR * 72);
        log.append(Arc::new(vec![sent(id)])).await.unwrap();
        log.close().await;
        age(folder.path(), SignedDuration::from_mins(age_by));
    }
    let log = open(folder.path(), Duration::from_secs(60));
    eventually("the events are removed", async || {
        read_all(&log).await.is_empty().then_some(())
    })
    .await;
    let begin = BeginSends {
        sends: vec![("shop.1".into(), [7; 16])],
        ..BeginSends::default()
    };
    let earlier = log.begin(begin).await.unwrap().sends;
    let [Some(EarlierSend::Interrupted { at, .. })] = &earlier[..] else {
        panic!("{earlier:?}");
    };
    let age = Timestamp::now().duration_since(*at);
    assert!(age >= SignedDuration::from_hours(30), "{age:?}");
    log.close().await;
}
