//! The publisher: which messages a lost session concerns.

use futures_util::future::join_all;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, LongString},
};
use smsbridge::amqp::{AmqpError, Message};

use crate::support::broker::TestBroker;

/// The broker closes the connection because of the first message. Only the messages that wait for their confirms then may be
/// the cause; the others wait for a channel.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_wait_for_a_channel_are_not_in_flight() {
    const CHANNELS: usize = 16;
    let broker = TestBroker::start().await;
    let publisher = broker.publisher().await;
    let message = |header_bytes: usize| {
        let mut headers = FieldTable::default();
        let text = AMQPValue::LongString(LongString::from("x".repeat(header_bytes)));
        headers.insert("text".into(), text);
        Message {
            exchange: String::new(),
            routing_key: broker.topology().dead(),
            properties: BasicProperties::default().with_headers(headers),
            body: "x".into(),
        }
    };
    let mut publishing = vec![publisher.publish_mandatory(message(200_000))];
    publishing.extend((0..63).map(|_| publisher.publish_mandatory(message(1))));
    let outcomes = join_all(publishing).await;
    assert!(
        matches!(outcomes[0], Err(AmqpError::EndedInFlight(_))),
        "{:?}",
        outcomes[0]
    );
    let in_flight = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Err(AmqpError::EndedInFlight(_))))
        .count();
    assert!(in_flight <= CHANNELS, "{in_flight} in flight");
    publisher.close().await;
}
