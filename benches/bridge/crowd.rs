//! A bridge under clients that misbehave, while events pass: what others notice of it, what memory it costs, whether each push that was
//! answered 200 is an event, and how long the bridge takes to end with all of them connected.
//!
//! Quiet and crowded measurements have the same events, the same healthy subscribers and the same probes: what differs is the crowd.

mod misbehaving;
mod probes;
mod subscribers;

use std::{
    collections::HashMap,
    ops::Range,
    time::{Duration, Instant},
};

use smsbridge::proto::v1::{
    self, event::Payload, event_service_client::EventServiceClient, stream_events_request::Start,
};
use tonic::transport::Channel;

use self::{
    misbehaving::Crowd,
    probes::{Arrivals, Probes, Probing},
    subscribers::Healthy,
};
use super::{
    engine::{Engine, Log},
    process::{Bridge, Simulator},
    push::{Pusher, number, read_message_id},
    replay,
    report::Report,
    single::percentile,
};

/// Whose messages the reports are about, in turn. Each of the last four has a subscription that acknowledges nothing.
const APPLICATIONS: &[&str] = &["default", "hoard-a", "hoard-b", "hoard-c", "hoard-d"];
/// Pushes of 100 at a time at most.
const CONNECTIONS: usize = 16;
/// The quiet measurement has this part of the events of the crowded one.
const QUIET_PART: u64 = 5;
/// How long the bridge may take to end.
const END: Duration = Duration::from_secs(3);

/// Reports pushed in a second (`SMSBRIDGE_BENCH_EVENTS_PER_SECOND`).
fn per_second() -> u64 {
    number("SMSBRIDGE_BENCH_EVENTS_PER_SECOND", 4000)
}

/// A measurement: what the probes took, and which reports of the traffic were answered 200.
struct Passed {
    probes: Probes,
    stored: Vec<Range<u64>>,
    refused: u64,
    per_second: f64,
    peak_bytes: u64,
}

pub async fn crowd(report: &mut Report, engine: Engine<'_>) {
    let simulator = Simulator::start(0).await;
    let mut log = engine.log().await;
    let bridge = log.bridge(&simulator, None).await;
    let arrivals = Arrivals::default();
    let healthy = Healthy::join(&bridge, engine, &arrivals).await;
    let count = replay::events();
    let quiet = count / QUIET_PART;
    let before = pass(&bridge, 0..quiet, &arrivals).await;
    let crowd = Crowd::gather(&bridge, &mut log).await;
    let during = pass(&bridge, quiet..quiet + count, &arrivals).await;
    let unacknowledged = crowd.unacknowledged();
    let ended = bridge.end().await;
    drop((crowd, healthy));

    let name = format!("crowd, {}", engine.name());
    compare(report, &name, &before, &during);
    let mb = |passed: &Passed| format!("{:.1} MB", passed.peak_bytes as f64 / 1e6);
    let what = format!("{name}: peak memory");
    report.row(&what, &mb(&before), &mb(&during), "", "");
    let what = format!("{name}: events passed");
    let rate = |passed: &Passed| format!("{:.0}/s", passed.per_second);
    let passed = format!("{count} at {}", rate(&during));
    report.row(&what, &rate(&before), &passed, "", "");
    let what = format!("{name}: unacknowledged deliveries");
    let limits = "100,000 (embedded engine)";
    report.row(&what, "", &unacknowledged.to_string(), "", limits);
    let what = format!("{name}: SIGTERM to the end, crowd connected");
    let took = format!(
        "{:.2} s{}",
        ended.took.as_secs_f64(),
        if ended.succeeded { "" } else { ", failed" }
    );
    report.row(
        &what,
        "",
        &took,
        "",
        &format!("at most {} s", END.as_secs()),
    );

    let bridge = log.bridge(&simulator, Some(ended.folder)).await;
    let found = Found::read(&bridge).await;
    let custody = found.judge(&[&before, &during]);
    let refused = before.refused + during.refused;
    let what =
        format!("{name}: answered 200; of these no event; stored twice; pushes not answered 200");
    let ours = format!(
        "{}; {}; {}; {refused}",
        custody.answered, custody.lost, custody.twice
    );
    report.row(&what, "", &ours, "", "none is no event");
    bridge.end().await;
    log.delete().await;
}

/// Pushes the reports with these numbers, and probes meanwhile.
async fn pass(bridge: &Bridge, numbers: Range<u64>, arrivals: &Arrivals) -> Passed {
    let count = numbers.end - numbers.start;
    let probing = Probing::start(bridge, arrivals).await;
    let begun = Instant::now();
    let pusher = Pusher::to(bridge);
    let stored = pusher
        .paced(APPLICATIONS, numbers, per_second(), CONNECTIONS)
        .await;
    let elapsed = begun.elapsed();
    let probes = probing.end().await;
    let answered: u64 = stored
        .iter()
        .map(|numbers| numbers.end - numbers.start)
        .sum();
    Passed {
        refused: (count - answered).div_ceil(super::push::REPORTS) + probes.refused,
        probes,
        stored,
        per_second: count as f64 / elapsed.as_secs_f64(),
        peak_bytes: bridge.peak_bytes(),
    }
}

fn compare(report: &mut Report, name: &str, before: &Passed, during: &Passed) {
    type Taken = fn(&Probes) -> &[Duration];
    let all: [(&str, Taken); 3] = [
        ("single push", |probes| &probes.pushes),
        ("SendSms", |probes| &probes.sends),
        ("push to healthy subscriber", |probes| &probes.arrivals),
    ];
    for (what, taken) in all {
        let [before, during] = [before, during].map(|passed| {
            let mut took = taken(&passed.probes).to_vec();
            [50, 99, 100].map(|part| percentile(&mut took, part).as_secs_f64() * 1e3)
        });
        let words = |[p50, p99, max]: [f64; 3]| format!("{p50:.2}; {p99:.2}; {max:.1} ms");
        let ratio = format!("{:.2}", during[1] / before[1]);
        let what = format!("{name}: {what}, p50; p99; max");
        report.row(
            &what,
            &words(before),
            &words(during),
            &ratio,
            "p99 at most 2.00",
        );
    }
}

/// How often each report is in the log.
struct Found {
    traffic: HashMap<u64, u32>,
    probes: HashMap<u64, u32>,
}

struct Custody {
    answered: usize,
    lost: usize,
    twice: usize,
}

impl Found {
    /// Reads the whole log.
    async fn read(bridge: &Bridge) -> Self {
        let channel = connect(bridge).await;
        let request = v1::StreamEventsRequest {
            start: Some(Start::Since(smsbridge::proto::Timestamp::default())),
            filter: None,
            end_at_head: true,
        };
        let mut events = EventServiceClient::new(channel)
            .stream_events(request)
            .await
            .unwrap()
            .into_inner();
        let (mut traffic, mut probes) = (HashMap::new(), HashMap::new());
        while let Some(event) = events.message().await.unwrap() {
            let Some(Payload::Report(report)) = event.event.and_then(|event| event.payload) else {
                continue;
            };
            let found = match read_message_id(&report.message_id) {
                Some((probes::PROBE, number)) => probes.entry(number),
                Some((_, number)) => traffic.entry(number),
                None => continue,
            };
            *found.or_default() += 1;
        }
        Self { traffic, probes }
    }

    fn judge(&self, passed: &[&Passed]) -> Custody {
        let traffic = passed
            .iter()
            .flat_map(|passed| passed.stored.iter().cloned().flatten())
            .map(|number| self.traffic.get(&number));
        let probes = passed
            .iter()
            .flat_map(|passed| &passed.probes.stored)
            .map(|number| self.probes.get(number));
        let found: Vec<u32> = traffic
            .chain(probes)
            .map(|times| times.copied().unwrap_or_default())
            .collect();
        Custody {
            answered: found.len(),
            lost: found.iter().filter(|times| **times == 0).count(),
            twice: found.iter().filter(|times| **times > 1).count(),
        }
    }
}

/// A connection of its own: a client that reads nothing would stop the others on its connection.
async fn connect(bridge: &Bridge) -> Channel {
    Channel::from_shared(format!("http://{}", bridge.address))
        .unwrap()
        .tcp_nodelay(true)
        .connect()
        .await
        .unwrap()
}
