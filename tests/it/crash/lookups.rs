//! Look-ups by queue, with a bridge that is killed again and again between a request to the API and its event, after the event, and at
//! any other time (docs/RELIABILITY.md#look-ups). The oracle compares what the API was paid for with the events.

use std::{collections::BTreeMap, time::Duration};

use lapin::BasicProperties;
use serde_json::json;
use smsbridge::{
    ops::kill_point::KillPoint,
    proto::v1::{NumberLookup, event::Payload},
};

use super::evidence::{EventTail, waiting};
use crate::{
    amqp::lookup::{LOOKUP_PATH, number, paid},
    support::{broker::TestBroker, eventually, process::BridgeProcess, simulator::TestSimulator},
};

const NUMBERS: usize = 2_000;
/// Numbers of a command, in turn.
const SIZES: [usize; 4] = [1, 4, 20, 15];
/// Commands that the bridge has under way at most.
const IN_FLIGHT: usize = 4;
/// A kill point that is not reached in this time, or not built, is replaced by SIGKILL.
const KILL_POINT_TIMEOUT: Duration = Duration::from_secs(8);

/// How a bridge ends.
enum End {
    At(KillPoint, usize),
    Kill(Duration),
}

const ENDS: [End; 8] = [
    End::At(KillPoint::RequestEnded, 1),
    End::At(KillPoint::RequestEnded, 9),
    End::Kill(Duration::from_millis(400)),
    End::At(KillPoint::ResultsStored, 7),
    End::At(KillPoint::RequestEnded, 4),
    End::Kill(Duration::from_millis(650)),
    End::At(KillPoint::ResultsStored, 2),
    End::At(KillPoint::RequestEnded, 6),
];

/// The ranges of numbers of all commands.
fn commands() -> Vec<std::ops::Range<usize>> {
    let mut commands = Vec::new();
    let (mut begin, mut sizes) = (0, SIZES.iter().cycle());
    while begin < NUMBERS {
        let end = NUMBERS.min(begin + sizes.next().unwrap());
        commands.push(begin..end);
        begin = end;
    }
    commands
}

async fn publish_all(broker: &TestBroker) {
    let client = broker.client().await;
    let exchange = broker.topology().commands();
    for numbers in commands() {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id(format!("r{}", numbers.start).into());
        let to: Vec<_> = numbers.map(number).collect();
        let body = json!({"to": to}).to_string();
        client
            .publish(&exchange, "number.lookup", properties, body.as_bytes())
            .await;
    }
}

async fn start(broker: &TestBroker, simulator: &TestSimulator, kill_at: &str) -> BridgeProcess {
    let settings = [
        ("SMSBRIDGE_AMQP__URL", broker.url.as_str()),
        ("SMSBRIDGE_AMQP__PREFIX", &broker.prefix),
        ("SMSBRIDGE_HTTP__PUBLIC_URL", ""),
        ("SMSBRIDGE_KILL_AT", kill_at),
    ];
    BridgeProcess::start(simulator, &settings).await
}

/// Each number's events: by event id, the first result and the number of events.
type Events = BTreeMap<String, BTreeMap<String, (NumberLookup, usize)>>;

async fn events(tail: EventTail) -> Events {
    let mut events = Events::new();
    for event in tail.finish().await {
        let Some(Payload::Lookup(lookup)) = event.payload else {
            panic!("{} has no cause", event.r#type)
        };
        let of_number = events.entry(lookup.to.clone()).or_default();
        let entry = of_number.entry(event.id);
        entry.or_insert_with(|| (*lookup, 0)).1 += 1;
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_number_is_paid_twice_and_each_has_one_result_whenever_the_bridge_is_killed() {
    let broker = TestBroker::start().await;
    drop(broker.publisher().await);
    let simulator = TestSimulator::start().await;
    simulator
        .fault(json!({"kind": "latency", "ms": 60, "maxMs": 150, "path": LOOKUP_PATH}))
        .await;
    publish_all(&broker).await;
    let mut at_points = 0;
    for end in &ENDS {
        let (kill_at, life) = match end {
            End::At(point, count) => (format!("{}:{count}", point.name()), KILL_POINT_TIMEOUT),
            End::Kill(life) => (String::new(), *life),
        };
        let bridge = start(&broker, &simulator, &kill_at).await;
        let life = match cfg!(feature = "kill-points") {
            true => life,
            false => life.min(Duration::from_millis(500)),
        };
        let ended = bridge.kill_after(life).await;
        at_points += usize::from(ended.status.is_some());
    }
    let tail = EventTail::start(&broker).await;
    let bridge = start(&broker, &simulator, "").await;
    let client = broker.client().await;
    eventually(
        "each number has a result and the queues are empty",
        async || {
            let is_done = tail.looked_up() == NUMBERS;
            (is_done && waiting(&client, &broker.prefix).await.is_empty()).then_some(())
        },
    )
    .await;
    let (status, _) = bridge.stop().await;
    assert!(status.success());
    assert!(waiting(&client, &broker.prefix).await.is_empty());

    let (events, paid) = (events(tail).await, paid(&simulator).await);
    assert_eq!(events.len(), NUMBERS);
    let twice: Vec<_> = paid.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "paid twice: {twice:?}");
    let (mut answered, mut unknown, mut repeated) = (0, 0, 0);
    for (number, of_number) in &events {
        assert_eq!(
            of_number.len(),
            1,
            "{number} has several results: {of_number:?}"
        );
        let (result, times) = of_number.values().next().unwrap();
        repeated += times - 1;
        match &result.refusal {
            None => {
                assert_eq!(paid.get(number), Some(&1), "{number} is answered");
                answered += 1;
            }
            Some(refusal) => {
                assert_eq!(refusal.reason, "OUTCOME_UNKNOWN");
                unknown += 1;
            }
        }
    }
    let most = ENDS.len() * IN_FLIGHT * SIZES.iter().max().unwrap();
    println!(
        "numbers {NUMBERS}, paid {}, answered {answered}, unknown {unknown}, events repeated {repeated}, kills {} ({at_points} at points)",
        paid.len(),
        ENDS.len()
    );
    assert!(unknown <= most, "{unknown} unknown");
    assert!(unknown > 0, "no kill hit a look-up");
    if cfg!(feature = "kill-points") {
        assert_eq!(at_points, 6, "each point is reached");
    }
}
