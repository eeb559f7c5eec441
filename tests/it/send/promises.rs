//! Promises of the contract about generated requests, on every gRPC method that sends: all mistakes are reported at once, each
//! destination has one result, and an error of a whole call means that nothing was attempted.
//!
//! [`Case::mistakes`] states the mistakes of a request independently of the bridge's validation.

use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config, TestCaseError, TestRunner},
};
use serde_json::json;
use smsbridge::proto::v1::{self, Outcome, outbound_message::Content};
use tonic::Status;
use tonic_types::StatusExt as _;

use super::SEND;
use crate::support::{bridge::TestBridge, simulator::TestSimulator};

/// Requests for each method.
const CASES: u32 = 150;
/// Some requests have more destinations.
const QUEUE_CAPACITY: usize = 6;
/// Rows of the generated requests: the value, and whether it is valid.
const NUMBERS: [(&str, bool); 6] = [
    ("41793026727", true),
    ("+385 91 123-4567", true),
    ("41793026728", true),
    ("41793026729", true),
    ("nobody", false),
    ("", false),
];
const TEXTS: [(&str, bool); 4] = [
    ("Hello", true),
    ("Здравей", true),
    ("Hi", true),
    ("", false),
];
const SENDERS: [(&str, bool); 4] = [("InfoSMS", true), ("", true), ("4179", true), ("x", false)];

/// What the caller does with an id.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Id {
    Absent,
    Unique,
    /// The same in every case of the test, so mostly used before with other content.
    Reused,
    Invalid,
}

/// What the API does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Api {
    Works,
    RefusesCredentials,
    LosesTheResponse,
}

#[derive(Debug, Clone)]
struct Destination {
    to: (&'static str, bool),
    id: Id,
}

#[derive(Debug, Clone)]
struct Message {
    from: (&'static str, bool),
    text: (&'static str, bool),
    destinations: Vec<Destination>,
}

#[derive(Debug, Clone)]
struct Case {
    request_id: Id,
    bulk_id: Id,
    messages: Vec<Message>,
    api: Api,
}

fn id() -> impl Strategy<Value = Id> {
    prop_oneof![5 => Just(Id::Absent), 3 => Just(Id::Unique), 1 => Just(Id::Reused), 1 => Just(Id::Invalid)]
}

fn message() -> impl Strategy<Value = Message> {
    let destination = (select(&NUMBERS[..]), id()).prop_map(|(to, id)| Destination { to, id });
    let destinations = prop::collection::vec(destination, 0..4);
    let parts = (select(&SENDERS[..]), select(&TEXTS[..]), destinations);
    parts.prop_map(|(from, text, destinations)| Message {
        from,
        text,
        destinations,
    })
}

fn cases(messages: std::ops::Range<usize>) -> impl Strategy<Value = Case> {
    let api = prop_oneof![6 => Just(Api::Works), 1 => Just(Api::RefusesCredentials), 1 => Just(Api::LosesTheResponse)];
    let messages = prop::collection::vec(message(), messages);
    let parts = (id(), id(), messages, api);
    parts.prop_map(|(request_id, bulk_id, messages, api)| Case {
        request_id,
        bulk_id,
        messages,
        api,
    })
}

/// Makes each case's ids differ from those of other cases.
fn spelled(id: Id, unique: String) -> String {
    match id {
        Id::Absent => String::new(),
        Id::Unique => unique,
        Id::Reused => "reused".to_owned(),
        Id::Invalid => "~".to_owned(),
    }
}

impl Case {
    fn bulk(&self, number: u32) -> v1::SendSmsBulkRequest {
        let message = |(index, message): (usize, &Message)| v1::OutboundMessage {
            from: message.from.0.to_owned(),
            destinations: message
                .destinations
                .iter()
                .enumerate()
                .map(|(position, one)| v1::Destination {
                    to: one.to.0.to_owned(),
                    message_id: spelled(one.id, format!("m{number}-{index}-{position}")),
                })
                .collect(),
            content: Some(Content::Text(message.text.0.to_owned())),
            ..Default::default()
        };
        v1::SendSmsBulkRequest {
            request_id: spelled(self.request_id, format!("r{number}")),
            bulk_id: spelled(self.bulk_id, format!("b{number}")),
            messages: self.messages.iter().enumerate().map(message).collect(),
            tracking: None,
        }
    }

    /// A request with the first message.
    fn single(&self, number: u32) -> v1::SendSmsRequest {
        let bulk = self.bulk(number);
        v1::SendSmsRequest {
            request_id: bulk.request_id,
            bulk_id: bulk.bulk_id,
            message: bulk.messages.into_iter().next(),
            tracking: None,
        }
    }

    /// The fields with a mistake: of the request itself, and of each message. `path` is the path of a message.
    fn mistakes(&self, path: impl Fn(usize) -> String) -> (Vec<String>, Vec<Vec<String>>) {
        let mut of_request = Vec::new();
        for (field, id) in [("request_id", self.request_id), ("bulk_id", self.bulk_id)] {
            if id == Id::Invalid {
                of_request.push(field.to_owned());
            }
        }
        if self.messages.is_empty() {
            of_request.push("messages".to_owned());
        }
        let mut is_reused_seen = false;
        let of_messages = self.messages.iter().enumerate();
        let of_messages = of_messages.map(|(index, message)| {
            let mut fields = Vec::new();
            let mut add = |field: String| fields.push(format!("{}.{field}", path(index)));
            if !message.from.1 {
                add("from".into());
            }
            if message.destinations.is_empty() {
                add("destinations".into());
            }
            for (position, one) in message.destinations.iter().enumerate() {
                if !one.to.1 {
                    add(format!("destinations[{position}].to"));
                }
                let is_used_twice = one.id == Id::Reused && is_reused_seen;
                is_reused_seen |= one.id == Id::Reused;
                if one.id == Id::Invalid || is_used_twice {
                    add(format!("destinations[{position}].message_id"));
                }
            }
            if !message.text.1 {
                add("text".into());
            }
            fields
        });
        (of_request, of_messages.collect())
    }

    /// The message index and the number of each result. A message without destinations has one result.
    fn rows(&self) -> Vec<(i32, String)> {
        let mut rows = Vec::new();
        for (index, message) in self.messages.iter().enumerate() {
            let index = i32::try_from(index).unwrap();
            if message.destinations.is_empty() {
                rows.push((index, String::new()));
            }
            for one in &message.destinations {
                let digits = || one.to.0.chars().filter(char::is_ascii_digit).collect();
                let to = if one.to.1 {
                    digits()
                } else {
                    one.to.0.to_owned()
                };
                rows.push((index, to));
            }
        }
        rows
    }
}

/// A bridge and its API, used for all cases of a method.
struct World {
    simulator: TestSimulator,
    bridge: TestBridge,
}

/// What the API and the event log have.
#[derive(Debug, PartialEq)]
struct Seen {
    messages: usize,
    send_events: usize,
}

impl World {
    async fn start() -> Self {
        let simulator = TestSimulator::frozen().await;
        let bridge = TestBridge::with(&simulator, |config| {
            config.http.public_url = None;
            config.send.queue_capacity = QUEUE_CAPACITY;
        })
        .await;
        Self { simulator, bridge }
    }

    async fn seen(&self) -> Seen {
        let mut events = self.bridge.all_events().await;
        events.retain(|event| event.r#type.starts_with("send."));
        Seen {
            messages: self.simulator.messages().await.len(),
            send_events: events.len(),
        }
    }

    async fn let_the_api(&self, api: Api) {
        let fault = match api {
            Api::Works => return self.simulator.heal().await,
            Api::RefusesCredentials => {
                json!({"kind": "status", "status": 401, "probability": 1.0, "path": SEND})
            }
            Api::LosesTheResponse => {
                json!({"kind": "accept_then_drop", "count": 1, "path": SEND})
            }
        };
        self.simulator.heal().await;
        self.simulator.fault(fault).await;
    }
}

/// What a method returned: the results, or the error of the whole call.
type Answer = Result<Vec<v1::SendResult>, Status>;

fn check(
    case: &Case,
    (of_request, of_messages): (Vec<String>, Vec<Vec<String>>),
    answer: &Answer,
    before: &Seen,
    after: &Seen,
) -> Result<(), TestCaseError> {
    let all: Vec<String> = of_request
        .iter()
        .chain(of_messages.iter().flatten())
        .cloned()
        .collect();
    let is_invalid = !of_request.is_empty() || of_messages.iter().all(|one| !one.is_empty());
    match answer {
        Err(status) => {
            let info = status.get_details_error_info().unwrap();
            prop_assert_eq!(info.reason == "INVALID_REQUEST", is_invalid, "{:?}", status);
            if is_invalid {
                let told = status.get_details_bad_request().unwrap().field_violations;
                let told: Vec<_> = told.into_iter().map(|one| one.field).collect();
                prop_assert_eq!(&info.metadata["mistakes"], &all.len().to_string());
                prop_assert_eq!(told, all);
            }
            let in_doubt = info.metadata.get("in_doubt").map(String::as_str);
            prop_assert_ne!(in_doubt, Some("true"), "{:?}", status);
            prop_assert_eq!(before, after, "something was attempted: {:?}", status);
        }
        Ok(results) => {
            let rows: Vec<_> = results
                .iter()
                .map(|one| (one.message_index, one.to.clone()))
                .collect();
            prop_assert_eq!(rows, case.rows());
            for result in results {
                let index = usize::try_from(result.message_index).unwrap();
                // A request of a stream that is invalid as a whole has its mistakes in each result.
                let mistakes = if of_request.is_empty() {
                    &of_messages[index]
                } else {
                    &all
                };
                prop_assert_ne!(result.outcome(), Outcome::Unspecified);
                let refusal = result.refusal.as_deref();
                let told = refusal.map_or(&[][..], |one| &one.violations);
                let told: Vec<_> = told.iter().map(|one| one.field.clone()).collect();
                prop_assert_eq!(&told, mistakes);
                if !mistakes.is_empty() {
                    let reason = refusal.map_or("", |one| &one.reason);
                    prop_assert!(["INVALID_REQUEST", "ID_REUSED"].contains(&reason));
                }
            }
            let attempted = results
                .iter()
                .filter(|one| one.outcome() != Outcome::Rejected);
            prop_assert!(after.messages - before.messages <= attempted.count());
            let durable = results
                .iter()
                .filter(|one| one.refusal.as_ref().is_none_or(|one| !one.retryable));
            prop_assert!(after.send_events - before.send_events <= durable.count());
        }
    }
    Ok(())
}

/// Runs generated cases of `messages` messages through `call`. `path` is the path of a message.
fn keeps_its_promises(
    messages: std::ops::Range<usize>,
    path: impl Fn(usize) -> String,
    call: impl AsyncFn(&TestBridge, &Case, u32) -> Answer,
) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(World::start());
    let number = std::cell::Cell::new(0);
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let ran = TestRunner::new(config).run(&cases(messages), |case| {
        number.set(number.get() + 1);
        runtime.block_on(async {
            world.let_the_api(case.api).await;
            let before = world.seen().await;
            let answer = call(&world.bridge, &case, number.get()).await;
            let after = world.seen().await;
            check(&case, case.mistakes(&path), &answer, &before, &after)
        })
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
    runtime.block_on(world.bridge.stop());
}

#[test]
fn a_single_send_keeps_its_promises() {
    let path = |_| "message".to_owned();
    keeps_its_promises(1..2, path, async |bridge, case, number| {
        let sent = bridge.sms().send_sms(case.single(number)).await?;
        Ok(sent.into_inner().results)
    });
}

#[test]
fn a_bulk_keeps_its_promises() {
    let path = |index| format!("messages[{index}]");
    keeps_its_promises(0..4, path, async |bridge, case, number| {
        let sent = bridge.sms().send_sms_bulk(case.bulk(number)).await?;
        Ok(sent.into_inner().results)
    });
}

#[test]
fn a_streamed_send_keeps_its_promises() {
    let path = |_| "message".to_owned();
    keeps_its_promises(1..2, path, async |bridge, case, number| {
        let request = v1::StreamSmsRequest {
            correlation: number.to_string(),
            request: Some(case.single(number)),
        };
        let mut answers = bridge
            .sms()
            .stream_sms(tokio_stream::iter([request]))
            .await?
            .into_inner();
        let answer = answers.message().await?.expect("one answer");
        assert_eq!(answer.correlation, number.to_string());
        assert!(answers.message().await?.is_none(), "one answer");
        Ok(answer.results)
    });
}
