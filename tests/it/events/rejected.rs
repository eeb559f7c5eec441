//! Deliveries that a subscriber rejects come again, after a wait.

use std::time::{Duration, Instant};

use smsbridge::proto::v1::{EventFilter, SubscriptionStart};
use tonic::Request;

use super::subscribe::{Subscriber, request_id, send};
use crate::support::{bridge::TestBridge, simulator::TestSimulator};

#[tokio::test]
async fn a_rejected_delivery_waits_and_others_pass_it() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let start = SubscriptionStart {
        name: "rejecting".into(),
        filter: Some(EventFilter {
            types: vec!["send.#".into()],
            ..Default::default()
        }),
        max_outstanding: 1,
    };
    let mut subscriber = Subscriber::start(&bridge.channel, start, Request::new)
        .await
        .unwrap();
    send(&bridge, ["a", "b"]).await;
    let mut a = subscriber.next().await;
    assert_eq!(request_id(&a), "a");
    let rejected_at = Instant::now();
    subscriber.reject(&a).await;
    // There is room for one delivery.
    let b = subscriber.next().await;
    assert_eq!(request_id(&b), "b", "it passes the rejected one");
    subscriber.acknowledge(&b).await;
    a = subscriber.next().await;
    assert_eq!((request_id(&a).as_str(), a.attempt), ("a", 2));
    assert!(rejected_at.elapsed() >= Duration::from_millis(250));
    let rejected_at = Instant::now();
    subscriber.reject(&a).await;
    a = subscriber.next().await;
    assert_eq!((request_id(&a).as_str(), a.attempt), ("a", 3));
    assert!(rejected_at.elapsed() >= Duration::from_millis(500));
    bridge.stop().await;
}
