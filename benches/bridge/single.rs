//! Pushes of a single report at a steady rate. Each is timed from when it was due, not from when it was sent, so that a pause of the
//! bridge counts for all pushes that it delays.

use std::time::{Duration, Instant};

use super::{
    bare::{lapin, sqlite},
    engine::{Engine, Log},
    process::{Bridge, Simulator},
    push::{DEFAULT, Pusher, body, number},
    report::Report,
    seconds,
};

/// Reports of the log before: the bare peer takes its rows or bodies from it.
const BEFORE: u64 = 2000;
/// Longer measurements than of rates: a hundredth of the pushes are few.
const TIMES_SECONDS: u32 = 3;

/// Pushes in a second (`SMSBRIDGE_BENCH_SINGLE_PER_SECOND`).
fn per_second() -> u64 {
    number("SMSBRIDGE_BENCH_SINGLE_PER_SECOND", 500)
}

pub async fn single(report: &mut Report, engine: Engine<'_>) {
    let simulator = Simulator::start(0).await;
    let log = engine.log().await;
    let bridge = log.bridge(&simulator, None).await;
    Pusher::to(&bridge).at_once(BEFORE, 4).await;
    let folder = bridge.end().await.folder;
    let (rate, duration) = (per_second(), seconds() * TIMES_SECONDS);
    let mut bare = match &log {
        Log::Embedded => sqlite::writing_singly(folder.path(), rate, duration.as_secs_f64()),
        Log::Broker(broker) => lapin::publishing_singly(broker, rate, duration.as_secs_f64()).await,
    };
    let bridge = log.bridge(&simulator, Some(folder)).await;
    let cpu = bridge.cpu();
    let mut ours = pushed(&bridge, rate, duration).await;
    let cpu = (bridge.cpu() - cpu).as_secs_f64() * 1e3 / ours.len() as f64;
    let name = format!("single pushes at {rate}/s, {}", engine.name());
    let what = format!("{name}: p50; p99; max");
    report.row(
        &what,
        &percentiles(&mut bare),
        &percentiles(&mut ours),
        "",
        "",
    );
    let what = format!("{name}: CPU per 1,000; peak memory");
    let used = format!("{cpu:.3} s; {:.1} MB", bridge.peak_bytes() as f64 / 1e6);
    report.row(&what, "", &used, "", "");
    bridge.end().await;
    log.delete().await;
}

async fn pushed(bridge: &Bridge, per_second: u64, duration: Duration) -> Vec<Duration> {
    let pusher = Pusher::to(bridge);
    // The connections of the first pushes are there before.
    for number in 0..50 {
        assert!(
            pusher
                .push(body(&[DEFAULT], "first", number..number + 1))
                .await
        );
    }
    let begun = Instant::now();
    let pushes = (per_second as f64 * duration.as_secs_f64()) as u64;
    let mut answers = Vec::new();
    for number in 0..pushes {
        let due = begun + Duration::from_secs_f64(number as f64 / per_second as f64);
        tokio::time::sleep_until(due.into()).await;
        let pusher = pusher.clone();
        answers.push(tokio::spawn(async move {
            assert!(
                pusher
                    .push(body(&[DEFAULT], "single", number..number + 1))
                    .await
            );
            due.elapsed()
        }));
    }
    let mut took = Vec::new();
    for answer in answers {
        took.push(answer.await.unwrap());
    }
    took
}

/// The median, the 99th percentile and the maximum, in words.
fn percentiles(took: &mut [Duration]) -> String {
    let mut ms = |percent: usize| percentile(took, percent).as_secs_f64() * 1e3;
    let (p50, p99, max) = (ms(50), ms(99), ms(100));
    format!("{p50:.2}; {p99:.2}; {max:.1} ms")
}

/// The time that so many percent did not exceed. Sorts them.
pub fn percentile(took: &mut [Duration], percent: usize) -> Duration {
    took.sort_unstable();
    let last = took.len().saturating_sub(1);
    took.get(last * percent / 100).copied().unwrap_or_default()
}
