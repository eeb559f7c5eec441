//! Several bridges on one broker: one is killed, one is drained, and one is frozen until the broker has given its commands to the
//! others. The others go on at once, and the oracle of the crash test judges.
//!
//! Here they run for seconds. `make fleet-test` sets a variable for runs of minutes, with the heartbeats of production.

use std::time::Duration;

use jiff::Timestamp;
use rand::{SeedableRng as _, rngs::StdRng};
use serde_json::json;
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    evidence::{EventTail, Evidence},
    faults,
    history::Timeline,
    number_from,
    producer::{Command, Commands, REJECTED_PREFIX, Record, produce},
    run::{SHORT_DELAYS_MS, bridge, come_to_rest},
    schedule::ApiMemory,
    verdict::{Flow, assert_kept},
};
use crate::support::{
    broker::{Node, TestBroker},
    process::BridgeProcess,
    simulator::TestSimulator,
};

struct Times {
    /// The interval of heartbeats, in seconds. The broker ends a session without them after twice this time.
    heartbeat: u32,
    /// Between two of the things that happen.
    between: Duration,
    /// Long enough that the broker gives the commands of the frozen bridge to the others.
    freeze: Duration,
}

impl Times {
    const SHORT: Self = Self {
        heartbeat: 2,
        between: Duration::from_secs(3),
        freeze: Duration::from_secs(8),
    };
    /// Heartbeats as by default.
    const LONG: Self = Self {
        heartbeat: 15,
        between: Duration::from_secs(8),
        freeze: Duration::from_secs(40),
    };
}

/// The longest time without a message that the API accepts, while commands are published; in the runs among the ordinary tests,
/// which share the machine with others, the second one. A stall from the freeze to the end is longer in both.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE_OF_SHORT: Duration = Duration::from_secs(12);
/// The share of requests that the API accepts without an answer before a bridge is drained, and for how long: some messages are
/// in doubt then, and another bridge must look them up.
const SHARE_IN_DOUBT: f64 = 0.3;
const IN_DOUBT_FOR: Duration = Duration::from_secs(1);
/// How long the API is slow before a bridge is frozen.
const SLOW_FOR: Duration = Duration::from_secs(3);
/// Its latency then: less than the bridge waits for an answer.
const SLOW_MS: u64 = 1_800;
const SEND_PATH: &str = "/sms/1/text/advanced";
const REST: Duration = Duration::from_secs(120);
const COMMANDS_OF_BATCH: usize = 40;
const BATCH_INTERVAL: Duration = Duration::from_millis(250);
/// The series that counts requests for one id that overlapped, if the bridge has one.
const OVERLAPS: &str = "overlap";

/// Whether `make fleet-test` runs the tests.
pub fn is_long() -> bool {
    number_from("SMSBRIDGE_FLEET_LONG").is_some()
}

/// Publishes commands until it is stopped.
pub struct Load {
    ticking: JoinHandle<()>,
    producing: JoinHandle<Vec<Record>>,
}

impl Load {
    pub fn start(broker: &TestBroker, seed: u64) -> Self {
        let (batches, receiver) = mpsc::channel::<Vec<Command>>(1);
        let ticking = tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            let mut commands = Commands::default();
            let mut interval = tokio::time::interval(BATCH_INTERVAL);
            loop {
                interval.tick().await;
                let batch = commands.draw(&mut random, COMMANDS_OF_BATCH);
                if batches.send(batch).await.is_err() {
                    return;
                }
            }
        });
        Self {
            ticking,
            producing: tokio::spawn(produce(broker.clone(), receiver)),
        }
    }

    pub async fn stop(self) -> Vec<Record> {
        self.ticking.abort();
        self.producing.await.expect("the publisher ends")
    }
}

/// A simulator whose API has the faults of a run.
pub async fn simulator(seed: u64, memory: ApiMemory) -> TestSimulator {
    let simulator = TestSimulator::with(|config| {
        config.seed = seed;
        config.delivery_latency_ms = (1, 5);
        config.logs_per_minute = 0;
        config.forbidden_prefixes = vec![REJECTED_PREFIX.into()];
        config.bounds.requests = 5_000_000;
    })
    .await;
    for fault in faults::of_run(memory) {
        simulator.fault(fault).await;
    }
    simulator
}

/// The sum of all series whose name has this part; `None` if there is none.
async fn metric(bridge: &BridgeProcess, part: &str) -> Option<f64> {
    let page = bridge.metrics().await;
    let is_it = |line: &&str| !line.starts_with('#') && line.contains(part);
    let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
    page.lines()
        .filter(is_it)
        .filter_map(value)
        .reduce(|a, b| a + b)
}

pub struct Fleet {
    pub broker: TestBroker,
    node: Node,
    simulator: TestSimulator,
    memory: ApiMemory,
    bridges: Vec<BridgeProcess>,
    timeline: Timeline,
    /// Of the processes that ended in order.
    overlaps: Option<f64>,
}

impl Fleet {
    pub async fn start(
        broker: TestBroker,
        node: Node,
        seed: u64,
        memory: ApiMemory,
        replicas: usize,
    ) -> Self {
        broker.declare_delays(SHORT_DELAYS_MS).await;
        drop(broker.publisher().await);
        let simulator = simulator(seed, memory).await;
        let mut bridges = Vec::new();
        for _ in 0..replicas {
            bridges.push(bridge(TempDir::new().unwrap(), &simulator, &broker, "").await);
        }
        Self {
            broker,
            node,
            simulator,
            memory,
            bridges,
            timeline: Timeline::new(),
            overlaps: None,
        }
    }

    fn note(&mut self, what: &str) {
        self.timeline.push((Timestamp::now(), what.into()));
    }

    /// Gives an order to the script that runs the broker; returns its answer.
    pub async fn order(self, order: &str) -> (Self, String) {
        let (node, answer) = self.node.answer(order).await;
        let mut fleet = Self { node, ..self };
        fleet.note(order);
        (fleet, answer)
    }

    async fn restart(&mut self, folder: TempDir) {
        let again = bridge(folder, &self.simulator, &self.broker, "").await;
        self.note("started again");
        self.bridges.push(again);
    }

    /// Kills the first bridge, and starts it again.
    async fn kill(&mut self) {
        let victim = self.bridges.remove(0);
        self.note("killed");
        let folder = victim.kill().await;
        self.restart(folder).await;
    }

    async fn count_overlaps(&mut self, of: &BridgeProcess) {
        if let Some(count) = metric(of, OVERLAPS).await {
            *self.overlaps.get_or_insert_default() += count;
        }
    }

    /// Ends the faults that are not those of the whole run.
    async fn heal(&self) {
        self.simulator.heal().await;
        for fault in faults::of_run(self.memory) {
            self.simulator.fault(fault).await;
        }
    }

    /// Sends SIGTERM to the first bridge while it has messages in doubt, and starts it again.
    async fn drain(&mut self) {
        let no_answer =
            json!({"kind": "accept_then_drop", "path": SEND_PATH, "probability": SHARE_IN_DOUBT});
        self.simulator.fault(no_answer).await;
        tokio::time::sleep(IN_DOUBT_FOR).await;
        let drained = self.bridges.remove(0);
        self.count_overlaps(&drained).await;
        self.note("SIGTERM");
        let (status, said) = drained.stop().await;
        assert!(status.success(), "{status} {said}");
        self.note("ended after SIGTERM");
        self.heal().await;
        self.restart(TempDir::new().unwrap()).await;
    }

    /// Freezes the first bridge for this time, while it holds commands that it has not sent.
    async fn freeze(&mut self, time: Duration) {
        let slow = json!({"kind": "latency", "ms": SLOW_MS, "path": SEND_PATH});
        self.simulator.fault(slow).await;
        tokio::time::sleep(SLOW_FOR).await;
        self.note("frozen");
        self.bridges[0].signal("STOP").await;
        self.heal().await;
        tokio::time::sleep(time).await;
        self.bridges[0].signal("CONT").await;
        self.note("woken");
    }

    /// Waits until all is handled, ends all bridges in order, and judges.
    pub async fn finish(mut self, records: Vec<Record>, what: &str) {
        let tail = EventTail::start(&self.broker).await;
        let rest = come_to_rest(&self.broker, &tail, &records, REST).await;
        for bridge in std::mem::take(&mut self.bridges) {
            self.count_overlaps(&bridge).await;
            let (status, said) = bridge.stop().await;
            assert!(status.success(), "{status} {said}");
        }
        let evidence = Evidence::collect(tail, &self.broker, &self.simulator).await;
        drop(self.node);
        assert!(rest.is_some(), "{what}: left {:?}", evidence.left);
        let counts_duplicates = self.memory != ApiMemory::LogsLag;
        let verdict = assert_kept(what, &records, &evidence, &self.timeline, counts_duplicates);
        let flow = Flow::new(&records, &evidence);
        let (pause, published_for) = (flow.longest_pause(), flow.duration());
        println!(
            "{what}: longest pause {pause:?} of {published_for:?}, duplicated {}, overlaps counted by the bridges {:?}",
            verdict.duplicated, self.overlaps
        );
        let longest = match is_long() {
            true => LONGEST_PAUSE,
            false => LONGEST_PAUSE_OF_SHORT,
        };
        assert!(
            published_for > longest,
            "{what}: commands were published for {published_for:?}, too short for a pause of {longest:?}"
        );
        assert!(pause <= longest, "{what}: a pause of {pause:?}");
        if let Some(overlaps) = self.overlaps {
            let duplicated = verdict.duplicated as f64;
            assert!(
                duplicated <= overlaps,
                "{what}: {duplicated} duplicated, and {overlaps} counted"
            );
        }
    }
}

async fn attack(seed: u64, memory: ApiMemory, replicas: usize, times: Times) {
    let Times {
        heartbeat,
        between,
        freeze,
    } = times;
    let (mut broker, node) = TestBroker::start_alone().await;
    broker.url = format!("{}?heartbeat={heartbeat}", broker.url);
    let mut fleet = Fleet::start(broker, node, seed, memory, replicas).await;
    let load = Load::start(&fleet.broker, seed);
    tokio::time::sleep(between).await;
    fleet.kill().await;
    tokio::time::sleep(between).await;
    fleet.drain().await;
    tokio::time::sleep(between).await;
    fleet.freeze(freeze).await;
    tokio::time::sleep(between).await;
    let records = load.stop().await;
    let what = format!("{replicas} bridges, {memory:?}");
    fleet.finish(records, &what).await;
}

/// With two bridges; with the variable of `make fleet-test` for longer, also with three, and where the API forgets ids. Then a message
/// that is sent twice is one of those whose requests the bridges count as possibly overlapping, if they count them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bridges_survive_a_kill_a_drain_and_a_freeze() {
    if !is_long() {
        return attack(2, ApiMemory::LogsLag, 2, Times::SHORT).await;
    }
    for (seed, memory, replicas) in [
        (2, ApiMemory::LogsLag, 2),
        (4, ApiMemory::LogsLag, 3),
        (3, ApiMemory::ForgetsIds, 2),
        (5, ApiMemory::ForgetsIds, 3),
    ] {
        attack(seed, memory, replicas, Times::LONG).await;
    }
}
