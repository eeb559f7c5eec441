//! `Subscribe` on the embedded engine: events wait, go to one listener, and come again until they are acknowledged.

use std::collections::BTreeSet;

use smsbridge::proto::v1::{
    Acknowledge, Delivery, EventFilter, Reject, SubscribeRequest, SubscriptionReady,
    SubscriptionStart, event_service_client::EventServiceClient, subscribe_request::Action,
    subscribe_response::Item,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::support::{
    DEADLINE,
    bridge::{TestBridge, text_with_id},
    simulator::TestSimulator,
};

struct Listener {
    say: mpsc::Sender<SubscribeRequest>,
    hear: Streaming<smsbridge::proto::v1::SubscribeResponse>,
    ready: SubscriptionReady,
}

impl Listener {
    async fn attach(bridge: &TestBridge, max_outstanding: i32) -> Self {
        let (say, said) = mpsc::channel(16);
        let start = SubscriptionStart {
            name: "results".into(),
            filter: Some(EventFilter {
                types: vec!["send.#".into()],
                ..Default::default()
            }),
            max_outstanding,
        };
        say.send(SubscribeRequest {
            action: Some(Action::Start(start)),
        })
        .await
        .unwrap();
        let mut client = EventServiceClient::new(bridge.channel.clone());
        let mut hear = client
            .subscribe(ReceiverStream::new(said))
            .await
            .unwrap()
            .into_inner();
        let first = hear.message().await.unwrap().unwrap();
        let Some(Item::Ready(ready)) = first.item else {
            panic!("{first:?}")
        };
        Self { say, hear, ready }
    }

    async fn next(&mut self) -> Delivery {
        let next = tokio::time::timeout(DEADLINE, self.hear.message())
            .await
            .expect("a delivery in time");
        let Some(Item::Delivery(delivery)) = next.unwrap().unwrap().item else {
            panic!("no delivery")
        };
        delivery
    }

    async fn acknowledge(&self, delivery: &Delivery) {
        let delivery_ids = vec![delivery.delivery_id.clone()];
        let done = SubscribeRequest {
            action: Some(Action::Acknowledge(Acknowledge { delivery_ids })),
        };
        self.say.send(done).await.unwrap();
    }
}

fn request_id(delivery: &Delivery) -> String {
    delivery.event.as_ref().unwrap().request_id.clone()
}

async fn send(bridge: &TestBridge, ids: impl IntoIterator<Item = &str>) {
    for id in ids {
        bridge
            .sms()
            .send_sms(text_with_id(id, &["41793026727"]))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn events_wait_while_nobody_listens_and_come_again_until_they_are_acknowledged() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    send(&bridge, ["before"]).await;
    // One at a time: the second comes when the first is acknowledged.
    let mut first = Listener::attach(&bridge, 1).await;
    assert!(first.ready.created, "it begins at now");
    send(&bridge, ["a", "b"]).await;
    let a = first.next().await;
    assert_eq!((request_id(&a).as_str(), a.attempt), ("a", 1));
    first.acknowledge(&a).await;
    assert_eq!(request_id(&first.next().await), "b");
    drop(first);
    send(&bridge, ["c"]).await;

    // `b` was not acknowledged, `c` came while nobody listened: a restart keeps both.
    let folder = bridge.stop().await;
    let bridge = TestBridge::at(&simulator.base_url(), folder, |_| ()).await;
    let mut second = Listener::attach(&bridge, 10).await;
    assert!(!second.ready.created);
    assert_eq!(request_id(&second.next().await), "b");
    assert_eq!(request_id(&second.next().await), "c");
}

#[tokio::test]
async fn listeners_compete_and_hold_no_more_than_they_asked_for() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut one = Listener::attach(&bridge, 1).await;
    let mut other = Listener::attach(&bridge, 1).await;
    send(&bridge, ["a", "b", "c"]).await;
    let (first, second) = (one.next().await, other.next().await);
    let shared: BTreeSet<_> = [request_id(&first), request_id(&second)].into();
    assert_eq!(shared, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    // Both are full: the third waits for the first acknowledgement.
    other.acknowledge(&second).await;
    assert_eq!(request_id(&other.next().await), "c");
    // What a listener held goes to another one when it leaves.
    drop(one);
    other
        .acknowledge(&Delivery {
            delivery_id: "not-one".into(),
            ..Default::default()
        })
        .await;
    let third = other.say.clone();
    drop(third);
    let mut late = Listener::attach(&bridge, 5).await;
    let again = late.next().await;
    assert_eq!((request_id(&again), again.attempt), (request_id(&first), 2));
}

#[tokio::test]
async fn a_rejected_delivery_comes_again_and_a_filter_is_kept() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut listener = Listener::attach(&bridge, 2).await;
    // Its filter lets results through, not the reports that follow them.
    send(&bridge, ["a", "b", "c"]).await;
    let (a, b) = (listener.next().await, listener.next().await);
    assert_ne!(a.delivery_id, b.delivery_id);
    let again = SubscribeRequest {
        action: Some(Action::Reject(Reject {
            delivery_ids: vec![b.delivery_id.clone()],
        })),
    };
    listener.say.send(again).await.unwrap();
    let again = listener.next().await;
    assert_eq!((request_id(&again).as_str(), again.attempt), ("b", 2));
    for delivery in [&a, &again] {
        listener.acknowledge(delivery).await;
    }
    let cursor = again.event.unwrap().cursor;
    // There is room for it: both acknowledgements were heard.
    assert_eq!(request_id(&listener.next().await), "c");
    drop(listener);
    let mut later = Listener::attach(&bridge, 10).await;
    assert!(!later.ready.created);
    assert_eq!(later.ready.cursor, cursor, "it goes on after what is done");
    assert_eq!(request_id(&later.next().await), "c");
}
