//! The command queue: from a full queue to REST requests and confirmed events, beside a bare relay ([`super::relay`]); and how long an
//! urgent command takes behind a backlog of normal ones.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use super::{
    beside,
    broker::{Broker, Commands},
    load::Measured,
    process::{Bridge, Simulator},
    relay,
    report::Report,
};

/// The relay's deliveries in flight: the best of these counts.
const IN_FLIGHT: [u16; 3] = [100, 1000, 5000];
/// Commands of [`full`].
const FULL_QUEUE: u64 = 1_000_000;
const ACCEPTED: &str = r#"smsbridge_send_results_total{outcome="accepted"}"#;
/// Longer than any measurement takes.
const DEADLINE: Duration = Duration::from_secs(600);

/// Commands of a measurement (`SMSBRIDGE_BENCH_COMMANDS`).
fn commands() -> u64 {
    std::env::var("SMSBRIDGE_BENCH_COMMANDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(50_000)
}

/// Queue → REST → confirmed event, and the relay just before.
pub async fn rate(report: &mut Report, url: &str, latency_ms: u64) {
    let count = commands();
    let (relayed, emptied) = beside(
        async || best_of(async |in_flight| relayed(url, in_flight, count).await).await,
        async || emptied(url, latency_ms, count, Commands::Valid).await,
    )
    .await;
    let name = format!("command queue, API at {latency_ms} ms");
    report.queue_rate(&name, &relayed, &emptied, "at least 0.75");
    report.queue_usage(&name, &relayed, &emptied);
}

/// The same beside glue in Node: `SMSBRIDGE_BENCH_NODE` is the path of benches/peers/node/glue.js beside its installed packages.
pub async fn beside_node(report: &mut Report, url: &str, glue: &str, latency_ms: u64) {
    let count = commands();
    let (node, emptied) = beside(
        async || {
            best_of(async |in_flight| with_node(url, glue, latency_ms, in_flight, count).await)
                .await
        },
        async || emptied(url, latency_ms, count, Commands::Valid).await,
    )
    .await;
    let (least, goal) = match latency_ms {
        0 => (5000, "at least 2.2"),
        _ => (2600, "at least 3"),
    };
    let name =
        format!("command queue beside Node, API at {latency_ms} ms (counts if Node has {least}/s)");
    report.queue_rate(&name, &node, &emptied, goal);
    report.queue_usage(&name, &node, &emptied);
}

/// The memory of a bridge whose queue has a million commands when it starts.
pub async fn full(report: &mut Report, url: &str) {
    let emptied = emptied(url, 0, FULL_QUEUE, Commands::Valid).await;
    report.memory("command queue with 1,000,000 queued", &emptied, 48);
}

/// The same with one command in a hundred that cannot be read, beside a queue without them.
pub async fn invalid_commands(report: &mut Report, url: &str) {
    let count = commands();
    let (clean, with) = beside(
        async || emptied(url, 0, count, Commands::Valid).await,
        async || emptied(url, 0, count, Commands::OneInHundredInvalid).await,
    )
    .await;
    let name = "command queue, 1% invalid, beside one without them";
    report.queue_rate(name, &clean, &with, "at least 0.90");
}

async fn best_of(peer: impl AsyncFn(u16) -> Measured) -> Measured {
    let mut best = peer(IN_FLIGHT[0]).await;
    for in_flight in &IN_FLIGHT[1..] {
        let measured = peer(*in_flight).await;
        if measured.rate() > best.rate() {
            best = measured;
        }
    }
    best
}

async fn relayed(url: &str, in_flight: u16, count: u64) -> Measured {
    let broker = Broker::declare(url).await;
    broker.publish(count, Commands::Valid).await;
    let measured = relay::measure(&broker, in_flight, count);
    broker.delete().await;
    measured
}

async fn with_node(url: &str, glue: &str, latency_ms: u64, in_flight: u16, count: u64) -> Measured {
    let simulator = Simulator::start(latency_ms).await;
    let broker = Broker::declare(url).await;
    broker.publish(count, Commands::Valid).await;
    let mut command = Command::new("node");
    command
        .args([glue, &broker.url, &broker.prefix])
        .arg(format!("http://{}", simulator.address))
        .args([in_flight.to_string(), count.to_string()]);
    let measured = relay::run_peer(command, count);
    broker.delete().await;
    measured
}

/// Fills a queue, starts a bridge, and measures from its first result to its last.
async fn emptied(url: &str, latency_ms: u64, count: u64, commands: Commands) -> Measured {
    let simulator = Simulator::start(latency_ms).await;
    let broker = Broker::declare(url).await;
    broker.publish(count, commands).await;
    let valid = match commands {
        Commands::Valid => count,
        Commands::OneInHundredInvalid => count - count / 100,
    };
    let bridge = Bridge::start_with(&simulator, &broker.settings()).await;
    let first = reaches(&bridge, 1).await;
    let (begun, cpu) = (Instant::now(), bridge.cpu());
    let last = reaches(&bridge, valid).await;
    let measured = Measured {
        messages: last - first,
        elapsed: begun.elapsed(),
        cpu: bridge.cpu() - cpu,
        peak_bytes: bridge.peak_bytes(),
        ..Measured::default()
    };
    drop(bridge);
    broker.delete().await;
    measured
}

/// Waits until so many destinations are accepted; returns how many there are.
async fn reaches(bridge: &Bridge, count: u64) -> u64 {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let accepted = bridge.metric(ACCEPTED).await;
        if accepted >= count {
            return accepted;
        }
        assert!(Instant::now() < deadline, "{accepted} of {count} accepted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The number of the urgent messages, which nothing else is sent to.
const URGENT_TO: &str = "41790000001";

/// What an urgent command has to overtake.
pub enum Backlog {
    /// Commands of one destination, under a pace.
    Paced {
        commands: u64,
        messages_per_second: u32,
    },
    /// Bulks of many destinations, with an API that takes long to answer.
    Bulks {
        commands: u64,
        destinations: usize,
        latency_ms: u64,
    },
}

/// From the publication of an urgent command to its REST request, behind a backlog.
pub async fn urgent(report: &mut Report, url: &str, backlog: Backlog) {
    let broker = Broker::declare(url).await;
    let mut settings = broker.settings();
    let (name, latency_ms, goal) = match backlog {
        Backlog::Paced {
            commands,
            messages_per_second,
        } => {
            broker.publish(commands, Commands::Valid).await;
            settings.push((
                "SMSBRIDGE_INFOBIP__SEND_MESSAGES_PER_SECOND",
                messages_per_second.to_string(),
            ));
            let name = format!("urgent, {commands} normal ones at {messages_per_second}/s");
            (name, 0, Duration::from_millis(100))
        }
        Backlog::Bulks {
            commands,
            destinations,
            latency_ms,
        } => {
            broker.publish_bulks(commands, destinations).await;
            let name =
                format!("urgent, bulks of {destinations} destinations, API at {latency_ms} ms");
            (name, latency_ms, Duration::from_millis(1200))
        }
    };
    let simulator = Simulator::start(latency_ms).await;
    let bridge = Bridge::start_with(&simulator, &settings).await;
    reaches(&bridge, 1).await;
    let mut published = Vec::new();
    // Irregular, so that they do not meet the same moment of a refill each time.
    for n in 0..200_u64 {
        tokio::time::sleep(Duration::from_millis(37 + n * 13 % 41)).await;
        let request_id = format!("urgent-{n}");
        published.push((request_id.clone(), jiff::Timestamp::now()));
        broker.publish_urgent(&request_id, URGENT_TO).await;
    }
    let deadline = Instant::now() + DEADLINE;
    let mut accepted = Vec::new();
    while accepted.len() < published.len() {
        assert!(Instant::now() < deadline, "urgent commands are not sent");
        tokio::time::sleep(Duration::from_millis(200)).await;
        accepted = simulator.accepted_at(URGENT_TO).await;
    }
    let took = published.iter().map(|(request_id, published_at)| {
        let id = format!("default.{request_id}");
        let (_, at) = accepted.iter().find(|(found, _)| *found == id).unwrap();
        Duration::try_from(at.duration_since(*published_at)).unwrap_or_default()
    });
    report.urgent(&name, took.collect(), goal);
    drop(bridge);
    broker.delete().await;
}
