//! The broker engine of the event log finds both ends of the stream over a slow network, from a broker that delivers nothing for a
//! while, and where another queue of the topology is missing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{
        BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use smsbridge::{
    amqp::{Endpoint, Topology},
    config::{self, TopologyMode},
    events::{EventLog as _, ReadError, Start, broker::BrokerLog},
    ops::metrics::Metrics,
};
use tokio::{io::AsyncWriteExt as _, time::Instant};

use super::{
    log::{accepted, ids, log, read_to_head},
    log_under_load::SlowRelay,
};
use crate::support::{
    broker::TestBroker,
    eventually,
    relay::{read_frame, relay_with},
};

const EPOCH: Start = Start::Since(jiff::Timestamp::UNIX_EPOCH);

/// A log that publishes directly, and reads from `endpoint`.
async fn log_read_at(broker: &TestBroker, endpoint: Endpoint) -> BrokerLog {
    BrokerLog::new(
        broker.publisher().await,
        endpoint,
        broker.topology(),
        broker.config().confirm_timeout,
        Metrics::new(),
    )
}

/// Publishes events until the last chunk of the stream has more than this many; returns the number of events.
async fn fill_last_chunk(broker: &TestBroker, more_than: usize) -> usize {
    let connection = Connection::connect(&broker.url, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.tx_select().await.unwrap();
    let stream = broker.topology().events_log();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut published = 0;
    loop {
        // The broker writes what arrives while it writes as one chunk, so the messages of a transaction are in few chunks.
        for n in 0..2_000 {
            let event = accepted(&format!("m{}", published + n)).event;
            let body = serde_json::to_vec(&event).unwrap();
            let options = BasicPublishOptions::default();
            let properties = BasicProperties::default();
            let publishing = channel.basic_publish(
                "".into(),
                stream.as_str().into(),
                options,
                &body,
                properties,
            );
            publishing.await.unwrap();
        }
        published += 2_000;
        channel.tx_commit().await.unwrap();
        let last_chunk = last_chunk(&connection, &stream, published).await;
        if last_chunk > more_than {
            return published;
        }
        assert!(Instant::now() < deadline, "{last_chunk} in the last chunk");
    }
}

/// The number of messages in the last chunk of a stream that has `published` messages.
async fn last_chunk(connection: &Connection, stream: &str, published: usize) -> usize {
    let channel = connection.create_channel().await.unwrap();
    let qos = channel.basic_qos(u16::MAX, BasicQosOptions::default());
    qos.await.unwrap();
    let mut arguments = FieldTable::default();
    let last = AMQPValue::LongString("last".into());
    arguments.insert("x-stream-offset".into(), last);
    let options = BasicConsumeOptions::default();
    let consuming = channel.basic_consume(stream.into(), "".into(), options, arguments);
    let mut consumer = consuming.await.unwrap();
    let mut received = 0;
    while let Some(delivery) = consumer.next().await {
        received += 1;
        let delivery = delivery.unwrap();
        let headers = delivery.properties.headers().as_ref().unwrap().inner();
        let offset = headers["x-stream-offset"].as_long_long_int().unwrap();
        if usize::try_from(offset).unwrap() + 1 == published {
            break;
        }
    }
    received
}

/// The broker delivers no more than the prefetch without an acknowledgement, which takes a round trip.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_long_last_chunk_is_found_over_a_slow_network() {
    let broker = TestBroker::start().await;
    let relay = SlowRelay::start(&broker.url).await;
    let log = log_read_at(&broker, relay.endpoint.clone()).await;
    let published = fill_last_chunk(&broker, 600).await;
    for delay_ms in [80, 200] {
        relay.delay(Duration::from_millis(delay_ms));
        let from = |offset: usize| Start::After(format!("stream:{offset}"));
        let read = read_to_head(&log, from(published - 1_001)).await;
        let names: Vec<String> = (published - 1_000..published)
            .map(|n| format!("m{n}"))
            .collect();
        assert_eq!(ids(&read), names, "at {delay_ms} ms");
        // A cursor is checked against the end of the log.
        for rest in [0, 1] {
            let read = read_to_head(&log, from(published - 1 - rest)).await;
            assert_eq!(read.len(), rest, "at {delay_ms} ms");
        }
    }
    log.close().await;
}

/// A relay that loses what the broker delivers, as if it were late, except to the first consumers; and that can pause.
struct Withholding {
    endpoint: Endpoint,
    /// How many consumers from now on get deliveries.
    consumers: Arc<AtomicUsize>,
    /// How long it forwards nothing after every hundredth delivery.
    pause_ms: Arc<AtomicU64>,
}

impl Withholding {
    async fn start(broker_url: &str) -> Self {
        const METHOD: u8 = 1;
        const HEARTBEAT: u8 = 8;
        const CONSUME_OK: [u8; 4] = [0, 60, 0, 21];
        const DELIVER: [u8; 4] = [0, 60, 0, 60];
        let consumers = Arc::new(AtomicUsize::new(usize::MAX));
        let pause_ms = Arc::<AtomicU64>::default();
        let (left, pause) = (consumers.clone(), pause_ms.clone());
        let url = relay_with(broker_url, move |client, server| {
            let (left, pause) = (left.clone(), pause.clone());
            async move {
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let requests = tokio::io::copy(&mut from_client, &mut to_server);
                let replies = async {
                    let mut is_served = true;
                    let mut delivered = 0;
                    while let Some(frame) = read_frame(&mut from_server).await {
                        let method = (frame[0] == METHOD).then(|| &frame[7..11]);
                        if method == Some(&CONSUME_OK) {
                            let less = |count: usize| count.checked_sub(1);
                            let order = Ordering::SeqCst;
                            is_served = left.fetch_update(order, order, less).is_ok();
                        }
                        // The header and the body of a message are frames of other types.
                        let is_delivery = method.map_or(frame[0] != HEARTBEAT, |it| it == DELIVER);
                        if is_delivery && !is_served {
                            continue;
                        }
                        delivered += u32::from(method == Some(&DELIVER));
                        if method == Some(&DELIVER) && delivered.is_multiple_of(100) {
                            let ms = pause.load(Ordering::SeqCst);
                            tokio::time::sleep(Duration::from_millis(ms)).await;
                        }
                        if to_client.write_all(&frame).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! {
                    _ = requests => {}
                    () = replies => {}
                }
            }
        })
        .await;
        let endpoint = Endpoint::parse(&url.into()).unwrap();
        Self {
            endpoint,
            consumers,
            pause_ms,
        }
    }
}

/// A slow network or a busy broker.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_in_the_last_chunk_is_not_its_end() {
    let broker = TestBroker::start().await;
    let relay = Withholding::start(&broker.url).await;
    let log = log_read_at(&broker, relay.endpoint.clone()).await;
    let published = fill_last_chunk(&broker, 600).await;
    relay.pause_ms.store(200, Ordering::SeqCst);
    let from = Start::After(format!("stream:{}", published - 301));
    assert_eq!(read_to_head(&log, from).await.len(), 300);
    log.close().await;
}

/// An event that is not delivered in time is no sign that there is none, or that a cursor is of another log.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_delivers_nothing_is_unavailable_and_neither_empty_nor_another_one() {
    let broker = TestBroker::start().await;
    let relay = Withholding::start(&broker.url).await;
    let log = log_read_at(&broker, relay.endpoint.clone()).await;
    log.append(Arc::new(vec![accepted("m0"), accepted("m1")]))
        .await
        .unwrap();
    let client = broker.client().await;
    eventually("the broker has counted the events", async || {
        let passive = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let stream = broker.topology().events_log();
        let name = stream.as_str().into();
        let declaring = client
            .channel
            .queue_declare(name, passive, FieldTable::default());
        (declaring.await.unwrap().message_count() > 0).then_some(())
    })
    .await;
    let all = read_to_head(&log, EPOCH).await;
    assert_eq!(ids(&all), ["m0", "m1"]);

    let after = Start::After(all[0].cursor.clone());
    // The end is sought with the first consumer; a cursor is checked with two.
    for (served, start, end_at_head) in [
        (0, EPOCH, true),
        (0, after.clone(), false),
        (1, EPOCH, true),
        (3, after, true),
    ] {
        relay.consumers.store(served, Ordering::SeqCst);
        let read = log.read(start.clone(), end_at_head).await;
        let error = read.err();
        assert!(
            matches!(error, Some(ReadError::Unavailable(_))),
            "{start:?} after {served} consumers: {error:?}"
        );
    }
    relay.consumers.store(usize::MAX, Ordering::SeqCst);
    assert_eq!(ids(&read_to_head(&log, EPOCH).await), ["m0", "m1"]);
    let future = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    assert!(read_to_head(&log, Start::Since(future)).await.is_empty());
    log.close().await;
}

/// A reader that starts at a time needs the time of the last event, which another message does not have.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_not_an_event_may_be_the_last_one() {
    let broker = TestBroker::start().await;
    let log = log(&broker).await;
    let before = jiff::Timestamp::now();
    log.append(Arc::new(vec![accepted("m0")])).await.unwrap();
    let client = broker.client().await;
    let events = broker.topology().events();
    client
        .publish(&events, "send.accepted.billing", Default::default(), b"{")
        .await;
    let read = read_to_head(&log, Start::Since(before)).await;
    assert_eq!(ids(&read), ["m0"]);
    let future = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    assert!(read_to_head(&log, Start::Since(future)).await.is_empty());
    log.close().await;
}

/// The publisher reports what is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_read_although_another_queue_of_a_passive_topology_is_missing() {
    let broker = TestBroker::start().await;
    let publisher = broker.publisher().await;
    let topology = Topology::new(&config::Amqp {
        topology: TopologyMode::Passive,
        ..broker.config()
    });
    let timeout = broker.config().confirm_timeout;
    let endpoint = broker.endpoint();
    let log = BrokerLog::new(publisher, endpoint, topology, timeout, Metrics::new());
    log.append(Arc::new(vec![accepted("m0")])).await.unwrap();
    let client = broker.client().await;
    let delete = async |queue: String| {
        let options = QueueDeleteOptions::default();
        let deleting = client.channel.queue_delete(queue.as_str().into(), options);
        deleting.await.unwrap();
    };
    delete(broker.topology().quarantine()).await;
    assert_eq!(ids(&read_to_head(&log, EPOCH).await), ["m0"]);
    log.close().await;

    // Without the stream, the error names all that is missing.
    let log = BrokerLog::new(
        broker.publisher().await,
        broker.endpoint(),
        Topology::new(&config::Amqp {
            topology: TopologyMode::Passive,
            ..broker.config()
        }),
        timeout,
        Metrics::new(),
    );
    let stream = broker.topology().events_log();
    delete(stream.clone()).await;
    delete(broker.topology().quarantine()).await;
    let error = log.read(EPOCH, true).await.err();
    let said = format!("{error:?}");
    assert!(
        said.contains(&stream) && said.contains("topology --declare"),
        "{said}"
    );
    log.close().await;
}
