//! Events on the broker in each encoding: what a bound queue gets, and a stream that has all of them.

use std::sync::Arc;

use lapin::options::BasicAckOptions;
use prost::Message as _;
use serde_json::Value;
use smsbridge::{
    config::EventEncoding,
    events::{EventLog as _, Start},
    proto::v1,
};

use super::log::{accepted, ids, log, read_to_head};
use crate::support::broker::TestBroker;

/// The event of a body, as a program in another language reads it.
fn read(content_type: &str, body: &[u8]) -> v1::Event {
    match content_type {
        "application/json" => serde_json::from_slice(body).unwrap(),
        "application/protobuf" => v1::Event::decode(body).unwrap(),
        "application/cloudevents+json" => {
            let envelope: Value = serde_json::from_slice(body).unwrap();
            let event: v1::Event = serde_json::from_value(envelope["data"].clone()).unwrap();
            assert_eq!(envelope["specversion"], "1.0");
            assert_eq!(envelope["source"], "/smsbridge");
            assert_eq!(envelope["id"], event.id);
            assert_eq!(envelope["type"], event.r#type);
            event
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_events_of_all_encodings_is_read_from_each_cursor() {
    let broker = TestBroker::start().await;
    let client = broker.client().await;
    let mut expected = Vec::new();
    let mut content_types = Vec::new();
    let mut bound = None;
    for round in 0..2 {
        for encoding in EventEncoding::ALL {
            let log = log(&broker).await.encoded_as(encoding);
            if bound.is_none() {
                let exchange = broker.topology().events();
                bound = Some(client.bind_queue(&exchange, "#", &[]).await);
            }
            let new = accepted(&format!("{round}-{encoding:?}"));
            expected.push(new.event.clone());
            content_types.push(encoding.content_type());
            log.append(Arc::new(vec![new])).await.unwrap();
            log.close().await;
        }
    }
    let queue = bound.unwrap();
    for (event, content_type) in expected.iter().zip(&content_types) {
        let delivery = client.take(&queue).await;
        let properties = &delivery.properties;
        let found = properties.content_type().as_ref().unwrap().as_str();
        assert_eq!(found, *content_type);
        assert_eq!(&read(found, &delivery.data), event);
        let id = properties.message_id().as_ref().unwrap().as_str();
        assert_eq!(id, event.id, "whatever the encoding");
        delivery
            .acker
            .ack(BasicAckOptions::default())
            .await
            .unwrap();
    }

    let log = log(&broker).await;
    let all = read_to_head(&log, Start::Since(jiff::Timestamp::UNIX_EPOCH)).await;
    let without_cursor = |event: &v1::Event| v1::Event {
        cursor: String::new(),
        ..event.clone()
    };
    let found: Vec<_> = all.iter().map(without_cursor).collect();
    assert_eq!(found, expected);
    // A cursor has a mark of the event at its offset, which is read in any encoding.
    for (at, event) in all.iter().enumerate() {
        let rest = read_to_head(&log, Start::After(event.cursor.clone())).await;
        assert_eq!(ids(&rest), ids(&all[at + 1..]), "after event {at}");
    }
    log.close().await;
}
