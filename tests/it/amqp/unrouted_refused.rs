//! Moving events into the stream where the broker refuses something, and how much of them is in memory.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use lapin::BasicProperties;
use serde_json::json;
use smsbridge::{
    amqp::{Endpoint, Publisher, Topology},
    config::{self, TopologyMode},
    events::{EventLog as _, Start, broker::BrokerLog},
    ops::metrics::Metrics,
};

use super::log::{accepted, ids, read_to_head};
use crate::support::{
    broker::{Client, TestBroker},
    eventually,
    relay::{ACK, Peer, relay_frames, relay_with},
};

const SINCE_EVER: Start = Start::Since(jiff::Timestamp::UNIX_EPOCH);

/// Puts an event where it waits while the stream is not bound.
async fn wait_outside(client: &Client, topology: &Topology, name: &str, padding: usize) {
    let mut event = accepted(name).event;
    event.source_payload = "x".repeat(padding);
    let body = serde_json::to_vec(&event).unwrap();
    let properties = BasicProperties::default().with_content_type("application/json".into());
    let queue = topology.events_unrouted();
    client.publish("", &queue, properties, &body).await;
}

/// A relay that counts connections.
async fn counting(broker_url: &str, connections: Arc<AtomicUsize>) -> String {
    relay_with(broker_url, move |mut client, mut server| {
        connections.fetch_add(1, Ordering::SeqCst);
        async move {
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_refused_ends_no_other_publication_and_a_refused_binding_no_move() {
    let (broker, node) = TestBroker::start_alone().await;
    let topology = broker.topology();
    drop(broker.publisher().await);
    // One may not write to the exchange in front of the stream; the other may, and neither declare nor bind.
    let user = |name: &str, write: &str, read: &str| {
        let permissions =
            json!({"user": name, "vhost": "/", "configure": "^$", "write": write, "read": read});
        (
            json!({"name": name, "password": name, "tags": ""}),
            permissions,
        )
    };
    let not = |name: &str| format!("^(?!smsbridge\\.{name}$)");
    let (keeper, of_keeper) = user("keeper", &not("events\\.log"), ".*");
    let (mover, of_mover) = user("mover", ".*", &not("events"));
    let definitions = json!({"users": [keeper, mover], "permissions": [of_keeper, of_mover]});
    let (_node, answer) = node.answer(&format!("import {definitions}")).await;
    assert_eq!(answer, "import");
    let client = broker.client().await;
    wait_outside(&client, &topology, "m0", 0).await;

    let connections = Arc::<AtomicUsize>::default();
    let relay = counting(&broker.url, connections.clone()).await;
    let endpoint = |user: &str| {
        let url = relay.replace("guest:guest", &format!("{user}:{user}"));
        Endpoint::parse(&url.into()).unwrap()
    };
    let passive = Topology::new(&config::Amqp {
        topology: TopologyMode::Passive,
        ..broker.config()
    });
    let (timeout, metrics) = (broker.config().confirm_timeout, Metrics::new());
    let publisher = Publisher::start(
        endpoint("keeper"),
        passive.clone(),
        timeout,
        metrics.clone(),
    );
    publisher.opened().await;
    let publisher = Arc::new(publisher);
    let log = BrokerLog::new(
        publisher.clone(),
        endpoint("keeper"),
        passive,
        timeout,
        Metrics::new(),
    );
    eventually("the move was refused", async || {
        (connections.load(Ordering::SeqCst) >= 4).then_some(())
    })
    .await;
    let sessions = "smsbridge_amqp_reconnects_total 0";
    let said = metrics.encode().unwrap();
    assert!(
        said.contains(sessions),
        "the session of all publications ended"
    );
    log.close().await;

    let log = BrokerLog::new(
        broker.publisher().await,
        endpoint("mover"),
        topology,
        timeout,
        Metrics::new(),
    );
    eventually("the event is in the stream", async || {
        let events = read_to_head(&log, SINCE_EVER).await;
        (ids(&events) == ["m0"]).then_some(())
    })
    .await;
    log.close().await;
}

/// What came from the broker over a relay, in bytes.
#[derive(Default)]
struct Received {
    all: AtomicUsize,
    /// The most before an acknowledgement.
    most: AtomicUsize,
}

async fn measuring(broker_url: &str, received: Arc<Received>) -> String {
    relay_frames(
        broker_url,
        move |unacknowledged: &mut usize, peer, frame| {
            if peer == Peer::Broker {
                *unacknowledged += frame.0.len();
                received.most.fetch_max(*unacknowledged, Ordering::SeqCst);
                received.all.fetch_add(frame.0.len(), Ordering::SeqCst);
            } else if frame.is_method(ACK) {
                *unacknowledged = 0;
            }
            frame.0
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_moved_are_bounded_in_bytes() {
    const EVENTS: usize = 40;
    const EACH: usize = 1_000_000;
    let broker = TestBroker::start().await;
    let publisher = broker.publisher().await;
    let client = broker.client().await;
    let topology = broker.topology();
    for n in 0..EVENTS {
        wait_outside(&client, &topology, &format!("m{n}"), EACH).await;
    }
    let received = Arc::<Received>::default();
    let relay = measuring(&broker.url, received.clone()).await;
    let timeout = broker.config().confirm_timeout;
    let log = BrokerLog::new(
        publisher,
        Endpoint::parse(&relay.into()).unwrap(),
        topology,
        timeout,
        Metrics::new(),
    );
    eventually("all are taken", async || {
        (received.all.load(Ordering::SeqCst) > EVENTS * EACH).then_some(())
    })
    .await;
    let most = received.most.load(Ordering::SeqCst);
    assert!(most < 12 * EACH, "{most} bytes at once");
    // Over the relay, reading would count too.
    let reader = super::log::log(&broker).await;
    let events = eventually("all are in the stream", async || {
        let events = read_to_head(&reader, SINCE_EVER).await;
        (events.len() >= EVENTS).then_some(events)
    })
    .await;
    let expected: Vec<String> = (0..EVENTS).map(|n| format!("m{n}")).collect();
    assert_eq!(ids(&events), expected, "in their order");
    log.close().await;
    reader.close().await;
}
