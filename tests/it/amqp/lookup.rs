//! Look-ups of numbers by commands: real core, broker and simulator. Each number is paid for once at most, and has one event
//! (docs/RELIABILITY.md#look-ups).

mod broker_alarm;
mod repeated;
mod setup;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lapin::{
    BasicProperties,
    options::BasicGetOptions,
    types::{AMQPValue, FieldTable},
};
use prost::Message as _;
use serde_json::{Value, json};
use smsbridge::{
    amqp::headers::text_header,
    proto::v1::{self, event::Payload},
};

pub(crate) use self::setup::{LOOKUP_PATH, number, paid, publish, with_id};
use self::setup::{messages_and_consumers, numbers, reason};
use super::custody::Setup;
use crate::support::{
    broker::TestBroker,
    eventually,
    relay::{Peer, Verdict, start_relay},
};

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_a_command_are_answered_by_events_and_a_reply() {
    let setup = Setup::start(|_| ()).await;
    let replies = setup.client.bind_queue("amq.fanout", "", &[]).await;
    let to = vec![number(0), "+41 79 300 00 01".to_owned(), number(0)];
    let properties = with_id("r1")
        .with_reply_to(replies.as_str().into())
        .with_correlation_id("mine".into());
    setup.publish_lookup(properties, &to).await;
    let reply = setup.client.take(&replies).await;
    let kind = reply.properties.kind().as_ref().unwrap();
    assert_eq!(kind.as_str(), "smsbridge.v1.LookupNumbersResponse");
    let correlation = reply.properties.correlation_id().as_ref().unwrap();
    assert_eq!(correlation.as_str(), "mine");
    let response: v1::LookupNumbersResponse = serde_json::from_slice(&reply.data).unwrap();
    let answered: Vec<_> = response.results.iter().map(|one| one.to.clone()).collect();
    assert_eq!(answered, numbers(0..2), "each once");

    let results = setup.completed(2).await;
    assert_eq!(results[&number(0)], response.results[0]);
    for result in results.values() {
        assert!(result.mcc_mnc.starts_with("228"), "{result:?}");
        assert_eq!(result.refusal, None);
    }
    let events = setup.bridge.all_events().await;
    let event = events.iter().find(|one| one.r#type == "lookup.completed");
    let event = event.unwrap();
    assert_eq!(
        (event.application.as_str(), event.request_id.as_str()),
        ("billing", "r1")
    );

    // In binary, with the type and the id in the body.
    let request = v1::LookupNumbersRequest {
        to: vec![number(2)],
        request_id: "r2".into(),
    };
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_type("smsbridge.v1.LookupNumbersRequest".into())
        .with_content_type("application/protobuf".into())
        .with_reply_to(replies.as_str().into());
    let commands = setup.broker.topology().commands();
    setup
        .client
        .publish(
            &commands,
            "number.lookup",
            properties,
            &request.encode_to_vec(),
        )
        .await;
    let reply = setup.client.take(&replies).await;
    let response = v1::LookupNumbersResponse::decode(reply.data.as_slice()).unwrap();
    assert_eq!(response.results[0].to, number(2));
    let correlation = reply.properties.correlation_id().as_ref().unwrap();
    assert_eq!(correlation.as_str(), "r2");
    setup.assert_none_paid_twice().await;
    setup.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_numbers_than_the_api_takes_are_several_requests() {
    let setup = Setup::start(|config| {
        config.infobip.request_timeout = Duration::from_secs(30);
    })
    .await;
    setup
        .publish_lookup(with_id("many"), &numbers(0..2_500))
        .await;
    setup.answered(2_500).await;
    assert_eq!(setup.requests().await, 3);
    setup.stop().await;
}

/// Takes a command of the lookup queue like a bridge that is killed before it acknowledges.
async fn deliver_to_nobody(broker: &TestBroker) {
    let client = broker.client().await;
    let queue = broker.topology().lookup();
    eventually("the command is delivered", async || {
        let get = client
            .channel
            .basic_get(queue.as_str().into(), BasicGetOptions::default());
        get.await.unwrap()
    })
    .await;
    client.channel.close(200, "".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivered_look_up_is_reported_as_unknown_and_not_asked() {
    let broker = TestBroker::start().await;
    drop(broker.publisher().await);
    let client = broker.client().await;
    let replies = client.bind_queue("amq.fanout", "", &[]).await;
    let properties = with_id("r1").with_reply_to(replies.as_str().into());
    publish(&broker, &client, properties, &numbers(0..3)).await;
    deliver_to_nobody(&broker).await;

    let setup = Setup::start_on(broker, |_| ()).await;
    let results = setup.completed(3).await;
    for result in results.values() {
        let refusal = result.refusal.as_ref().unwrap();
        assert_eq!(refusal.reason, "OUTCOME_UNKNOWN");
        assert!(!refusal.retryable);
    }
    let reply = client.take(&replies).await;
    let response: v1::LookupNumbersResponse = serde_json::from_slice(&reply.data).unwrap();
    assert_eq!(response.results.len(), 3);
    assert_eq!(setup.requests().await, 0);
    // Others are not affected.
    setup.publish_lookup(with_id("r2"), &numbers(3..4)).await;
    assert_eq!(reason(&setup.completed(4).await[&number(3)]), "");
    setup.stop().await;
}

/// The API answers 503 to a request that it carried out.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_makes_its_numbers_unknown_and_the_others_are_asked() {
    let setup = Setup::start(|_| ()).await;
    setup
        .fault(json!({"kind": "status", "status": 503, "processed": true, "count": 1}))
        .await;
    setup
        .publish_lookup(with_id("r1"), &numbers(0..1_001))
        .await;
    let results = setup.completed(1_001).await;
    let lost = results
        .values()
        .filter(|one| reason(one) == "API_ANSWER_LOST");
    assert_eq!(lost.count(), 1_000);
    assert_eq!(reason(&results[&number(1_000)]), "");
    setup.assert_paid_once(1_001).await;
    // Before the next request, something that costs nothing was asked.
    let paths = setup.simulator.paths().await;
    assert!(paths.iter().any(|path| path == "/account/1/balance"));
    setup.stop().await;
}

/// An API that is down for all: only the numbers that were under way when it failed are unknown.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_in_doubt_does_not_take_the_backlog() {
    let setup = Setup::start(|_| ()).await;
    setup
        .simulator
        .fault(json!({"kind": "status", "status": 503}))
        .await;
    setup.publish_each(0..30).await;
    eventually("the outage is noticed", async || {
        let paths = setup.simulator.paths().await;
        let asked = paths.iter().filter(|path| path.contains("balance"));
        (asked.count() >= 2).then_some(())
    })
    .await;
    assert!(setup.requests().await <= 4, "one for each place");
    setup.simulator.heal().await;
    let results = setup.completed(30).await;
    let unknown = results.values().filter(|one| !reason(one).is_empty());
    assert!(unknown.count() <= 4);
    setup.assert_none_paid_twice().await;
    setup.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn look_ups_wait_while_the_api_does_nothing() {
    for fault in [
        json!({"kind": "html", "status": 404, "count": 2}),
        json!({"kind": "status", "status": 429, "count": 2}),
    ] {
        let setup = Setup::start(|_| ()).await;
        setup.fault(fault).await;
        setup.publish_each(0..6).await;
        setup.answered(6).await;
        setup.assert_none_paid_twice().await;
        assert_eq!(setup.requests().await, 8, "two of them in vain");
        setup.stop().await;
    }
}

/// What waits for the API goes back to its queue, and looks as if it had never been delivered.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_hands_look_ups_back_that_were_not_asked() {
    let setup = Setup::start(|_| ()).await;
    setup.fault(json!({"kind": "status", "status": 401})).await;
    setup.publish_each(0..10).await;
    eventually("the API was asked", async || {
        (setup.requests().await > 0).then_some(())
    })
    .await;
    let Setup { broker, bridge, .. } = setup;
    bridge.stop().await;

    let setup = Setup::start_on(broker, |_| ()).await;
    setup.answered(10).await;
    setup.stop().await;
}

/// A publisher that missed the confirm publishes the command again.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_that_is_published_again_is_paid_once() {
    let setup = Setup::start(|_| ()).await;
    for _ in 0..3 {
        setup.publish_lookup(with_id("r1"), &numbers(0..2)).await;
    }
    setup.completed(2).await;
    setup.publish_lookup(with_id("r2"), &numbers(2..3)).await;
    setup.completed(3).await;
    setup.assert_none_paid_twice().await;

    // The same id for other numbers is a mistake of its publisher.
    setup.publish_lookup(with_id("r1"), &numbers(5..6)).await;
    setup.take_dead("ID_REUSED").await;
    setup.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_look_ups_are_dead_lettered() {
    let setup = Setup::start(|_| ()).await;
    let commands = setup.broker.topology().commands();
    let publish = async |routing_key: &str, properties: BasicProperties, body: Value| {
        let body = body.to_string();
        setup
            .client
            .publish(&commands, routing_key, properties, body.as_bytes())
            .await;
    };
    let typed = |name: &str| BasicProperties::default().with_type(name.into());
    let plain = BasicProperties::default;
    let too_long = json!({"to": [], "requestId": "x".repeat(1024 * 1024)});
    for (routing_key, properties, body, expected, detail) in [
        (
            "number.lookup",
            plain(),
            json!({"to": []}),
            "INVALID_REQUEST",
            "to is empty",
        ),
        (
            "number.lookup",
            plain(),
            json!({"to": ["41", "x"]}),
            "INVALID_REQUEST",
            "to[1]",
        ),
        (
            "number.lookup",
            plain(),
            json!({"numbers": 7}),
            "UNREADABLE_REQUEST",
            "JSON",
        ),
        (
            "number.lookup",
            plain(),
            too_long,
            "MESSAGE_TOO_LARGE",
            "split",
        ),
        (
            "number.lookup",
            with_id("no id"),
            json!({"to": ["x"]}),
            "INVALID_REQUEST_ID",
            "to[0]",
        ),
        (
            "number.lookup",
            typed("SendSmsRequest"),
            json!({"to": ["41"]}),
            "UNKNOWN_TYPE",
            "LookupNumbersRequest",
        ),
        // What RabbitMQ makes of the body of an AMQP 1.0 message that is a value.
        (
            "number.lookup",
            plain().with_type("amqp-1.0".into()),
            json!({"to": ["41"]}),
            "UNKNOWN_TYPE",
            "one data section",
        ),
        (
            "sms.send",
            plain().with_type("amqp-1.0".into()),
            json!({}),
            "UNKNOWN_TYPE",
            "one data section",
        ),
        (
            "sms.send",
            typed("LookupNumbersRequest"),
            json!({"to": ["41"]}),
            "UNKNOWN_TYPE",
            "number.lookup",
        ),
    ] {
        publish(routing_key, properties, body).await;
        let dead = setup.client.take(&setup.broker.topology().dead()).await;
        let headers = dead.properties.headers().as_ref();
        let reason = text_header(headers, "smsbridge-reason").unwrap();
        let said = text_header(headers, "smsbridge-detail").unwrap();
        assert_eq!(reason, expected, "{said}");
        assert!(said.contains(detail), "{detail} in {said}");
    }
    assert_eq!(setup.requests().await, 0);
    setup.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_that_the_api_refuses_is_a_dead_letter_with_what_is_left() {
    let setup = Setup::start(|_| ()).await;
    let refused = json!({"requestError": {"serviceException":
        {"messageId": "BAD_REQUEST", "text": "Bad request", "validationErrors": {"to": ["is bad"]}}}});
    setup
        .fault(json!({"kind": "status", "status": 400, "body": refused, "count": 1}))
        .await;
    setup.publish_lookup(with_id("r1"), &numbers(0..2)).await;
    let dead = setup.take_dead("API_REFUSED").await;
    let events = setup.bridge.all_events().await;
    let invalid = events.iter().find_map(|event| match &event.payload {
        Some(Payload::InvalidCommand(invalid)) => Some(invalid),
        _ => None,
    });
    let invalid = invalid.unwrap();
    assert_eq!(invalid.routing_key, "number.lookup");
    assert_eq!(invalid.violations[0].field, "to");
    // Replayed, it is asked.
    let body: Value = serde_json::from_slice(&dead.data).unwrap();
    assert_eq!(body["to"], json!(numbers(0..2)));
    setup.publish_lookup(with_id("r1"), &numbers(0..2)).await;
    setup.answered(2).await;
    setup.stop().await;
}

/// One expires in its queue, the other while it waits for the API.
#[tokio::test(flavor = "multi_thread")]
async fn look_ups_expire() {
    let broker = TestBroker::start().await;
    drop(broker.publisher().await);
    let client = broker.client().await;
    let early = with_id("r0").with_expiration("1".into());
    publish(&broker, &client, early, &numbers(0..1)).await;
    let returned = broker.topology().returned();
    eventually("it expired", async || {
        (messages_and_consumers(&client, &returned).await.0 == 1).then_some(())
    })
    .await;
    let setup = Setup::start_on(broker, |_| ()).await;
    setup.fault(json!({"kind": "status", "status": 401})).await;
    let late = with_id("r1").with_expiration("1500".into());
    setup.publish_lookup(late, &numbers(1..2)).await;
    let results = setup.completed(2).await;
    for n in 0..2 {
        let refusal = results[&number(n)].refusal.as_ref().unwrap();
        assert_eq!(refusal.reason, "EXPIRED");
        // Its event is final: under the same id nothing is asked.
        assert!(!refusal.retryable, "{n}");
        assert!(refusal.detail.contains("new request id"), "{refusal:?}");
    }
    assert!(paid(&setup.simulator).await.is_empty());
    setup.stop().await;
}

/// A copy that is marked because its handler panicked may have been asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_marked_copy_is_not_asked() {
    let setup = Setup::start(|_| ()).await;
    let mut headers = FieldTable::default();
    headers.insert("smsbridge-in-doubt".into(), AMQPValue::Boolean(true));
    let properties = with_id("r1").with_headers(headers);
    setup.publish_lookup(properties, &numbers(0..1)).await;
    let results = setup.completed(1).await;
    assert_eq!(reason(&results[&number(0)]), "OUTCOME_UNKNOWN");
    assert_eq!(setup.requests().await, 0);
    setup.stop().await;
}

/// The broker goes away while the API answers: what was paid for is stored when the broker is back, and the redelivered command is not
/// taken for one that another process has begun.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_stored_although_the_delivery_was_lost() {
    let broker = TestBroker::start().await;
    let proxy = broker.proxy().await;
    let url = proxy.url.clone();
    let setup = Setup::start_on(broker, |config| {
        config.amqp.url = Some(url.into());
        config.infobip.request_timeout = Duration::from_secs(30);
    })
    .await;
    setup.fault(json!({"kind": "latency", "ms": 1_500})).await;
    let events = setup.broker.topology().events();
    let bound = setup.client.bind_queue(&events, "lookup.#", &[]).await;
    setup.publish_lookup(with_id("r1"), &numbers(0..2)).await;
    setup.until_paid(2).await;
    proxy.cut();
    for _ in 0..2 {
        let lookup = setup.take_result(&bound).await;
        assert_eq!(lookup.refusal, None);
    }
    let lookup = setup.broker.topology().lookup();
    eventually("it is consumed again", async || {
        (messages_and_consumers(&setup.client, &lookup).await == (0, 1)).then_some(())
    })
    .await;
    let Setup {
        client,
        bridge,
        simulator,
        ..
    } = setup;
    bridge.stop().await;
    assert!(client.try_take(&lookup).await.is_none());
    assert!(client.try_take(&bound).await.is_none(), "another result");
    assert!(paid(&simulator).await.values().all(|times| *times == 1));
}

/// A delivery is not kept for ever: it goes over a retry queue, and does not look asked.
#[tokio::test(flavor = "multi_thread")]
async fn look_ups_that_wait_long_go_over_a_retry_queue() {
    let broker = TestBroker::start().await;
    broker.declare_delays([1_000; 3]).await;
    let setup = Setup::start_on(broker, |config| {
        config.amqp.hold_for = Duration::from_millis(200);
        config.infobip.request_timeout = Duration::from_secs(30);
    })
    .await;
    setup.fault(json!({"kind": "html", "status": 404})).await;
    setup.publish_each(0..6).await;
    let retry = format!("{}.retry.1s", setup.broker.prefix);
    eventually("one waits in the retry queue", async || {
        (messages_and_consumers(&setup.client, &retry).await.0 > 0).then_some(())
    })
    .await;
    setup.simulator.heal().await;
    setup.answered(6).await;
    setup.assert_none_paid_twice().await;
    setup.stop().await;
}

/// The connection ends before the confirm of a copy arrives. A second copy could be asked by another replica, and paid twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_without_a_confirm_is_not_published_again() {
    let broker = TestBroker::start().await;
    // The copies stay in the retry queue.
    broker.declare_delays([600_000; 3]).await;
    let has_closed = Arc::new(AtomicBool::new(false));
    let url = start_relay(&broker.url, move |peer, bytes| {
        let mark = b"smsbridge-first-seen";
        let is_copy = peer == Peer::Client && bytes.windows(mark.len()).any(|seen| seen == mark);
        match is_copy && !has_closed.swap(true, Ordering::SeqCst) {
            true => Verdict::Close,
            false => Verdict::Forward,
        }
    })
    .await;
    let setup = Setup::start_on(broker, |config| {
        config.amqp.url = Some(url.into());
        config.amqp.hold_for = Duration::from_millis(200);
    })
    .await;
    setup.fault(json!({"kind": "html", "status": 404})).await;
    let events = setup.broker.topology().events();
    let bound = setup.client.bind_queue(&events, "lookup.#", &[]).await;
    setup.publish_lookup(with_id("r1"), &numbers(0..2)).await;
    for _ in 0..2 {
        let lookup = setup.take_result(&bound).await;
        assert_eq!(reason(&lookup), "OUTCOME_UNKNOWN");
    }
    setup.bridge.stop().await;
    let lookup = setup.broker.topology().lookup();
    assert!(setup.client.try_take(&lookup).await.is_none());
    let retry = format!("{}.retry.1s", setup.broker.prefix);
    let copies = [
        setup.client.try_take(&retry).await,
        setup.client.try_take(&retry).await,
    ];
    assert!(copies[1].is_none(), "two copies: {copies:?}");
    assert!(paid(&setup.simulator).await.is_empty());
}

/// Without a request id the ids of events are random: the same question asked again is answered again.
#[tokio::test(flavor = "multi_thread")]
async fn look_ups_without_an_id_are_each_asked() {
    let setup = Setup::start(|_| ()).await;
    let plain = BasicProperties::default().with_delivery_mode(2);
    for _ in 0..2 {
        setup.publish_lookup(plain.clone(), &numbers(0..1)).await;
    }
    eventually("both are answered", async || {
        let events = setup.bridge.all_events().await;
        let answers = events.iter().filter(|one| one.r#type == "lookup.completed");
        (answers.count() == 2).then_some(())
    })
    .await;
    assert_eq!(paid(&setup.simulator).await[&number(0)], 2);
    setup.stop().await;
}

/// A broker that an earlier version declared has everything but the queue of look-ups: the rest stays as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_an_earlier_version_gets_the_queue_of_look_ups() {
    let broker = TestBroker::start().await;
    drop(broker.publisher().await);
    let client = broker.client().await;
    let lookup = broker.topology().lookup();
    let deleting = client
        .channel
        .queue_delete(lookup.as_str().into(), Default::default());
    deleting.await.unwrap();
    let setup = Setup::start_on(broker, |_| ()).await;
    setup.publish_lookup(with_id("r1"), &numbers(0..1)).await;
    assert_eq!(setup.completed(1).await.len(), 1);
    setup.stop().await;
}
