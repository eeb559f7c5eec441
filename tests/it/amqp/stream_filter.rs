//! Reads of some applications: from RabbitMQ 3.13 on the broker leaves out chunks of the stream without their events.

use std::{sync::Arc, time::Instant};

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use smsbridge::{
    events::{EventLog as _, EventStream, NewEvent, Start, broker::BrokerLog},
    message::id::ApplicationName,
    proto::v1,
};

use super::log::log;
use crate::support::broker::TestBroker;

fn accepted(application: &str, message_id: &str) -> NewEvent {
    let result = v1::SendResult {
        to: "41793026727".into(),
        message_id: message_id.into(),
        outcome: v1::Outcome::Accepted.into(),
        ..Default::default()
    };
    let application = ApplicationName::parse(application).unwrap();
    let now = jiff::Timestamp::now();
    NewEvent::send_result(&application, "", None, Box::new(result), now)
}

async fn to_end(mut stream: EventStream) -> Vec<v1::Event> {
    let mut events = Vec::new();
    let reading = async {
        while let Some(batch) = stream.next().await {
            events.extend(batch.unwrap());
        }
    };
    tokio::time::timeout(crate::support::DEADLINE, reading)
        .await
        .expect("a read to the head ends");
    events
}

async fn read(log: &BrokerLog, start: Start, applications: &[&str]) -> Vec<v1::Event> {
    let applications = applications.iter().map(|&one| one.to_owned()).collect();
    to_end(
        log.read_applications(start, true, applications)
            .await
            .unwrap(),
    )
    .await
}

fn of<'a>(events: &'a [v1::Event], application: &str) -> Vec<&'a str> {
    let wanted = events
        .iter()
        .filter(|event| event.application == application);
    wanted.map(|event| event.id.as_str()).collect()
}

fn everything() -> Start {
    Start::Since(jiff::Timestamp::UNIX_EPOCH)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_one_application_has_all_its_events_and_ends_at_those_of_others() {
    let broker = TestBroker::start().await;
    let log = log(&broker).await;
    let client = broker.client().await;
    let stream = broker.topology().events_log();
    for round in 0..40 {
        // Each append is confirmed before the next one, so that each has chunks of its own.
        let application = match round % 10 {
            3 => "billing".to_owned(),
            other => format!("shop-{other}"),
        };
        let events = (0..5).map(|n| accepted(&application, &format!("{round}-{n}")));
        log.append(Arc::new(events.collect())).await.unwrap();
        if round == 20 {
            // As an earlier version published it: without a filter value.
            let old = accepted("billing", "old").event;
            let body = serde_json::to_vec(&old).unwrap();
            client
                .publish("", &stream, BasicProperties::default(), &body)
                .await;
        }
    }
    let all = read(&log, everything(), &[]).await;
    let wanted = of(&all, "billing");
    assert_eq!((all.len(), wanted.len()), (201, 21));

    let found = read(&log, everything(), &["billing"]).await;
    assert_eq!(of(&found, "billing"), wanted);
    let left_out = all.len() - found.len();
    if broker.version().await >= (3, 13) {
        assert!(left_out >= 100, "the broker leaves out {left_out}");
    } else {
        assert_eq!(left_out, 0, "earlier versions ignore the filter");
    }
    for cursor in [0, 17, 100, 199] {
        let start = Start::After(all[cursor].cursor.clone());
        let found = read(&log, start, &["billing"]).await;
        assert_eq!(of(&found, "billing"), of(&all[cursor + 1..], "billing"));
    }
    // An application without events: the read ends at the last event, which is of another one.
    assert!(of(&read(&log, everything(), &["nobody"]).await, "nobody").is_empty());
    log.close().await;
}

/// A read to the end waits for the last message, whatever another program put there.
#[tokio::test(flavor = "multi_thread")]
async fn a_last_message_with_another_filter_value_ends_a_read() {
    let broker = TestBroker::start().await;
    let log = log(&broker).await;
    let client = broker.client().await;
    log.append(Arc::new(vec![accepted("billing", "m1")]))
        .await
        .unwrap();
    for value in [Some("somebody"), None] {
        let mut headers = FieldTable::default();
        if let Some(value) = value {
            let value = AMQPValue::LongString(value.into());
            headers.insert("x-stream-filter-value".into(), value);
        }
        let properties = BasicProperties::default().with_headers(headers);
        let stream = broker.topology().events_log();
        client.publish("", &stream, properties, b"no event").await;
        let found = read(&log, everything(), &["billing"]).await;
        assert_eq!(of(&found, "billing").len(), 1, "after {value:?}");
    }
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_follows_gets_the_events_of_its_applications() {
    let broker = TestBroker::start().await;
    let log = log(&broker).await;
    let wanted = vec!["billing".to_owned(), "crm".to_owned()];
    let mut live = log
        .read_applications(Start::Now, false, wanted)
        .await
        .unwrap();
    let mut expected = Vec::new();
    for application in ["shop", "billing", "shop", "crm", "shop"] {
        let new = accepted(application, application);
        if application != "shop" {
            expected.push(new.event.id.clone());
        }
        log.append(Arc::new(vec![new])).await.unwrap();
    }
    let mut found = Vec::new();
    while found.len() < expected.len() {
        let batch = tokio::time::timeout(crate::support::DEADLINE, live.next());
        let batch = batch.await.expect("events come").unwrap().unwrap();
        let batch = batch
            .into_iter()
            .filter(|event| event.application != "shop");
        found.extend(batch.map(|event| event.id));
    }
    assert_eq!(found, expected);
    log.close().await;
}

/// The figures of docs/BENCHMARKS.md.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures for some minutes: docs/BENCHMARKS.md has the command"]
async fn a_read_of_one_application_of_100_is_measured() {
    for run in [1, 500] {
        let broker = TestBroker::start().await;
        let log = log(&broker).await;
        let mut events = Vec::new();
        for n in 0..200_000 {
            // `run` events of one application follow each other.
            let application = format!("app-{}", n / run % 100);
            events.push(accepted(&application, &n.to_string()));
            if events.len() == 500 {
                log.append(Arc::new(std::mem::take(&mut events)))
                    .await
                    .unwrap();
            }
        }
        for applications in [&[][..], &["app-42"]] {
            for _ in 0..3 {
                let begun = Instant::now();
                let found = read(&log, everything(), applications).await;
                assert_eq!(of(&found, "app-42").len(), 2_000);
                println!(
                    "runs of {run}, filter {applications:?}: {} events delivered in {:?}",
                    found.len(),
                    begun.elapsed()
                );
            }
        }
        log.close().await;
    }
}
