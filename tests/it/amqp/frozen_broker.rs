//! A broker that takes connections and says nothing, as a frozen process or a machine without a network does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use smsbridge::{
    amqp::{Endpoint, Message, Publisher},
    ops::metrics::Metrics,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{broker::TestBroker, eventually, relay::relay_with};

/// A relay that forwards nothing to the client while `is_frozen`; counts the connections that the client has open, and those so far.
async fn start_relay(
    broker_url: &str,
    is_frozen: Arc<AtomicBool>,
    open: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
) -> String {
    relay_with(broker_url, move |client, server| {
        open.fetch_add(1, Ordering::SeqCst);
        accepted.fetch_add(1, Ordering::SeqCst);
        let (open, is_frozen) = (open.clone(), is_frozen.clone());
        async move {
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let replies = tokio::spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                    if is_frozen.load(Ordering::SeqCst) {
                        continue;
                    }
                    if to_client.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
                // The client does not see the end of a frozen broker's connection.
                if is_frozen.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
            });
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                let _ = to_server.write_all(&buffer[..read]).await;
            }
            open.fetch_sub(1, Ordering::SeqCst);
            replies.abort();
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_frozen_broker_do_not_accumulate() {
    let broker = TestBroker::start().await;
    let is_frozen = Arc::new(AtomicBool::new(false));
    let (open, accepted) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let url = start_relay(
        &broker.url,
        is_frozen.clone(),
        open.clone(),
        accepted.clone(),
    )
    .await;
    let endpoint = Endpoint::parse(&url.into()).unwrap();
    let timeout = Duration::from_millis(500);
    let publisher = Publisher::start(endpoint, broker.topology(), timeout, Metrics::new());
    publisher.opened().await;
    let message = Message {
        exchange: String::new(),
        routing_key: broker.topology().dead(),
        properties: Default::default(),
        body: "x".into(),
    };
    publisher.publish_mandatory(message.clone()).await.unwrap();

    is_frozen.store(true, Ordering::SeqCst);
    publisher
        .publish_mandatory(message.clone())
        .await
        .unwrap_err();
    // The session is given up, and an attempt to connect gets no answer for 10 s.
    eventually("it connects again and again", || async {
        (accepted.load(Ordering::SeqCst) >= 3).then_some(())
    })
    .await;
    let connections = open.load(Ordering::SeqCst);
    assert!(connections <= 1, "{connections} connections are open");

    is_frozen.store(false, Ordering::SeqCst);
    eventually("the broker takes messages", || async {
        publisher.publish_mandatory(message.clone()).await.ok()
    })
    .await;
    publisher.close().await;
    eventually("a closed publisher has no connection", || async {
        (open.load(Ordering::SeqCst) == 0).then_some(())
    })
    .await;
}
