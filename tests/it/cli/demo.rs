//! `smsbridge demo` on a broker that has the queues of a real bridge.

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use smsbridge::amqp::Topology;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    process::Child,
};

use super::*;
use crate::support::broker::{Client, TestBroker};

/// The demo command, with variables of a real bridge in its environment.
fn demo(broker: &TestBroker, args: &[&str]) -> Command {
    let mut command = smsbridge();
    command
        .env("SMSBRIDGE_AMQP__URL", &broker.url)
        .env("SMSBRIDGE_INFOBIP__BASE_URL", "http://127.0.0.1:1")
        .arg("demo")
        .args(args);
    command
}

async fn messages_in(client: &Client, queue: &str) -> u32 {
    let passive = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let queue = client
        .channel
        .queue_declare(queue.into(), passive, Default::default());
    queue.await.unwrap().message_count()
}

/// The queue and exchange names of the demo that printed `stdout`.
fn topology_of(broker: &TestBroker, stdout: &str) -> Topology {
    let (_, after) = stdout.split_once("smsbridge-demo-").expect(stdout);
    let mut config = broker.config();
    config.prefix = format!("smsbridge-demo-{}", &after[..8]);
    Topology::new(&config)
}

/// A refused declaration closes its channel, so each check uses a client of its own.
async fn assert_nothing_is_left(broker: &TestBroker, stdout: &str) {
    let topology = topology_of(broker, stdout);
    let queues = topology.queues();
    assert!(stdout.contains(&topology.events_log()), "{stdout}");
    for queue in queues {
        let passive = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let client = broker.client().await;
        let name = queue.name.as_str().into();
        let declared = client
            .channel
            .queue_declare(name, passive, Default::default());
        assert!(declared.await.is_err(), "{} is left", queue.name);
    }
    for exchange in topology.exchanges() {
        let passive = ExchangeDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let client = broker.client().await;
        let name = exchange.name.as_str().into();
        let declared =
            client
                .channel
                .exchange_declare(name, exchange.kind, passive, Default::default());
        assert!(declared.await.is_err(), "{} is left", exchange.name);
    }
}

/// Reads stdout until a line starts with `begin`; returns all lines.
async fn read_until(child: &mut Child, begin: &str) -> String {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = String::new();
    let reading = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            said.push_str(&line);
            said.push('\n');
            if line.starts_with(begin) {
                break;
            }
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.unwrap();
    // Later output must not fail with a broken pipe.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_does_not_touch_the_queues_of_a_real_bridge() {
    let (broker, _node) = TestBroker::start_alone().await;
    let real = broker.topology();
    // A real bridge has declared its queues.
    drop(broker.publisher().await);
    let client = broker.client().await;
    let events = client.bind_queue(&real.events(), "#", &[]).await;
    for n in 0..3 {
        let properties = lapin::BasicProperties::default()
            .with_app_id("billing".into())
            .with_message_id(format!("prod-{n}").into());
        let body = br#"{"message": {"destinations": [{"to": "41793026727"}], "text": "x"}}"#;
        client
            .publish(&real.commands(), "sms.send", properties, body)
            .await;
    }
    let assert_untouched = async || {
        assert_eq!(messages_in(&client, &real.send_normal()).await, 3);
        assert_eq!(messages_in(&client, &events).await, 0);
        assert_eq!(messages_in(&client, &real.events_log()).await, 0);
    };
    assert_untouched().await;

    // The demo ignores a broker in the environment.
    let ended = end(&mut demo(&broker, &["--once"])).await.expect(0);
    assert!(
        ended.stdout.contains("no broker was given"),
        "{}",
        ended.stdout
    );
    assert_untouched().await;

    // On the same broker the demo declares its own names and deletes them at its end.
    let url = broker.url.as_str();
    let ended = end(&mut demo(&broker, &["--once", "--amqp-url", url])).await;
    let ended = ended.expect(0);
    assert!(
        ended.stdout.contains("All 7 flows worked"),
        "{}",
        ended.stdout
    );
    assert_nothing_is_left(&broker, &ended.stdout).await;
    assert_untouched().await;

    // Ctrl-C deletes them too.
    let mut child = demo(&broker, &["--amqp-url", url])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = read_until(&mut child, "Still serving").await;
    let id = child.id().unwrap().to_string();
    let interrupted = Command::new("kill").args(["-INT", &id]).status().await;
    assert!(interrupted.unwrap().success());
    let ended = tokio::time::timeout(DEADLINE, child.wait()).await.unwrap();
    assert_eq!(ended.unwrap().code(), Some(0));
    assert_nothing_is_left(&broker, &said).await;
    assert_untouched().await;
}

#[tokio::test]
async fn the_demo_fails_at_once_if_its_broker_does_not_answer() {
    let args = [
        "demo",
        "--once",
        "--amqp-url",
        "amqp://guest:guest@127.0.0.1:1/%2f",
    ];
    let ended = run(args).await.expect(1);
    assert!(ended.stderr.contains("127.0.0.1:1"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
}

/// How long the relay of the next test keeps the connection of the bridge's publisher waiting.
const SLOW: Duration = Duration::from_secs(3);

/// A relay in front of the broker that is slow to take its second connection. The demo has the first one, its bridge's publisher the
/// second.
async fn slow_relay(url: &str) -> (String, tokio::task::JoinHandle<()>) {
    let (before, after) = url.split_once('@').unwrap();
    let (broker, vhost) = after.split_once('/').unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relayed = format!("{before}@{}/{vhost}", listener.local_addr().unwrap());
    let broker = broker.to_owned();
    let relay = tokio::spawn(async move {
        let mut connections = 0;
        while let Ok((mut here, _)) = listener.accept().await {
            let broker = broker.clone();
            connections += 1;
            let delay = match connections {
                2 => SLOW,
                _ => Duration::ZERO,
            };
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let mut there = TcpStream::connect(broker).await.unwrap();
                let _ = copy_bidirectional(&mut here, &mut there).await;
            });
        }
    });
    (relayed, relay)
}

/// Until its bridge has a connection to the broker, nothing is sent.
#[tokio::test]
async fn the_demo_waits_for_its_bridge_to_be_ready() {
    let broker = TestBroker::start().await;
    let (url, relay) = slow_relay(&broker.url).await;
    let ended = end(&mut demo(&broker, &["--once", "--amqp-url", &url])).await;
    ended.expect(0);
    relay.abort();
}
