//! The ceiling of the command queue: a process that consumes the queue, publishes one event for each command and waits for its confirm,
//! and acknowledges in multiples. It decodes nothing and calls no API.
//!
//! It is this binary, started again with `--relay`, so that its processor time and memory are its own.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesOrdered};
use lapin::{
    BasicProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions},
    types::FieldTable,
};

use super::{
    broker::Broker,
    confirm::connect,
    load::Measured,
    process::{cpu_of, peak_bytes_of},
};

/// The argument that makes this binary a relay. After it: the broker's URL, the prefix, the deliveries in flight, the commands.
pub const ARGUMENT: &str = "--relay";
/// Deliveries that one acknowledgement covers at most.
const ACKNOWLEDGED_TOGETHER: u64 = 100;
/// The size of an event of a result on the broker, about.
const EVENT: [u8; 400] = [b'x'; 400];

/// Runs a relay as a process until it has relayed so many commands.
pub fn measure(broker: &Broker, in_flight: u16, commands: u64) -> Measured {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([ARGUMENT, &broker.url, &broker.prefix])
        .args([in_flight.to_string(), commands.to_string()]);
    run_peer(command, commands)
}

/// Runs a peer that prints its figures as [`run`] does.
pub fn run_peer(mut command: Command, commands: u64) -> Measured {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let figures: Vec<u64> = text
        .split_whitespace()
        .map(|figure| figure.parse().unwrap())
        .collect();
    let [micros, cpu_ms, peak_bytes] = figures[..] else {
        panic!("the peer failed: {text}");
    };
    Measured {
        messages: commands,
        elapsed: Duration::from_micros(micros),
        cpu: Duration::from_millis(cpu_ms),
        peak_bytes,
        ..Measured::default()
    }
}

/// The relay itself. Prints microseconds from the first delivery to the last acknowledgement, milliseconds of processor time, and
/// bytes of memory at its peak.
pub async fn run(arguments: &[String]) {
    let [url, prefix, in_flight, commands] = arguments else {
        panic!("{ARGUMENT} URL PREFIX IN_FLIGHT COMMANDS");
    };
    let (in_flight, commands): (u16, u64) = (in_flight.parse().unwrap(), commands.parse().unwrap());
    // An alarm of the broker would otherwise block acknowledgements too. The bridge has two connections as well.
    let (_publishing, events) = connect(url).await;
    let (_consuming, queue) = connect(url).await;
    queue
        .basic_qos(in_flight, BasicQosOptions::default())
        .await
        .unwrap();
    let mut deliveries = queue
        .basic_consume(
            format!("{prefix}.send.normal").into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();

    let exchange = format!("{prefix}.events");
    let mut confirms = FuturesOrdered::new();
    let mut begun: Option<(Instant, Duration)> = None;
    let (mut settled, mut unacknowledged) = (0, 0);
    while settled < commands {
        tokio::select! {
            delivery = deliveries.next(), if confirms.len() < in_flight.into() => {
                let delivery = delivery.unwrap().unwrap();
                begun.get_or_insert_with(|| (Instant::now(), cpu_of(std::process::id())));
                let confirm = events
                    .basic_publish(
                        exchange.as_str().into(),
                        "send.accepted.default".into(),
                        BasicPublishOptions::default(),
                        &EVENT,
                        BasicProperties::default().with_delivery_mode(2),
                    )
                    .await
                    .unwrap();
                confirms.push_back(async move {
                    assert!(confirm.await.unwrap().is_ack());
                    delivery.acker
                });
            }
            Some(acker) = confirms.next() => {
                settled += 1;
                unacknowledged += 1;
                if unacknowledged == ACKNOWLEDGED_TOGETHER || confirms.is_empty() {
                    unacknowledged = 0;
                    let multiple = BasicAckOptions { multiple: true };
                    assert!(acker.ack(multiple).await.unwrap());
                }
            }
        }
    }
    let (began_at, cpu_before) = begun.unwrap();
    println!(
        "{} {} {}",
        began_at.elapsed().as_micros(),
        (cpu_of(std::process::id()) - cpu_before).as_millis(),
        peak_bytes_of(std::process::id())
    );
}
