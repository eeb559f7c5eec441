//! A subscriber's queue that neither stores nor refuses events, such as a quorum queue without a majority: the broker confirms
//! nothing that is routed to it. And one that is full and refuses them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use lapin::types::AMQPValue;
use parking_lot::Mutex;
use smsbridge::{
    amqp::{Endpoint, Publisher},
    events::{EventLog as _, NewEvent, Start, broker::BrokerLog},
    ops::metrics::Metrics,
    proto::v1::{self, event::Payload},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    broker::TestBroker,
    eventually,
    relay::{ACK, PUBLISH, Peer, read_frame, relay_frames, relay_with},
};

const TIMEOUT: Duration = Duration::from_secs(1);

/// Unconfirmed publications by channel: the tag, and whether the confirm is withheld.
#[derive(Default)]
struct Channels(HashMap<[u8; 2], (u64, BTreeMap<u64, bool>)>);

impl Channels {
    fn published(&mut self, channel: [u8; 2], is_withheld: bool) {
        let (last, open) = self.0.entry(channel).or_default();
        *last += 1;
        open.insert(*last, is_withheld);
    }

    /// The confirms that the client gets for this one.
    fn confirmed(&mut self, channel: [u8; 2], tags: RangeInclusive<u64>) -> Vec<u8> {
        let (_, open) = self.0.entry(channel).or_default();
        let tags: Vec<u64> = open.range(tags).map(|(tag, _)| *tag).collect();
        let mut frames = Vec::new();
        for tag in tags {
            if open.remove(&tag) == Some(false) {
                frames.push(1);
                frames.extend(channel);
                frames.extend(13_u32.to_be_bytes());
                frames.extend(ACK);
                frames.extend(tag.to_be_bytes());
                frames.extend([0, 0xCE]);
            }
        }
        frames
    }
}

/// A relay that withholds the confirms of what is published to `exchange` while `is_stuck`.
async fn start_relay(broker_url: &str, exchange: String, is_stuck: Arc<AtomicBool>) -> String {
    relay_frames(broker_url, move |channels: &mut Channels, peer, frame| {
        if peer == Peer::Broker && frame.is_method(ACK) {
            return channels.confirmed(frame.channel(), frame.acknowledged());
        }
        if frame.is_method(PUBLISH) {
            let length = usize::from(frame.0[13]);
            let is_event = frame.0[14..14 + length] == *exchange.as_bytes();
            let is_withheld = is_event && is_stuck.load(Ordering::SeqCst);
            channels.published(frame.channel(), is_withheld);
        }
        frame.0
    })
    .await
}

fn accepted(n: usize) -> Arc<Vec<NewEvent>> {
    Arc::new(vec![super::log::accepted(&format!("m{n}"))])
}

/// The log of a process that publishes over a relay.
async fn open_log(broker: &TestBroker, relay: String) -> BrokerLog {
    let endpoint = Endpoint::parse(&relay.into()).unwrap();
    let publisher = Publisher::start(endpoint, broker.topology(), TIMEOUT, Metrics::new());
    publisher.opened().await;
    BrokerLog::new(
        Arc::new(publisher),
        broker.endpoint(),
        broker.topology(),
        TIMEOUT,
        Metrics::new(),
    )
}

/// Only the first event waits for a confirm that does not come. The others are in the stream at once, and in the queues later.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_without_confirms_delays_only_the_first_event() {
    const EVENTS: usize = 22;
    let broker = TestBroker::start().await;
    let exchange = broker.topology().events();
    let is_stuck = Arc::new(AtomicBool::new(false));
    let url = start_relay(&broker.url, exchange.clone(), is_stuck.clone()).await;
    let log = open_log(&broker, url).await;
    let client = broker.client().await;
    let bound = client.bind_queue(&exchange, "#", &[]).await;

    log.append(accepted(0)).await.unwrap();
    is_stuck.store(true, Ordering::SeqCst);
    log.append(accepted(1)).await.unwrap();
    let begun = Instant::now();
    for n in 2..EVENTS {
        log.append(accepted(n)).await.unwrap();
    }
    let elapsed = begun.elapsed();
    assert!(elapsed < 5 * TIMEOUT, "{elapsed:?}");
    is_stuck.store(false, Ordering::SeqCst);

    let ids = Mutex::new(BTreeSet::new());
    eventually("every event is in the queue", async || {
        while let Some(delivery) = client.try_take(&bound).await {
            let event: v1::Event = serde_json::from_slice(&delivery.data).unwrap();
            let Some(Payload::Result(result)) = event.payload else {
                panic!("{event:?}")
            };
            ids.lock().insert(result.message_id);
        }
        (ids.lock().len() == EVENTS).then_some(())
    })
    .await;
    eventually("events go to the exchange again", async || {
        let alone = log.stream_only_total();
        log.append(accepted(EVENTS)).await.unwrap();
        (log.stream_only_total() == alone).then_some(())
    })
    .await;
    log.close().await;
}

/// A relay to a broker that vanishes: from then on what the client sends is swallowed. After two publications the connection ends, and
/// the broker is there again.
async fn start_vanishing_relay(broker_url: &str, is_vanished: Arc<AtomicBool>) -> String {
    relay_with(broker_url, move |client, server| {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let is_vanished = is_vanished.clone();
        async move {
            let requests = async {
                let mut header = [0; 8];
                from_client.read_exact(&mut header).await.unwrap();
                to_server.write_all(&header).await.unwrap();
                let mut swallowed = 0;
                while let Some(frame) = read_frame(&mut from_client).await {
                    if !is_vanished.load(Ordering::SeqCst) {
                        to_server.write_all(&frame).await.unwrap();
                    } else if frame[0] == 1 && frame[7..11] == PUBLISH {
                        swallowed += 1;
                        if swallowed == 2 {
                            is_vanished.store(false, Ordering::SeqCst);
                            return;
                        }
                    }
                }
            };
            let replies = tokio::io::copy(&mut from_server, &mut to_client);
            tokio::select! {
                () = requests => {}
                _ = replies => {}
            }
        }
    })
    .await
}

/// The exchange never got the event: without a confirm from it, the stream is not enough.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_broker_vanished_reaches_the_bound_queues() {
    let broker = TestBroker::start().await;
    let exchange = broker.topology().events();
    let is_vanished = Arc::new(AtomicBool::new(false));
    let url = start_vanishing_relay(&broker.url, is_vanished.clone()).await;
    let log = open_log(&broker, url).await;
    let client = broker.client().await;
    let bound = client.bind_queue(&exchange, "#", &[]).await;

    is_vanished.store(true, Ordering::SeqCst);
    log.append(accepted(0)).await.unwrap();
    assert!(!is_vanished.load(Ordering::SeqCst));
    eventually("the event is in the queue", async || {
        client.try_take(&bound).await
    })
    .await;
    log.close().await;
}

/// The broker refuses the publication, and has given the event to the other queues nevertheless.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_of_one_subscriber_keeps_no_event_from_the_others_and_delays_none() {
    const AFTER_FULL: u64 = 40;
    let broker = TestBroker::start().await;
    let log = super::log::log(&broker).await;
    let client = broker.client().await;
    let exchange = broker.topology().events();
    let text = |value: &str| AMQPValue::LongString(value.into());
    let arguments = [
        ("x-queue-type", text("quorum")),
        ("x-max-length", AMQPValue::LongInt(1)),
        ("x-overflow", text("reject-publish")),
    ];
    client.bind_queue(&exchange, "#", &arguments).await;
    let other = client.bind_queue(&exchange, "#", &[]).await;
    let mut appended = 0;
    let mut slowest = Duration::ZERO;
    while log.stream_only_total() < AFTER_FULL {
        assert!(appended < 300, "the queue never refused");
        let begun = Instant::now();
        log.append(accepted(appended)).await.unwrap();
        slowest = slowest.max(begun.elapsed());
        appended += 1;
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let expected: BTreeSet<String> = (0..appended).map(|n| format!("m{n}")).collect();
    let start = Start::Since(jiff::Timestamp::UNIX_EPOCH);
    let read = super::log::read_to_head(&log, start).await;
    let in_stream: BTreeSet<String> = super::log::ids(&read)
        .iter()
        .map(|id| (*id).to_owned())
        .collect();
    assert_eq!(in_stream, expected);
    let ids = Mutex::new(BTreeSet::new());
    eventually("every event is in the other queue", async || {
        while let Some(delivery) = client.try_take(&other).await {
            let event: v1::Event = serde_json::from_slice(&delivery.data).unwrap();
            ids.lock()
                .extend(super::log::ids(&[event]).iter().map(|id| (*id).to_owned()));
        }
        (*ids.lock() == expected).then_some(())
    })
    .await;
    log.close().await;
}
