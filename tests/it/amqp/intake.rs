//! The queue of responses to pulls, messages of other programs in it, and responses that no message can hold.

use axum::{Router, routing::get};
use lapin::types::{AMQPValue, FieldTable};
use smsbridge::{
    amqp::headers::text_header,
    proto::v1::{PullDeliveryReportsRequest, report_service_client::ReportServiceClient},
};
use tokio::net::TcpListener;

use crate::support::{
    bridge::TestBridge,
    broker::{Client, TestBroker},
    simulator::TestSimulator,
};

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

/// The next body of the quarantine, from all its messages, of which there are this many.
async fn quarantined(client: &Client, queue: &str, parts: usize) -> Vec<u8> {
    let mut body = Vec::new();
    let mut id = None;
    for part in 1..=parts {
        let delivery = client.take(queue).await;
        let properties = &delivery.properties;
        let said = text_header(properties.headers().as_ref(), "smsbridge-part");
        assert_eq!(said, Some(format!("{part}/{parts}")));
        let of = properties.message_id().clone().unwrap();
        assert_eq!(*id.get_or_insert(of.clone()), of, "one id");
        body.extend(delivery.data);
    }
    body
}

/// RabbitMQ 4 ends the session on a message of more than 16 MiB, so that one attempt would follow the other for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_for_one_message_is_quarantined_in_parts() {
    const BYTES: usize = 17 * 1024 * 1024;
    let broker = TestBroker::start().await;
    let simulator = TestSimulator::start().await;
    let reports = get(|| async { "x".repeat(BYTES) });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/sms/1/reports", reports);
    let api = tokio::spawn(async move { axum::serve(listener, router).await });
    let bridge = TestBridge::with(&simulator, |config| {
        config.amqp = broker.config();
        config.infobip.base_url = url;
        config.infobip.max_response_bytes = 2 * BYTES;
    })
    .await;
    let client = broker.client().await;
    let topology = broker.topology();
    let mut pulls = ReportServiceClient::new(bridge.channel.clone());
    let pulling = pulls.pull_delivery_reports(PullDeliveryReportsRequest::default());
    let queue = topology.quarantine();
    let (pulled, body) = tokio::join!(pulling, quarantined(&client, &queue, 3));
    assert!(pulled.is_err(), "it cannot be read");
    assert_eq!(body, "x".repeat(BYTES).into_bytes());

    // A message of another program.
    let stray = vec![b'y'; 9 * 1024 * 1024];
    let properties = lapin::BasicProperties::default();
    client
        .publish("", &topology.intake(), properties, &stray)
        .await;
    let body = quarantined(&client, &queue, 2).await;
    assert_eq!(body, stray);
    bridge.stop().await;
    api.abort();
}
