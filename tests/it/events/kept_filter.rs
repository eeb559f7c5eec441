//! The filter of a subscription is kept with it.

use smsbridge::proto::v1::{EventFilter, SubscriptionStart};
use tonic::Request;

use super::subscribe::{Subscriber, request_id, send};
use crate::support::{bridge::TestBridge, simulator::TestSimulator};

/// A subscriber with this filter.
async fn attach(bridge: &TestBridge, filter: Option<EventFilter>) -> Subscriber {
    let start = SubscriptionStart {
        name: "kept".into(),
        filter,
        max_outstanding: 1,
    };
    Subscriber::start(&bridge.channel, start, Request::new)
        .await
        .unwrap()
}

/// The results of the message with this id.
fn of_message(id: &str) -> Option<EventFilter> {
    Some(EventFilter {
        message_ids: vec![id.to_owned()],
        ..Default::default()
    })
}

#[tokio::test]
async fn a_subscription_keeps_its_filter_until_a_subscriber_brings_another_one() {
    // Without reports the only events are results.
    let simulator = TestSimulator::with(|config| {
        config.delivery_latency_ms = (3_600_000, 3_600_000);
    })
    .await;
    let bridge = TestBridge::start(&simulator).await;
    let first = attach(&bridge, of_message("wanted")).await;
    assert!(first.ready.created);
    drop(first);
    send(&bridge, ["a"]).await;
    let folder = bridge.stop().await;

    let bridge = TestBridge::at(&simulator.base_url(), folder, |_| ()).await;
    let mut without = attach(&bridge, None).await;
    assert!(!without.ready.created);
    send(&bridge, ["b", "wanted"]).await;
    let wanted = without.next().await;
    assert_eq!(request_id(&wanted), "wanted", "by the kept filter");
    without.acknowledge(&wanted).await;

    // The new filter holds for both subscribers.
    let mut with = attach(&bridge, of_message("c")).await;
    send(&bridge, ["d", "c"]).await;
    let c = tokio::select! {
        next = without.next() => next,
        next = with.next() => next,
    };
    assert_eq!(request_id(&c), "c");
    drop((without, with));

    // An empty filter matches every event.
    let mut all = attach(&bridge, Some(EventFilter::default())).await;
    send(&bridge, ["e"]).await;
    let mut last = all.next().await;
    while request_id(&last) != "e" {
        all.acknowledge(&last).await;
        last = all.next().await;
    }
    bridge.stop().await;
}
