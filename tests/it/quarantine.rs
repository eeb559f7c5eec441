//! The quarantine for operators, on both engines: list, show, replay and discard, from outside.

mod bounds;
mod interrupted;
#[cfg(feature = "kill-points")]
mod killed;
mod list;
mod on_broker;
mod replay;

use std::{collections::BTreeSet, time::Duration};

use smsbridge::{
    config::Config,
    events::{
        Quarantine as _, Quarantined,
        broker::BrokerLog,
        embedded::EmbeddedLog,
        quarantine::{Origin, Source},
    },
    ops::metrics::Metrics,
    proto::v1::{
        self, Event, QuarantinedBody, admin_service_client::AdminServiceClient, event::Payload,
    },
};
use tempfile::TempDir;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::support::{bridge::TestBridge, broker::TestBroker, simulator::TestSimulator};

type Admin = AdminServiceClient<Channel>;

/// The engine of the event log.
enum Engine {
    Embedded,
    Broker(TestBroker),
}

impl Engine {
    fn configure(&self, config: &mut Config) {
        if let Self::Broker(broker) = self {
            config.amqp = broker.config();
        }
    }

    /// Settings of a process.
    fn settings(&self) -> Vec<(&str, &str)> {
        match self {
            Self::Embedded => Vec::new(),
            Self::Broker(broker) => vec![
                ("SMSBRIDGE_AMQP__URL", broker.url.as_str()),
                ("SMSBRIDGE_AMQP__PREFIX", broker.prefix.as_str()),
            ],
        }
    }

    /// Empties the queue of the broker. Each folder has a quarantine of its own.
    #[cfg(feature = "kill-points")]
    async fn discard_all(&self) {
        if let Self::Broker(broker) = self {
            let client = broker.client().await;
            let queue = broker.topology().quarantine();
            let options = lapin::options::QueuePurgeOptions::default();
            let purging = client.channel.queue_purge(queue.as_str().into(), options);
            purging.await.unwrap();
        }
    }

    /// Puts bodies into quarantine, of which the bridge of today reads some: as an earlier one did that could not.
    async fn seed(&self, folder: &TempDir, bodies: Vec<Quarantined>) {
        match self {
            Self::Embedded => {
                let hour = Duration::from_secs(3600);
                let log = EmbeddedLog::open(folder.path(), hour, Metrics::new()).unwrap();
                let storage = log.storage();
                for body in bodies {
                    storage.quarantine.add(body).await.unwrap();
                }
                storage.log.close().await;
            }
            Self::Broker(broker) => {
                use smsbridge::events::EventLog as _;
                let log = BrokerLog::new(
                    broker.publisher().await,
                    broker.endpoint(),
                    broker.topology(),
                    broker.config().confirm_timeout,
                    Metrics::new(),
                );
                for body in bodies {
                    log.add(body).await.unwrap();
                }
                log.close().await;
            }
        }
    }
}

/// Runs a test on each engine.
async fn on_both_engines(test: impl AsyncFn(Engine)) {
    test(Engine::Embedded).await;
    let broker = TestBroker::start().await;
    drop(broker.publisher().await);
    test(Engine::Broker(broker)).await;
}

/// A bridge on an engine, and a client of it.
struct Operated {
    engine: Engine,
    simulator: TestSimulator,
    bridge: TestBridge,
    admin: Admin,
}

impl Operated {
    async fn start(engine: Engine, seeds: Vec<Quarantined>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if !seeds.is_empty() {
            engine.seed(&folder, seeds).await;
        }
        let simulator = TestSimulator::start().await;
        let bridge = TestBridge::at(&simulator.base_url(), folder, |config| {
            engine.configure(config);
        })
        .await;
        Self {
            admin: AdminServiceClient::new(bridge.channel.clone()),
            engine,
            simulator,
            bridge,
        }
    }

    /// Stops the bridge and starts it again, with another configuration.
    async fn restart(self, configure: impl FnOnce(&mut Config)) -> Self {
        let Self {
            engine,
            simulator,
            bridge,
            admin: _,
        } = self;
        let folder = bridge.stop().await;
        let bridge = TestBridge::at(&simulator.base_url(), folder, |config| {
            engine.configure(config);
            configure(config);
        })
        .await;
        Self {
            admin: AdminServiceClient::new(bridge.channel.clone()),
            engine,
            simulator,
            bridge,
        }
    }

    /// Pushes a body, and returns the status of the answer.
    async fn push(&self, path: &str, body: impl Into<reqwest::Body>) -> u16 {
        let client = reqwest::Client::new();
        let pushing = client.post(self.bridge.webhook(path)).body(body);
        pushing.send().await.unwrap().status().as_u16()
    }

    async fn list(&self) -> Vec<QuarantinedBody> {
        let request = v1::ListQuarantinedRequest {
            limit: 1000,
            ..Default::default()
        };
        let listed = self.admin.clone().list_quarantined(request).await;
        listed.unwrap().into_inner().bodies
    }

    async fn get(&self, id: &str) -> QuarantinedBody {
        let request = v1::GetQuarantinedRequest { id: id.to_owned() };
        let got = self.admin.clone().get_quarantined(request).await;
        got.unwrap().into_inner().body.unwrap()
    }

    async fn replay(&self, ids: Vec<String>) -> v1::ReplayQuarantinedResponse {
        let request = v1::ReplayQuarantinedRequest { ids };
        let replayed = self.admin.clone().replay_quarantined(request).await;
        replayed.unwrap().into_inner()
    }

    async fn discard(&self, ids: Vec<String>, all: bool) -> v1::DiscardQuarantinedResponse {
        let request = v1::DiscardQuarantinedRequest { ids, all };
        let discarded = self.admin.clone().discard_quarantined(request).await;
        discarded.unwrap().into_inner()
    }
}

fn ids(bodies: &[QuarantinedBody]) -> Vec<String> {
    bodies.iter().map(|body| body.id.clone()).collect()
}

fn origin(endpoint: &'static str, source: Source) -> Origin {
    Origin {
        endpoint: endpoint.into(),
        source,
        ..Origin::default()
    }
}

fn body(origin: Origin, body: &str) -> Quarantined {
    Quarantined {
        id: Uuid::now_v7(),
        origin,
        content_type: "application/json".into(),
        body: body.to_owned().into(),
        detail: "an earlier bridge could not read it".into(),
    }
}

/// A report that every bridge reads.
fn report(message_id: &str) -> String {
    format!(
        r#"{{"results":[{{"messageId":"billing.{message_id}","to":"41793026727","doneAt":"2026-11-30T10:00:00.000+0000",
            "status":{{"groupId":3,"groupName":"DELIVERED","id":5,"name":"DELIVERED_TO_HANDSET"}}}}]}}"#
    )
}

/// The events by id, without copies: on the broker an event may be there twice.
fn distinct(events: Vec<Event>) -> Vec<Event> {
    let mut distinct: Vec<Event> = Vec::new();
    for event in events {
        if distinct.iter().all(|known| known.id != event.id) {
            distinct.push(event);
        }
    }
    distinct
}

fn reported(event: &Event) -> &v1::DeliveryReport {
    match &event.payload {
        Some(Payload::Report(report)) => report,
        other => panic!("{other:?}"),
    }
}

/// Bodies with reports, and one that nobody reads.
fn seeds(count: usize) -> Vec<Quarantined> {
    let report = |n| body(origin("reports", Source::Push), &report(&format!("m{n}")));
    let mut seeds: Vec<_> = (0..count).map(report).collect();
    seeds.insert(count / 2, body(origin("reports", Source::Push), "<html>"));
    seeds
}

async fn message_ids(bridge: &TestBridge) -> BTreeSet<String> {
    let events = distinct(bridge.all_events().await);
    let ids: BTreeSet<_> = events
        .iter()
        .map(|event| reported(event).message_id.clone())
        .collect();
    assert_eq!(ids.len(), events.len(), "each report is one event");
    ids
}
