//! Promises of the contract about generated commands: a dead-lettered command has all its mistakes at once and nothing of it was
//! attempted; any other has one result for each destination. Calls are in `send::promises`.

use lapin::BasicProperties;
use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use serde_json::json;
use smsbridge::{
    amqp::headers::text_header,
    proto::v1::{self, event::Payload},
};

use crate::support::{
    bridge::TestBridge,
    broker::{Client, TestBroker},
    eventually,
    generated::{Api, Case, cases},
    simulator::TestSimulator,
};

const CASES: u32 = 40;
const BULK: &str = "smsbridge.v1.SendSmsBulkRequest";

struct World {
    simulator: TestSimulator,
    bridge: TestBridge,
    broker: TestBroker,
    client: Client,
    replies: String,
}

/// How a command ended.
enum End {
    Results(Vec<v1::SendResult>),
    Dead(Box<v1::InvalidCommand>),
}

impl World {
    async fn start() -> Self {
        let broker = TestBroker::start().await;
        let simulator = TestSimulator::frozen().await;
        let bridge = TestBridge::with(&simulator, |config| {
            config.http.public_url = None;
            config.amqp = broker.config();
        })
        .await;
        drop(broker.publisher().await);
        let client = broker.client().await;
        let events = broker.topology().events();
        let replies = client.bind_queue(&events, "none", &[]).await;
        Self {
            simulator,
            bridge,
            broker,
            client,
            replies,
        }
    }

    async fn events(&self, kind: &str) -> Vec<v1::Event> {
        let mut events = self.bridge.all_events().await;
        events.retain(|event| event.r#type.starts_with(kind));
        events
    }

    /// The number of messages that the API has, and of results that the event log has.
    async fn attempts(&self) -> (usize, usize) {
        let messages = self.simulator.messages().await.len();
        (messages, self.events("send.").await.len())
    }

    /// Publishes the command and waits for its end.
    async fn command(&self, is_single: bool, body: &str) -> End {
        let dead_before = self.events("command.invalid").await.len();
        let mut properties = BasicProperties::default().with_reply_to(self.replies.as_str().into());
        if !is_single {
            properties = properties.with_type(BULK.into());
        }
        let topology = self.broker.topology();
        self.client
            .publish(
                &topology.commands(),
                "sms.send",
                properties,
                body.as_bytes(),
            )
            .await;
        let dead = topology.dead();
        eventually("the command has an end", async || {
            let reply = self.client.try_take(&self.replies).await;
            let told = reply.as_ref().and_then(|reply| {
                let kind = reply.properties.kind().as_ref()?;
                let is_dead = kind.as_str() == "smsbridge.v1.InvalidCommand";
                is_dead.then(|| serde_json::from_slice::<v1::InvalidCommand>(&reply.data).unwrap())
            });
            if let Some(reply) = reply.filter(|_| told.is_none()) {
                let results = if is_single {
                    let reply: v1::SendSmsResponse = serde_json::from_slice(&reply.data).unwrap();
                    reply.results
                } else {
                    let reply: v1::SendSmsBulkResponse =
                        serde_json::from_slice(&reply.data).unwrap();
                    reply.results
                };
                return Some(End::Results(results));
            }
            // A dead letter is published before its reply.
            let told = told?;
            let letter = self.client.try_take(&dead).await.unwrap();
            let reason = text_header(letter.properties.headers().as_ref(), "smsbridge-reason");
            assert_eq!(reason.as_deref(), Some(told.reason.as_str()));
            let payload = Payload::InvalidCommand(Box::new(told.clone()));
            eventually("it has an event", async || {
                let mut new = self
                    .events("command.invalid")
                    .await
                    .into_iter()
                    .skip(dead_before);
                new.find(|event| event.payload.as_ref() == Some(&payload))
            })
            .await;
            Some(End::Dead(Box::new(told)))
        })
        .await
    }

    async fn check(&self, case: &Case, number: u32) -> Result<(), TestCaseError> {
        self.simulator.heal().await;
        // While credentials are refused a command waits for a minute.
        if case.api == Api::LosesTheResponse {
            let fault =
                json!({"kind": "accept_then_drop", "count": 1, "path": "/sms/1/text/advanced"});
            self.simulator.fault(fault).await;
        }
        let single = case.single(number);
        let is_single = number.is_multiple_of(2) && single.message.is_some();
        let (body, case) = if is_single {
            (serde_json::to_string(&single), &case.first_message())
        } else {
            (serde_json::to_string(&case.bulk(number)), case)
        };
        let (of_request, of_messages) = case.mistakes(|index| match is_single {
            true => "message".to_owned(),
            false => format!("messages[{index}]"),
        });
        let before = self.attempts().await;
        match self.command(is_single, &body.unwrap()).await {
            End::Results(results) => case.check_results(&of_request, &of_messages, &results),
            End::Dead(invalid) => {
                let is_invalid =
                    !of_request.is_empty() || of_messages.iter().all(|one| !one.is_empty());
                if is_invalid {
                    let told = invalid.violations.iter().map(|one| one.field.clone());
                    let all = [of_request.clone(), of_messages.concat()].concat();
                    prop_assert_eq!(told.collect::<Vec<_>>(), all);
                }
                let reason = match of_request.iter().any(|field| field == "request_id") {
                    true => "INVALID_REQUEST_ID",
                    false if is_invalid => "INVALID_REQUEST",
                    false => "ID_REUSED",
                };
                prop_assert_eq!(&invalid.reason, reason);
                prop_assert!(reason != "ID_REUSED" || case.reuses_an_id(), "{:?}", case);
                prop_assert_eq!(before, self.attempts().await, "something was attempted");
                Ok(())
            }
        }
    }
}

#[test]
fn a_command_keeps_its_promises() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(World::start());
    let number = std::cell::Cell::new(0);
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let ran = TestRunner::new(config).run(&cases(0..4), |case| {
        number.set(number.get() + 1);
        runtime.block_on(world.check(&case, number.get()))
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
    runtime.block_on(world.bridge.stop());
}
