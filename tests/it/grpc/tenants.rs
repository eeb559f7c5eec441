//! Two applications that are hostile to each other, each with a token: one tries every method, filter, cursor, page token, subscription
//! and id of the other one (docs/RELIABILITY.md#confidentiality). It sees nothing, takes nothing and changes nothing.

use std::{fmt::Debug, fs};

use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use smsbridge::{
    config::{Application, InboundRoute, tokens::new_token},
    grpc::auth::APPLICATION_METADATA,
    proto::v1::{
        self, BulkStatus, Event, EventFilter, StreamEventsRequest, SubscriptionStart,
        admin_service_client::AdminServiceClient, event_service_client::EventServiceClient,
        inbox_service_client::InboxServiceClient, report_service_client::ReportServiceClient,
        sms_service_client::SmsServiceClient, stream_events_request::Start,
    },
};
use tempfile::TempDir;
use tonic::{Code, Request, Status, transport::Channel};

use crate::{
    events::subscribe::Subscriber,
    support::{
        bridge::{TestBridge, text_with_id},
        credentials::{token_entry, with_token},
        simulator::TestSimulator,
    },
};

/// What only beta's data contains.
const SECRETS: [&str; 7] = [
    "bee-1",
    "bee-bulk",
    "41793077701",
    "41793077702",
    "41790000002",
    "honey",
    "beta",
];
const BULK: &str = "bee-bulk";
const MESSAGE: &str = "bee-1";

struct Tenant {
    token: SecretString,
    channel: Channel,
}

impl Tenant {
    fn ask<T>(&self, request: T) -> Request<T> {
        with_token(request, &self.token)
    }

    /// With the name of another application, as callers without a token give it.
    fn ask_as<T>(&self, application: &'static str, request: T) -> Request<T> {
        let mut request = self.ask(request);
        let application = application.parse().unwrap();
        request
            .metadata_mut()
            .insert(APPLICATION_METADATA, application);
        request
    }

    fn sms(&self) -> SmsServiceClient<Channel> {
        SmsServiceClient::new(self.channel.clone())
    }

    async fn events(&self, start: Start, filter: EventFilter) -> Result<Vec<Event>, Status> {
        let request = StreamEventsRequest {
            start: Some(start),
            filter: Some(filter),
            end_at_head: true,
        };
        let mut client = EventServiceClient::new(self.channel.clone());
        let answer = client.stream_events(self.ask(request)).await?;
        let mut stream = answer.into_inner();
        let mut events = Vec::new();
        while let Some(answer) = stream.message().await? {
            events.extend(answer.event);
        }
        Ok(events)
    }

    async fn all_events(&self) -> Vec<Event> {
        let events = self.events(since(), EventFilter::default());
        events.await.unwrap()
    }

    async fn subscribe(&self, filter: EventFilter) -> Subscriber {
        let start = SubscriptionStart {
            name: "mine".into(),
            filter: Some(filter),
            max_outstanding: 10,
        };
        let subscriber = Subscriber::start(&self.channel, start, |received| self.ask(received));
        subscriber.await.unwrap()
    }
}

fn since() -> Start {
    Start::Since(smsbridge::proto::Timestamp::default())
}

/// Fails if an answer, or an error, has anything of beta in it.
fn is_clean<T: Debug>(what: &str, answer: Result<T, Status>) {
    let told = format!("{answer:?}");
    // What the caller itself gave may be repeated to it.
    let own = told.replace(&format!("{what:?}"), "");
    let found = SECRETS.iter().find(|secret| own.contains(**secret));
    assert!(found.is_none(), "{what}: {found:?} in {told}");
}

fn is_not_found<T: Debug>(what: &str, answer: Result<T, Status>) {
    match answer {
        Err(status) if status.code() == Code::NotFound => {}
        other => panic!("{what}: {other:?}"),
    }
}

async fn start(simulator: &TestSimulator, folder: &TempDir) -> (TestBridge, Tenant, Tenant) {
    let [alpha, beta] = std::array::from_fn(|_| new_token());
    let tokens = token_entry("a", &alpha, "alpha", "") + &token_entry("b", &beta, "beta", "");
    let path = folder.path().join("tokens.toml");
    fs::write(&path, tokens).unwrap();
    let bridge = TestBridge::with(simulator, |config| {
        config.grpc.tokens_file = Some(path);
        config.http.public_url = None;
        for (name, number) in [("alpha", "41790000001"), ("beta", "41790000002")] {
            let route = InboundRoute {
                number: Some(number.into()),
                keyword: None,
            };
            let application = Application {
                inbound: vec![route],
                ..Application::default()
            };
            config.applications.insert(name.into(), application);
        }
    })
    .await;
    let channel = bridge.channel.clone();
    let tenant = |token| Tenant {
        token,
        channel: channel.clone(),
    };
    (bridge, tenant(alpha), tenant(beta))
}

fn scheduled() -> v1::SendSmsRequest {
    let at = Timestamp::now() + SignedDuration::from_hours(2);
    let mut scheduled = text_with_id("bee-2", &["41793077702"]);
    scheduled.bulk_id = BULK.into();
    scheduled.message.as_mut().unwrap().send_at = Some(smsbridge::proto::Timestamp {
        seconds: at.as_second(),
        nanos: 0,
    });
    scheduled
}

/// The ids by which a stranger could try to name another application's.
fn guesses(id: &str) -> [String; 5] {
    [
        id.to_owned(),
        format!("beta.{id}"),
        format!("../beta.{id}"),
        format!("alpha.beta.{id}"),
        format!("x,beta.{id}"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_sees_takes_and_changes_nothing_of_another_one() {
    let simulator = TestSimulator::start().await;
    let folder = TempDir::new().unwrap();
    let (bridge, alpha, beta) = start(&simulator, &folder).await;

    let mut message = text_with_id(MESSAGE, &["41793077701"]);
    message.message.as_mut().unwrap().callback_data = "honey".into();
    beta.sms().send_sms(beta.ask(message)).await.unwrap();
    beta.sms().send_sms(beta.ask(scheduled())).await.unwrap();
    let mut subscriber = beta.subscribe(EventFilter::default()).await;
    simulator
        .inbound("41793077701", "41790000002", "honey")
        .await;

    reads_of_logs(&alpha, &beta).await;
    stories(&alpha).await;
    pulls(&alpha).await;
    bulks(&alpha).await;
    conversions_and_admin(&alpha).await;
    subscriptions_and_streams(&alpha, &beta).await;
    own_ids_are_free(&alpha).await;

    // Nothing of beta was taken or changed: what alpha's pulls read went to beta.
    let seen = beta.all_events().await;
    let has = |kind: &str| seen.iter().any(|event| event.r#type == kind);
    for kind in ["send.accepted", "report.delivered", "inbound.received"] {
        assert!(has(kind), "{kind} in {seen:?}");
    }
    let status = v1::GetBulkStatusRequest {
        bulk_id: BULK.into(),
    };
    let bulk = beta.sms().get_bulk_status(beta.ask(status)).await.unwrap();
    assert_eq!(bulk.into_inner().status(), BulkStatus::Pending);
    let first = subscriber.next().await;
    assert_eq!(first.event.unwrap().application, "beta");
    bridge.stop().await;
}

async fn reads_of_logs(alpha: &Tenant, beta: &Tenant) {
    let logs = |request| async { alpha.sms().list_sms_logs(alpha.ask(request)).await };
    let all = v1::ListSmsLogsRequest::default;
    is_clean("all logs", logs(all()).await);
    is_clean(
        "41793077701",
        logs(v1::ListSmsLogsRequest {
            to: "41793077701".into(),
            ..all()
        })
        .await,
    );
    let by_message = guesses(MESSAGE).map(|id| v1::ListSmsLogsRequest {
        message_ids: vec![id],
        ..all()
    });
    let by_bulk = guesses(BULK).map(|id| v1::ListSmsLogsRequest {
        bulk_ids: vec![id],
        ..all()
    });
    for request in by_message.into_iter().chain(by_bulk) {
        let asked = format!("{request:?}");
        let answer = logs(request).await;
        let rows = answer
            .as_ref()
            .map_or(0, |answer| answer.get_ref().logs.len());
        assert_eq!(rows, 0, "{asked}: {answer:?}");
    }
    // Beta's page token.
    let page = v1::ListSmsLogsRequest {
        page_size: 1,
        ..all()
    };
    let page = beta.sms().list_sms_logs(beta.ask(page)).await.unwrap();
    let page_token = page.into_inner().next_page_token;
    if !page_token.is_empty() {
        let request = v1::ListSmsLogsRequest {
            page_token,
            page_size: 1,
            ..all()
        };
        is_clean("beta's page", logs(request).await);
    }
}

/// The story of a message: none of beta's, however it is named.
async fn stories(alpha: &Tenant) {
    let applications = ["", "alpha", "beta", "foreign"];
    for (id, application) in guesses(MESSAGE)
        .into_iter()
        .flat_map(|id| applications.map(|application| (id.clone(), application)))
    {
        let request = v1::GetMessageRequest {
            message_id: id.clone(),
            application: application.into(),
            since: None,
        };
        let told = alpha.sms().get_message(alpha.ask(request)).await;
        is_not_found(&format!("{application} {id}"), told);
    }
}

async fn pulls(alpha: &Tenant) {
    let mut reports = ReportServiceClient::new(alpha.channel.clone());
    let all = v1::PullDeliveryReportsRequest::default;
    for id in guesses(MESSAGE) {
        let request = v1::PullDeliveryReportsRequest {
            message_id: id.clone(),
            ..all()
        };
        let answer = reports.pull_delivery_reports(alpha.ask(request)).await;
        let rows = answer
            .as_ref()
            .map_or(0, |answer| answer.get_ref().reports.len());
        assert_eq!(rows, 0, "{id}: {answer:?}");
    }
    let answer = reports.pull_delivery_reports(alpha.ask(all())).await;
    is_clean("all reports", answer);
    let mut inbox = InboxServiceClient::new(alpha.channel.clone());
    for to in ["", "41790000002"] {
        let request = v1::ListReceivedMessagesRequest {
            to: to.into(),
            ..Default::default()
        };
        let answer = inbox.list_received_messages(alpha.ask(request)).await;
        let rows = answer
            .as_ref()
            .map_or(0, |answer| answer.get_ref().messages.len());
        assert_eq!(rows, 0, "{to}: {answer:?}");
    }
    let pulled = inbox
        .pull_received_messages(alpha.ask(v1::PullReceivedMessagesRequest::default()))
        .await;
    assert_eq!(pulled.unwrap().into_inner().messages, []);
}

async fn bulks(alpha: &Tenant) {
    let later = Timestamp::now() + SignedDuration::from_hours(5);
    for bulk_id in guesses(BULK) {
        let mut sms = alpha.sms();
        let get = v1::GetBulkRequest {
            bulk_id: bulk_id.clone(),
        };
        let status = v1::GetBulkStatusRequest {
            bulk_id: bulk_id.clone(),
        };
        let cancel = v1::UpdateBulkStatusRequest {
            bulk_id: bulk_id.clone(),
            status: BulkStatus::Canceled.into(),
        };
        let reschedule = v1::RescheduleBulkRequest {
            bulk_id: bulk_id.clone(),
            send_at: Some(smsbridge::proto::Timestamp {
                seconds: later.as_second(),
                nanos: 0,
            }),
        };
        is_refused(&bulk_id, sms.get_bulk(alpha.ask(get)).await);
        is_refused(&bulk_id, sms.get_bulk_status(alpha.ask(status)).await);
        is_refused(&bulk_id, sms.reschedule_bulk(alpha.ask(reschedule)).await);
        is_refused(&bulk_id, sms.update_bulk_status(alpha.ask(cancel)).await);
    }
    let get = v1::GetBulkRequest {
        bulk_id: BULK.into(),
    };
    let as_beta = alpha.sms().get_bulk(alpha.ask_as("beta", get)).await;
    is_not_found("as beta", as_beta);
}

/// Not found, or not even an id.
fn is_refused<T: Debug>(what: &str, answer: Result<T, Status>) {
    match answer {
        Err(status) if matches!(status.code(), Code::NotFound | Code::InvalidArgument) => {}
        other => panic!("{what}: {other:?}"),
    }
}

async fn conversions_and_admin(alpha: &Tenant) {
    let request = v1::ConfirmConversionRequest {
        message_id: MESSAGE.into(),
    };
    let answer = alpha.sms().confirm_conversion(alpha.ask(request)).await;
    is_clean(MESSAGE, answer);
    let mut admin = AdminServiceClient::new(alpha.channel.clone());
    let denied = |answer: Result<(), Status>| {
        assert_eq!(answer.unwrap_err().code(), Code::PermissionDenied);
    };
    let ids = || vec!["1".to_owned()];
    let list = alpha.ask(v1::ListDeadLettersRequest::default());
    denied(admin.list_dead_letters(list).await.map(drop));
    let replay = v1::ReplayDeadLettersRequest {
        ids: ids(),
        ..Default::default()
    };
    denied(admin.replay_dead_letters(alpha.ask(replay)).await.map(drop));
    let discard = v1::DiscardDeadLettersRequest {
        ids: ids(),
        ..Default::default()
    };
    denied(
        admin
            .discard_dead_letters(alpha.ask(discard))
            .await
            .map(drop),
    );
    let list = alpha.ask(v1::ListQuarantinedRequest::default());
    denied(admin.list_quarantined(list).await.map(drop));
    let get = alpha.ask(v1::GetQuarantinedRequest::default());
    denied(admin.get_quarantined(get).await.map(drop));
    let replay = alpha.ask(v1::ReplayQuarantinedRequest::default());
    denied(admin.replay_quarantined(replay).await.map(drop));
    let discard = v1::DiscardQuarantinedRequest {
        all: true,
        ..Default::default()
    };
    denied(
        admin
            .discard_quarantined(alpha.ask(discard))
            .await
            .map(drop),
    );
    let reconcile = alpha.ask(v1::ReconcileRequest::default());
    denied(admin.reconcile(reconcile).await.map(drop));
}

async fn subscriptions_and_streams(alpha: &Tenant, beta: &Tenant) {
    let of_beta = beta.all_events().await;
    let cursor = of_beta[0].cursor.clone();
    let filters = [
        EventFilter::default(),
        EventFilter {
            types: vec!["#".into()],
            ..Default::default()
        },
        EventFilter {
            applications: vec!["beta".into()],
            ..Default::default()
        },
        EventFilter {
            message_ids: vec![MESSAGE.into(), format!("beta.{MESSAGE}")],
            ..Default::default()
        },
    ];
    for filter in filters {
        for start in [since(), Start::Cursor(cursor.clone())] {
            // Refused, or without events of beta.
            if let Ok(events) = alpha.events(start, filter.clone()).await {
                is_clean("events", Ok(events));
            }
        }
    }
    // A subscription of the same name is another one.
    let mut same_name = alpha.subscribe(EventFilter::default()).await;
    let mut own = text_with_id("ant-1", &["41793026727"]);
    own.message.as_mut().unwrap().callback_data = "ants".into();
    alpha.sms().send_sms(alpha.ask(own)).await.unwrap();
    let delivery = same_name.next().await;
    assert_eq!(delivery.event.as_ref().unwrap().application, "alpha");
    is_clean("delivery", Ok(delivery));
}

/// The same request id is another message.
async fn own_ids_are_free(alpha: &Tenant) {
    let request = alpha.ask(text_with_id(MESSAGE, &["41793026727"]));
    let sent = alpha.sms().send_sms(request).await.unwrap().into_inner();
    assert_eq!(sent.results[0].outcome(), v1::Outcome::Accepted);
    assert_eq!(sent.results[0].to, "41793026727");
}
