//! Callers that write and do not read, or read and do not acknowledge: the bridge stops reading from them and buffers little,
//! other callers are served, and a caller that resumes gets everything.

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use smsbridge::proto::v1::{
    self, Outcome, event_service_client::EventServiceClient, sms_service_client::SmsServiceClient,
    stream_events_request::Start, subscribe_request::Action, subscribe_response::Item,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming, transport::Channel};

use crate::support::{
    DEADLINE,
    bridge::{TestBridge, text},
    eventually,
    process::BridgeProcess,
    simulator::TestSimulator,
};

const MESSAGES: usize = 8_000;
/// Maximum number in flight in the bridge, including results that the caller has not read.
const IN_FLIGHT: usize = 2_500;
/// Maximum number that reaches the API: results in the buffers of a connection are no longer in flight.
const TAKEN_AT_MOST: usize = IN_FLIGHT + 1_000;
/// Maximum number that the writer gets rid of: the bridge also grants 1 MiB to each stream, at about 900 bytes a message.
const WRITTEN_AT_MOST: usize = TAKEN_AT_MOST + 1_500;
const OUTSTANDING: usize = 100;

/// A connection with a small window: a stream that is not read receives next to nothing.
async fn narrow(bridge: &BridgeProcess) -> Channel {
    let endpoint = bridge.endpoint().initial_stream_window_size(1024);
    endpoint.connect().await.unwrap()
}

async fn next<T>(stream: &mut Streaming<T>) -> Option<T> {
    let next = tokio::time::timeout(DEADLINE, stream.message()).await;
    next.expect("a message in time").unwrap()
}

fn numbered(number: usize) -> v1::StreamSmsRequest {
    let mut request = text(&["41793026727"], "x");
    request.message.as_mut().unwrap().callback_data = "x".repeat(800);
    v1::StreamSmsRequest {
        correlation: number.to_string(),
        request: Some(request),
    }
}

async fn taken(simulator: &TestSimulator) -> usize {
    let state = simulator.get("/_sim/state").await;
    usize::try_from(state["messages"].as_u64().unwrap()).unwrap()
}

/// Number of messages in the simulator once it stops growing.
async fn taken_at_last(simulator: &TestSimulator) -> usize {
    let mut last = taken(simulator).await;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        match taken(simulator).await {
            now if now == last => return now,
            now => last = now,
        }
    }
}

/// Selects the events of the writer, without those of the other application.
fn of_the_writer() -> Option<v1::EventFilter> {
    Some(v1::EventFilter {
        applications: vec!["default".into()],
        ..Default::default()
    })
}

async fn subscribe(channel: Channel) -> (mpsc::Sender<Action>, Streaming<v1::SubscribeResponse>) {
    let (actions, said) = mpsc::channel(8);
    let start = v1::SubscriptionStart {
        name: "slow".into(),
        filter: of_the_writer(),
        max_outstanding: i32::try_from(OUTSTANDING).unwrap(),
    };
    actions.send(Action::Start(start)).await.unwrap();
    let requests =
        tokio_stream::StreamExt::map(ReceiverStream::new(said), |action| v1::SubscribeRequest {
            action: Some(action),
        });
    let mut client = EventServiceClient::new(channel);
    let mut deliveries = client.subscribe(requests).await.unwrap().into_inner();
    let ready = next(&mut deliveries).await.unwrap().item;
    assert!(matches!(ready, Some(Item::Ready(_))), "{ready:?}");
    (actions, deliveries)
}

#[tokio::test]
async fn slow_readers_use_bounded_memory_and_do_not_delay_others() {
    // Without reports the only events are results.
    let simulator = TestSimulator::with(|config| {
        config.delivery_latency_ms = (3_600_000, 3_600_000);
    })
    .await;
    let bridge = BridgeProcess::start(&simulator, &[]).await;
    let (acknowledgements, mut deliveries) = subscribe(narrow(&bridge).await).await;
    let mut events = EventServiceClient::new(narrow(&bridge).await)
        .stream_events(v1::StreamEventsRequest {
            start: Some(Start::Since(smsbridge::proto::Timestamp::default())),
            filter: of_the_writer(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    let written = Arc::new(AtomicUsize::new(0));
    let requests = stream::iter((0..MESSAGES).map({
        let written = Arc::clone(&written);
        move |number| {
            written.fetch_add(1, Ordering::Relaxed);
            numbered(number)
        }
    }));
    let mut writer = SmsServiceClient::new(narrow(&bridge).await);
    let mut answers = writer.stream_sms(requests).await.unwrap().into_inner();

    eventually("the stream is full", async || {
        (taken(&simulator).await >= IN_FLIGHT).then_some(())
    })
    .await;
    let taken = taken_at_last(&simulator).await;
    assert!(taken < TAKEN_AT_MOST, "{taken} messages were taken");
    let written = written.load(Ordering::Relaxed);
    assert!(written < WRITTEN_AT_MOST, "{written} messages were written");
    let mut neighbour = bridge.sms().await;
    for _ in 0..50 {
        let mut request = Request::new(text(&["41793026727"], "x"));
        let application = "neighbour".parse().unwrap();
        request
            .metadata_mut()
            .insert("x-smsbridge-application", application);
        request.set_timeout(Duration::from_secs(5));
        let sent = neighbour.send_sms(request).await.unwrap().into_inner();
        assert_eq!(sent.results[0].outcome(), Outcome::Accepted);
    }

    let mut answered = HashSet::new();
    while let Some(answer) = next(&mut answers).await {
        assert_eq!(answer.results[0].outcome(), Outcome::Accepted);
        assert!(answered.insert(answer.correlation));
    }
    assert_eq!(answered.len(), MESSAGES);

    let mut read = HashSet::new();
    while read.len() < MESSAGES {
        let event = next(&mut events).await.unwrap().event.unwrap();
        assert_eq!(event.r#type, "send.accepted");
        assert!(read.insert(event.id), "an event came twice");
    }

    let mut delivered = HashSet::new();
    while delivered.len() < MESSAGES {
        let mut ids = Vec::new();
        while ids.len() < OUTSTANDING.min(MESSAGES - delivered.len()) {
            let Some(Item::Delivery(delivery)) = next(&mut deliveries).await.unwrap().item else {
                panic!("no delivery");
            };
            ids.push(delivery.delivery_id);
        }
        if delivered.is_empty() {
            let more = tokio::time::timeout(Duration::from_millis(100), deliveries.message());
            assert!(
                more.await.is_err(),
                "more than {OUTSTANDING} are outstanding"
            );
        }
        delivered.extend(ids.iter().cloned());
        let done = v1::Acknowledge { delivery_ids: ids };
        acknowledgements
            .send(Action::Acknowledge(done))
            .await
            .unwrap();
    }

    let peak_mb = bridge.peak_memory_mb();
    assert!(peak_mb < 128, "the bridge took {peak_mb} MB");
    drop((acknowledgements, deliveries, events, answers));
    let (ended, said) = bridge.stop().await;
    assert!(ended.success(), "{said}");
}

/// The call has not reached a handler yet, so no handler can answer it.
#[tokio::test]
async fn a_request_that_never_ends_is_answered_at_its_deadline() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let address = bridge.addresses.grpc;
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let never = stream::pending::<Result<Frame<Bytes>, Infallible>>();
    let request = http::Request::post(format!("http://{address}/smsbridge.v1.SmsService/SendSms"))
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "200m")
        .body(StreamBody::new(never))
        .unwrap();
    let answer = tokio::time::timeout(DEADLINE, sender.send_request(request)).await;
    let answer = answer.expect("an answer at its deadline").unwrap();
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    drop(sender);
    bridge.stop().await;
}
