//! `grpc.max_concurrent_calls`: calls above it are refused at once, and a permit is free again when its call has ended.

use std::time::Duration;

use smsbridge::proto::v1::{
    ListStatusesRequest, StreamEventsRequest, reference_service_client::ReferenceServiceClient,
};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

use crate::support::{
    bridge::{LONG_AFTER, TestBridge},
    eventually,
    http2::{self, Http2},
    simulator::TestSimulator,
};

/// Opens a new connection to the bridge, separate from `bridge.channel`.
async fn connect(bridge: &TestBridge) -> Channel {
    let address = format!("http://{}", bridge.addresses.grpc);
    let endpoint = Channel::from_shared(address).unwrap();
    endpoint.connect().await.unwrap()
}

#[tokio::test]
async fn calls_above_the_limit_are_refused_except_health_checks() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.grpc.max_concurrent_calls = 1).await;
    let reference = ReferenceServiceClient::new(bridge.channel.clone());
    // A stream holds its permit while it is open.
    let stream = bridge.read(StreamEventsRequest::default()).await;
    let refused = reference
        .clone()
        .list_statuses(ListStatusesRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "OVERLOADED");
    assert!(details.retry_info().unwrap().retry_delay > Some(Duration::ZERO));
    HealthClient::new(bridge.channel.clone())
        .check(HealthCheckRequest::default())
        .await
        .unwrap();
    drop(stream);
    eventually("the place is free", || {
        let mut reference = reference.clone();
        async move {
            let answer = reference.list_statuses(ListStatusesRequest::default());
            answer.await.ok()
        }
    })
    .await;
}

#[tokio::test]
async fn health_watches_do_not_count_as_calls_and_end_at_shutdown() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.grpc.max_concurrent_calls = 2;
        config.shutdown.grace = LONG_AFTER;
    })
    .await;
    let mut watches = Vec::new();
    for _ in 0..10 {
        let mut health = HealthClient::new(bridge.channel.clone());
        let watch = health.watch(HealthCheckRequest::default()).await.unwrap();
        let mut watch = watch.into_inner();
        let first = watch.message().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving);
        watches.push(watch);
    }
    // Health calls that never send their message.
    let mut stuck = Http2::begun(bridge.addresses.grpc).await;
    for (stream, method) in [(1, "Check"), (3, "Watch"), (5, "Check")] {
        let path = format!("/grpc.health.v1.Health/{method}");
        stuck.write(&http2::call_headers(stream, &path)).await;
    }
    let mut reference = ReferenceServiceClient::new(bridge.channel.clone());
    reference
        .list_statuses(ListStatusesRequest::default())
        .await
        .unwrap();

    bridge.begin_to_stop();
    let answering_pings = tokio::spawn(async move {
        while let Some((kind, flags, payload)) = stuck.read().await {
            if kind == http2::PING && flags == 0 {
                let answer = http2::frame(http2::PING, http2::ACK, 0, &payload);
                stuck.write(&answer).await;
            }
        }
    });
    for mut watch in watches {
        let mut last = ServingStatus::Serving;
        while let Some(response) = watch.message().await.unwrap() {
            last = response.status();
        }
        assert_eq!(last, ServingStatus::NotServing);
    }
    // This ends long before the grace period.
    answering_pings.await.unwrap();
    bridge.stop().await;
}

/// The client never allows the bytes of the responses.
#[tokio::test]
async fn checks_of_health_whose_responses_are_not_read_hold_no_place() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut connection = Http2::begun(bridge.addresses.grpc).await;
    connection.write(&http2::closed_windows()).await;
    for number in 0..1000 {
        let check = http2::empty_call(2 * number + 1, "/grpc.health.v1.Health/Check");
        connection.write(&check).await;
    }
    let mut begun = 0;
    while begun < 1000 {
        let (kind, ..) = connection.read().await.expect("a response to each");
        begun += usize::from(kind == http2::HEADERS);
    }
    HealthClient::new(bridge.channel.clone())
        .check(HealthCheckRequest::default())
        .await
        .unwrap();
    drop(connection);
    bridge.stop().await;
}

#[tokio::test]
async fn one_connection_cannot_take_all_places_of_health() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let channel = connect(&bridge).await;
    let mut watches = Vec::new();
    let mut refused = None;
    for _ in 0..1000 {
        let mut health = HealthClient::new(channel.clone());
        match health.watch(HealthCheckRequest::default()).await {
            Ok(watch) => watches.push(watch),
            Err(status) => refused = Some(status),
        }
    }
    let mut neighbour = HealthClient::new(bridge.channel.clone());
    neighbour
        .watch(HealthCheckRequest::default())
        .await
        .unwrap();
    let refused = refused.expect("each connection has a bound");
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "OVERLOADED");

    // Checks that never send their message.
    let mut stuck = Http2::begun(bridge.addresses.grpc).await;
    let checks: Vec<u8> = (0..1000)
        .flat_map(|number| http2::call_headers(2 * number + 1, "/grpc.health.v1.Health/Check"))
        .collect();
    let refusal = async {
        stuck.write(&checks).await;
        while stuck.read().await.expect("a refusal").0 != http2::HEADERS {}
    };
    // Before the deadline of a check, 5 s.
    tokio::time::timeout(Duration::from_secs(4), refusal)
        .await
        .expect("the rest is refused at once");
    neighbour
        .check(HealthCheckRequest::default())
        .await
        .unwrap();
    drop((watches, stuck));
    bridge.stop().await;
}

#[tokio::test]
async fn health_watches_are_bounded_and_do_not_block_health_checks() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut watches = Vec::new();
    let mut refused = None;
    // One connection has at most 16.
    for _ in 0..70 {
        let mut health = HealthClient::new(connect(&bridge).await);
        for _ in 0..16 {
            match health.watch(HealthCheckRequest::default()).await {
                Ok(watch) => watches.push(watch),
                Err(status) => refused = Some(status),
            }
        }
    }
    let refused = refused.expect("there is a bound");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "OVERLOADED");
    HealthClient::new(bridge.channel.clone())
        .check(HealthCheckRequest::default())
        .await
        .unwrap();
    drop(watches);
    bridge.stop().await;
}
