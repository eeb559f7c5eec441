//! Sessions that end again and again: the bridge waits longer each time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
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
    let ended = Arc::new(AtomicUsize::new(0));
    let (count, mut consumers) = (ended.clone(), 0);
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
        count.fetch_add(1, Ordering::SeqCst);
        Verdict::Close
    })
    .await;
    let endpoint = Endpoint::parse(&url.into()).unwrap();
    let edge = Edge::start_at(broker, endpoint).await;
    let begun = Instant::now();
    eventually("sessions have ended", || async {
        (ended.load(Ordering::SeqCst) >= 6).then_some(())
    })
    .await;
    // Waits of 200, 400, 800, 1,600 and 3,200 ms, each shortened by at most a quarter (jitter).
    let elapsed = begun.elapsed();
    assert!(elapsed > Duration::from_millis(4_600), "{elapsed:?}");
    edge.stop().await;
}
