//! Readers of the broker's log that truncation overtakes: a gap is `OutOfRange`, and nothing else is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use lapin::{
    options::{BasicConsumeOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable},
};
use smsbridge::{
    amqp::{Endpoint, Publisher},
    events::{EventLog as _, EventStream, NewEvent, ReadError, Start, broker::BrokerLog},
    message::id::ApplicationName,
    ops::metrics::Metrics,
    proto::v1,
};
use tokio::{io::AsyncWriteExt as _, sync::Semaphore};

use super::log::{read_to_head, small_stream};
use crate::support::{
    DEADLINE,
    broker::{Client, TestBroker},
    relay::{read_frame, relay_with},
};

const SINCE_EVER: Start = Start::Since(jiff::Timestamp::UNIX_EPOCH);
/// Of each event: large, so that few of them fill a segment.
const PAYLOAD: usize = 20_000;
/// Segments of the small stream have about 50 events, and it has at most 4 of them.
const SEGMENT: i64 = 1_000_000;

/// An event of `application` with this number.
fn event(application: &str, number: usize) -> NewEvent {
    let result = v1::SendResult {
        to: "41793026727".into(),
        message_id: number.to_string(),
        outcome: v1::Outcome::Accepted.into(),
        ..Default::default()
    };
    let name = ApplicationName::parse(application).unwrap();
    let now = jiff::Timestamp::now();
    let mut new = NewEvent::send_result(&name, "", None, Box::new(result), now);
    new.event.source_payload = "x".repeat(PAYLOAD);
    new
}

/// A log with a stream that is truncated early.
struct Small {
    broker: TestBroker,
    publisher: Arc<Publisher>,
    log: BrokerLog,
    published: usize,
}

fn log_at(broker: &TestBroker, publisher: Arc<Publisher>, reads_at: Endpoint) -> BrokerLog {
    BrokerLog::new(
        publisher,
        reads_at,
        broker.topology(),
        broker.config().confirm_timeout,
        Metrics::new(),
    )
}

impl Small {
    async fn start() -> Self {
        let broker = TestBroker::start().await;
        let publisher = broker.publisher().await;
        let log = log_at(&broker, publisher.clone(), broker.endpoint());
        let client = broker.client().await;
        // Opens the readers' session now, because a new session declares the stream with its usual arguments.
        read_to_head(&log, SINCE_EVER).await;
        small_stream(&client, &broker, 4 * SEGMENT, SEGMENT).await;
        Self {
            broker,
            publisher,
            log,
            published: 0,
        }
    }

    /// Events with consecutive numbers; each append has a chunk of its own.
    async fn append(&mut self, application: &str, count: usize) {
        for _ in 0..count.div_ceil(20) {
            let events = (0..20).map(|n| event(application, self.published + n));
            self.log.append(Arc::new(events.collect())).await.unwrap();
            self.published += 20;
        }
    }

    /// The number of the oldest event; 0 if there is none.
    async fn oldest(&self) -> usize {
        if self.published == 0 {
            return 0;
        }
        // Over a connection of its own each time: RabbitMQ 3.10 ends it if it truncates the stream just then.
        crate::support::eventually("the oldest event", async || {
            let client = self.broker.try_client().await.ok()?;
            let body = first_body(&client, &self.broker.topology().events_log()).await?;
            let event: v1::Event = serde_json::from_slice(&body).ok()?;
            Some(number(&event))
        })
        .await
    }

    /// Appends events until those before `number` are truncated.
    async fn truncate_beyond(&mut self, application: &str, number: usize) {
        while self.oldest().await <= number {
            assert!(self.published < number + 5_000, "the stream is truncated");
            self.append(application, 100).await;
        }
    }
}

/// The body of the oldest message of a stream.
async fn first_body(client: &Client, stream: &str) -> Option<Vec<u8>> {
    let mut arguments = FieldTable::default();
    let first = AMQPValue::LongString("first".into());
    arguments.insert("x-stream-offset".into(), first);
    let channel = &client.channel;
    channel
        .basic_qos(1, BasicQosOptions::default())
        .await
        .ok()?;
    let options = BasicConsumeOptions::default();
    let consuming = channel.basic_consume(stream.into(), "".into(), options, arguments);
    let mut consumer = consuming.await.ok()?;
    let delivery = tokio::time::timeout(DEADLINE / 10, consumer.next()).await;
    Some(delivery.ok()??.ok()?.data)
}

async fn next(stream: &mut EventStream) -> Result<Vec<v1::Event>, ReadError> {
    tokio::time::timeout(DEADLINE, stream.next())
        .await
        .expect("events or an error come")
        .expect("the stream has no end")
}

fn number(event: &v1::Event) -> usize {
    let Some(v1::event::Payload::Result(result)) = &event.payload else {
        panic!("{event:?}")
    };
    result.message_id.parse().unwrap()
}

/// Reads until an error.
async fn until_error(stream: &mut EventStream) -> (Vec<v1::Event>, ReadError) {
    let mut events = Vec::new();
    loop {
        match next(stream).await {
            Ok(batch) => events.extend(batch),
            Err(error) => return (events, error),
        }
    }
}

/// Panics unless a reader got these events without a gap, then the gap as an error, and continues at the oldest event.
async fn assert_gap(small: &Small, got: &[v1::Event], error: ReadError) {
    let numbers: Vec<usize> = got.iter().map(number).collect();
    let expected: Vec<usize> = (0..numbers.len()).collect();
    assert_eq!(numbers, expected, "without a gap before the error");
    let ReadError::OutOfRange {
        cursor,
        oldest_cursor,
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(cursor, got.last().unwrap().cursor);
    let rest = read_to_head(&small.log, Start::After(oldest_cursor)).await;
    assert!(number(&rest[0]) > numbers.len(), "there was a gap");
    assert_eq!(number(rest.last().unwrap()), small.published - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_for_longer_than_the_stream_keeps_events_is_out_of_range() {
    let mut small = Small::start().await;
    // More than a reader gets in advance.
    small.append("billing", 20).await;
    let mut slow = small.log.read(SINCE_EVER, false).await.unwrap();
    let mut got = next(&mut slow).await.unwrap();
    small.append("billing", 500).await;
    small.truncate_beyond("billing", 800).await;
    let (more, error) = until_error(&mut slow).await;
    got.extend(more);
    assert_gap(&small, &got, error).await;
    small.log.close().await;
}

/// The broker begins each segment with a record of its own, which has an offset too.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_keeps_up_has_no_gap_however_often_the_stream_is_truncated() {
    let mut small = Small::start().await;
    let mut live = small.log.read(Start::Now, false).await.unwrap();
    let mut got = Vec::new();
    let mut oldest = 0;
    while oldest < 400 {
        small.append("billing", 40).await;
        while got.len() < small.published {
            for event in next(&mut live).await.unwrap() {
                assert_eq!(number(&event), got.len());
                got.push(event.cursor);
            }
        }
        oldest = small.oldest().await;
    }
    // The last event of a truncated segment: none is missing after it.
    let after = Start::After(got[oldest - 1].clone());
    let rest = read_to_head(&small.log, after).await;
    assert_eq!(number(&rest[0]), oldest);
    small.log.close().await;
}

/// A relay that holds the requests to consume back after some of them.
struct HeldConsumers {
    endpoint: Endpoint,
    begun: Arc<AtomicUsize>,
    permits: Arc<Semaphore>,
}

impl HeldConsumers {
    async fn start(broker_url: &str) -> Self {
        const METHOD: u8 = 1;
        const CONSUME: [u8; 4] = [0, 60, 0, 20];
        let begun = Arc::<AtomicUsize>::default();
        let permits = Arc::new(Semaphore::new(0));
        let (counter, gate) = (begun.clone(), permits.clone());
        let url = relay_with(broker_url, move |client, server| {
            let (counter, gate) = (counter.clone(), gate.clone());
            async move {
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let requests = async {
                    let mut header = [0; 8];
                    tokio::io::AsyncReadExt::read_exact(&mut from_client, &mut header)
                        .await
                        .unwrap();
                    to_server.write_all(&header).await.unwrap();
                    while let Some(frame) = read_frame(&mut from_client).await {
                        if frame[0] == METHOD && frame[7..11] == CONSUME {
                            counter.fetch_add(1, Ordering::SeqCst);
                            gate.acquire().await.unwrap().forget();
                        }
                        if to_server.write_all(&frame).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! {
                    () = requests => {}
                    _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
                }
            }
        })
        .await;
        Self {
            endpoint: Endpoint::parse(&url.into()).unwrap(),
            begun,
            permits,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_truncated_between_the_check_of_a_cursor_and_the_read_is_out_of_range() {
    for applications in [Vec::new(), vec!["billing".to_owned()]] {
        let mut small = Small::start().await;
        let relay = HeldConsumers::start(&small.broker.url).await;
        let publisher = small.publisher.clone();
        let held = log_at(&small.broker, publisher, relay.endpoint.clone());
        small.append("billing", 20).await;
        let all = read_to_head(&small.log, SINCE_EVER).await;
        let cursor = all[4].cursor.clone();
        let start = Start::After(cursor.clone());

        // The end of the log, the oldest event, that of the cursor; the fourth one is the read itself.
        relay.permits.add_permits(3);
        let reading = held.read_applications(start, false, applications.clone());
        let truncating = async {
            crate::support::eventually("the cursor is checked", async || {
                (relay.begun.load(Ordering::SeqCst) == 4).then_some(())
            })
            .await;
            small.truncate_beyond("billing", 100).await;
            relay.permits.add_permits(100);
        };
        let (read, ()) = tokio::join!(reading, truncating);
        let error = match read {
            Err(error) => error,
            Ok(mut stream) => next(&mut stream).await.expect_err("events are missing"),
        };
        let ReadError::OutOfRange {
            cursor: refused, ..
        } = error
        else {
            panic!("{applications:?}: {error}")
        };
        assert_eq!(refused, cursor);
        held.close().await;
        small.log.close().await;
    }
}

/// The broker leaves chunks out then, so that a missing offset alone says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_filtered_reader_that_stops_is_out_of_range_too() {
    let mut small = Small::start().await;
    small.append("billing", 20).await;
    let wanted = vec!["billing".to_owned()];
    let mut slow = small
        .log
        .read_applications(SINCE_EVER, false, wanted)
        .await
        .unwrap();
    let mut got = next(&mut slow).await.unwrap();
    let stopped = Instant::now();
    small.append("billing", 500).await;
    small.truncate_beyond("billing", 800).await;
    crate::support::eventually("the reader has stopped for a while", async || {
        (stopped.elapsed() > Duration::from_secs(2)).then_some(())
    })
    .await;
    let (more, error) = until_error(&mut slow).await;
    got.extend(more);
    assert_gap(&small, &got, error).await;
    small.log.close().await;
}

/// The last event that it got is truncated long before its next one comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_filtered_reader_whose_application_has_few_events_has_no_gap() {
    let mut small = Small::start().await;
    small.append("billing", 20).await;
    let wanted = vec!["billing".to_owned()];
    let mut live = small
        .log
        .read_applications(SINCE_EVER, false, wanted)
        .await
        .unwrap();
    let first = next(&mut live).await.unwrap();
    let mut got: Vec<usize> = first.iter().map(number).collect();
    let mut expected: Vec<usize> = (0..20).collect();
    for _ in 0..3 {
        let published = small.published;
        small.truncate_beyond("shop", published).await;
        expected.extend(small.published..small.published + 20);
        small.append("billing", 20).await;
        while got.last() != expected.last() {
            let events = next(&mut live).await.unwrap();
            let own = events.iter().filter(|event| event.application == "billing");
            got.extend(own.map(number));
        }
    }
    assert_eq!(got, expected);
    small.log.close().await;
}
