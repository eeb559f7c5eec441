//! Outages of the API and an alarm of the broker while many commands are queued (docs/RELIABILITY.md#outages-of-the-api): the API is
//! probed, no command ends otherwise than by an acceptance, and during the alarm nothing is sent.
//!
//! Here they are short. `make outage-test SECONDS=s COMMANDS=n` sets variables for longer ones, of all kinds.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{
    api_gate::{ApiGate, Passage},
    evidence::{EventTail, Evidence},
    number_from,
    oracle::judge,
    producer::{Commands, Record, produce},
    run::come_to_rest,
};
use crate::support::{
    broker::{Node, TestBroker},
    eventually,
    process::BridgeProcess,
    simulator::TestSimulator,
};

const SEND_PATH: &str = "/sms/1/text/advanced";
/// After this time of an outage there are at most [`MOST_IN_A_SECOND`] sends in any second, and during an alarm none.
const SETTLED: Duration = Duration::from_secs(2);
const MOST_IN_A_SECOND: usize = 2;
/// Less than the outage, so that a doubt would end in it if its time did not stand still.
const IN_DOUBT_FOR: &str = "20s";
/// The slowest rate at which the backlog is worked off afterwards, by a debug build on a loaded machine.
const COMMANDS_PER_SECOND: usize = 150;
/// A command whose request was refused with 401 comes back after a minute.
const LONGEST_DELAY: Duration = Duration::from_secs(90);
const MEMORY_MB: usize = 200;
/// Files and sockets that may be open beside those of the beginning of an alarm.
const MORE_FILES: usize = 10;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http503,
    Http404,
    Http401,
    Refused,
    Timeouts,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Http503,
        Self::Http404,
        Self::Http401,
        Self::Refused,
        Self::Timeouts,
    ];

    fn faults(self) -> Vec<Value> {
        match self {
            Self::Http503 => vec![json!({"kind": "status", "status": 503})],
            Self::Http404 => vec![json!({"kind": "html", "status": 404})],
            Self::Http401 => vec![json!({"kind": "status", "status": 401})],
            Self::Refused | Self::Timeouts => Vec::new(),
        }
    }

    fn passage(self) -> Passage {
        match self {
            Self::Http503 | Self::Http404 | Self::Http401 => Passage::Open,
            Self::Refused => Passage::Refused,
            Self::Timeouts => Passage::Silent,
        }
    }
}

/// A bridge that works off a backlog.
struct Backlog {
    broker: TestBroker,
    node: Node,
    simulator: TestSimulator,
    gate: ApiGate,
    bridge: BridgeProcess,
    records: Vec<Record>,
}

impl Backlog {
    /// Returns when the first commands were sent.
    async fn start(commands: usize) -> Self {
        let (broker, node) = TestBroker::start_alone().await;
        drop(broker.publisher().await);
        let simulator = TestSimulator::with(|config| {
            config.delivery_latency_ms = (1, 5);
            config.logs_per_minute = 0;
            config.bounds.requests = 5_000_000;
        })
        .await;
        // So that requests are in flight when the outage begins.
        simulator
            .fault(json!({"kind": "latency", "ms": 50, "path": SEND_PATH}))
            .await;
        let gate = ApiGate::start(simulator.address()).await;
        let (batches, receiver) = mpsc::channel(1);
        batches.send(Commands::plain(commands)).await.unwrap();
        drop(batches);
        let records = produce(broker.clone(), receiver).await;
        let base_url = gate.base_url();
        let settings = [
            ("SMSBRIDGE_AMQP__URL", broker.url.as_str()),
            ("SMSBRIDGE_HTTP__PUBLIC_URL", ""),
            ("SMSBRIDGE_INFOBIP__BASE_URL", &base_url),
            ("SMSBRIDGE_INFOBIP__CONNECT_TIMEOUT", "500ms"),
            ("SMSBRIDGE_INFOBIP__REQUEST_TIMEOUT", "1s"),
            ("SMSBRIDGE_INFOBIP__LOG_LAG", "5s"),
            ("SMSBRIDGE_SEND__MAX_BATCH", "10"),
            ("SMSBRIDGE_SEND__IN_DOUBT_FOR", IN_DOUBT_FOR),
        ];
        let bridge = BridgeProcess::start_in(TempDir::new().unwrap(), &simulator, &settings).await;
        eventually("commands are sent", || async {
            (gate.sends().len() >= 3).then_some(())
        })
        .await;
        Self {
            broker,
            node,
            simulator,
            gate,
            bridge,
            records,
        }
    }

    /// Requests to send that the bridge counts, with those that no connection carried.
    async fn sends_counted(&self) -> usize {
        let page = self.bridge.metrics().await;
        let of_sends = |line: &&str| {
            line.starts_with("smsbridge_infobip_requests_total{")
                && line.contains("endpoint=\"send\"")
        };
        let values = page.lines().filter(of_sends);
        let values = values.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
        values.sum()
    }

    /// Waits for `time`; returns when requests to send ended meanwhile, as the bridge counts them.
    async fn watch_counter(&self, time: Duration) -> Vec<Instant> {
        let end = Instant::now() + time;
        let mut sends = Vec::new();
        let mut before = self.sends_counted().await;
        while Instant::now() < end {
            tokio::time::sleep(SAMPLE_INTERVAL).await;
            let now = self.sends_counted().await;
            sends.extend(std::iter::repeat_n(Instant::now(), now - before));
            before = now;
        }
        sends
    }

    /// Waits until all commands are accepted, stops the bridge, and asserts that nothing else happened.
    async fn assert_accepted(self, what: &str, note: String) {
        let commands = self.records.len();
        assert!(self.records.iter().all(|record| record.is_confirmed));
        let tail = EventTail::start(&self.broker).await;
        let seconds = u64::try_from(commands / COMMANDS_PER_SECOND).unwrap();
        let most = LONGEST_DELAY + Duration::from_secs(seconds);
        let rest = come_to_rest(&self.broker, &tail, &self.records, most).await;
        let memory_mb = self.bridge.peak_memory_mb();
        let (status, said) = self.bridge.stop().await;
        let evidence = Evidence::collect(tail, &self.broker, &self.simulator).await;
        drop(self.node);
        let verdict = judge(&self.records, &evidence);
        println!(
            "{what}: {commands} commands, {note}; all handled after {rest:?}, peak memory {memory_mb} MB"
        );
        let rest = rest.is_some();
        assert!(rest && verdict.sent == commands, "{what}: {verdict:?}");
        let found = [
            verdict.lost,
            verdict.duplicated,
            verdict.contradicting,
            verdict.unexpected,
            verdict.unknown_with_id,
            verdict.dead,
        ];
        assert_eq!(found, [0; 6], "{what}: {verdict:?}");
        assert!(evidence.left.is_empty(), "{what}: {:?}", evidence.left);
        assert!(status.success(), "{what}: {status} {said}");
        assert!(memory_mb <= MEMORY_MB, "{what}: {memory_mb} MB");
    }
}

/// The most sends in any second that begins with one.
fn most_in_a_second(sends: &[Instant]) -> usize {
    let until = |from: Instant| from + Duration::from_secs(1);
    let in_second = |from: &Instant| {
        let in_it = |at: &&Instant| **at >= *from && **at < until(*from);
        sends.iter().filter(in_it).count()
    };
    sends.iter().map(in_second).max().unwrap_or_default()
}

async fn sit_out(kind: Kind, lasts: Duration, commands: usize) {
    let backlog = Backlog::start(commands).await;
    for fault in kind.faults() {
        backlog.simulator.fault(fault).await;
    }
    backlog.gate.set(kind.passage());
    tokio::time::sleep(SETTLED).await;
    let settled = Instant::now();
    let counted = backlog.watch_counter(lasts - SETTLED).await;
    backlog.simulator.heal().await;
    let ended = Instant::now();
    backlog.gate.set(Passage::Open);
    let mut sends = counted;
    if kind != Kind::Refused {
        sends = backlog.gate.sends();
        sends.retain(|at| (settled..ended).contains(at));
    }
    let (probes, most) = (sends.len(), most_in_a_second(&sends));
    assert!(probes > 0, "{kind:?}: nobody asks whether the API is back");
    assert!(most <= MOST_IN_A_SECOND, "{kind:?}: {most} in a second");
    let note = format!("{lasts:?} of {kind:?} with {probes} sends, {most} in a second");
    backlog.assert_accepted("outage", note).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_sits_out_an_api_that_is_down() {
    let seconds = number_from("SMSBRIDGE_OUTAGE_SECONDS");
    let commands = number_from("SMSBRIDGE_OUTAGE_COMMANDS");
    // `amqp::api_outages` has short ones of the other kinds.
    let kinds: &[Kind] = match seconds {
        Some(_) => &Kind::ALL,
        None => &[Kind::Refused, Kind::Timeouts],
    };
    let lasts = Duration::from_secs(seconds.unwrap_or(8) as u64);
    for kind in kinds {
        sit_out(*kind, lasts, commands.unwrap_or(1_000)).await;
    }
}

/// The broker is low on memory: it takes no results, so nothing may be sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_during_a_resource_alarm_of_the_broker() {
    let seconds = number_from("SMSBRIDGE_ALARM_SECONDS").unwrap_or(15);
    let commands = number_from("SMSBRIDGE_OUTAGE_COMMANDS").unwrap_or(5_000);
    let mut backlog = Backlog::start(commands).await;
    backlog.node = backlog.node.set_alarm(true).await;
    tokio::time::sleep(SETTLED).await;
    let settled = Instant::now();
    let files = backlog.bridge.open_files();
    let end = settled + Duration::from_secs(seconds as u64);
    let mut most_files = 0;
    while Instant::now() < end {
        tokio::time::sleep(SAMPLE_INTERVAL).await;
        most_files = most_files.max(backlog.bridge.open_files());
    }
    let is_late = |at: &Instant| *at > settled;
    let late = backlog.gate.sends().into_iter().filter(is_late).count();
    backlog.node = backlog.node.set_alarm(false).await;
    assert_eq!(late, 0, "sends during the alarm");
    assert!(
        most_files <= files + MORE_FILES,
        "{files} open files at the beginning of the alarm, {most_files} later"
    );
    let note =
        format!("{seconds} s of alarm, {files} open files at its beginning, {most_files} later");
    backlog.assert_accepted("alarm", note).await;
}
