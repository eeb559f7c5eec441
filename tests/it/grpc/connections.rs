//! Many connections and unresponsive ones: their cost, their limits and their end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use serde_json::json;
use smsbridge::{
    config::Config,
    ops::open_files,
    proto::v1::{
        self, event_service_client::EventServiceClient,
        reference_service_client::ReferenceServiceClient,
    },
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::Channel;

use crate::support::{
    DEADLINE,
    bridge::{LONG_AFTER, TestBridge, text},
    eventually,
    http2::{self, Http2, frame},
    process::BridgeProcess,
    simulator::TestSimulator,
};

const IDLE: usize = 10_000;

async fn list_statuses(channel: &Channel) {
    let mut client = ReferenceServiceClient::new(channel.clone());
    let request = v1::ListStatusesRequest::default();
    client.list_statuses(request).await.unwrap();
}

/// An idle connection: one in three sends nothing, one completes the HTTP/2 preface, one begins a call and sends no message.
async fn idle(address: SocketAddr, number: usize) -> Http2 {
    if number.is_multiple_of(3) {
        return Http2::silent(address).await;
    }
    let mut connection = Http2::begun(address).await;
    let (kind, ..) = connection.read().await.expect("the server's SETTINGS");
    assert_eq!(kind, http2::SETTINGS);
    if number % 3 == 1 {
        let call = http2::call_headers(1, "/smsbridge.v1.SmsService/SendSms");
        connection.write(&call).await;
    }
    connection
}

#[tokio::test]
async fn ten_thousand_idle_connections_use_little_memory_and_delay_no_call() {
    open_files::raise_limit();
    let files = open_files::limit().unwrap_or(usize::MAX);
    assert!(
        files >= IDLE + 500,
        "{IDLE} connections need as many open files, and the hard limit is {files}: raise it (ulimit -Hn)"
    );
    let simulator = TestSimulator::start().await;
    let settings = [
        // A silent connection is closed after 20 s by default, which is too early on a slow machine.
        ("SMSBRIDGE_GRPC__KEEPALIVE_TIMEOUT", "2m"),
        // The shutdown waits for calls that have begun, until the grace period ends.
        ("SMSBRIDGE_SHUTDOWN__GRACE", "1s"),
    ];
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    let before_mb = bridge.peak_memory_mb();
    let mut connections: Vec<Http2> = stream::iter(0..IDLE)
        .map(|number| idle(bridge.address, number))
        .buffer_unordered(200)
        .collect()
        .await;
    eventually("all are accepted", async || {
        (bridge.open_files() > IDLE).then_some(())
    })
    .await;

    let mut sms = bridge.sms().await;
    for _ in 0..20 {
        let sending = sms.send_sms(text(&["41793026727"], "x"));
        let sent = tokio::time::timeout(Duration::from_secs(5), sending).await;
        let sent = sent.expect("the call is not delayed").unwrap();
        assert_eq!(sent.into_inner().results.len(), 1);
    }
    let memory_mb = bridge.peak_memory_mb() - before_mb;
    // Measured: 20 KB per connection with the allocator of the system, 37 KB with mimalloc; h2 and tonic take most of it once the
    // preface is complete.
    assert!(
        memory_mb < 600,
        "{IDLE} idle connections take {memory_mb} MB"
    );

    let (ended, said) = bridge.stop().await;
    assert!(ended.success(), "{said}");
    for connection in &mut connections {
        connection.read_to_end().await;
    }
}

#[tokio::test]
async fn more_connections_than_allowed_wait_until_one_ends() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.grpc.max_connections = 2;
        config.grpc.keepalive_interval = LONG_AFTER;
        config.grpc.keepalive_timeout = LONG_AFTER;
    })
    .await;
    let address = bridge.addresses.grpc;
    let (mut first, mut second) = (Http2::begun(address).await, Http2::begun(address).await);
    first.read().await.expect("the first is served");
    second.read().await.expect("the second is served");
    let mut third = Http2::begun(address).await;
    let waiting = tokio::time::timeout(Duration::from_millis(100), third.read()).await;
    assert!(waiting.is_err(), "{waiting:?}");
    drop(first);
    third.read().await.expect("the third is served");
    drop((second, third));
    bridge.stop().await;
}

#[tokio::test]
async fn unresponsive_connections_are_closed() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.grpc.keepalive_interval = Duration::from_secs(1);
        config.grpc.keepalive_timeout = Duration::from_secs(1);
    })
    .await;
    let address = bridge.addresses.grpc;
    // A client that answers pings stays connected while it is idle.
    list_statuses(&bridge.channel).await;
    let mut stays = Http2::begun(address).await;
    let mut pings = 0;
    while pings < 3 {
        let (kind, flags, payload) = stays.read().await.expect("it stays");
        if kind == http2::PING && flags == 0 {
            stays
                .write(&frame(http2::PING, http2::ACK, 0, &payload))
                .await;
            pings += 1;
        }
    }

    Http2::silent(address).await.read_to_end().await;
    let mut half = Http2::silent(address).await;
    half.write(&http2::PREFACE[..10]).await;
    half.read_to_end().await;
    for number in [1, 2] {
        idle(address, number).await.read_to_end().await;
    }
    list_statuses(&bridge.channel).await;
    bridge.stop().await;
}

/// A certificate for `localhost` in files, and a client that trusts it.
struct TestTls {
    folder: TempDir,
    connector: TlsConnector,
}

impl TestTls {
    fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("crt"), issued.cert.pem()).unwrap();
        std::fs::write(
            folder.path().join("key"),
            issued.signing_key.serialize_pem(),
        )
        .unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(issued.cert.der().clone()).unwrap();
        let mut client = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols.push(b"h2".to_vec());
        Self {
            folder,
            connector: TlsConnector::from(Arc::new(client)),
        }
    }

    fn configure(&self, config: &mut Config) {
        config.grpc.tls_cert_file = Some(self.folder.path().join("crt"));
        config.grpc.tls_key_file = Some(self.folder.path().join("key"));
    }

    async fn connect(&self, address: SocketAddr) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        self.connector.connect(name, stream).await.unwrap()
    }
}

/// One timeout covers the TLS handshake and the HTTP/2 preface.
#[tokio::test]
async fn a_client_that_is_silent_after_the_tls_handshake_is_disconnected() {
    let simulator = TestSimulator::start().await;
    let tls = TestTls::new();
    let bridge = TestBridge::with(&simulator, |config| {
        tls.configure(config);
        config.grpc.keepalive_timeout = Duration::from_secs(2);
    })
    .await;
    let connect = async || tls.connect(bridge.addresses.grpc).await;
    for said in [&[][..], &http2::PREFACE[..20]] {
        let mut stream = connect().await;
        stream.write_all(said).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await;
        // The connection may end with a TLS alert or without one.
        let _ = ended.expect("its place is free again");
    }
    // A connection with a complete preface stays open while it is idle.
    let mut stays = connect().await;
    stays.write_all(http2::PREFACE).await.unwrap();
    stays
        .write_all(&frame(http2::SETTINGS, 0, 0, &[]))
        .await
        .unwrap();
    let reading = async { while stays.read_u8().await.is_ok() {} };
    let ended = tokio::time::timeout(Duration::from_secs(4), reading).await;
    assert!(ended.is_err(), "it was ended");
    drop(stays);
    bridge.stop().await;
}

#[tokio::test]
async fn old_connections_get_a_goaway_and_are_then_closed() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.grpc.max_connection_age = Duration::from_millis(500);
        config.grpc.max_connection_age_grace = Duration::from_secs(5);
    })
    .await;
    for number in [1, 2] {
        let kinds = idle(bridge.addresses.grpc, number)
            .await
            .read_to_end()
            .await;
        assert!(kinds.contains(&http2::GOAWAY), "{kinds:?}");
    }
    // A client reconnects by itself.
    list_statuses(&bridge.channel).await;
    bridge.stop().await;
}

#[tokio::test]
async fn calls_on_an_old_connection_complete_within_the_grace_period() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.grpc.max_connection_age = Duration::from_secs(1);
        config.grpc.max_connection_age_grace = Duration::from_secs(30);
    })
    .await;
    let slow =
        json!({"kind": "latency", "ms": 2_000, "probability": 1.0, "path": "/sms/1/text/advanced"});
    simulator.fault(slow).await;
    let sent = bridge.sms().send_sms(text(&["41793026727"], "x")).await;
    assert_eq!(sent.unwrap().into_inner().results.len(), 1);
    bridge.stop().await;
}

#[tokio::test]
async fn a_stream_ends_with_an_error_at_the_end_of_its_connections_lifetime() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.grpc.max_connection_age = Duration::from_secs(2);
        config.grpc.max_connection_age_grace = Duration::from_millis(100);
    })
    .await;
    let mut events = EventServiceClient::new(bridge.channel.clone());
    let request = v1::StreamEventsRequest::default();
    let mut stream = events.stream_events(request).await.unwrap().into_inner();
    let ended = tokio::time::timeout(DEADLINE, stream.message()).await;
    ended.expect("the stream ends").unwrap_err();
    bridge.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_ended_and_gives_its_place_back() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.grpc.max_connections = 1;
        config.grpc.keepalive_interval = LONG_AFTER;
        config.grpc.max_connection_age = Duration::from_secs(6);
        config.grpc.max_connection_age_grace = Duration::from_secs(1);
    })
    .await;
    let client = http2::spawn_client_that_does_not_read(bridge.addresses.grpc).await;
    tokio::time::timeout(DEADLINE, list_statuses(&bridge.channel))
        .await
        .expect("the place is free");
    client.await.unwrap();
    bridge.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_ended_after_the_shutdown_began() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.grpc.max_connection_age = Duration::from_secs(6);
        config.grpc.max_connection_age_grace = Duration::from_millis(100);
        config.grpc.keepalive_interval = LONG_AFTER;
        config.shutdown.grace = LONG_AFTER;
    })
    .await;
    let client = http2::spawn_client_that_does_not_read(bridge.addresses.grpc).await;
    list_statuses(&bridge.channel).await;
    bridge.stop().await;
    client.await.unwrap();
}

/// Their clients do not read what was sent, so the streams cannot end.
#[tokio::test]
async fn streams_of_events_that_nobody_reads_do_not_hold_the_shutdown() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.shutdown.grace = LONG_AFTER;
    })
    .await;
    let push = async |first: u32| {
        let rows: Vec<_> = (first..first + 1000)
            .map(|number| json!({"messageId": format!("m-{number}"), "to": "41793026727", "status": {"groupId": 3, "groupName": "DELIVERED", "id": 5, "name": "DELIVERED_TO_HANDSET"}}))
            .collect();
        let body = json!({"results": rows}).to_string();
        let pushed = reqwest::Client::new()
            .post(bridge.webhook("reports"))
            .body(body);
        assert_eq!(pushed.send().await.unwrap().status(), 200);
    };
    let connect = async || {
        let endpoint = Channel::from_shared(format!("http://{}", bridge.addresses.grpc)).unwrap();
        // Less than the events that follow.
        let endpoint = endpoint.initial_stream_window_size(64 * 1024);
        EventServiceClient::new(endpoint.connect().await.unwrap())
    };
    let start = v1::SubscriptionStart {
        name: "unread".into(),
        max_outstanding: 10_000,
        ..Default::default()
    };
    let start = v1::SubscribeRequest {
        action: Some(v1::subscribe_request::Action::Start(start)),
    };
    let subscriber = stream::iter([start]).chain(stream::pending());
    let subscribed = connect().await.subscribe(subscriber).await.unwrap();
    let mut subscribed = subscribed.into_inner();
    subscribed.message().await.unwrap().expect("it is ready");
    push(0).await;
    push(1000).await;
    let request = v1::StreamEventsRequest {
        start: Some(v1::stream_events_request::Start::Since(
            smsbridge::proto::Timestamp::default(),
        )),
        ..Default::default()
    };
    let streamed = connect().await.stream_events(request).await.unwrap();
    let mut streamed = streamed.into_inner();
    streamed.message().await.unwrap().expect("the first event");
    bridge.stop().await;
    drop((subscribed, streamed));
}

#[tokio::test]
async fn connections_without_a_preface_do_not_hold_the_shutdown() {
    for with_tls in [false, true] {
        let simulator = TestSimulator::start().await;
        let tls = TestTls::new();
        let bridge = TestBridge::with(&simulator, |config| {
            config.grpc.keepalive_timeout = LONG_AFTER;
            config.shutdown.grace = LONG_AFTER;
            if with_tls {
                tls.configure(config);
            }
        })
        .await;
        let address = bridge.addresses.grpc;
        // With TLS, these do not begin the handshake, or send nonsense that is too short for a record.
        let mut silent = Http2::silent(address).await;
        let mut half = Http2::silent(address).await;
        half.write(&http2::PREFACE[..4]).await;
        // Connections are accepted in their order.
        if with_tls {
            drop(tls.connect(address).await);
            let mut after_handshake = tls.connect(address).await;
            let reading =
                tokio::spawn(async move { while after_handshake.read_u8().await.is_ok() {} });
            bridge.stop().await;
            reading.await.unwrap();
        } else {
            list_statuses(&bridge.channel).await;
            bridge.stop().await;
        }
        silent.read_to_end().await;
        half.read_to_end().await;
    }
}
