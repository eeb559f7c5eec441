//! The queue of responses to pulls, and messages of other programs in it.

use lapin::types::{AMQPValue, FieldTable};

use crate::support::{bridge::TestBridge, broker::TestBroker, simulator::TestSimulator};

/// With its `user_id` the broker would end the session of all publications; `CC` would copy it each time.
#[tokio::test(flavor = "multi_thread")]
async fn a_stray_message_is_quarantined_without_its_own_properties() {
    let broker = TestBroker::start().await;
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.amqp = broker.config()).await;
    let client = broker.client().await;
    let copies = client
        .bind_queue(&broker.topology().commands(), "none", &[])
        .await;
    let mut headers = FieldTable::default();
    let addresses = vec![AMQPValue::LongString(copies.as_str().into())];
    headers.insert("CC".into(), AMQPValue::FieldArray(addresses.into()));
    let properties = lapin::BasicProperties::default().with_headers(headers);
    let topology = broker.topology();
    client
        .publish("", &topology.intake(), properties, b"stray")
        .await;
    let quarantined = client.take(&topology.quarantine()).await;
    assert_eq!(quarantined.data, b"stray");
    // The one of the program itself.
    assert!(client.try_take(&copies).await.is_some());
    assert!(client.try_take(&copies).await.is_none());
    bridge.stop().await;
}
