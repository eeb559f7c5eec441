//! Promises of the contract about generated requests, on every gRPC method that sends: all mistakes are reported at once, each
//! destination has one result, and an error of a whole call means that nothing was attempted. Commands are in `amqp::promises`.

use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use serde_json::json;
use smsbridge::proto::v1::{self, Outcome};
use tonic::Status;
use tonic_types::StatusExt as _;

use super::SEND;
use crate::support::{
    bridge::{TestBridge, text},
    eventually,
    generated::{Api, Case, cases},
    simulator::TestSimulator,
};

/// Requests for each method.
const CASES: u32 = 150;
/// Some requests have more destinations.
const QUEUE_CAPACITY: usize = 6;
const TO: &str = "41793026727";

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

    /// Failures of earlier cases may have opened the breaker, which refuses callers until a probe is answered.
    async fn let_the_api(&self, api: Api) {
        self.simulator.heal().await;
        eventually("a send is accepted", async || {
            let sent = self.bridge.sms().send_sms(text(&[TO], "Hello")).await;
            sent.ok()
        })
        .await;
        let fault = match api {
            Api::Works => return,
            Api::RefusesCredentials => {
                json!({"kind": "status", "status": 401, "probability": 1.0, "path": SEND})
            }
            Api::LosesTheResponse => {
                json!({"kind": "accept_then_drop", "count": 1, "path": SEND})
            }
        };
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
            if !is_invalid && case.api == Api::Works && case.results() <= QUEUE_CAPACITY {
                prop_assert_eq!(&info.reason, "ID_REUSED");
                prop_assert!(case.reuses_an_id(), "{:?}", status);
            }
            let in_doubt = info.metadata.get("in_doubt").map(String::as_str);
            prop_assert_ne!(in_doubt, Some("true"), "{:?}", status);
            prop_assert_eq!(before, after, "something was attempted: {:?}", status);
        }
        Ok(results) => {
            case.check_results(&of_request, &of_messages, results)?;
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
