//! `Subscribe` on the embedded engine: each event is delivered to one subscriber, and again until it is acknowledged.

use std::{collections::BTreeSet, fs};

use secrecy::SecretString;
use smsbridge::{
    config::tokens::new_token,
    proto::v1::{
        Acknowledge, Delivery, EventFilter, Reject, SubscribeRequest, SubscriptionReady,
        SubscriptionStart, event_service_client::EventServiceClient,
        sms_service_client::SmsServiceClient, subscribe_request::Action, subscribe_response::Item,
    },
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming, transport::Channel};

use crate::support::{
    DEADLINE,
    bridge::{TestBridge, text_with_id},
    credentials::{refusal, refused, token_entry, with_token},
    process::BridgeProcess,
    simulator::TestSimulator,
};

pub struct Subscriber {
    requests: mpsc::Sender<SubscribeRequest>,
    responses: Streaming<smsbridge::proto::v1::SubscribeResponse>,
    pub(super) ready: SubscriptionReady,
}

impl Subscriber {
    async fn attach(bridge: &TestBridge, max_outstanding: i32) -> Self {
        Self::attach_with(&bridge.channel, max_outstanding, Request::new)
            .await
            .unwrap()
    }

    /// Like `attach`, with a token.
    async fn attach_as(
        token: &SecretString,
        channel: &Channel,
        max_outstanding: i32,
    ) -> Result<Self, Status> {
        Self::attach_with(channel, max_outstanding, |received| {
            with_token(received, token)
        })
        .await
    }

    async fn attach_with(
        channel: &Channel,
        max_outstanding: i32,
        request: impl FnOnce(
            ReceiverStream<SubscribeRequest>,
        ) -> Request<ReceiverStream<SubscribeRequest>>,
    ) -> Result<Self, Status> {
        let start = SubscriptionStart {
            name: "results".into(),
            filter: Some(EventFilter {
                types: vec!["send.#".into()],
                ..Default::default()
            }),
            max_outstanding,
        };
        Self::start(channel, start, request).await
    }

    pub async fn start(
        channel: &Channel,
        start: SubscriptionStart,
        request: impl FnOnce(
            ReceiverStream<SubscribeRequest>,
        ) -> Request<ReceiverStream<SubscribeRequest>>,
    ) -> Result<Self, Status> {
        let (requests, received) = mpsc::channel(16);
        requests
            .send(SubscribeRequest {
                action: Some(Action::Start(start)),
            })
            .await
            .unwrap();
        let mut client = EventServiceClient::new(channel.clone());
        let mut responses = client
            .subscribe(request(ReceiverStream::new(received)))
            .await?
            .into_inner();
        let first = responses.message().await?.unwrap();
        let Some(Item::Ready(ready)) = first.item else {
            panic!("{first:?}")
        };
        Ok(Self {
            requests,
            responses,
            ready,
        })
    }

    pub async fn next(&mut self) -> Delivery {
        let next = tokio::time::timeout(DEADLINE, self.responses.message())
            .await
            .expect("a delivery in time");
        let Some(Item::Delivery(delivery)) = next.unwrap().unwrap().item else {
            panic!("no delivery")
        };
        delivery
    }

    pub(super) async fn acknowledge(&self, delivery: &Delivery) {
        let delivery_ids = vec![delivery.delivery_id.clone()];
        self.act(Action::Acknowledge(Acknowledge { delivery_ids }))
            .await;
    }

    pub(super) async fn reject(&self, delivery: &Delivery) {
        let delivery_ids = vec![delivery.delivery_id.clone()];
        self.act(Action::Reject(Reject { delivery_ids })).await;
    }

    async fn act(&self, action: Action) {
        let request = SubscribeRequest {
            action: Some(action),
        };
        self.requests.send(request).await.unwrap();
    }
}

pub(super) fn request_id(delivery: &Delivery) -> String {
    delivery.event.as_ref().unwrap().request_id.clone()
}

pub(super) async fn send(bridge: &TestBridge, ids: impl IntoIterator<Item = &str>) {
    for id in ids {
        bridge
            .sms()
            .send_sms(text_with_id(id, &["41793026727"]))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn unacknowledged_events_are_redelivered_after_a_restart() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    send(&bridge, ["before"]).await;
    // With one outstanding delivery at most, the second comes after the first is acknowledged.
    let mut first = Subscriber::attach(&bridge, 1).await;
    assert!(first.ready.created, "it begins at now");
    send(&bridge, ["a", "b"]).await;
    let a = first.next().await;
    assert_eq!((request_id(&a).as_str(), a.attempt), ("a", 1));
    first.acknowledge(&a).await;
    assert_eq!(request_id(&first.next().await), "b");
    drop(first);
    send(&bridge, ["c"]).await;

    // `b` was not acknowledged, and `c` was appended without a subscriber: both survive a restart.
    let folder = bridge.stop().await;
    let bridge = TestBridge::at(&simulator.base_url(), folder, |_| ()).await;
    let mut second = Subscriber::attach(&bridge, 10).await;
    assert!(!second.ready.created);
    assert_eq!(request_id(&second.next().await), "b");
    assert_eq!(request_id(&second.next().await), "c");
}

#[tokio::test]
async fn subscribers_compete_and_get_at_most_max_outstanding_deliveries() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut one = Subscriber::attach(&bridge, 1).await;
    let mut other = Subscriber::attach(&bridge, 1).await;
    send(&bridge, ["a", "b", "c"]).await;
    let (first, second) = (one.next().await, other.next().await);
    let shared: BTreeSet<_> = [request_id(&first), request_id(&second)].into();
    assert_eq!(shared, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    // Both are full: the third waits for the first acknowledgement.
    other.acknowledge(&second).await;
    assert_eq!(request_id(&other.next().await), "c");
    // The outstanding deliveries of a subscriber that leaves go to another one.
    drop(one);
    other
        .acknowledge(&Delivery {
            delivery_id: "not-one".into(),
            ..Default::default()
        })
        .await;
    let third = other.requests.clone();
    drop(third);
    let mut late = Subscriber::attach(&bridge, 5).await;
    let again = late.next().await;
    assert_eq!((request_id(&again), again.attempt), (request_id(&first), 2));
}

#[tokio::test]
async fn rejected_deliveries_are_redelivered_and_filters_are_saved() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut subscriber = Subscriber::attach(&bridge, 2).await;
    // The filter matches results, not the reports that follow them.
    send(&bridge, ["a", "b", "c"]).await;
    let (a, b) = (subscriber.next().await, subscriber.next().await);
    assert_ne!(a.delivery_id, b.delivery_id);
    subscriber.reject(&b).await;
    // There is room for it while the rejected one waits.
    let c = subscriber.next().await;
    assert_eq!(request_id(&c), "c");
    subscriber.acknowledge(&a).await;
    let again = subscriber.next().await;
    assert_eq!((request_id(&again).as_str(), again.attempt), ("b", 2));
    subscriber.acknowledge(&again).await;
    // There is room for it only when the acknowledgement has come.
    send(&bridge, ["d"]).await;
    assert_eq!(request_id(&subscriber.next().await), "d");
    let done = number(&again.event.unwrap().cursor);
    drop(subscriber);
    let mut later = Subscriber::attach(&bridge, 10).await;
    assert!(!later.ready.created);
    // Reports, which the filter does not match, may be between the two.
    let goes_on_after = number(&later.ready.cursor);
    let not_done = number(&c.event.unwrap().cursor);
    assert!(
        (done..not_done).contains(&goes_on_after),
        "{done} is done, {not_done} is not: {goes_on_after}"
    );
    assert_eq!(request_id(&later.next().await), "c");
}

/// The sequence number in a cursor of the embedded log.
fn number(cursor: &str) -> u64 {
    cursor.rsplit('-').next().unwrap().parse().unwrap()
}

/// The bridge is a process of its own: a task that never yields would block the runtime of the test too.
#[tokio::test]
async fn a_full_subscriber_and_one_of_another_visibility_block_no_others() {
    let simulator = TestSimulator::start().await;
    let folder = TempDir::new().unwrap();
    let [all, own, shop] = std::array::from_fn(|_| new_token());
    let tokens = token_entry("all", &all, "ops", "grants = [\"all-applications\"]")
        + &token_entry("own", &own, "ops", "")
        + &token_entry("shop", &shop, "shop", "");
    let path = folder.path().join("tokens.toml");
    fs::write(&path, tokens).unwrap();
    let settings = [("SMSBRIDGE_GRPC__TOKENS_FILE", path.to_str().unwrap())];
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    let channel = bridge.connect().await;
    let send = async |id: &str| {
        let mut sms = SmsServiceClient::new(channel.clone());
        let message = with_token(text_with_id(id, &["41793026727"]), &shop);
        let sent = tokio::time::timeout(DEADLINE, sms.send_sms(message)).await;
        sent.unwrap_or_else(|_| panic!("{id}: the bridge answers"))
            .unwrap();
    };

    // `sees_all` accepts one delivery at a time and does not acknowledge it.
    let mut sees_all = Subscriber::attach_as(&all, &channel, 1).await.unwrap();
    send("a").await;
    assert_eq!(request_id(&sees_all.next().await), "a");
    let sees_own = Subscriber::attach_as(&own, &channel, 10).await;
    send("b").await;
    send("c").await;

    let differs = refused(Code::FailedPrecondition, "SUBSCRIPTION_VISIBILITY_DIFFERS");
    assert_eq!(refusal(sees_own.map(|_| ())), differs);
    // No event was skipped while it was detached, although a caller with less visibility tried to attach, also after a restart.
    drop(sees_all);
    let folder_of_log = bridge.kill().await;
    let bridge = BridgeProcess::start_in(folder_of_log, &simulator, &settings).await;
    let channel = bridge.connect().await;
    let sees_own = Subscriber::attach_as(&own, &channel, 10).await;
    assert_eq!(refusal(sees_own.map(|_| ())), differs);
    let mut sees_all = Subscriber::attach_as(&all, &channel, 10).await.unwrap();
    for id in ["a", "b", "c"] {
        assert_eq!(request_id(&sees_all.next().await), id);
    }
    bridge.stop().await;
}

#[tokio::test]
async fn a_subscription_of_one_application_refuses_a_caller_that_sees_all() {
    let simulator = TestSimulator::start().await;
    let folder = TempDir::new().unwrap();
    let [all, own] = std::array::from_fn(|_| new_token());
    let tokens = token_entry("all", &all, "ops", "grants = [\"all-applications\"]")
        + &token_entry("own", &own, "ops", "");
    let path = folder.path().join("tokens.toml");
    fs::write(&path, tokens).unwrap();
    let bridge = TestBridge::with(&simulator, |config| config.grpc.tokens_file = Some(path)).await;
    let channel = &bridge.channel;
    let sees_own = Subscriber::attach_as(&own, channel, 10).await.unwrap();
    let differs = refused(Code::FailedPrecondition, "SUBSCRIPTION_VISIBILITY_DIFFERS");
    let sees_all = Subscriber::attach_as(&all, channel, 10).await;
    assert_eq!(refusal(sees_all.map(|_| ())), differs);
    drop(sees_own);
    bridge.stop().await;
}
