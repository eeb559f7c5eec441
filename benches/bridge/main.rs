//! `cargo bench --bench bridge`: the bridge against its ceilings, in one run on one machine.
//!
//! The simulator and the bridge run as processes of their own, so that the bridge's CPU and memory are its own; the load
//! comes from this process. Every row of ours stands beside the ceiling that it is held against, measured just before it;
//! what counts is the ratio.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench ends where something is wrong, and prints"
)]

mod bare;
mod broker;
mod confirm;
mod crowd;
mod engine;
mod load;
mod process;
mod push;
mod pushes;
mod queue;
mod relay;
mod replay;
mod report;
mod single;

use std::time::Duration;

/// As the bridge has it: the load should cost little beside what it measures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use self::{
    engine::Engine,
    load::{Load, Measured, RequestIds},
    process::{Bridge, Simulator},
    queue::Backlog,
    report::Report,
};

/// How often each row is measured.
const ROUNDS: usize = 3;

/// How long a measurement takes, in seconds (`SMSBRIDGE_BENCH_SECONDS`).
fn seconds() -> Duration {
    let seconds = std::env::var("SMSBRIDGE_BENCH_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(3.0))
}

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments
        .first()
        .is_some_and(|first| first == relay::ARGUMENT)
    {
        runtime.block_on(relay::run(&arguments[1..]));
        return;
    }
    if arguments
        .first()
        .is_some_and(|first| first == bare::ARGUMENT)
    {
        runtime.block_on(bare::run(&arguments[1..]));
        return;
    }
    let mut report = Report::default();
    runtime.block_on(measure(&mut report));
    println!("{report}");
}

/// Measures everything, or what is named on the command line: `one`, `many`, `slow`, `stream`, `pushes`, `single`; and on the broker of
/// `SMSBRIDGE_BENCH_AMQP_URL` `queue`, `node`, `invalid`, `urgent`. `replay`, `crowd` and `full` take minutes, so they are measured only
/// if they are named.
async fn measure(report: &mut Report) {
    let named: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let is_named = |name: &str| named.iter().any(|named| named == name);
    let wanted = |name: &str| named.is_empty() || is_named(name);
    if wanted("one") {
        one_caller(report, None, RequestIds::None).await;
        one_caller(report, None, RequestIds::Unique).await;
        if let Ok(url) = std::env::var("SMSBRIDGE_BENCH_AMQP_URL") {
            one_caller(report, Some(&url), RequestIds::None).await;
        }
    }
    if wanted("many") {
        many_callers(report, 0, RequestIds::None).await;
        many_callers(report, 0, RequestIds::Unique).await;
    }
    if wanted("slow") {
        many_callers(report, 20, RequestIds::None).await;
    }
    if wanted("stream") {
        stream(report).await;
    }
    if wanted("pushes") {
        pushes::embedded(report).await;
    }
    if wanted("single") {
        single::single(report, Engine::Embedded).await;
    }
    if is_named("replay") {
        replay::replay(report, Engine::Embedded).await;
    }
    if is_named("crowd") {
        crowd::crowd(report, Engine::Embedded).await;
    }
    let Ok(url) = std::env::var("SMSBRIDGE_BENCH_AMQP_URL") else {
        println!("without SMSBRIDGE_BENCH_AMQP_URL nothing is measured that needs a broker");
        return;
    };
    if wanted("queue") {
        queue::rate(report, &url, 0).await;
        queue::rate(report, &url, 20).await;
    }
    if let (true, Ok(glue)) = (wanted("node"), std::env::var("SMSBRIDGE_BENCH_NODE")) {
        queue::beside_node(report, &url, &glue, 0).await;
        queue::beside_node(report, &url, &glue, 20).await;
    }
    if wanted("invalid") {
        queue::invalid_commands(report, &url).await;
    }
    if wanted("pushes") {
        pushes::broker(report, &url).await;
    }
    if wanted("single") {
        single::single(report, Engine::Broker(&url)).await;
    }
    if is_named("replay") {
        replay::replay(report, Engine::Broker(&url)).await;
    }
    if is_named("crowd") {
        crowd::crowd(report, Engine::Broker(&url)).await;
    }
    if is_named("full") {
        queue::full(report, &url).await;
    }
    if wanted("urgent") {
        let paced = Backlog::Paced {
            commands: 200_000,
            messages_per_second: 500,
        };
        queue::urgent(report, &url, paced).await;
        let bulks = Backlog::Bulks {
            commands: 100,
            destinations: 10_000,
            latency_ms: 1000,
        };
        queue::urgent(report, &url, bulks).await;
    }
}

/// Measures the ceiling and ours one after the other, several times, since a machine has slow moments; gives the pair whose
/// ratio is the median.
async fn beside(
    ceiling: impl AsyncFn() -> Measured,
    ours: impl AsyncFn() -> Measured,
) -> (Measured, Measured) {
    let mut pairs = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        pairs.push((ceiling().await, ours().await));
    }
    let ratio = |(ceiling, ours): &(Measured, Measured)| ours.rate() / ceiling.rate();
    pairs.sort_by(|one, other| ratio(one).total_cmp(&ratio(other)));
    pairs.swap_remove(ROUNDS / 2)
}

/// One caller at a time: what the bridge adds to a request, and with a broker what its confirm alone takes.
async fn one_caller(report: &mut Report, broker: Option<&str>, request_ids: RequestIds) {
    let simulator = Simulator::start(0).await;
    let bridge = Bridge::start(&simulator, broker).await;
    let load = Load::new(&simulator, &bridge, seconds());
    let ours = async || load.unary(1, request_ids).await;
    let (plain, ours) = beside(async || load.plain_http(1).await, ours).await;
    match broker {
        None => {
            let name = format!("one caller, median, embedded engine{}", suffix(request_ids));
            report.latency(&name, &plain, &ours, None);
        }
        Some(url) => {
            let confirm = confirm::confirms(url, seconds()).await;
            let name = "one caller, median, broker engine";
            report.latency(name, &plain, &ours, Some(&confirm));
        }
    }
}

fn suffix(request_ids: RequestIds) -> &'static str {
    match request_ids {
        RequestIds::None => "",
        RequestIds::Unique => ", with request ids",
    }
}

/// 64 callers at once.
async fn many_callers(report: &mut Report, latency_ms: u64, request_ids: RequestIds) {
    let simulator = Simulator::start(latency_ms).await;
    let bridge = Bridge::start(&simulator, None).await;
    let load = Load::new(&simulator, &bridge, seconds());
    let ours = async || {
        simulator
            .asked_by(bridge.used_by(load.unary(64, request_ids)))
            .await
    };
    let (plain, ours) = beside(async || load.plain_http(64).await, ours).await;
    let name = format!(
        "64 unary callers, API at {latency_ms} ms{}",
        suffix(request_ids)
    );
    report.rate(&name, &plain, &ours);
    report.usage(&name, &bridge, &ours);
    report.requests(&name, &ours);
}

/// One stream with thousands in flight, against bare batched HTTP.
async fn stream(report: &mut Report) {
    let simulator = Simulator::start(0).await;
    let bridge = Bridge::start(&simulator, None).await;
    let load = Load::new(&simulator, &bridge, seconds());
    let ours = async || simulator.asked_by(bridge.used_by(load.stream(4000))).await;
    let (plain, ours) = beside(async || load.batched_http(8, 100).await, ours).await;
    let name = "StreamSms, 4,000 in flight";
    report.rate(name, &plain, &ours);
    report.usage(name, &bridge, &ours);
    report.requests(name, &ours);
}
