//! Events that the broker confirms while the stream is deleted or not bound: each is in the stream in the end.

use std::{collections::BTreeSet, sync::Arc};

use lapin::{
    options::{BasicAckOptions, ExchangeUnbindOptions, QueueDeleteOptions},
    types::FieldTable,
};
use smsbridge::{
    events::{EventLog as _, Start, broker::BrokerLog},
    proto::v1::{self, StatusGroup},
};

use super::log::{accepted, log, report};
use crate::support::{
    broker::{Client, TestBroker},
    eventually,
};

/// What breaks the way into the stream.
#[derive(Debug, Clone, Copy)]
enum Loss {
    /// The stream, and with it its bindings.
    Stream,
    /// Both ways from the exchange of events, and the binding of the stream itself.
    AllBindings,
    /// The exchange in front of the stream.
    Exchange,
}

impl Loss {
    async fn cause(self, client: &Client, broker: &TestBroker) {
        let topology = broker.topology();
        let (stream, events) = (topology.events_log(), topology.events());
        let channel = &client.channel;
        match self {
            Self::Stream => {
                let options = QueueDeleteOptions::default();
                let deleted = channel.queue_delete(stream.as_str().into(), options);
                deleted.await.unwrap();
            }
            Self::AllBindings => {
                for (exchange, key) in [(&stream, ""), (&events, "#")] {
                    let unbound = channel.queue_unbind(
                        stream.as_str().into(),
                        exchange.as_str().into(),
                        key.into(),
                        FieldTable::default(),
                    );
                    unbound.await.unwrap();
                }
            }
            Self::Exchange => {
                let unbound = channel.exchange_unbind(
                    stream.as_str().into(),
                    events.as_str().into(),
                    "#".into(),
                    ExchangeUnbindOptions::default(),
                    FieldTable::default(),
                );
                unbound.await.unwrap();
            }
        }
    }
}

async fn all(log: &BrokerLog) -> Vec<v1::Event> {
    use futures_util::StreamExt as _;
    let start = Start::Since(jiff::Timestamp::UNIX_EPOCH);
    let Ok(mut stream) = log.read(start, true).await else {
        return Vec::new();
    };
    let mut events = Vec::new();
    while let Some(Ok(batch)) = stream.next().await {
        events.extend(batch);
    }
    events
}

fn message_ids(events: &[v1::Event]) -> BTreeSet<&str> {
    super::log::ids(events).into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_confirmed_without_a_stream_are_in_it_later_and_subscribers_get_each_once()
{
    for loss in [Loss::Stream, Loss::AllBindings, Loss::Exchange] {
        let broker = TestBroker::start().await;
        let log = log(&broker).await;
        let client = broker.client().await;
        // With a bound queue the exchange of events has a destination, so that its own alternate exchange would not be used.
        let bound = client
            .bind_queue(&broker.topology().events(), "send.accepted.billing", &[])
            .await;
        loss.cause(&client, &broker).await;
        let names: Vec<String> = (0..300).map(|n| format!("m{n}")).collect();
        let events = names.iter().map(|name| accepted(name)).collect();
        log.append(Arc::new(events)).await.expect("confirmed");

        let expected: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        eventually(&format!("{loss:?}: all are in the stream"), async || {
            let events = all(&log).await;
            (message_ids(&events) == expected).then_some(())
        })
        .await;
        let mut got = Vec::new();
        while let Some(delivery) = client.try_take(&bound).await {
            delivery
                .acker
                .ack(BasicAckOptions::default())
                .await
                .unwrap();
            let event: v1::Event = serde_json::from_slice(&delivery.data).unwrap();
            got.push(event);
        }
        assert_eq!(
            got.len(),
            names.len(),
            "{loss:?}: no subscriber gets a second copy"
        );
        let unrouted = broker.topology().events_unrouted();
        eventually("the queue is empty", async || {
            client.try_take(&unrouted).await.is_none().then_some(())
        })
        .await;
        log.close().await;
    }
}

/// P6: what was kept outside of the stream comes later than what was published meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_pending_report_is_not_moved_behind_its_final_one() {
    let broker = TestBroker::start().await;
    let log = log(&broker).await;
    let client = broker.client().await;
    // No stream, and nobody who declares it: the task looks after it every few seconds.
    let pending = |id: &str| report(&format!("billing.{id}"), StatusGroup::Pending, false);
    let last = |id: &str| report(&format!("billing.{id}"), StatusGroup::Delivered, true);
    Loss::Stream.cause(&client, &broker).await;
    log.append(Arc::new(vec![
        pending("a"),
        pending("b"),
        accepted("c"),
        last("a"),
    ]))
    .await
    .unwrap();
    let events = eventually("the accepted one is in the stream", async || {
        let events = all(&log).await;
        let is_there = message_ids(&events).contains("c");
        is_there.then_some(events)
    })
    .await;
    let kinds: Vec<String> = events
        .iter()
        .zip(super::log::ids(&events))
        .map(|(event, id)| format!("{} {id}", event.r#type))
        .collect();
    assert!(kinds.contains(&"report.pending b".to_owned()), "{kinds:?}");
    assert!(
        kinds.contains(&"report.delivered a".to_owned()),
        "{kinds:?}"
    );
    assert!(!kinds.contains(&"report.pending a".to_owned()), "{kinds:?}");
    log.close().await;
}
