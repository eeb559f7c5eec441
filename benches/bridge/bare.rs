//! The ceilings of the event log: peers that do with an engine what the bridge must at least do, and nothing else.
//!
//! Each is this binary, started again with `--bare`, so that its processor time and memory are its own.

pub mod lapin;
pub mod sqlite;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use super::{
    load::Measured,
    process::{cpu_of, peak_bytes_of},
    relay,
};

/// The argument that makes this binary a bare peer. After it: which one, and its arguments.
pub const ARGUMENT: &str = "--bare";

/// Runs the peer that the arguments name.
pub async fn run(arguments: &[String]) {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["sqlite-write", source, folder] => sqlite::write(source, folder),
        ["sqlite-read", source] => sqlite::read(source),
        ["sqlite-single", source, folder, per_second, seconds] => {
            sqlite::single(source, folder, per_second, seconds).await;
        }
        ["lapin-publish", url, from, to, in_flight, events] => {
            lapin::publish(url, from, to, in_flight, events).await;
        }
        ["lapin-read", url, prefix, in_flight, events] => {
            lapin::read(url, prefix, in_flight, events).await;
        }
        ["lapin-single", url, from, to, per_second, seconds] => {
            lapin::single(url, from, to, per_second, seconds).await;
        }
        _ => panic!("{ARGUMENT}: no such peer: {arguments:?}"),
    }
}

/// Runs a peer as a process, which handles so many events.
fn measure(arguments: &[&str], events: u64) -> Measured {
    relay::run_peer(command(arguments), events)
}

/// Runs a peer that prints how long each event took, in microseconds.
fn measure_each(arguments: &[&str]) -> Vec<Duration> {
    let output = command(arguments).output().unwrap();
    assert!(output.status.success(), "the peer failed: {arguments:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let micros = text
        .split_whitespace()
        .map(|micros| micros.parse().unwrap());
    micros.map(Duration::from_micros).collect()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .arg(ARGUMENT)
        .args(arguments)
        .stderr(std::process::Stdio::inherit());
    command
}

/// What a peer measures of itself.
struct Stopwatch {
    begun: Instant,
    cpu: Duration,
}

impl Stopwatch {
    fn start() -> Self {
        Self {
            cpu: cpu_of(std::process::id()),
            begun: Instant::now(),
        }
    }

    /// Prints the figures that [`relay::run_peer`] reads.
    fn stop(self) {
        let elapsed = self.begun.elapsed();
        let cpu = cpu_of(std::process::id()) - self.cpu;
        let peak = peak_bytes_of(std::process::id());
        println!("{} {} {peak}", elapsed.as_micros(), cpu.as_millis());
    }
}

/// When each of the events of a pace is due, from now on.
fn due(per_second: &str, seconds: &str) -> impl Iterator<Item = Instant> + use<> {
    let (per_second, seconds): (f64, f64) = (per_second.parse().unwrap(), seconds.parse().unwrap());
    let begun = Instant::now();
    (0..(per_second * seconds) as u64)
        .map(move |event| begun + Duration::from_secs_f64(event as f64 / per_second))
}

fn print_each(took: &[Duration]) {
    for took in took {
        println!("{}", took.as_micros());
    }
}
