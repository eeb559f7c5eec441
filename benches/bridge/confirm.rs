//! One bare publish with its confirm, to a stream: what a caller has to wait for with the event log on a broker, whatever
//! the bridge does.

use std::time::{Duration, Instant};

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};

use super::load::Measured;

const STREAM: &str = "smsbridge-bench-confirm";
/// As long as the event of a result is on the broker, about.
const BODY: [u8; 400] = [b'x'; 400];

/// A connection to the broker, and a channel in confirm mode.
pub async fn connect(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    (connection, channel)
}

/// Publishes one after the other for so long.
pub async fn confirms(url: &str, duration: Duration) -> Measured {
    let (connection, channel) = connect(url).await;
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("stream".into()),
    );
    channel
        .queue_declare(STREAM.into(), durable, arguments)
        .await
        .unwrap();
    let begun = Instant::now();
    let mut took = Vec::new();
    while begun.elapsed() < duration {
        let begun = Instant::now();
        let persistent = BasicProperties::default().with_delivery_mode(2);
        let confirmed = channel
            .basic_publish(
                "".into(),
                STREAM.into(),
                BasicPublishOptions::default(),
                &BODY,
                persistent,
            )
            .await
            .unwrap();
        assert!(confirmed.await.unwrap().is_ack());
        took.push(begun.elapsed());
    }
    let elapsed = begun.elapsed();
    channel
        .queue_delete(STREAM.into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    connection.close(200, "done".into()).await.unwrap();
    Measured::of_calls(took, elapsed)
}
