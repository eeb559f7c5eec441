//! The broker engine of the event log while much is published, or confirms are late.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, future::join_all};
use smsbridge::{
    amqp::{Endpoint, Message, Publisher},
    events::{EventLog as _, Start, broker::BrokerLog},
    ops::metrics::Metrics,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    time::Instant,
};

use super::log::accepted;
use crate::support::{broker::TestBroker, eventually, relay::relay_with};

/// A relay that hands on what the broker sends only after a delay, which a test can change.
pub(super) struct SlowRelay {
    pub(super) endpoint: Endpoint,
    delay_ms: Arc<AtomicUsize>,
    /// Bytes from the bridge.
    received: Arc<AtomicUsize>,
    /// Connections so far.
    accepted: Arc<AtomicUsize>,
}

impl SlowRelay {
    pub(super) async fn start(broker_url: &str) -> Self {
        let delay_ms = Arc::<AtomicUsize>::default();
        let received = Arc::<AtomicUsize>::default();
        let accepted = Arc::<AtomicUsize>::default();
        let counters = (delay_ms.clone(), received.clone(), accepted.clone());
        let url = relay_with(broker_url, move |client, server| {
            let (delay_ms, received, accepted) = counters.clone();
            accepted.fetch_add(1, Ordering::SeqCst);
            async move {
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let requests = async {
                    let mut buffer = vec![0; 64 * 1024];
                    while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                        received.fetch_add(read, Ordering::SeqCst);
                        to_server.write_all(&buffer[..read]).await.unwrap();
                    }
                };
                let (send, mut receive) = mpsc::channel::<(Instant, Vec<u8>)>(100_000);
                let replies = async {
                    let mut buffer = vec![0; 64 * 1024];
                    while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                        let ms = delay_ms.load(Ordering::SeqCst) as u64;
                        let due = Instant::now() + Duration::from_millis(ms);
                        send.send((due, buffer[..read].to_vec())).await.unwrap();
                    }
                };
                let late = async {
                    while let Some((due, bytes)) = receive.recv().await {
                        tokio::time::sleep_until(due).await;
                        if to_client.write_all(&bytes).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! {
                    () = requests => {}
                    () = replies => {}
                    () = late => {}
                }
            }
        })
        .await;
        Self {
            endpoint: Endpoint::parse(&url.into()).unwrap(),
            delay_ms,
            received,
            accepted,
        }
    }

    pub(super) fn delay(&self, delay: Duration) {
        let ms = usize::try_from(delay.as_millis()).unwrap();
        self.delay_ms.store(ms, Ordering::SeqCst);
    }
}

fn unroutable() -> Message {
    Message {
        exchange: String::new(),
        routing_key: "none".into(),
        properties: Default::default(),
        body: "x".repeat(100).into(),
    }
}

async fn publisher(broker: &TestBroker, relay: &SlowRelay, timeout: Duration) -> Arc<Publisher> {
    let endpoint = relay.endpoint.clone();
    let publisher = Publisher::start(endpoint, broker.topology(), timeout, Metrics::new());
    publisher.opened().await;
    Arc::new(publisher)
}

/// Nothing refused the event, and no confirm is missing: it waits for its turn.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_waits_for_its_turn_goes_to_every_queue() {
    const TIMEOUT: Duration = Duration::from_secs(8);
    let broker = TestBroker::start().await;
    let relay = SlowRelay::start(&broker.url).await;
    let publisher = publisher(&broker, &relay, TIMEOUT).await;
    let client = broker.client().await;
    let events = broker.topology().events();
    let bound = client.bind_queue(&events, "#", &[]).await;
    let log = BrokerLog::new(
        publisher.clone(),
        broker.endpoint(),
        broker.topology(),
        TIMEOUT,
        Metrics::new(),
    );

    // As many as may be in flight, with late confirms.
    relay.delay(Duration::from_millis(5_000));
    let before = relay.received.load(Ordering::SeqCst);
    let filling = tokio::spawn({
        let publisher = publisher.clone();
        async move {
            let all = (0..8).map(|_| publisher.publish_all(vec![unroutable(); 512]));
            join_all(all).await.concat()
        }
    });
    eventually("they are in flight", || async {
        let bytes = relay.received.load(Ordering::SeqCst) - before;
        (bytes > 4_096 * 100).then_some(())
    })
    .await;
    log.append(Arc::new(vec![accepted("m1")])).await.unwrap();
    assert_eq!(log.stream_only_total(), 0);
    let filled = filling.await.unwrap();
    let failed = filled.iter().find(|outcome| outcome.is_err());
    assert!(failed.is_none(), "{failed:?}");
    assert!(client.try_take(&bound).await.is_some());
    assert_eq!(relay.accepted.load(Ordering::SeqCst), 1, "sessions");
    relay.delay(Duration::ZERO);
    log.close().await;
}

/// More events arrive in each round trip to the broker.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_log_is_found_while_events_are_appended() {
    let broker = TestBroker::start().await;
    let relay = SlowRelay::start(&broker.url).await;
    let log = Arc::new(BrokerLog::new(
        broker.publisher().await,
        relay.endpoint.clone(),
        broker.topology(),
        broker.config().confirm_timeout,
        Metrics::new(),
    ));
    log.append(Arc::new(vec![accepted("m0")])).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let appending = tokio::spawn({
        let (log, done) = (log.clone(), done.clone());
        async move {
            let mut n = 0;
            while !done.load(Ordering::SeqCst) {
                n += 1;
                let event = accepted(&format!("m{n}"));
                log.append(Arc::new(vec![event])).await.unwrap();
            }
        }
    });
    relay.delay(Duration::from_millis(100));
    let start = Start::Since(jiff::Timestamp::UNIX_EPOCH);
    let reading = async {
        let mut events = Vec::new();
        let mut stream = log.read(start, true).await.unwrap();
        while let Some(batch) = stream.next().await {
            events.extend(batch.unwrap());
        }
        let cursor = events.last().unwrap().cursor.clone();
        // A cursor is checked against the end of the log.
        let mut after = log.read(Start::After(cursor), false).await.unwrap();
        assert!(!after.next().await.unwrap().unwrap().is_empty());
    };
    let read = tokio::time::timeout(Duration::from_secs(15), reading).await;
    done.store(true, Ordering::SeqCst);
    appending.await.unwrap();
    read.expect("a read to the end of the log ends");
    log.close().await;
}

/// The callers went away: what they published has no confirm, and is no reason to keep the session for ever.
#[tokio::test(flavor = "multi_thread")]
async fn publications_whose_callers_went_away_count_as_unconfirmed() {
    let broker = TestBroker::start().await;
    let relay = SlowRelay::start(&broker.url).await;
    let publisher = publisher(&broker, &relay, Duration::from_secs(10)).await;
    let publish = async |wait: Duration| {
        let publishing = publisher.publish_all(vec![unroutable(); 400]);
        let _ = tokio::time::timeout(wait, publishing).await;
    };
    // Their confirms came before the callers went away: nothing counts.
    for _ in 0..3 {
        publish(Duration::from_secs(10)).await;
    }
    assert_eq!(relay.accepted.load(Ordering::SeqCst), 1);
    relay.delay(Duration::from_secs(600));
    publish(Duration::from_millis(100)).await;
    relay.delay(Duration::ZERO);
    eventually("the session was replaced", || async {
        (relay.accepted.load(Ordering::SeqCst) == 2).then_some(())
    })
    .await;
    publisher.close().await;
}

/// A confirm is missing only after the whole time, however long the message waited for a channel.
#[tokio::test(flavor = "multi_thread")]
async fn a_mandatory_message_that_waited_for_a_channel_has_the_whole_time_for_its_confirm() {
    const CHANNELS: usize = 16;
    let broker = TestBroker::start().await;
    let relay = SlowRelay::start(&broker.url).await;
    let publisher = publisher(&broker, &relay, Duration::from_secs(5)).await;
    let message = || Message {
        routing_key: broker.topology().dead(),
        ..unroutable()
    };
    relay.delay(Duration::from_secs(3));
    let all = (0..2 * CHANNELS).map(|_| publisher.publish_mandatory(message()));
    let outcomes = join_all(all).await;
    let failed = outcomes.iter().find(|outcome| outcome.is_err());
    assert!(failed.is_none(), "{failed:?}");
    assert_eq!(relay.accepted.load(Ordering::SeqCst), 1, "sessions");
    relay.delay(Duration::ZERO);
    publisher.close().await;
}
