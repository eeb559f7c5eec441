//! Several addresses of a broker: a node that is dead, silent, or refuses declarations is passed over.

use std::time::{Duration, Instant};

use serde_json::json;
use smsbridge::amqp::{Endpoint, Message};
use tokio::io::AsyncWriteExt as _;

use crate::support::{
    bridge::text_with_id,
    broker::{Proxy, TestBroker},
    eventually,
    ports::unused_address,
    process::BridgeProcess,
    relay::{Verdict, read_frame, relay_with, start_relay},
    simulator::TestSimulator,
};

/// Class and method of `queue.declare`.
const QUEUE_DECLARE: [u8; 4] = [0, 50, 0, 10];

/// Host and port of a URL with user and virtual host.
fn address(url: &str) -> String {
    let (_, after) = url.split_once('@').unwrap();
    after.split('/').next().unwrap().to_owned()
}

/// A publisher that tries these addresses can publish.
async fn publishes_over(broker: &TestBroker, first: &str, others: &[String]) -> Duration {
    let began = Instant::now();
    let url = broker.url.replace(&address(&broker.url), first);
    let endpoint = Endpoint::parse(&url.into()).unwrap();
    let publisher = broker.publisher_at(endpoint.with_other_nodes(others)).await;
    let message = Message {
        exchange: String::new(),
        routing_key: broker.topology().dead(),
        properties: Default::default(),
        body: "x".into(),
    };
    publisher.publish_mandatory(message).await.unwrap();
    publisher.close().await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_first_node_is_passed_over() {
    let broker = TestBroker::start().await;
    let dead = [(); 2].map(|()| unused_address().to_string());
    let others = [dead[1].clone(), address(&broker.url)];
    publishes_over(&broker, &dead[0], &others).await;
}

/// The only node gets 10 s to answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_accepts_and_never_answers_costs_seconds() {
    let broker = TestBroker::start().await;
    let silent = start_relay(&broker.url, |_, _| Verdict::Silence).await;
    let others = [address(&broker.url)];
    let took = publishes_over(&broker, &address(&silent), &others).await;
    assert!(took > Duration::from_secs(3), "{took:?}");
    assert!(took < Duration::from_secs(9), "{took:?}");
}

/// `connection.close` with this code, as a node sends it that has no majority, or shuts down.
fn connection_close(code: u16, text: &str) -> Vec<u8> {
    let mut payload = vec![0, 10, 0, 50];
    payload.extend(code.to_be_bytes());
    payload.push(u8::try_from(text.len()).unwrap());
    payload.extend(text.bytes());
    payload.extend([0, 0, 0, 0]);
    let mut frame = vec![1, 0, 0];
    frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend(payload);
    frame.push(0xCE);
    frame
}

/// A relay that closes each connection with this code when a queue is declared.
async fn start_refusing(broker_url: &str, code: u16, text: &'static str) -> String {
    relay_with(broker_url, move |client, server| async move {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let mut header = [0; 8];
        let read = tokio::io::AsyncReadExt::read_exact(&mut from_client, &mut header).await;
        if read.is_err() || to_server.write_all(&header).await.is_err() {
            return;
        }
        let until_a_declaration = async {
            while let Some(frame) = read_frame(&mut from_client).await {
                if frame[7..].starts_with(&QUEUE_DECLARE) {
                    return;
                }
                if to_server.write_all(&frame).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = until_a_declaration => {}
            _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
        }
        let _ = to_client.write_all(&connection_close(code, text)).await;
        while read_frame(&mut from_client).await.is_some() {}
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_refuses_declarations_is_passed_over() {
    let broker = TestBroker::start().await;
    for (code, text) in [
        (541, "INTERNAL_ERROR - timed out, the node is in a minority"),
        (320, "CONNECTION_FORCED - broker forced connection closure"),
    ] {
        let refusing = start_refusing(&broker.url, code, text).await;
        let others = [address(&broker.url)];
        publishes_over(&broker, &address(&refusing), &others).await;
    }
}

/// The whole bridge: the log and `/ready` name what each address said, and everything flows when one node is back.
#[tokio::test(flavor = "multi_thread")]
async fn when_all_nodes_are_down_one_that_comes_back_is_used() {
    let broker = TestBroker::start().await;
    let simulator = TestSimulator::start().await;
    let nodes = [broker.proxy().await, broker.proxy().await];
    nodes.iter().for_each(Proxy::down);
    let addresses = nodes.each_ref().map(|node| address(&node.url));
    let settings = [
        ("SMSBRIDGE_AMQP__URL", nodes[0].url.as_str()),
        ("SMSBRIDGE_AMQP__OTHER_NODES", addresses[1].as_str()),
        ("SMSBRIDGE_AMQP__PREFIX", broker.prefix.as_str()),
        ("SMSBRIDGE_LOG__FILTER", "info,smsbridge=debug"),
    ];
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    // Down at the start, and for some rounds.
    let with = |part: &'static str| {
        let lines = bridge.logged().into_iter();
        lines.filter(move |line| line["message"].as_str().unwrap().contains(part))
    };
    eventually("some rounds failed", async || {
        (with("the publisher has no session").count() >= 3).then_some(())
    })
    .await;
    let ready = bridge.ready().await;
    for address in &addresses {
        assert!(
            ready.contains(&format!("{address}: cannot be reached: ")),
            "{ready}"
        );
    }
    let warned: Vec<_> = with("the broker is unavailable").collect();
    assert_eq!(warned.len(), 1, "{warned:?}");
    let cause = warned[0]["cause"].as_str().unwrap();
    assert!(
        addresses.iter().all(|address| cause.contains(address)),
        "{cause}"
    );

    nodes[1].up();
    eventually("the bridge is ready", async || {
        (bridge.ready().await == "ready\n").then_some(())
    })
    .await;
    let request = || text_with_id("r1", &["41793026727"]);
    bridge.sms().await.send_sms(request()).await.unwrap();
    let client = broker.client().await;
    let commands = broker.topology().commands();
    let body = json!({"message": {"destinations": [{"to": "41793026728"}], "text": "Hello"}});
    let properties = lapin::BasicProperties::default().with_message_id("r2".into());
    client
        .publish(
            &commands,
            "sms.send",
            properties,
            body.to_string().as_bytes(),
        )
        .await;
    eventually("both messages are sent", async || {
        (simulator.messages().await.len() == 2).then_some(())
    })
    .await;
    let used = with("another node of the broker is used").next().unwrap();
    assert!(
        used["address"].as_str().unwrap().contains(&addresses[1]),
        "{used}"
    );

    // The next round begins with the node that was used last.
    let before = with("a node of the broker cannot be used").count();
    nodes[1].cut();
    eventually("it is connected again", async || {
        (with("the broker is available again").count() == 2).then_some(())
    })
    .await;
    let failed = with("a node of the broker cannot be used").skip(before);
    assert_eq!(failed.count(), 0);
    bridge.stop().await;
}
