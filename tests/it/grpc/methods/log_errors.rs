//! Errors of the event log, and the status that each becomes (the table in docs/ERRORS.md).

use std::time::Duration;

use rusqlite::Connection;
use serde_json::json;
use smsbridge::proto::v1::{
    self, SubscribeRequest, SubscriptionStart, event_service_client::EventServiceClient,
    inbox_service_client::InboxServiceClient, stream_events_request::Start,
    subscribe_request::Action,
};
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

use super::{TO, refusal};
use crate::support::{
    bridge::{TestBridge, text_with_id},
    broker::TestBroker,
    eventually,
    simulator::TestSimulator,
};

/// A second connection to the database of an event log. A test makes the log fail by changing its tables.
struct Database {
    connection: Connection,
    tables: Vec<String>,
}

impl Database {
    async fn of_bridge(simulator: &TestSimulator) -> (TestBridge, Self) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.sqlite");
        let bridge = TestBridge::at(&simulator.base_url(), folder, |config| {
            // A send that waits for the log must not end before the log is back.
            config.send.retry_for = Duration::from_secs(60);
        })
        .await;
        let connection = Connection::open(path).unwrap();
        let tables = connection
            .prepare(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
            )
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        (bridge, Self { connection, tables })
    }

    /// Runs a statement for each table, with its name in place of `TABLE_NAME`.
    fn each(&self, statement: &str) {
        for table in &self.tables {
            let statement = statement.replace("TABLE_NAME", table);
            self.connection.execute_batch(&statement).unwrap();
        }
    }
}

fn log_unavailable<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let status = answer.unwrap_err();
    assert!(status.get_details_retry_info().is_some(), "{status:?}");
    assert_eq!(
        refusal::<()>(Err(status)),
        (Code::Unavailable, "EVENT_LOG_UNAVAILABLE".into())
    );
}

async fn health_becomes(bridge: &TestBridge, service: &str, expected: ServingStatus) {
    eventually(&format!("{service} is {expected:?}"), async || {
        let check = HealthCheckRequest {
            service: service.into(),
        };
        let mut health = HealthClient::new(bridge.channel.clone());
        let said = health.check(check).await.unwrap().into_inner();
        (said.status() == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nothing_is_sent_while_the_event_log_cannot_be_read() {
    let simulator = TestSimulator::start().await;
    let (bridge, database) = Database::of_bridge(&simulator).await;
    let earlier = text_with_id("r0", &[TO]);
    bridge.sms().send_sms(earlier).await.unwrap();
    database.each("ALTER TABLE TABLE_NAME RENAME TO TABLE_NAME_gone");
    let send = || text_with_id("r1", &[TO]);
    let status = bridge.sms().send_sms(send()).await.unwrap_err();
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.metadata["in_doubt"], "false", "nothing went out");
    assert!(
        status
            .message()
            .starts_with("nothing was sent, because the event log is unavailable: "),
        "{status:?}"
    );
    assert_eq!(
        status.message().matches("event log").count(),
        1,
        "{status:?}"
    );
    log_unavailable::<()>(Err(status));
    let since = v1::StreamEventsRequest {
        start: Some(Start::Since(smsbridge::proto::Timestamp::default())),
        end_at_head: true,
        ..Default::default()
    };
    let mut events = EventServiceClient::new(bridge.channel.clone());
    let answer = events.stream_events(since).await;
    log_unavailable(match answer {
        Ok(stream) => stream.into_inner().message().await.map(|_| ()),
        Err(status) => Err(status),
    });
    assert_eq!(simulator.requests().await.len(), 1, "the earlier one");

    database.each("ALTER TABLE TABLE_NAME_gone RENAME TO TABLE_NAME");
    let sent = eventually("sends are admitted again", async || {
        bridge.sms().send_sms(send()).await.ok()
    })
    .await;
    assert_eq!(
        sent.into_inner().results[0].outcome(),
        v1::Outcome::Accepted
    );
    assert_eq!(simulator.messages().await.len(), 2);
}

/// The API returns unread messages only once: the bridge does not pull them while it cannot store them, and health reports it.
#[tokio::test]
async fn nothing_is_pulled_while_the_event_log_cannot_be_written() {
    let simulator = TestSimulator::start().await;
    let (bridge, database) = Database::of_bridge(&simulator).await;
    simulator.inbound(TO, "41790000000", "Hi").await;
    database.each(
        "CREATE TRIGGER full_TABLE_NAME BEFORE INSERT ON TABLE_NAME BEGIN SELECT RAISE(ABORT, 'disk full'); END",
    );
    let click = json!({"notificationType": "CLICKED", "recipient": TO, "messageId": "default.m1"});
    let push = || {
        reqwest::Client::new()
            .post(bridge.webhook("clicks"))
            .header("content-type", "application/json")
            .body(click.to_string())
            .send()
    };
    assert_eq!(push().await.unwrap().status(), 503);
    let mut inbox = InboxServiceClient::new(bridge.channel.clone());
    let all = v1::PullReceivedMessagesRequest::default;
    log_unavailable(inbox.pull_received_messages(all()).await);
    assert!(simulator.requests().await.is_empty(), "it was not read");
    for (service, expected) in [
        ("smsbridge.v1.InboxService", ServingStatus::NotServing),
        ("smsbridge.v1.SmsService", ServingStatus::NotServing),
        ("smsbridge.v1.LookupService", ServingStatus::Serving),
        ("", ServingStatus::NotServing),
    ] {
        health_becomes(&bridge, service, expected).await;
    }

    database.each("DROP TRIGGER full_TABLE_NAME");
    eventually("pushes are stored again", async || {
        (push().await.unwrap().status() == 200).then_some(())
    })
    .await;
    let pulled = inbox.pull_received_messages(all()).await.unwrap();
    assert_eq!(pulled.into_inner().messages[0].text, "Hi");
    health_becomes(&bridge, "", ServingStatus::Serving).await;
}

/// Its results could not be stored.
#[tokio::test]
async fn what_waits_to_be_sent_waits_while_the_event_log_cannot_be_written() {
    let simulator = TestSimulator::start().await;
    let (bridge, database) = Database::of_bridge(&simulator).await;
    let send = json!({"kind": "status", "status": 429, "path": "/sms/1/text/advanced"});
    simulator.fault(send).await;
    let mut sms = bridge.sms();
    let sending = tokio::spawn(async move { sms.send_sms(text_with_id("r1", &[TO])).await });
    eventually("it waits", async || {
        (!simulator.requests().await.is_empty()).then_some(())
    })
    .await;
    database.each(
        "CREATE TRIGGER full_TABLE_NAME BEFORE INSERT ON TABLE_NAME BEGIN SELECT RAISE(ABORT, 'disk full'); END",
    );
    let click = json!({"notificationType": "CLICKED", "recipient": TO, "messageId": "default.m1"});
    let push = reqwest::Client::new()
        .post(bridge.webhook("clicks"))
        .header("content-type", "application/json")
        .body(click.to_string())
        .send();
    assert_eq!(push.await.unwrap().status(), 503);
    simulator.heal().await;
    // The pause after a 429 lasts up to 5 s.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(simulator.messages().await.is_empty(), "nothing is sent");

    database.each("DROP TRIGGER full_TABLE_NAME");
    let sent = sending.await.unwrap().unwrap().into_inner();
    assert_eq!(sent.results[0].outcome(), v1::Outcome::Accepted);
    assert_eq!(simulator.messages().await.len(), 1);
}

#[tokio::test]
async fn a_cursor_older_than_the_log_is_refused_with_the_oldest_one() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.http.public_url = None).await;
    for id in ["r1", "r2", "r3"] {
        bridge
            .sms()
            .send_sms(text_with_id(id, &[TO]))
            .await
            .unwrap();
    }
    let cursor = bridge.all_events().await[0].cursor.clone();
    let folder = bridge.stop().await;

    // The log is trimmed at every start; with this retention no event is kept.
    let bridge = TestBridge::at(&simulator.base_url(), folder, |config| {
        config.events.retention = Duration::ZERO;
        config.http.public_url = None;
    })
    .await;
    let from = |cursor: &str| v1::StreamEventsRequest {
        start: Some(Start::Cursor(cursor.to_owned())),
        end_at_head: true,
        ..Default::default()
    };
    let status = eventually("the log is trimmed", || {
        let mut events = EventServiceClient::new(bridge.channel.clone());
        let request = from(&cursor);
        async move { events.stream_events(request).await.err() }
    })
    .await;
    let oldest = status.get_details_error_info().unwrap().metadata["oldest_cursor"].clone();
    assert_eq!(
        refusal::<()>(Err(status)),
        (Code::OutOfRange, "CURSOR_TOO_OLD".into())
    );
    let mut rest = bridge.read(from(&oldest)).await;
    assert_eq!(rest.next_or_end().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_are_unimplemented_on_the_broker_engine() {
    let broker = TestBroker::start().await;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.amqp = broker.config()).await;
    let start = SubscribeRequest {
        action: Some(Action::Start(SubscriptionStart {
            name: "results".into(),
            ..Default::default()
        })),
    };
    let status = EventServiceClient::new(bridge.channel.clone())
        .subscribe(tokio_stream::iter([start]))
        .await
        .unwrap_err();
    assert!(status.message().contains("StreamEvents"), "{status:?}");
    assert_eq!(
        refusal::<()>(Err(status)),
        (Code::Unimplemented, "NOT_BUILT_YET".into())
    );
    bridge.stop().await;
}
