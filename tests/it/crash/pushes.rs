//! Reports and received messages in custody: Infobip pushes them and the bridge pulls others while it is killed again and again, also
//! between the append and the answer, and between the response of a pull and its events; while the broker is killed or blocks publishers,
//! or the disk of the embedded log is full. The oracle compares what was answered with the events, on both engines.
//!
//! Here a short run. `make custody-test CYCLES=n SEED=s REPORTS=n` sets variables for another one.

mod infobip;
mod oracle;
mod pulled;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use smsbridge::{
    ops::kill_point::KillPoint,
    proto::{
        Timestamp,
        v1::{
            Event, StreamEventsRequest, event_service_client::EventServiceClient,
            stream_events_request::Start,
        },
    },
};
use tempfile::TempDir;
use tokio::sync::{Semaphore, watch};

use self::{infobip::Infobip, oracle::judge, pulled::Pulls};
use super::{evidence::EventTail, number_from};
use crate::support::{
    DEADLINE,
    broker::{Node, TestBroker},
    process::BridgeProcess,
    simulator::TestSimulator,
    small_disk::SmallDisk,
};

const SHORT: usize = 10;
const SEED: u64 = 1;
/// Reports that are pushed in one cycle, and as many received messages as one tenth of them.
const REPORTS_OF_CYCLE: usize = 250;
/// A kill point that is not reached in this time, or not built, is replaced by SIGKILL.
const KILL_POINT_TIMEOUT: Duration = Duration::from_secs(4);
/// One outage of each kind in this many cycles.
const CYCLES_OF_OUTAGE: usize = 10;
/// The disk of the embedded log: with its reserve, and for each report.
const DISK_BYTES: usize = 64 * 1024 * 1024;
const DISK_BYTES_OF_REPORT: usize = 4 * 1024;

/// The engine of the event log.
pub(super) enum Engine {
    Embedded,
    /// The embedded one, on a disk that may be full.
    OnSmallDisk(SmallDisk),
    Broker(TestBroker, Option<Node>),
}

impl Engine {
    pub(super) async fn broker() -> Self {
        let (broker, node) = TestBroker::start_alone().await;
        drop(broker.publisher().await);
        Self::Broker(broker, Some(node))
    }

    pub(super) async fn start(
        &self,
        folder: TempDir,
        simulator: &TestSimulator,
        kill_at: &str,
        more: &[(&str, &str)],
    ) -> BridgeProcess {
        let mut settings = vec![
            ("SMSBRIDGE_KILL_AT", kill_at),
            ("SMSBRIDGE_HTTP__REQUEST_TIMEOUT", "2s"),
        ];
        settings.extend(more);
        if let Self::OnSmallDisk(disk) = self {
            return BridgeProcess::start_on(disk, simulator, &settings).await;
        }
        if let Self::Broker(broker, _) = self {
            settings.push(("SMSBRIDGE_AMQP__URL", broker.url.as_str()));
            settings.push(("SMSBRIDGE_AMQP__CONFIRM_TIMEOUT", "1s"));
        }
        BridgeProcess::start_in(folder, simulator, &settings).await
    }

    /// The embedded engine, on a small disk where one can be mounted.
    fn embedded(reports: usize) -> Self {
        let bytes = DISK_BYTES + reports * DISK_BYTES_OF_REPORT;
        SmallDisk::mount(bytes as u64).map_or(Self::Embedded, Self::OnSmallDisk)
    }

    /// What happens to the broker or the disk in a cycle. The broker is killed and started again in one of ten, and blocks publishers in
    /// another. The disk is full for a while in one of ten; in another it becomes full, and in the next there is space again, so that
    /// a process is killed and one is started on the full disk.
    async fn outage(&mut self, cycle: usize, lasts: Duration) -> Option<&'static str> {
        let of_ten = cycle % CYCLES_OF_OUTAGE;
        match self {
            Self::Embedded => None,
            Self::OnSmallDisk(disk) => match of_ten {
                4 | 7 => {
                    disk.fill(0);
                    if of_ten == 4 {
                        tokio::time::sleep(lasts).await;
                        disk.free();
                    }
                    Some("disk full")
                }
                8 => {
                    tokio::time::sleep(lasts).await;
                    disk.free();
                    None
                }
                _ => None,
            },
            Self::Broker(_, node) => {
                let running = node.take().expect("it is put back");
                let (stopped, what) = match of_ten {
                    4 => {
                        let killed = running.kill().await;
                        tokio::time::sleep(lasts).await;
                        (killed.start_again().await, Some("broker killed"))
                    }
                    7 => {
                        let blocked = running.set_alarm(true).await;
                        tokio::time::sleep(lasts).await;
                        (blocked.set_alarm(false).await, Some("broker blocked"))
                    }
                    _ => (running, None),
                };
                *node = Some(stopped);
                what
            }
        }
    }

    /// Ends an outage that goes on over cycles.
    fn end_outage(&self, cycles: usize) {
        if let Self::OnSmallDisk(disk) = self
            && cycles % CYCLES_OF_OUTAGE == 8
        {
            disk.free();
        }
    }

    /// All events, in the order of the log.
    async fn events(&self, bridge: &BridgeProcess) -> Vec<Event> {
        if let Self::Broker(broker, _) = self {
            return EventTail::start(broker).await.finish().await;
        }
        events_of(bridge).await
    }
}

/// All events of a bridge, in the order of its log, as its clients see them.
pub async fn events_of(bridge: &BridgeProcess) -> Vec<Event> {
    let request = StreamEventsRequest {
        start: Some(Start::Since(Timestamp::default())),
        end_at_head: true,
        ..Default::default()
    };
    let mut client = EventServiceClient::new(bridge.connect().await);
    let mut stream = client.stream_events(request).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(answer) = stream.message().await.unwrap() {
        events.extend(answer.event);
    }
    events
}

fn reports(cycles: usize) -> usize {
    number_from("SMSBRIDGE_CUSTODY_REPORTS").unwrap_or(cycles * REPORTS_OF_CYCLE)
}

fn cycles() -> usize {
    number_from("SMSBRIDGE_CUSTODY_CYCLES").unwrap_or(SHORT)
}

async fn attack(mut engine: Engine) {
    let cycles = cycles();
    let seed = number_from("SMSBRIDGE_CUSTODY_SEED").map_or(SEED, |seed| seed as u64);
    let reports = reports(cycles);
    let mut random = StdRng::seed_from_u64(seed);
    let simulator = TestSimulator::start().await;
    let bodies = infobip::bodies(seed, reports, reports / 10);
    let of_cycle = bodies.len().div_ceil(cycles);
    let released = Arc::new(Semaphore::new(0));
    let (at, address) = watch::channel::<Option<SocketAddr>>(None);
    let (grpc_at, grpc_address) = watch::channel::<Option<SocketAddr>>(None);
    let infobip = Infobip::start(bodies, released.clone(), address);
    let pulled_rows = reports / 10;
    let mut pulls = Pulls::start(pulled_rows / 2, pulled_rows / 2, grpc_address).await;
    let base_url = pulls.url.clone();
    let settings = [("SMSBRIDGE_INFOBIP__BASE_URL", base_url.as_str())];
    let mut folder = tempfile::tempdir().unwrap();
    let (mut at_points, mut outages, mut peak_mb) = (0, Vec::new(), 0);
    for cycle in 0..cycles {
        let is_point = cfg!(feature = "kill-points") && cycle % 2 == 1;
        let is_of_pull = is_point && cycle % 4 == 1;
        let lasts = Duration::from_millis(random.random_range(50..1_500));
        let (kill_at, life) = if is_of_pull {
            (KillPoint::RawStored.name().to_owned(), KILL_POINT_TIMEOUT)
        } else if is_point {
            let count = random.random_range(1..=of_cycle / 4 + 1);
            let point = KillPoint::EventsStored.name();
            (format!("{point}:{count}"), KILL_POINT_TIMEOUT)
        } else {
            let life = Duration::from_millis(random.random_range(5..400));
            (String::new(), life)
        };
        let bridge = engine.start(folder, &simulator, &kill_at, &settings).await;
        at.send_replace(Some(bridge.addresses.http));
        grpc_at.send_replace(Some(bridge.address));
        released.add_permits(of_cycle);
        pulls.release(pulled_rows.div_ceil(cycles));
        let outage = engine.outage(cycle, lasts);
        let (ended, outage) = tokio::join!(bridge.kill_after(life), outage);
        at.send_replace(None);
        grpc_at.send_replace(None);
        outages.extend(outage);
        at_points += usize::from(ended.status.is_some());
        if is_of_pull && ended.status.is_some() {
            pulls.last_is_stored();
        }
        peak_mb = peak_mb.max(ended.peak_memory_mb.unwrap_or_default());
        folder = ended.folder;
    }
    engine.end_outage(cycles);
    let bridge = engine.start(folder, &simulator, "", &settings).await;
    at.send_replace(Some(bridge.addresses.http));
    grpc_at.send_replace(Some(bridge.address));
    released.add_permits(of_cycle);
    pulls.release(pulled_rows);
    let mut pushed = infobip.finish().await;
    pulls.finish().await;
    // A pull may be answered before its rows are events.
    let deadline = Instant::now() + DEADLINE;
    let events = loop {
        let events = engine.events(&bridge).await;
        if pulls.missing(&events) == 0 || Instant::now() > deadline {
            break events;
        }
    };
    peak_mb = peak_mb.max(bridge.peak_memory_mb());
    let (status, _) = bridge.stop().await;
    assert!(status.success(), "the last process: {status:?}");
    let (pulled, gone) = pulls.judged(&events);
    let stored = pulled.len();
    pushed.extend(pulled);
    let verdict = judge(&pushed, &events);
    println!(
        "seed {seed}, kills {cycles} ({at_points} at points), {outages:?}, peak {peak_mb} MB, {stored} rows pulled, and {gone} that a \
         kill took before they were stored\n{verdict}"
    );
    let is_kept =
        verdict.lost.is_empty() && verdict.doubled.is_empty() && verdict.unexpected.is_empty();
    assert!(is_kept, "seed {seed}: P4 or P6 is broken");
    assert!(verdict.recovered > 0, "no kill hit a push");
    assert!(stored > gone, "most pulls are stored");
    // P6: on the broker within one process only.
    let is_embedded = !matches!(engine, Engine::Broker(..));
    assert!(!is_embedded || verdict.pending_after_final.is_empty());
    assert!(!is_embedded || verdict.repeated == 0);
    if cfg!(feature = "kill-points") {
        assert!(at_points >= cycles / 4, "{at_points} kills at the point");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_push_that_was_answered_is_an_event_of_the_embedded_log() {
    attack(Engine::embedded(reports(cycles()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_push_that_was_answered_is_an_event_on_the_broker() {
    attack(Engine::broker().await).await;
}
