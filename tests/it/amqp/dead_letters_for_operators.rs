//! `AdminService` on the queue of dead letters: lists, shows, replays and discards them beside running consumers.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::json;
use smsbridge::{
    amqp::headers::{number_header, text_header},
    proto::v1::{
        self, DeadLetter, DeadLetterCause, DeadLetterFilter,
        admin_service_client::AdminServiceClient,
    },
};
use tonic::{Code, Request, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::support::{
    DEADLINE,
    bridge::TestBridge,
    broker::{Client, TestBroker},
    eventually,
    process::BridgeProcess,
    simulator::TestSimulator,
};

const VALID: &str = r#"{"message": {"destinations": [{"to": "41793026727"}], "text": "Hello"}}"#;

type Admin = AdminServiceClient<Channel>;

fn body_to(number: usize) -> String {
    VALID.replace("41793026727", &format!("417{number:08}"))
}

/// A bridge on a broker, and a client of it.
struct Operated {
    broker: TestBroker,
    simulator: TestSimulator,
    bridge: TestBridge,
    client: Client,
    admin: Admin,
}

impl Operated {
    async fn start() -> Self {
        let broker = TestBroker::start().await;
        let simulator = TestSimulator::start().await;
        let bridge = TestBridge::with(&simulator, |config| config.amqp = broker.config()).await;
        drop(broker.publisher().await);
        let client = broker.client().await;
        let admin = AdminServiceClient::new(bridge.channel.clone());
        Self {
            broker,
            simulator,
            bridge,
            client,
            admin,
        }
    }

    /// With an empty folder.
    async fn restart(&mut self) {
        let amqp = self.broker.config();
        let bridge = TestBridge::with(&self.simulator, |config| config.amqp = amqp).await;
        self.admin = AdminServiceClient::new(bridge.channel.clone());
        std::mem::replace(&mut self.bridge, bridge).stop().await;
    }

    /// Publishes a command that becomes a dead letter at once.
    async fn publish_invalid(&self, application: &str, request_id: &str, body: &str) {
        let mut properties = BasicProperties::default().with_app_id(application.into());
        if !request_id.is_empty() {
            properties = properties.with_message_id(request_id.into());
        }
        let commands = self.broker.topology().commands();
        self.client
            .publish(&commands, "sms.send", properties, body.as_bytes())
            .await;
    }

    async fn list(&self, request: v1::ListDeadLettersRequest) -> v1::ListDeadLettersResponse {
        let mut admin = self.admin.clone();
        admin.list_dead_letters(request).await.unwrap().into_inner()
    }

    async fn list_all(&self) -> Vec<DeadLetter> {
        self.list(v1::ListDeadLettersRequest {
            limit: 1000,
            ..Default::default()
        })
        .await
        .letters
    }

    /// Waits until so many letters are in the queue.
    async fn has_letters(&self, count: u32) {
        let dead = self.broker.topology().dead();
        eventually("the letters are dead", async || {
            (waiting(&self.client, &dead).await == count).then_some(())
        })
        .await;
    }

    async fn replay(&self, request: v1::ReplayDeadLettersRequest) -> v1::ReplayDeadLettersResponse {
        let mut admin = self.admin.clone();
        admin
            .replay_dead_letters(request)
            .await
            .unwrap()
            .into_inner()
    }

    /// Publishes a letter as a bridge does that gave a command up.
    async fn put_letter(&self, letter: &Letter<'_>) {
        put_letter(&self.client, &self.broker.topology().dead(), letter).await;
    }
}

#[derive(Clone, Copy)]
struct Letter<'a> {
    /// Empty: none, as in an earlier version.
    id: &'a str,
    request_id: &'a str,
    reason: &'a str,
    body: &'a str,
    headers: &'a [(&'static str, AMQPValue)],
}

const GIVEN_UP: Letter<'static> = Letter {
    id: "",
    request_id: "",
    reason: "ATTEMPT_LIMIT",
    body: VALID,
    headers: &[],
};

fn letter_properties(letter: &Letter<'_>) -> BasicProperties {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut headers = FieldTable::default();
    headers.insert("smsbridge-reason".into(), text(letter.reason));
    headers.insert("smsbridge-application".into(), text("default"));
    headers.insert("smsbridge-routing-key".into(), text("sms.send"));
    let now = jiff::Timestamp::now().as_millisecond();
    headers.insert("smsbridge-died-at".into(), AMQPValue::LongLongInt(now));
    if !letter.id.is_empty() {
        headers.insert("smsbridge-letter-id".into(), text(letter.id));
    }
    for (name, value) in letter.headers {
        headers.insert((*name).into(), value.clone());
    }
    let mut properties = BasicProperties::default().with_headers(headers);
    if !letter.request_id.is_empty() {
        properties = properties.with_message_id(letter.request_id.into());
    }
    properties
}

async fn put_letter(client: &Client, dead: &str, letter: &Letter<'_>) {
    let properties = letter_properties(letter);
    client
        .publish("", dead, properties, letter.body.as_bytes())
        .await;
}

/// The number of messages that wait in a queue.
async fn waiting(client: &Client, queue: &str) -> u32 {
    let options = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let declared = client
        .channel
        .queue_declare(queue.into(), options, FieldTable::default());
    declared.await.unwrap().message_count()
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    let info = status.get_details_error_info();
    (status.code(), info.expect("an ErrorInfo").reason)
}

fn ids(letters: &[DeadLetter]) -> Vec<String> {
    letters.iter().map(|letter| letter.id.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_listed_in_pages_and_stay_in_the_queue() {
    let operated = Operated::start().await;
    for index in 0..23 {
        let request_id = format!("r{index}");
        operated.publish_invalid("billing", &request_id, "{}").await;
    }
    operated.has_letters(23).await;
    let mut pages = Vec::new();
    let mut request = v1::ListDeadLettersRequest {
        limit: 10,
        ..Default::default()
    };
    loop {
        let page = operated.list(request.clone()).await;
        pages.push(page.letters.clone());
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let sizes: Vec<_> = pages.iter().map(Vec::len).collect();
    assert_eq!(sizes, [10, 10, 3]);
    let listed = pages.concat();
    let distinct: BTreeSet<_> = ids(&listed).into_iter().collect();
    assert_eq!(distinct.len(), 23);
    assert!(listed.iter().all(|letter| letter.body.is_empty()));
    let again = operated.list_all().await;
    assert_eq!(ids(&again), ids(&listed), "in the same order");

    // Nothing is lost, and the letters say what they said.
    operated.has_letters(23).await;
    for letter in &listed {
        let taken = operated
            .client
            .take(&operated.broker.topology().dead())
            .await;
        let headers = taken.properties.headers().as_ref();
        let header = |name| text_header(headers, name).unwrap();
        assert_eq!(header("smsbridge-letter-id"), letter.id);
        assert_eq!(header("smsbridge-reason"), "INVALID_REQUEST");
        assert_eq!(header("smsbridge-cause"), "caller");
        let request_id = taken.properties.message_id().clone().unwrap();
        assert_eq!(request_id.as_str(), letter.request_id);
        assert_eq!(taken.data, b"{}");
    }
    operated.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_carries_every_field() {
    let operated = Operated::start().await;
    let two = r#"{"message": {"destinations": [{"to": "41793026727"}, {"to": "41793026728", "message_id": "own"}], "text": "x"}}"#;
    let headers = [
        ("smsbridge-first-seen", AMQPValue::LongLongInt(1_000)),
        ("smsbridge-attempt", AMQPValue::LongInt(4)),
        ("smsbridge-refusals", AMQPValue::LongInt(3)),
        ("smsbridge-in-doubt", AMQPValue::Boolean(true)),
        ("smsbridge-replayed", AMQPValue::LongString("first".into())),
        ("smsbridge-detail", AMQPValue::LongString("refused".into())),
    ];
    let letter = Letter {
        id: "l-1",
        request_id: "r1",
        body: two,
        headers: &headers,
        ..GIVEN_UP
    };
    let properties = letter_properties(&letter)
        .with_content_type("application/json".into())
        .with_type("SendSmsRequest".into());
    let dead = operated.broker.topology().dead();
    operated
        .client
        .publish("", &dead, properties, two.as_bytes())
        .await;
    let page = operated.list(v1::ListDeadLettersRequest::default()).await;
    let v1::ListDeadLettersResponse {
        letters,
        next_page_token,
    } = page;
    assert!(next_page_token.is_empty());
    let mut admin = operated.admin.clone();
    let request = v1::GetDeadLetterRequest { id: "l-1".into() };
    let got = admin.get_dead_letter(request).await.unwrap().into_inner();
    let got = got.letter.unwrap();
    let seconds = |at: &Option<smsbridge::proto::Timestamp>| at.as_ref().unwrap().seconds;
    assert!((seconds(&got.time) - jiff::Timestamp::now().as_second()).abs() < 60);
    assert_eq!(seconds(&got.first_seen), 1);
    let expected = DeadLetter {
        id: "l-1".into(),
        time: got.time,
        reason: "ATTEMPT_LIMIT".into(),
        detail: "refused".into(),
        application: "default".into(),
        routing_key: "sms.send".into(),
        body: two.into(),
        content_type: "application/json".into(),
        cause: DeadLetterCause::GivenUp.into(),
        request_id: "r1".into(),
        message_ids: vec!["r1~0".into(), "own".into()],
        command_type: "SendSmsRequest".into(),
        body_bytes: two.len() as i64,
        first_seen: got.first_seen,
        retries: 4,
        refusals: 3,
        may_be_sent: true,
        replayed_from: "first".into(),
    };
    assert_eq!(got, expected);
    let listed = DeadLetter {
        body: Default::default(),
        message_ids: Vec::new(),
        ..expected
    };
    assert_eq!(letters, [listed]);
    let unknown = v1::GetDeadLetterRequest { id: "other".into() };
    assert_eq!(
        refusal(admin.get_dead_letter(unknown).await),
        (Code::NotFound, "DEAD_LETTER_NOT_FOUND".into())
    );
    operated.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_filtered_by_every_field() {
    let operated = Operated::start().await;
    operated.publish_invalid("billing", "b", "{}").await;
    operated.publish_invalid("shop", "s", "{").await;
    operated.has_letters(2).await;
    // One of an earlier version has no cause.
    operated.put_letter(&GIVEN_UP).await;
    let list = async |filter: DeadLetterFilter| {
        let request = v1::ListDeadLettersRequest {
            filter: Some(filter),
            ..Default::default()
        };
        let letters = operated.list(request).await.letters;
        let reasons: BTreeSet<_> = letters.into_iter().map(|letter| letter.reason).collect();
        reasons.into_iter().collect::<Vec<_>>()
    };
    let of_cause = |cause: DeadLetterCause| DeadLetterFilter {
        cause: cause.into(),
        ..Default::default()
    };
    let caller = list(of_cause(DeadLetterCause::Caller)).await;
    assert_eq!(caller, ["INVALID_REQUEST", "UNREADABLE_REQUEST"]);
    let given_up = list(of_cause(DeadLetterCause::GivenUp)).await;
    assert_eq!(given_up, ["ATTEMPT_LIMIT"]);
    let filter = DeadLetterFilter {
        reasons: vec!["UNREADABLE_REQUEST".into(), "RETURNED".into()],
        ..Default::default()
    };
    assert_eq!(list(filter).await, ["UNREADABLE_REQUEST"]);
    let filter = DeadLetterFilter {
        applications: vec!["billing".into()],
        ..Default::default()
    };
    assert_eq!(list(filter).await, ["INVALID_REQUEST"]);
    let soon = |seconds: i64| {
        Some(smsbridge::proto::Timestamp {
            seconds: jiff::Timestamp::now().as_second() + seconds,
            nanos: 0,
        })
    };
    let filter = DeadLetterFilter {
        died_since: soon(-100),
        died_before: soon(100),
        ..Default::default()
    };
    assert_eq!(list(filter).await.len(), 3);
    for filter in [
        DeadLetterFilter {
            died_since: soon(100),
            ..Default::default()
        },
        DeadLetterFilter {
            died_before: soon(-100),
            ..Default::default()
        },
    ] {
        assert!(list(filter).await.is_empty());
    }

    // A caller with the name of an application sees only its own letters.
    let as_shop = |message: v1::ListDeadLettersRequest| {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("x-smsbridge-application", "shop".parse().unwrap());
        request
    };
    let mut admin = operated.admin.clone();
    let listed = admin.list_dead_letters(as_shop(Default::default())).await;
    let letters = listed.unwrap().into_inner().letters;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].application, "shop");

    let wrong = v1::ListDeadLettersRequest {
        limit: 1001,
        page_token: "?".into(),
        filter: Some(DeadLetterFilter {
            cause: 99,
            ..Default::default()
        }),
    };
    let refused = admin.list_dead_letters(wrong).await.unwrap_err();
    let fields = refused.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<_> = fields.iter().map(|one| one.field.as_str()).collect();
    assert_eq!(fields, ["limit", "filter.cause", "page_token"]);
    operated.bridge.stop().await;
}

/// Also on another replica, and after somebody else needed the letters.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_works_until_its_letter_is_gone() {
    let operated = Operated::start().await;
    for index in 0..9 {
        let request_id = format!("r{index}");
        operated.publish_invalid("default", &request_id, "{}").await;
    }
    operated.has_letters(9).await;
    let all = ids(&operated.list_all().await);
    let page = |token: &str| v1::ListDeadLettersRequest {
        limit: 4,
        page_token: token.into(),
        ..Default::default()
    };
    let first = operated.list(page("")).await;
    assert_eq!(ids(&first.letters), all[..4]);

    let broker = operated.broker.config();
    let other = TestBridge::with(&operated.simulator, |config| config.amqp = broker).await;
    let mut elsewhere = AdminServiceClient::new(other.channel.clone());
    // It waits until the first one gives its letters back.
    let second = elsewhere
        .list_dead_letters(page(&first.next_page_token))
        .await;
    let second = second.unwrap().into_inner();
    assert_eq!(ids(&second.letters), all[4..8]);
    other.stop().await;

    // Whatever needs the letters ends the list, which goes on later.
    let begun = Instant::now();
    let request = v1::GetDeadLetterRequest { id: all[0].clone() };
    let mut admin = operated.admin.clone();
    admin.get_dead_letter(request.clone()).await.unwrap();
    let again = operated.list(page(&first.next_page_token)).await;
    admin.get_dead_letter(request).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(8), "nobody waited");
    assert_eq!(ids(&again.letters), all[4..8]);
    let last = operated.list(page(&again.next_page_token)).await;
    assert_eq!(ids(&last.letters), all[8..]);
    assert!(last.next_page_token.is_empty());

    let gone = v1::DiscardDeadLettersRequest {
        ids: vec![all[3].clone()],
        ..Default::default()
    };
    admin.discard_dead_letters(gone).await.unwrap();
    let expired = admin.list_dead_letters(page(&first.next_page_token)).await;
    assert_eq!(
        refusal(expired),
        (Code::FailedPrecondition, "PAGE_TOKEN_EXPIRED".into())
    );
    let other_list = v1::ListDeadLettersRequest {
        filter: Some(DeadLetterFilter {
            reasons: vec!["RETURNED".into()],
            ..Default::default()
        }),
        ..page(&first.next_page_token)
    };
    let refused = refusal(admin.list_dead_letters(other_list).await);
    assert_eq!(refused, (Code::InvalidArgument, "INVALID_REQUEST".into()));
    operated.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_list_gives_its_letters_back() {
    let operated = Operated::start().await;
    for _ in 0..6 {
        operated.put_letter(&GIVEN_UP).await;
    }
    let request = v1::ListDeadLettersRequest {
        limit: 2,
        ..Default::default()
    };
    let page = operated.list(request).await;
    assert!(!page.next_page_token.is_empty());
    let dead = operated.broker.topology().dead();
    assert!(waiting(&operated.client, &dead).await < 6, "it holds some");
    let begun = Instant::now();
    operated.has_letters(6).await;
    assert!(
        begun.elapsed() > Duration::from_secs(5),
        "for the next page"
    );
    // And when the process ends.
    let request = v1::ListDeadLettersRequest {
        limit: 2,
        ..Default::default()
    };
    operated.list(request).await;
    let Operated {
        bridge,
        client,
        simulator,
        broker,
        ..
    } = operated;
    let begun = Instant::now();
    bridge.stop().await;
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "it waits for no page"
    );
    assert_eq!(waiting(&client, &dead).await, 6);
    drop((simulator, broker));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_queue_and_an_absent_broker_are_told() {
    let broker = TestBroker::start().await;
    let proxy = broker.proxy().await;
    let simulator = TestSimulator::start().await;
    let mut amqp = broker.config();
    amqp.url = Some(proxy.url.clone().into());
    let bridge = TestBridge::with(&simulator, |config| config.amqp = amqp).await;
    let client = broker.client().await;
    let mut admin = AdminServiceClient::new(bridge.channel.clone());
    let lock = format!("{}.lock.dead", broker.prefix);
    let options = QueueDeclareOptions {
        exclusive: true,
        ..Default::default()
    };
    let declaring =
        client
            .channel
            .queue_declare(lock.as_str().into(), options, FieldTable::default());
    declaring.await.unwrap();
    let mut request = Request::new(v1::ListDeadLettersRequest::default());
    request.set_timeout(Duration::from_secs(5));
    assert_eq!(
        refusal(admin.list_dead_letters(request).await),
        (Code::Unavailable, "DEAD_LETTERS_BUSY".into())
    );
    proxy.down();
    let request = v1::ListDeadLettersRequest::default();
    assert_eq!(
        refusal(admin.list_dead_letters(request).await),
        (Code::Unavailable, "BROKER_UNAVAILABLE".into())
    );
    proxy.up();
    bridge.stop().await;
}

/// Also where the letter is there twice: a kill between the confirm of a copy and its acknowledgement leaves both.
#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_is_replayed_twice_is_sent_once() {
    let mut operated = Operated::start().await;
    // Only the mark of a twin keeps a copy from being sent again.
    let forgetting = json!({"kind": "forget_ids"});
    operated.simulator.fault(forgetting).await;
    let twice = Letter {
        id: "l-1",
        ..GIVEN_UP
    };
    operated.put_letter(&twice).await;
    let body = body_to(2);
    let with_request_id = Letter {
        id: "l-2",
        request_id: "r2",
        body: &body,
        ..GIVEN_UP
    };
    operated.put_letter(&with_request_id).await;
    let events = async |wanted: usize| {
        eventually("the commands have results", async || {
            let mut events = operated.bridge.all_events().await;
            events.retain(|event| event.r#type == "send.accepted");
            events.dedup_by_key(|event| event.id.clone());
            (events.len() >= wanted).then_some(events)
        })
        .await
    };
    let all = v1::ReplayDeadLettersRequest::default();
    let replayed = operated.replay(all.clone()).await;
    let expected = v1::ReplayDeadLettersResponse {
        count: 2,
        ..Default::default()
    };
    assert_eq!(replayed, expected);
    let mut request_ids: Vec<_> = events(2)
        .await
        .into_iter()
        .map(|one| one.request_id)
        .collect();
    request_ids.sort();
    assert_eq!(request_ids, ["dead-l-1", "r2"]);

    // The next process knows nothing of the requests of this one.
    operated.restart().await;
    for letter in [&twice, &twice, &with_request_id] {
        operated.put_letter(letter).await;
    }
    let replayed = operated.replay(all).await;
    assert_eq!(replayed.count, 3);
    let commands = operated.broker.topology().send_normal();
    eventually("all are handled", async || {
        (waiting(&operated.client, &commands).await == 0).then_some(())
    })
    .await;
    let bridge = operated.bridge;
    bridge.stop().await;
    assert_eq!(operated.simulator.messages().await.len(), 2);
    let dead = operated.broker.topology().dead();
    assert_eq!(waiting(&operated.client, &dead).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_been_sent_and_has_no_id_is_replayed_only_if_that_is_allowed() {
    let operated = Operated::start().await;
    let in_doubt = [("smsbridge-in-doubt", AMQPValue::Boolean(true))];
    for letter in [
        Letter {
            id: "limit",
            reason: "DELIVERY_LIMIT",
            ..GIVEN_UP
        },
        Letter {
            id: "doubt",
            headers: &in_doubt,
            ..GIVEN_UP
        },
        Letter {
            id: "known",
            request_id: "r1",
            reason: "DELIVERY_LIMIT",
            ..GIVEN_UP
        },
    ] {
        operated.put_letter(&letter).await;
    }
    // One that no bridge published.
    let dead = operated.broker.topology().dead();
    let properties = BasicProperties::default();
    operated.client.publish("", &dead, properties, b"{}").await;
    let v1::ReplayDeadLettersResponse {
        count,
        refused,
        refused_count,
        not_found,
        incomplete,
        incomplete_detail,
    } = operated
        .replay(v1::ReplayDeadLettersRequest::default())
        .await;
    assert_eq!((count, refused_count, not_found.len()), (1, 3, 0));
    assert!(!incomplete && incomplete_detail.is_empty());
    let [limit, doubt, foreign] = refused.as_slice() else {
        panic!("{refused:?}")
    };
    assert_eq!((limit.id.as_str(), doubt.id.as_str()), ("limit", "doubt"));
    assert!(limit.detail.contains("allow_repeat"), "{limit:?}");
    assert!(foreign.detail.contains("no bridge"), "{foreign:?}");
    operated.has_letters(3).await;

    let replayed = operated
        .replay(v1::ReplayDeadLettersRequest {
            ids: vec!["limit".into(), "gone".into()],
            filter: Some(DeadLetterFilter {
                cause: DeadLetterCause::GivenUp.into(),
                ..Default::default()
            }),
            allow_repeat: true,
        })
        .await;
    assert_eq!(
        (replayed.count, replayed.not_found),
        (1, vec!["gone".to_owned()])
    );
    operated.has_letters(2).await;
    eventually("it is sent", async || {
        (operated.simulator.messages().await.len() == 2).then_some(())
    })
    .await;
    operated.bridge.stop().await;
}

/// It would end the session of everything that is published, and each next replay would end there again.
#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_cannot_be_published_stays_and_those_behind_it_are_replayed() {
    let operated = Operated::start().await;
    let mut headers = FieldTable::default();
    let long = AMQPValue::LongString("k".repeat(300).into());
    headers.insert("smsbridge-routing-key".into(), long);
    let invalid = BasicProperties::default()
        .with_type("nothing".into())
        .with_headers(headers);
    let commands = operated.broker.topology().commands();
    let publishing = operated
        .client
        .publish(&commands, "sms.send", invalid, VALID.as_bytes());
    publishing.await;
    operated.has_letters(1).await;
    operated
        .put_letter(&Letter {
            id: "behind",
            ..GIVEN_UP
        })
        .await;
    let replayed = operated
        .replay(v1::ReplayDeadLettersRequest::default())
        .await;
    assert_eq!((replayed.count, replayed.refused_count), (1, 1));
    let detail = &replayed.refused[0].detail;
    assert!(detail.contains("255 bytes"), "{detail}");
    operated.has_letters(1).await;
    operated.bridge.stop().await;
}

/// Nothing tells whether the number was asked, and a mark of doubt would only report it as unknown.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_is_replayed_only_if_it_may_be_paid_twice() {
    let operated = Operated::start().await;
    let events = operated.broker.topology().events();
    let events = operated.client.bind_queue(&events, "lookup.#", &[]).await;
    let headers = [
        (
            "smsbridge-routing-key",
            AMQPValue::LongString("number.lookup".into()),
        ),
        ("smsbridge-in-doubt", AMQPValue::Boolean(true)),
        ("smsbridge-may-have-twin", AMQPValue::Boolean(true)),
    ];
    operated
        .put_letter(&Letter {
            request_id: "ask-1",
            reason: "DELIVERY_LIMIT",
            body: r#"{"to": ["41793026727"]}"#,
            headers: &headers,
            ..GIVEN_UP
        })
        .await;
    let refused = operated.replay(v1::ReplayDeadLettersRequest::default());
    let refused = refused.await.refused;
    assert!(refused[0].detail.contains("look-up"), "{refused:?}");
    operated.has_letters(1).await;

    let allowed = v1::ReplayDeadLettersRequest {
        allow_repeat: true,
        ..Default::default()
    };
    assert_eq!(operated.replay(allowed).await.count, 1);
    let event = operated.client.take(&events).await;
    let event: v1::Event = serde_json::from_slice(&event.data).unwrap();
    let Some(v1::event::Payload::Lookup(answer)) = event.payload else {
        panic!("{event:?}")
    };
    assert_eq!(answer.refusal, None);
    assert_eq!(answer.status.unwrap().name, "DELIVERED_TO_HANDSET");
    operated.bridge.stop().await;
}

/// A code is useless after its time, and a replay that dies again is a letter of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_letter_keeps_its_deadline_and_tells_which_letter_it_was() {
    let operated = Operated::start().await;
    let commands = operated.broker.topology().commands();
    let properties = BasicProperties::default()
        .with_message_id("late".into())
        .with_type("Unknown".into())
        .with_expiration("100".into());
    operated
        .client
        .publish(&commands, "sms.send", properties, VALID.as_bytes())
        .await;
    operated.has_letters(1).await;
    let first = operated.list_all().await;
    let replayed = operated
        .replay(v1::ReplayDeadLettersRequest::default())
        .await;
    assert_eq!(replayed.count, 1);
    let again = eventually("it is dead again", async || {
        let letters = operated.list_all().await;
        (!letters.is_empty()).then_some(letters)
    })
    .await;
    assert_eq!(again[0].reason, "UNKNOWN_TYPE");
    assert_eq!(again[0].replayed_from, first[0].id);
    assert_ne!(again[0].id, first[0].id);
    let taken = operated
        .client
        .take(&operated.broker.topology().dead())
        .await;
    let headers = taken.properties.headers().as_ref();
    let expires_at = number_header(headers, "smsbridge-expires-at").unwrap();
    assert!(expires_at < jiff::Timestamp::now().as_millisecond() + 100);

    let past = [("smsbridge-expires-at", AMQPValue::LongLongInt(1_000))];
    let late = Letter {
        request_id: "too-late",
        headers: &past,
        ..GIVEN_UP
    };
    operated.put_letter(&late).await;
    operated
        .replay(v1::ReplayDeadLettersRequest::default())
        .await;
    let rejected = eventually("it has a result", async || {
        let events = operated.bridge.all_events().await;
        events
            .into_iter()
            .find(|event| event.r#type == "send.rejected")
    })
    .await;
    assert_eq!(rejected.request_id, "too-late");
    assert!(operated.simulator.messages().await.is_empty());
    operated.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_discarded_by_id_and_by_filter() {
    let operated = Operated::start().await;
    for request_id in ["a", "b", "c"] {
        operated.publish_invalid("default", request_id, "{}").await;
    }
    operated.has_letters(3).await;
    operated.put_letter(&GIVEN_UP).await;
    let listed = operated.list_all().await;
    let mut admin = operated.admin.clone();
    let nothing = v1::DiscardDeadLettersRequest::default();
    let refused = refusal(admin.discard_dead_letters(nothing).await);
    assert_eq!(refused, (Code::InvalidArgument, "INVALID_REQUEST".into()));
    let one = v1::DiscardDeadLettersRequest {
        ids: vec![listed[1].id.clone(), "gone".into()],
        ..Default::default()
    };
    let discarded = admin.discard_dead_letters(one).await.unwrap().into_inner();
    let expected = v1::DiscardDeadLettersResponse {
        count: 1,
        not_found: vec!["gone".into()],
        incomplete: false,
        incomplete_detail: String::new(),
    };
    assert_eq!(discarded, expected);
    let callers = v1::DiscardDeadLettersRequest {
        filter: Some(DeadLetterFilter {
            cause: DeadLetterCause::Caller.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let discarded = admin.discard_dead_letters(callers).await.unwrap();
    assert_eq!(discarded.into_inner().count, 2);
    let left = operated.list_all().await;
    assert_eq!(ids(&left), [listed[3].id.clone()]);
    let series = r#"smsbridge_dead_letters_ended_total{action="discarded"}"#;
    assert_eq!(operated.bridge.metric(series).await, Some(3.0));
    let series = r#"smsbridge_dead_letters_total{cause="caller",reason="INVALID_REQUEST"}"#;
    assert_eq!(operated.bridge.metric(series).await, Some(3.0));
    operated.bridge.stop().await;
}

/// Lists all letters in pages of the greatest size; returns their ids.
async fn list_in_pages(admin: &mut Admin) -> Vec<String> {
    let mut listed = Vec::new();
    let mut request = v1::ListDeadLettersRequest {
        limit: 1000,
        ..Default::default()
    };
    loop {
        let page = admin.list_dead_letters(request.clone()).await.unwrap();
        let page = page.into_inner();
        listed.extend(ids(&page.letters));
        if page.next_page_token.is_empty() {
            return listed;
        }
        request.page_token = page.next_page_token;
    }
}

/// Publishes letters with request ids and numbers of their own, a thousand at a time.
async fn put_letters(client: &Client, dead: &str, count: usize) {
    for chunk in (0..count).collect::<Vec<_>>().chunks(1000) {
        let mut confirms = Vec::new();
        for number in chunk {
            let (id, request_id) = (format!("l{number}"), format!("r{number}"));
            let body = body_to(*number);
            let letter = Letter {
                id: &id,
                request_id: &request_id,
                body: &body,
                ..GIVEN_UP
            };
            let confirm = client
                .channel
                .basic_publish(
                    "".into(),
                    dead.into(),
                    BasicPublishOptions::default(),
                    letter.body.as_bytes(),
                    letter_properties(&letter),
                )
                .await
                .unwrap();
            confirms.push(confirm);
        }
        for confirm in confirms {
            assert!(confirm.await.unwrap().is_ack());
        }
    }
}

/// With `SMSBRIDGE_DEAD_LETTERS=100000` at full size: so many letters are listed in pages, a hundredth is replayed and half as many are
/// discarded, while the bridge sends other commands and is killed once in the middle of the replay.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_letters_are_replayed_loses_none_and_sends_none_twice() {
    let size = std::env::var("SMSBRIDGE_DEAD_LETTERS").unwrap_or_else(|_| "2000".into());
    let size: usize = size.parse().unwrap();
    let (replayed, discarded) = (size / 100, size / 200);
    let broker = TestBroker::start().await;
    let simulator = TestSimulator::start().await;
    // Only the mark of a twin keeps a copy from being sent again.
    simulator.fault(json!({"kind": "forget_ids"})).await;
    drop(broker.publisher().await);
    let client = broker.client().await;
    let dead = broker.topology().dead();
    let begun = Instant::now();
    put_letters(&client, &dead, size).await;
    println!("{size} letters published: {:?}", begun.elapsed());

    let kill_at = format!("replay-confirmed:{}", replayed / 2);
    let mut settings = vec![
        ("SMSBRIDGE_AMQP__URL", broker.url.as_str()),
        ("SMSBRIDGE_AMQP__PREFIX", broker.prefix.as_str()),
        // What was delivered before the kill is looked up after this time.
        ("SMSBRIDGE_INFOBIP__REQUEST_TIMEOUT", "2s"),
        ("SMSBRIDGE_INFOBIP__CONNECT_TIMEOUT", "1s"),
        ("SMSBRIDGE_KILL_AT", kill_at.as_str()),
    ];
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    let mut admin = Admin::new(bridge.connect().await).max_decoding_message_size(64 << 20);
    let commands = broker.topology().commands();
    for number in 0..100 {
        let properties = BasicProperties::default().with_message_id(format!("live{number}").into());
        let body = body_to(50_000_000 + number);
        client
            .publish(&commands, "sms.send", properties, body.as_bytes())
            .await;
    }
    let begun = Instant::now();
    let listed = list_in_pages(&mut admin).await;
    println!(
        "listed: {:?}, {} MB",
        begun.elapsed(),
        bridge.peak_memory_mb()
    );
    let distinct: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!((listed.len(), distinct.len()), (size, size));
    let begun = Instant::now();
    let last = v1::GetDeadLetterRequest {
        id: listed[size - 1].clone(),
    };
    admin.get_dead_letter(last).await.unwrap();
    println!("the last one shown: {:?}", begun.elapsed());

    // From the middle, so that the walk has letters before them.
    let chosen = listed[size / 2..size / 2 + replayed].to_vec();
    let request = v1::ReplayDeadLettersRequest {
        ids: chosen.clone(),
        ..Default::default()
    };
    let begun = Instant::now();
    let replaying = tokio::spawn({
        let (mut admin, request) = (admin.clone(), request.clone());
        async move { admin.replay_dead_letters(request).await.is_err() }
    });
    let folder = if cfg!(feature = "kill-points") {
        assert!(replaying.await.unwrap(), "it was killed");
        bridge.kill_after(DEADLINE).await.folder
    } else {
        eventually("some are sent", async || {
            (simulator.messages().await.len() > 100).then_some(())
        })
        .await;
        let folder = bridge.kill().await;
        replaying.await.unwrap();
        folder
    };
    println!("replay until the kill: {:?}", begun.elapsed());
    settings.pop();
    let bridge = BridgeProcess::start_in(folder, &simulator, &settings).await;
    eventually("the copies are sent", async || {
        let queued = waiting(&client, &broker.topology().send_normal()).await;
        (queued == 0 && simulator.messages().await.len() > 100).then_some(())
    })
    .await;
    bridge.stop().await;
    // The next process knows nothing of the requests of the earlier ones.
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    let mut admin = Admin::new(bridge.connect().await).max_decoding_message_size(64 << 20);
    let begun = Instant::now();
    let again = eventually("the killed session has ended", async || {
        let request = request.clone();
        admin.clone().replay_dead_letters(request).await.ok()
    })
    .await
    .into_inner();
    println!("replay of the rest: {:?}", begun.elapsed());
    // Those before the kill that the broker knows as removed are not found.
    assert_eq!(again.count as usize + again.not_found.len(), replayed);
    let others = listed[..discarded].to_vec();
    let request = v1::DiscardDeadLettersRequest {
        ids: others,
        ..Default::default()
    };
    let begun = Instant::now();
    let gone = admin
        .discard_dead_letters(request)
        .await
        .unwrap()
        .into_inner();
    println!("discarded: {:?}", begun.elapsed());
    assert_eq!(gone.count as usize, discarded);
    let begun = Instant::now();
    let left = list_in_pages(&mut admin).await;
    println!("listed again: {:?}", begun.elapsed());
    let left: BTreeSet<_> = left.into_iter().collect();
    let removed: BTreeSet<_> = chosen.iter().chain(&listed[..discarded]).cloned().collect();
    assert_eq!(left.len(), size - replayed - discarded);
    assert!(left.is_disjoint(&removed));

    let sent = eventually("all commands are sent", async || {
        let messages = simulator.messages().await;
        (messages.len() >= replayed + 100).then_some(messages)
    })
    .await;
    println!("peak memory: {} MB", bridge.peak_memory_mb());
    bridge.stop().await;
    let numbers: BTreeSet<_> = sent.iter().map(|one| one["to"].to_string()).collect();
    assert_eq!(
        (sent.len(), numbers.len()),
        (replayed + 100, replayed + 100)
    );
    assert_eq!(
        simulator.messages().await.len(),
        replayed + 100,
        "once each"
    );
}
