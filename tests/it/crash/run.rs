//! Carries out a schedule: starts and kills the bridge and the broker, sets the faults, and lets everything come to rest at the
//! end.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    evidence::{EventTail, Evidence, waiting},
    faults,
    history::Timeline,
    producer::{Command, REJECTED_PREFIX, Record, produce},
    report::Report,
    schedule::{Cycle, End, Outage, Schedule},
};
use crate::support::{
    broker::{Node, TestBroker},
    process::BridgeProcess,
    simulator::TestSimulator,
};

/// How long the bridge may need for what is left when all faults have ended. Commands that wait longest are in the last retry
/// queue.
const REST: Duration = Duration::from_secs(60);
/// Added for each cycle, because backlogs grow with the kills.
const REST_OF_CYCLE: Duration = Duration::from_secs(1);
const REST_INTERVAL: Duration = Duration::from_millis(250);
/// A kill point that is not reached in this time is replaced by SIGKILL.
const KILL_POINT_TIMEOUT: Duration = Duration::from_secs(8);
/// The delays of the retry queues, shorter than the bridge's own, so that a run does not consist of waiting.
pub const SHORT_DELAYS_MS: [i64; 3] = [500, 2_000, 6_000];

pub struct Run {
    schedule: Schedule,
    broker: TestBroker,
    node: Node,
    simulator: TestSimulator,
    folder: TempDir,
    commands: mpsc::Sender<Vec<Command>>,
    producing: JoinHandle<Vec<Record>>,
    report: Report,
}

impl Run {
    pub async fn start(schedule: Schedule) -> Self {
        let (broker, node) = TestBroker::start_alone().await;
        broker.declare_delays(SHORT_DELAYS_MS).await;
        drop(broker.publisher().await);
        let simulator = TestSimulator::with(|config| {
            config.seed = schedule.seed;
            config.delivery_latency_ms = (1, 5);
            config.logs_per_minute = 0;
            config.forbidden_prefixes = vec![REJECTED_PREFIX.into()];
            config.bounds.requests = 5_000_000;
        })
        .await;
        // Bounded, so that the publisher is at most a cycle ahead.
        let (commands, batches) = mpsc::channel(1);
        let producing = tokio::spawn(produce(broker.clone(), batches));
        Self {
            report: Report::new(&schedule),
            schedule,
            broker,
            node,
            simulator,
            folder: tempfile::tempdir().unwrap(),
            commands,
            producing,
        }
    }

    /// Carries out all cycles, waits for rest, and judges.
    pub async fn finish(mut self) -> Report {
        for (number, cycle) in std::mem::take(&mut self.schedule.cycles)
            .into_iter()
            .enumerate()
        {
            self = self.cycle(number, cycle).await;
        }
        self.judge().await
    }

    async fn cycle(mut self, number: usize, cycle: Cycle) -> Self {
        self.heal().await;
        for fault in &cycle.faults {
            self.simulator.fault(fault.clone()).await;
        }
        self.commands
            .send(cycle.commands)
            .await
            .expect("the producer runs");
        let kill_at = match cycle.end {
            End::At(point, count) => format!("{}:{count}", point.name()),
            End::Kill(_) => String::new(),
        };
        let bridge = bridge(self.folder, &self.simulator, &self.broker, &kill_at).await;
        self.report.note(format!(
            "{number}: bridge started, faults {:?}",
            cycle.faults
        ));
        let life = match cycle.end {
            End::Kill(life) => life,
            End::At(..) => KILL_POINT_TIMEOUT,
        };
        let (ended, (node, outage)) =
            tokio::join!(bridge.kill_after(life), outage(self.node, cycle.outage));
        self.folder = ended.folder;
        self.node = node;
        self.report.memory(ended.peak_memory_mb);
        self.report.timeline.extend(outage);
        self.report.restarts += usize::from(cycle.outage.is_some());
        self.report.ended(number, cycle.end, ended.status);
        if let Some(logs) = std::env::var_os("SMSBRIDGE_CRASH_LOGS") {
            let file = PathBuf::from(logs).join(format!("bridge-{number}.log"));
            std::fs::write(file, ended.said).unwrap();
        }
        self
    }

    /// Ends the faults of the last cycle. What the API remembers, and how its logs lag, stays.
    async fn heal(&self) {
        self.simulator.heal().await;
        for fault in faults::of_run(self.schedule.memory) {
            self.simulator.fault(fault).await;
        }
    }

    async fn judge(mut self) -> Report {
        self.heal().await;
        drop(self.commands);
        let records = self.producing.await.expect("the producer ends");
        let bridge = bridge(self.folder, &self.simulator, &self.broker, "").await;
        self.report.note("all faults have ended".into());
        let tail = EventTail::start(&self.broker).await;
        let rest = REST + REST_OF_CYCLE * u32::try_from(self.report.cycles).unwrap();
        self.report.rest = come_to_rest(&self.broker, &tail, &records, rest).await;
        self.report.memory(Some(bridge.peak_memory_mb()));
        let (status, _) = bridge.stop().await;
        self.report.last_exit = Some(status);
        let evidence = Evidence::collect(tail, &self.broker, &self.simulator).await;
        drop(self.node);
        self.report.judge(records, evidence);
        self.report
    }
}

pub async fn bridge(
    folder: TempDir,
    simulator: &TestSimulator,
    broker: &TestBroker,
    kill_at: &str,
) -> BridgeProcess {
    let filter = match std::env::var_os("SMSBRIDGE_CRASH_LOGS") {
        Some(_) => "smsbridge=debug,info",
        None => "info",
    };
    let settings = [
        ("SMSBRIDGE_AMQP__URL", broker.url.as_str()),
        ("SMSBRIDGE_AMQP__PREFETCH", "200"),
        ("SMSBRIDGE_AMQP__CONFIRM_TIMEOUT", "5s"),
        ("SMSBRIDGE_HTTP__PUBLIC_URL", ""),
        ("SMSBRIDGE_INFOBIP__CONNECT_TIMEOUT", "1s"),
        ("SMSBRIDGE_INFOBIP__REQUEST_TIMEOUT", "2s"),
        ("SMSBRIDGE_INFOBIP__LOG_LAG", "3s"),
        ("SMSBRIDGE_SEND__MAX_BATCH", "20"),
        ("SMSBRIDGE_SEND__MAX_REQUESTS_IN_FLIGHT", "8"),
        ("SMSBRIDGE_SEND__RETRY_FOR", "2s"),
        ("SMSBRIDGE_SEND__IN_DOUBT_WAIT", "100ms"),
        ("SMSBRIDGE_LOG__FILTER", filter),
        ("SMSBRIDGE_KILL_AT", kill_at),
    ];
    BridgeProcess::start_in(folder, simulator, &settings).await
}

/// Kills the broker and starts it again.
async fn outage(mut node: Node, outage: Option<Outage>) -> (Node, Timeline) {
    let mut timeline = Timeline::new();
    if let Some(Outage { after, lasts }) = outage {
        tokio::time::sleep(after).await;
        node = node.kill().await;
        timeline.push((Timestamp::now(), "broker killed".into()));
        tokio::time::sleep(lasts).await;
        node = node.start_again().await;
        timeline.push((Timestamp::now(), "broker started".into()));
    }
    (node, timeline)
}

/// Waits until the command queues are empty and each confirmed destination has a result, at most for `rest`. Returns how long
/// that took.
pub async fn come_to_rest(
    broker: &TestBroker,
    tail: &EventTail,
    records: &[Record],
    rest: Duration,
) -> Option<Duration> {
    let begun = Instant::now();
    let client = broker.client().await;
    let confirmed = records.iter().filter(|record| record.is_confirmed);
    let mut open: BTreeSet<&str> = confirmed
        .flat_map(|record| record.command.numbers.iter().map(String::as_str))
        .collect();
    let mut read = 0;
    while begun.elapsed() < rest {
        let (numbers, now_read) = tail.numbers_with_results(read);
        read = now_read;
        open.retain(|number| !numbers.contains(*number));
        if open.is_empty() && waiting(&client, &broker.prefix).await.is_empty() {
            return Some(begun.elapsed());
        }
        tokio::time::sleep(REST_INTERVAL).await;
    }
    None
}
