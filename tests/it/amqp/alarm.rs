//! A broker with a resource alarm, as RabbitMQ behaves towards a connection: it stops to read from one that publishes, says
//! `connection.blocked`, and goes on reading when the alarm ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use smsbridge::{
    amqp::{AmqpError, Endpoint, Message, Publisher},
    ops::metrics::Metrics,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    sync::{Mutex, watch},
};

use crate::support::{
    broker::TestBroker,
    eventually,
    relay::{read_frame, relay_with},
};

const CONFIRM_TIMEOUT: Duration = Duration::from_millis(400);
const ALARM: Duration = Duration::from_secs(6);

/// Class and method of `basic.publish`.
const PUBLISH: [u8; 4] = [0, 60, 0, 40];
/// `connection.blocked` with an empty reason.
const BLOCKED: [u8; 13] = [1, 0, 0, 0, 0, 0, 5, 0, 10, 0, 60, 0, 0xCE];
const UNBLOCKED: [u8; 12] = [1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 61, 0xCE];

/// A relay in front of the broker with an alarm that a test sets.
pub(super) struct Relay {
    pub(super) url: String,
    pub(super) alarm: watch::Sender<bool>,
    /// Connections so far.
    accepted: Arc<AtomicUsize>,
}

impl Relay {
    pub(super) async fn start(broker_url: &str) -> Self {
        let (alarm, alarms) = watch::channel(false);
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let url = relay_with(broker_url, move |client, server| {
            count.fetch_add(1, Ordering::SeqCst);
            let alarms = alarms.clone();
            async move {
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let to_client = Mutex::new(to_client);
                tokio::select! {
                    () = requests(from_client, to_server, &to_client, alarms) => {}
                    () = replies(from_server, &to_client) => {}
                }
            }
        })
        .await;
        Self {
            url,
            alarm,
            accepted,
        }
    }
}

async fn requests(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    to_client: &Mutex<OwnedWriteHalf>,
    mut alarm: watch::Receiver<bool>,
) {
    let mut header = [0; 8];
    if client.read_exact(&mut header).await.is_err() || server.write_all(&header).await.is_err() {
        return;
    }
    while let Some(frame) = read_frame(&mut client).await {
        if frame[0] == 1 && frame[7..11] == PUBLISH && *alarm.borrow() {
            let _ = to_client.lock().await.write_all(&BLOCKED).await;
            let _ = alarm.wait_for(|alarm| !alarm).await;
            let _ = to_client.lock().await.write_all(&UNBLOCKED).await;
        }
        if server.write_all(&frame).await.is_err() {
            return;
        }
    }
}

async fn replies(mut server: OwnedReadHalf, to_client: &Mutex<OwnedWriteHalf>) {
    while let Some(frame) = read_frame(&mut server).await {
        if to_client.lock().await.write_all(&frame).await.is_err() {
            return;
        }
    }
}

fn message(queue: &str) -> Message {
    Message {
        exchange: String::new(),
        routing_key: queue.into(),
        properties: Default::default(),
        body: "x".into(),
    }
}

async fn publisher(broker: &TestBroker, relay: &Relay) -> Publisher {
    let endpoint = Endpoint::parse(&relay.url.clone().into()).unwrap();
    let publisher = Publisher::start(endpoint, broker.topology(), CONFIRM_TIMEOUT, Metrics::new());
    publisher.opened().await;
    publisher
}

/// A missing confirm says nothing about a session that the broker blocks. A new one would be blocked as well, and the old one
/// cannot be closed before the alarm ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_session_is_kept_until_the_alarm_ends() {
    let broker = TestBroker::start().await;
    let relay = Relay::start(&broker.url).await;
    let publisher = publisher(&broker, &relay).await;
    let dead = broker.topology().dead();
    publisher.publish_mandatory(message(&dead)).await.unwrap();

    relay.alarm.send_replace(true);
    let end = tokio::time::Instant::now() + ALARM;
    let mut timed_out = 0;
    while tokio::time::Instant::now() < end {
        let pipelined = publisher.publish_all(vec![message("none"); 600]);
        let mandatory = join_all((0..4).map(|_| publisher.publish_mandatory(message(&dead))));
        let (pipelined, mandatory) = tokio::join!(pipelined, mandatory);
        for outcome in pipelined.into_iter().chain(mandatory) {
            assert!(outcome.is_err());
            timed_out += usize::from(!matches!(outcome, Err(AmqpError::Blocked)));
        }
        // A caller that does not wait for its confirms.
        let publishing = publisher.publish_all(vec![message("none"); 300]);
        let _ = tokio::time::timeout(Duration::from_millis(10), publishing).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(relay.accepted.load(Ordering::SeqCst), 1, "connections");
    assert_eq!(timed_out, 0);
    let outage = publisher.outage().unwrap();
    assert!(outage.contains("blocks publishers"), "{outage}");

    relay.alarm.send_replace(false);
    eventually("the broker takes messages", || async {
        publisher.is_ready().then_some(())
    })
    .await;
    // Each message has its own confirm again, also where that of an earlier one came late.
    for n in 0..40 {
        let queue = if n % 2 == 0 { "none" } else { &dead };
        let outcome = publisher.publish_mandatory(message(queue)).await;
        match n % 2 {
            0 => assert!(
                matches!(outcome, Err(AmqpError::Unroutable { .. })),
                "{outcome:?}"
            ),
            _ => outcome.unwrap(),
        }
    }
    let outcomes = publisher.publish_all(vec![message("none"); 300]).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(relay.accepted.load(Ordering::SeqCst), 1, "connections");
    publisher.close().await;
}
