//! What only a queue does: another consumer holds a body, two replicas walk, a session is lost, another program publishes.

use lapin::{
    BasicProperties,
    options::{BasicGetOptions, BasicNackOptions},
};
use tonic::{Code, Request};

use super::*;
use crate::support::{
    credentials::{refusal, refused},
    eventually,
};

async fn operated(count: usize) -> Operated {
    let broker = TestBroker::start().await;
    drop(broker.publisher().await);
    let report = |n| body(origin("reports", Source::Push), &report(&format!("m{n}")));
    let seeds = (0..count).map(report).collect();
    Operated::start(Engine::Broker(broker), seeds).await
}

fn broker(operated: &Operated) -> &TestBroker {
    match &operated.engine {
        Engine::Broker(broker) => broker,
        Engine::Embedded => panic!("not on the broker"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_another_program_holds_is_left_to_it() {
    let operated = operated(3).await;
    let listed = ids(&operated.list().await);
    let client = broker(&operated).client().await;
    let queue = broker(&operated).topology().quarantine();
    let held = eventually("the list gave it back", async || {
        // Ends the list, which holds what it has shown.
        let no_ack = BasicGetOptions { no_ack: false };
        client
            .channel
            .basic_get(queue.as_str().into(), no_ack)
            .await
            .unwrap()
    })
    .await;
    assert_eq!(ids(&operated.list().await), listed[1..]);
    let replayed = operated.replay(listed.clone()).await;
    assert_eq!(
        (replayed.count, replayed.not_found),
        (2, listed[..1].to_vec())
    );
    let requeue = BasicNackOptions {
        requeue: true,
        ..Default::default()
    };
    held.delivery.acker.nack(requeue).await.unwrap();
    let left = eventually("it is back", async || {
        let left = operated.list().await;
        (!left.is_empty()).then_some(left)
    })
    .await;
    assert_eq!(ids(&left), listed[..1]);
    assert_eq!(operated.replay(Vec::new()).await.count, 1);
    assert_eq!(distinct(operated.bridge.all_events().await).len(), 3);
    operated.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_of_another_replica_is_waited_for_until_the_deadline() {
    let operated = operated(60).await;
    let other = TestBridge::with(&operated.simulator, |config| {
        operated.engine.configure(config);
    })
    .await;
    // Its list holds what it has shown, until its next page.
    let mut of_other = Admin::new(other.channel.clone());
    let request = v1::ListQuarantinedRequest {
        limit: 1,
        ..Default::default()
    };
    let page = of_other
        .list_quarantined(request)
        .await
        .unwrap()
        .into_inner();
    let mut list = Request::new(v1::ListQuarantinedRequest::default());
    list.set_timeout(std::time::Duration::from_secs(2));
    let busy = refusal(operated.admin.clone().list_quarantined(list).await);
    assert_eq!(busy, refused(Code::Unavailable, "QUARANTINE_BUSY"));
    let next = v1::ListQuarantinedRequest {
        limit: 1000,
        page_token: page.next_page_token.clone(),
    };
    let rest = of_other
        .list_quarantined(next.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!((rest.bodies.len(), rest.next_page_token.as_str()), (59, ""));
    assert_eq!(operated.list().await.len(), 60);

    // The token of a page whose last body is gone.
    let first = ids(&page.bodies);
    assert_eq!(operated.discard(first, false).await.count, 1);
    let gone = refusal(operated.admin.clone().list_quarantined(next).await);
    assert_eq!(
        gone,
        refused(Code::FailedPrecondition, "PAGE_TOKEN_EXPIRED")
    );
    other.stop().await;
    operated.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_with_a_session() {
    let Operated {
        engine,
        simulator,
        bridge,
        ..
    } = operated(300).await;
    bridge.stop().await;
    let Engine::Broker(broker) = &engine else {
        panic!()
    };
    let proxy = broker.proxy().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.amqp = broker.config();
        config.amqp.url = Some(proxy.url.clone().into());
    })
    .await;
    let mut cut = 0;
    let mut replayed = 0;
    // Each call ends early, or ends the test.
    loop {
        let mut admin = Admin::new(bridge.channel.clone());
        let replaying = tokio::spawn(async move {
            let request = v1::ReplayQuarantinedRequest::default();
            admin.replay_quarantined(request).await
        });
        if cut < 3 {
            let before = bridge.all_events().await.len();
            eventually("the replay goes on", async || {
                (bridge.all_events().await.len() > before || replaying.is_finished()).then_some(())
            })
            .await;
            proxy.cut();
            cut += 1;
        }
        match replaying.await.unwrap() {
            Ok(answer) => {
                let answer = answer.into_inner();
                replayed += answer.count;
                if !answer.incomplete {
                    break;
                }
            }
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
    }
    let events = distinct(bridge.all_events().await);
    assert_eq!(events.len(), 300, "{replayed} replayed");
    let operated = Operated {
        admin: Admin::new(bridge.channel.clone()),
        engine,
        simulator,
        bridge,
    };
    assert!(operated.list().await.is_empty());
    operated.bridge.stop().await;
}

/// What another program put there has an id too, and is processed where it says what it is.
#[tokio::test(flavor = "multi_thread")]
async fn strange_messages_are_shown_and_stay() {
    let operated = operated(0).await;
    let client = broker(&operated).client().await;
    let queue = broker(&operated).topology().quarantine();
    for text in ["stray", "other", "stray"] {
        let properties = BasicProperties::default();
        client
            .publish("", &queue, properties, text.as_bytes())
            .await;
    }
    let listed = operated.list().await;
    let distinct: std::collections::BTreeSet<_> = ids(&listed).into_iter().collect();
    assert_eq!((listed.len(), distinct.len()), (3, 2));
    assert!(listed[0].time.is_none());
    assert_eq!(operated.get(&listed[1].id).await.body, b"other"[..]);
    let replayed = operated.replay(Vec::new()).await;
    assert_eq!((replayed.count, replayed.unreadable_count), (0, 2));
    assert_eq!(operated.discard(Vec::new(), true).await.count, 2);
    assert!(operated.list().await.is_empty());
    operated.bridge.stop().await;
}
