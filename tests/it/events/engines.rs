//! What both engines of the event log do alike: reading from any start, cursors, the order of the reports of a message, and the journal
//! of begun sends. The same tests run on each.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use smsbridge::{
    events::{
        BeginSends, EarlierSend, EarlierSends, NewEvent, ReadError, Start, Storage,
        broker::{BrokerLog, BrokerRawStore},
        embedded::EmbeddedLog,
    },
    message::applications::Applications,
    ops::metrics::Metrics,
    proto::v1::{self, StatusGroup, event::Payload},
};

use crate::{
    amqp::log::accepted,
    support::{DEADLINE, broker::TestBroker},
};

/// Runs a test on the empty stores of each engine.
async fn on_both_engines(test: impl AsyncFn(&Storage)) {
    let folder = tempfile::tempdir().unwrap();
    let an_hour = Duration::from_secs(3600);
    let embedded = EmbeddedLog::open(folder.path(), an_hour, Metrics::new()).unwrap();
    run(&embedded.storage(), &test).await;

    let broker = TestBroker::start().await;
    let publisher = broker.publisher().await;
    let raw = BrokerRawStore::new(publisher.clone(), broker.endpoint(), broker.topology());
    let log = Arc::new(BrokerLog::new(
        publisher,
        broker.endpoint(),
        broker.topology(),
        broker.config().confirm_timeout,
        Metrics::new(),
    ));
    let on_broker = Storage {
        journal: log.clone(),
        quarantine: log.clone(),
        raw: Arc::new(raw),
        subscriptions: None,
        log,
    };
    run(&on_broker, &test).await;
}

async fn run(storage: &Storage, test: &impl AsyncFn(&Storage)) {
    test(storage).await;
    storage.log.close().await;
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

/// The events from `start` to the head.
async fn read_to_head(storage: &Storage, start: Start) -> Vec<v1::Event> {
    let mut stream = storage.log.read(start, true).await.unwrap();
    let mut events = Vec::new();
    while let Some(batch) = tokio::time::timeout(DEADLINE, stream.next())
        .await
        .expect("the log is read in time")
    {
        events.extend(batch.unwrap());
    }
    events
}

fn message_id(event: &v1::Event) -> &str {
    match event.payload.as_ref().unwrap() {
        Payload::Result(result) => &result.message_id,
        Payload::Report(report) => &report.message_id,
        other => panic!("{other:?}"),
    }
}

fn message_ids(events: &[v1::Event]) -> Vec<&str> {
    events.iter().map(message_id).collect()
}

/// The events in the log: message ids and types.
async fn types(storage: &Storage) -> Vec<(String, String)> {
    let events = read_to_head(storage, Start::Since(Timestamp::UNIX_EPOCH)).await;
    let events = events.iter();
    events
        .map(|event| (message_id(event).to_owned(), event.r#type.clone()))
        .collect()
}

async fn begin(storage: &Storage, wire_id: &str, digest: u8, conflicting: &[&str]) -> EarlierSends {
    let begin = BeginSends {
        sends: vec![(wire_id.to_owned(), [digest; 16])],
        conflicting_ids: conflicting.iter().map(|&id| id.to_owned()).collect(),
    };
    storage.journal.begin(begin).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_get_appended_events_from_any_start() {
    on_both_engines(async |storage| {
        let before = Timestamp::now();
        assert!(
            read_to_head(storage, Start::Since(before)).await.is_empty(),
            "an empty log ends at once"
        );
        let mut live = storage.log.read(Start::Now, false).await.unwrap();
        let names: Vec<String> = (0..1000).map(|n| format!("m{n}")).collect();
        let appended = names.iter().map(|name| accepted(name)).collect();
        storage.log.append(Arc::new(appended)).await.unwrap();

        let all = read_to_head(storage, Start::Since(before)).await;
        assert_eq!(
            message_ids(&all),
            names,
            "in the order they were appended in"
        );
        assert_eq!(all[0].r#type, "send.accepted");
        for from in [0, 1, 499, 998, 999] {
            let after = Start::After(all[from].cursor.clone());
            let rest = read_to_head(storage, after).await;
            assert_eq!(message_ids(&rest), &names[from + 1..], "after event {from}");
        }
        let seen_live = tokio::time::timeout(DEADLINE, live.next()).await;
        let seen_live = seen_live.expect("a live reader is told").unwrap().unwrap();
        assert_eq!(seen_live[0], all[0], "it gets the first new event");
        assert!(
            read_to_head(storage, Start::Now).await.is_empty(),
            "there is no event between now and the head"
        );
        let future = Timestamp::now() + SignedDuration::from_hours(1);
        assert!(read_to_head(storage, Start::Since(future)).await.is_empty());

        storage.log.close().await;
        let end = async { while let Some(Ok(_)) = live.next().await {} };
        tokio::time::timeout(DEADLINE, end)
            .await
            .expect("a closed log ends its readers");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_of_another_log_are_refused() {
    on_both_engines(async |storage| {
        let events = vec![accepted("m0"), accepted("m1")];
        storage.log.append(Arc::new(events)).await.unwrap();
        // Some of them name a position that is in the log.
        for cursor in [
            "",
            "17",
            "stream:x",
            "stream:1-00000000",
            "00000000-1",
            "-1",
        ] {
            let refused = storage.log.read(Start::After(cursor.into()), false).await;
            let refused = refused.err();
            assert!(
                matches!(refused, Some(ReadError::BadCursor { .. })),
                "{cursor}: {refused:?}"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn begun_sends_are_found_until_they_end_and_by_their_results_then() {
    on_both_engines(async |storage| {
        assert_eq!(begin(storage, "billing.m1", 7, &[]).await.sends, [None]);
        let again = begin(storage, "billing.m1", 7, &[]).await.sends;
        assert!(
            matches!(again[0], Some(EarlierSend::Interrupted { digest, .. }) if digest == [7; 16]),
            "{again:?}"
        );
        let conflict = begin(storage, "billing.m1~0", 7, &["billing.m1"]).await;
        assert!(conflict.conflicting_id, "it was begun");

        let ended = ["billing.m1", "billing.m1~0"].map(|id| (id.to_owned(), [7; 16]));
        storage.journal.end(&ended);
        assert_eq!(begin(storage, "billing.m1", 7, &[]).await.sends, [None]);
        storage
            .log
            .append(Arc::new(vec![accepted("m1")]))
            .await
            .unwrap();
        let [Some(EarlierSend::Done(done))] = &begin(storage, "billing.m1", 7, &[]).await.sends[..]
        else {
            panic!("its result is in the log")
        };
        assert_eq!((done.digest, &done.result.message_id[..]), ([7; 16], "m1"));
        let other = begin(storage, "shop.m1", 7, &["billing.m1"]).await;
        assert_eq!((other.sends, other.conflicting_id), (vec![None], true));
        let other = begin(storage, "shop.m2", 7, &["billing.m2"]).await;
        assert_eq!((other.sends, other.conflicting_id), (vec![None], false));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_report_before_its_final_one_in_one_append_is_an_event() {
    on_both_engines(async |storage| {
        let both = vec![pending("a"), delivered("a"), pending("a")];
        storage.log.append(Arc::new(both)).await.unwrap();
        storage
            .log
            .append(Arc::new(vec![pending("a")]))
            .await
            .unwrap();
        let expected = ["report.pending", "report.delivered"];
        let expected = expected.map(|r#type| ("a".to_owned(), r#type.to_owned()));
        assert_eq!(types(storage).await, expected);
    })
    .await;
}

/// The status of a new group may be the true end of the message.
#[tokio::test(flavor = "multi_thread")]
async fn a_report_of_an_unknown_group_after_a_final_one_is_an_event() {
    on_both_engines(async |storage| {
        storage
            .log
            .append(Arc::new(vec![delivered("a")]))
            .await
            .unwrap();
        let other = report("a", StatusGroup::Unspecified, "SEEN_BY_HUMAN");
        storage.log.append(Arc::new(vec![other])).await.unwrap();
        let expected = ["report.delivered", "report.other"];
        let expected = expected.map(|r#type| ("a".to_owned(), r#type.to_owned()));
        assert_eq!(types(storage).await, expected);
    })
    .await;
}
