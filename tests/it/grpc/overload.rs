//! `grpc.max_concurrent_calls`: calls beyond it are turned away at once, and a place is free again when its call has ended.

use std::time::Duration;

use smsbridge::proto::v1::{
    ListStatusesRequest, StreamEventsRequest, reference_service_client::ReferenceServiceClient,
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

use crate::support::{bridge::TestBridge, eventually, simulator::TestSimulator};

#[tokio::test]
async fn more_calls_than_allowed_are_turned_away_and_health_is_not() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.grpc.max_concurrent_calls = 1).await;
    let reference = ReferenceServiceClient::new(bridge.channel.clone());
    // A stream holds its place as long as it is open.
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
