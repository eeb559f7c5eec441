//! Pushes of 100 reports → confirmed events, beside a bare writer to the same engine. A push is answered 200 when its events are
//! confirmed, so the rate is from the first push to the last answer.

use tempfile::TempDir;

use super::{
    bare::{lapin, sqlite},
    beside,
    engine::{Engine, Log},
    load::Measured,
    process::Simulator,
    push::{Pusher, number},
    report::Report,
};

/// Connections that push at a time: the best of these counts.
const CONNECTIONS: [usize; 3] = [4, 16, 64];
const GOAL: &str = "at least 0.70";

/// Reports of a measurement (`SMSBRIDGE_BENCH_REPORTS`).
fn reports() -> u64 {
    number("SMSBRIDGE_BENCH_REPORTS", 100_000)
}

/// On SQLite the bare writer writes the rows of a bridge's log, in the transactions of that bridge.
pub async fn embedded(report: &mut Report) {
    let simulator = Simulator::start(0).await;
    let count = reports();
    // The fastest of a first round, whose rows the bare writer writes.
    let mut written: Option<(Measured, TempDir)> = None;
    for connections in CONNECTIONS {
        let (measured, folder) = pushed(&simulator, &Log::Embedded, connections, count).await;
        if written
            .as_ref()
            .is_none_or(|(best, _)| measured.rate() > best.rate())
        {
            written = Some((measured, folder));
        }
    }
    let (_, folder) = written.unwrap();
    let batches = sqlite::Commits::of(folder.path());
    assert_eq!(batches.events, count, "each report of a push is an event");
    let (bare, ours) = beside(
        async || sqlite::writing(folder.path(), count),
        async || {
            best_of(async |connections| {
                let (measured, folder) =
                    pushed(&simulator, &Log::Embedded, connections, count).await;
                assert_eq!(sqlite::Commits::of(folder.path()).events, count);
                measured
            })
            .await
        },
    )
    .await;
    let name = format!(
        "pushes of 100, embedded engine ({} events per commit)",
        batches.events / batches.commits.max(1)
    );
    report.events(&name, &bare, &ours, GOAL);
}

/// On a broker the bare publisher publishes the bodies of a bridge's events.
pub async fn broker(report: &mut Report, url: &str) {
    let simulator = Simulator::start(0).await;
    let count = reports();
    let published = Engine::Broker(url).log().await;
    pushed(&simulator, &published, CONNECTIONS[1], count.max(10_000)).await;
    let Log::Broker(from) = &published else {
        unreachable!("it is on a broker");
    };
    let (bare, ours) = beside(
        async || {
            let mut best = Measured::default();
            for in_flight in lapin::IN_FLIGHT {
                let measured = lapin::publishing(from, in_flight, count).await;
                if best.messages == 0 || measured.rate() > best.rate() {
                    best = measured;
                }
            }
            best
        },
        async || {
            best_of(async |connections| {
                let log = Engine::Broker(url).log().await;
                let (measured, _) = pushed(&simulator, &log, connections, count).await;
                log.delete().await;
                measured
            })
            .await
        },
    )
    .await;
    report.events("pushes of 100, broker engine", &bare, &ours, GOAL);
    published.delete().await;
}

async fn best_of(pushed: impl AsyncFn(usize) -> Measured) -> Measured {
    let mut best = pushed(CONNECTIONS[0]).await;
    for connections in &CONNECTIONS[1..] {
        let measured = pushed(*connections).await;
        if measured.rate() > best.rate() {
            best = measured;
        }
    }
    best
}

/// Pushes reports to a new bridge, and ends it. Returns its folder.
async fn pushed(
    simulator: &Simulator,
    log: &Log,
    connections: usize,
    count: u64,
) -> (Measured, TempDir) {
    let bridge = log.bridge(simulator, None).await;
    let pusher = Pusher::to(&bridge);
    let measured = bridge.used_by(pusher.at_once(count, connections)).await;
    let peak_bytes = bridge.peak_bytes();
    let folder = bridge.end().await.folder;
    let measured = Measured {
        peak_bytes,
        ..measured
    };
    (measured, folder)
}
