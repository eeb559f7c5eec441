//! Sessions that end again and again: the bridge waits longer each time.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use smsbridge::amqp::Endpoint;

use super::commands::Edge;
use crate::support::{
    broker::TestBroker,
    eventually,
    relay::{Peer, Verdict, start_relay},
};

/// Class and method of `basic.consume-ok`.
const CONSUME_OK: [u8; 4] = [0, 60, 0, 21];
/// Consumers of commands on one session.
const CONSUMERS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_at_once_does_not_reset_the_backoff() {
    let broker = TestBroker::start().await;
    let ended = Arc::new(Mutex::new(Vec::new()));
    let (ends, mut consumers) = (ended.clone(), 0);
    // Each connection ends as soon as all consumers have started on it.
    let url = start_relay(&broker.url, move |peer, bytes| {
        if peer == Peer::Client {
            return Verdict::Forward;
        }
        let started = bytes.windows(4).filter(|window| *window == CONSUME_OK);
        consumers += started.count();
        if consumers < CONSUMERS {
            return Verdict::Forward;
        }
        ends.lock().unwrap().push(Instant::now());
        Verdict::Close
    })
    .await;
    let endpoint = Endpoint::parse(&url.into()).unwrap();
    let edge = Edge::start_at(broker, endpoint).await;
    let ends = eventually("sessions have ended", async || {
        let ends = ended.lock().unwrap();
        (ends.len() >= 6).then(|| ends.clone())
    })
    .await;
    // Waits of 200, 400, 800, 1,600 and 3,200 ms, each shortened by at most a quarter (jitter).
    let elapsed = ends[5] - ends[0];
    assert!(elapsed > Duration::from_millis(4_600), "{elapsed:?}");
    edge.stop().await;
}
