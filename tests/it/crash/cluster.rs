//! A broker of three nodes under load: each is restarted, and the one that leads the queue of commands is killed. The bridges connect
//! to whichever node is up, as over the service of a cluster.
//!
//! Here only the leader is killed. `make fleet-test` sets a variable for the rolling restart, and also runs the ignored test of a bridge
//! that knows the nodes by `amqp.other_nodes`.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::net::{TcpListener, TcpStream};

use super::{
    fleet::{Fleet, Load, is_long},
    schedule::ApiMemory,
};
use crate::support::{
    broker::{Node, TestBroker},
    eventually,
    process::BridgeProcess,
    simulator::TestSimulator,
};

const NODES: usize = 3;
const SEED: u64 = 6;
/// Between two of the things that happen.
const BETWEEN: Duration = Duration::from_secs(5);

/// Listens on a port and connects to a node that is up, each time to the next one. Returns the URL.
async fn start_balancer(urls: &[String]) -> String {
    let nodes: Vec<String> = urls.iter().map(|url| address(url).to_owned()).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        let next = AtomicUsize::new(0);
        while let Ok((mut client, _)) = listener.accept().await {
            let first = next.fetch_add(1, Ordering::Relaxed);
            let nodes: Vec<_> = (0..nodes.len())
                .map(|n| nodes[(first + n) % nodes.len()].clone())
                .collect();
            tokio::spawn(async move {
                for node in nodes {
                    if let Ok(mut server) = TcpStream::connect(node).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                        return;
                    }
                }
            });
        }
    });
    urls[0].replace(address(&urls[0]), &format!("127.0.0.1:{port}"))
}

/// Host and port of a URL with user and virtual host.
fn address(url: &str) -> &str {
    let (_, after) = url.split_once('@').expect("the URL has a user");
    after.split('/').next().expect("split has a first part")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_and_a_killed_leader_lose_and_repeat_nothing() {
    let (node, urls) = Node::start_cluster().await;
    let broker = TestBroker {
        url: start_balancer(&urls).await,
        prefix: "smsbridge".into(),
    };
    let mut fleet = Fleet::start(broker, node, SEED, ApiMemory::LogsLag, 2).await;
    let load = Load::start(&fleet.broker, SEED);
    tokio::time::sleep(BETWEEN).await;
    let restarts = if is_long() { NODES } else { 0 };
    for number in 1..=restarts {
        (fleet, _) = fleet.order(&format!("restart {number}")).await;
        tokio::time::sleep(BETWEEN).await;
    }
    let queue = fleet.broker.topology().send_normal();
    let leader;
    (fleet, leader) = fleet.order(&format!("leader {queue}")).await;
    (fleet, _) = fleet.order(&format!("kill {leader}")).await;
    tokio::time::sleep(BETWEEN).await;
    (fleet, _) = fleet.order(&format!("start {leader}")).await;
    tokio::time::sleep(BETWEEN).await;
    let records = load.stop().await;
    let what = format!("a cluster, {restarts} nodes restarted, the leader killed");
    fleet.finish(records, &what).await;
}

/// The nodes are named in the configuration: nothing in between moves the bridge to another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the start of a second cluster takes too long: `make fleet-test` runs it"]
async fn a_bridge_whose_node_is_killed_goes_on_with_another_one() {
    let (node, urls) = Node::start_cluster().await;
    let others = [address(&urls[1]), address(&urls[2])].join(",");
    let simulator = TestSimulator::start().await;
    let settings = [
        ("SMSBRIDGE_AMQP__URL", urls[0].as_str()),
        ("SMSBRIDGE_AMQP__OTHER_NODES", others.as_str()),
    ];
    let bridge = BridgeProcess::start(&simulator, &settings).await;
    let is_ready = || {
        eventually("the bridge is ready", async || {
            (bridge.ready().await == "ready\n").then_some(())
        })
    };
    is_ready().await;
    // Over the third node, which stays.
    let broker = TestBroker {
        url: urls[2].clone(),
        prefix: "smsbridge".into(),
    };
    let client = broker.client().await;
    let commands = broker.topology().commands();
    let send = async |id: &str| {
        let properties = lapin::BasicProperties::default().with_message_id(id.into());
        let body = r#"{"message": {"destinations": [{"to": "41793026727"}], "text": "Hello"}}"#;
        client
            .publish(&commands, "sms.send", properties, body.as_bytes())
            .await;
    };
    let sent = |count: usize| {
        let what = format!("{count} messages are sent");
        let simulator = &simulator;
        async move {
            eventually(&what, async || {
                (simulator.messages().await.len() == count).then_some(())
            })
            .await;
        }
    };
    send("before").await;
    sent(1).await;
    let began = std::time::Instant::now();
    let (node, _) = node.answer("kill 1").await;
    send("after").await;
    sent(2).await;
    is_ready().await;
    println!(
        "a command was sent {:?} after the kill of the node",
        began.elapsed()
    );
    let used = bridge.logged().into_iter().filter(|line| {
        line["message"] == "another node of the broker is used"
            && line["address"]
                .as_str()
                .unwrap()
                .contains(address(&urls[1]))
    });
    assert!(used.count() >= 2, "publisher and commands");
    bridge.stop().await;
    drop(node);
}
