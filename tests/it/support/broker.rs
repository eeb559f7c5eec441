//! A broker for tests: one node for the whole test process, and unique names for each test.
//!
//! The node is the first available of: `SMSBRIDGE_TEST_AMQP_URL`; a container (image `SMSBRIDGE_TEST_RABBITMQ_IMAGE`) of a Docker
//! engine; a private node of an installed `rabbitmq-server`. The latter two are started by `scripts/broker run`, which reads a
//! pipe from this process and removes everything when the process ends, even if it is killed. Without any of them the test fails
//! and prints what to install. `SMSBRIDGE_TEST_RABBITMQ_VERSION` names the version that it runs; a test fails on a broker of another
//! one.

mod script;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lapin::{
    Channel, Connection, ConnectionProperties,
    message::Delivery,
    options::{
        BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
        QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use smsbridge::{
    amqp::{Endpoint, Publisher, Topology},
    config,
    ops::metrics::Metrics,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use uuid::Uuid;

use self::script::Script;
use super::eventually;

/// A node. It ends when the stdin of its child closes: with this value or with this process.
pub struct Node {
    url: String,
    script: Option<Script>,
}

impl Node {
    /// Kills the broker by SIGKILL. Only for a node of [`TestBroker::start_alone`].
    pub async fn kill(self) -> Self {
        self.order("kill", |answer| answer == "killed").await
    }

    /// Starts the killed broker again, with its data and its URL; returns when it takes connections.
    pub async fn start_again(self) -> Self {
        let url = self.url.clone();
        self.order("start", |answer| answer == url).await
    }

    /// Sets or ends a memory alarm. The broker then blocks connections that publish.
    pub async fn set_alarm(self, is_on: bool) -> Self {
        let order = if is_on { "alarm" } else { "calm" };
        self.order(order, |answer| answer == order).await
    }

    /// Consumers that begin from now on have 5 s to acknowledge a delivery.
    pub async fn make_impatient(self) -> Self {
        self.order("impatient", |answer| answer == "impatient")
            .await
    }

    async fn order(self, order: &str, is_done: impl Fn(&str) -> bool) -> Self {
        let (node, answer) = self.answer(order).await;
        assert!(is_done(&answer), "{order}: {answer:?}");
        node
    }

    /// Gives an order to the script that runs the broker; returns its answer. Panics if the order fails.
    pub async fn answer(mut self, order: &str) -> (Self, String) {
        let order = order.to_owned();
        let ordering = tokio::task::spawn_blocking(move || {
            let script = self.script.as_mut().expect("a node of its own");
            let answer = script
                .answer(&order)
                .unwrap_or_else(|message| panic!("{message}"));
            (self, answer)
        });
        ordering.await.expect("the broker takes the order")
    }

    /// Three nodes in one cluster, with the URL of each. [`Node::answer`] takes the orders of `scripts/broker cluster`.
    pub async fn start_cluster() -> (Self, Vec<String>) {
        let cluster = tokio::task::spawn_blocking(|| run_script("cluster"))
            .await
            .expect("the cluster's start does not panic")
            .unwrap_or_else(|message| panic!("{message}"));
        let urls: Vec<String> = cluster.url.split(' ').map(str::to_owned).collect();
        for url in &urls {
            assert_wanted_version(url).await;
        }
        (cluster, urls)
    }
}

static NODE: OnceLock<Result<Node, String>> = OnceLock::new();

/// A broker, and a prefix that no other test uses.
#[derive(Clone)]
pub struct TestBroker {
    pub url: String,
    /// Prefix of all names of this test.
    pub prefix: String,
}

impl TestBroker {
    /// The shared node of this process; the first test that needs it starts it.
    pub async fn start() -> Self {
        let node = tokio::task::spawn_blocking(|| NODE.get_or_init(start_node))
            .await
            .expect("the broker's start does not panic");
        let node = node.as_ref().unwrap_or_else(|message| panic!("{message}"));
        assert_wanted_version(&node.url).await;
        Self {
            url: node.url.clone(),
            prefix: format!("test-{}", Uuid::new_v4().simple()),
        }
    }

    /// A separate node, with the default prefix of a real bridge. The node ends with the returned [`Node`].
    pub async fn start_alone() -> (Self, Node) {
        let node = tokio::task::spawn_blocking(|| run_script("run"))
            .await
            .expect("the broker's start does not panic")
            .unwrap_or_else(|message| panic!("{message}"));
        assert_wanted_version(&node.url).await;
        let broker = Self {
            url: node.url.clone(),
            prefix: "smsbridge".into(),
        };
        (broker, node)
    }
}

impl TestBroker {
    /// The section `[amqp]` for this test.
    pub fn config(&self) -> config::Amqp {
        config::Amqp {
            url: Some(self.url.clone().into()),
            url_file: None,
            other_nodes: Vec::new(),
            topology: config::TopologyMode::Declare,
            tls_ca_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            prefix: self.prefix.clone(),
            application_from: config::ApplicationFrom::AppId,
            prefetch: 100,
            hold_for: Duration::from_secs(900),
            max_attempts: 30,
            max_age: Duration::ZERO,
            confirm_timeout: Duration::from_secs(10),
            stream_retention: Duration::from_secs(3600),
        }
    }

    /// The queues and exchanges of this test.
    pub fn topology(&self) -> Topology {
        Topology::new(&self.config())
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::parse(&self.url.clone().into()).expect("the broker's URL is one")
    }

    /// The version of the server, such as `(4, 3)`.
    pub async fn version(&self) -> (u32, u32) {
        version(&self.url).await
    }

    /// Declares a queue of the bridge with another value of one argument, before the bridge does.
    pub async fn declare_with(&self, queue: &str, argument: &'static str, value: AMQPValue) {
        let queues = self.topology().queues();
        let queue = queues.into_iter().find(|one| one.name == queue).unwrap();
        let mut arguments = queue.arguments;
        arguments.insert(argument.into(), value);
        let options = QueueDeclareOptions {
            durable: true,
            ..Default::default()
        };
        let client = self.client().await;
        let name = queue.name.as_str().into();
        let declaring = client.channel.queue_declare(name, options, arguments);
        declaring.await.unwrap();
    }

    /// Declares the three retry queues with these delays before the bridge does, which uses queues that exist with other delays.
    pub async fn declare_delays(&self, delays_ms: [i64; 3]) {
        let client = self.client().await;
        let names = ["1s", "10s", "60s"].map(|name| format!("{}.retry.{name}", self.prefix));
        for queue in self.topology().queues() {
            let Some(at) = names.iter().position(|name| *name == queue.name) else {
                continue;
            };
            let mut arguments = queue.arguments;
            let delay = AMQPValue::LongLongInt(delays_ms[at]);
            arguments.insert("x-message-ttl".into(), delay);
            let options = QueueDeclareOptions {
                durable: true,
                ..Default::default()
            };
            let name = queue.name.as_str().into();
            let declaring = client.channel.queue_declare(name, options, arguments);
            declaring.await.unwrap();
        }
    }

    /// A relay in front of the broker.
    pub async fn proxy(&self) -> Proxy {
        Proxy::start(&self.url).await
    }

    /// A publisher that is connected and has declared the topology.
    pub async fn publisher(&self) -> Arc<Publisher> {
        self.publisher_at(self.endpoint()).await
    }

    /// Like [`Self::publisher`], but connects to `endpoint`.
    pub async fn publisher_at(&self, endpoint: Endpoint) -> Arc<Publisher> {
        let publisher = Publisher::start(
            endpoint,
            self.topology(),
            self.config().confirm_timeout,
            Metrics::new(),
        );
        eventually("the publisher is ready", || {
            let ready = publisher.is_ready();
            async move { ready.then_some(()) }
        })
        .await;
        Arc::new(publisher)
    }

    /// A client with a connection of its own, like another program.
    pub async fn client(&self) -> Client {
        self.try_client().await.expect("the broker takes clients")
    }

    /// The same while the broker may be down.
    pub async fn try_client(&self) -> lapin::Result<Client> {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(Client {
            channel,
            _connection: connection,
        })
    }
}

/// An AMQP client that is independent of the bridge.
pub struct Client {
    pub channel: Channel,
    _connection: Connection,
}

impl Client {
    /// Publishes a message and waits for the confirm.
    pub async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        properties: lapin::BasicProperties,
        body: &[u8],
    ) {
        let confirm = self
            .channel
            .basic_publish(
                exchange.into(),
                routing_key.into(),
                BasicPublishOptions::default(),
                body,
                properties,
            )
            .await
            .expect("published");
        assert!(confirm.await.expect("confirmed").is_ack());
    }

    /// Declares a queue with a unique name and binds it to an exchange; returns the name.
    pub async fn bind_queue(
        &self,
        exchange: &str,
        pattern: &str,
        arguments: &[(&'static str, AMQPValue)],
    ) -> String {
        let name = format!("of.{exchange}.{}", Uuid::new_v4().simple());
        let mut table = FieldTable::default();
        for (key, value) in arguments {
            table.insert((*key).into(), value.clone());
        }
        let options = QueueDeclareOptions {
            durable: true,
            ..Default::default()
        };
        self.channel
            .queue_declare(name.as_str().into(), options, table)
            .await
            .expect("a queue");
        self.channel
            .queue_bind(
                name.as_str().into(),
                exchange.into(),
                pattern.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .expect("a binding");
        name
    }

    /// Waits until the queue has a message, and takes it.
    pub async fn take(&self, queue: &str) -> Delivery {
        let what = format!("a message is in {queue}");
        eventually(&what, || self.try_take(queue)).await
    }

    /// Takes the next message of a queue, or `None` if it is empty.
    pub async fn try_take(&self, queue: &str) -> Option<Delivery> {
        let got = self
            .channel
            .basic_get(queue.into(), BasicGetOptions::default())
            .await
            .expect("the queue is there")?;
        assert!(
            got.acker
                .ack(BasicAckOptions::default())
                .await
                .expect("acked")
        );
        Some(got.delivery)
    }
}

/// A relay in front of the broker, with connections that a test can cut.
pub struct Proxy {
    /// The URL of the broker over the relay.
    pub url: String,
    cut: tokio::sync::watch::Sender<u32>,
    is_down: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    async fn start(url: &str) -> Self {
        let (before, after) = url.split_once('@').expect("the URL has a user");
        let (broker, vhost) = after.split_once('/').expect("the URL has a virtual host");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (cut, cuts) = tokio::sync::watch::channel(0);
        let is_down = Arc::new(AtomicBool::new(false));
        let down = Arc::clone(&is_down);
        let broker = broker.to_owned();
        let url = format!("{before}@127.0.0.1:{port}/{vhost}");
        let task = tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                if down.load(Ordering::Relaxed) {
                    continue;
                }
                let (broker, mut cuts) = (broker.clone(), cuts.clone());
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut there) = TcpStream::connect(broker).await else {
                        return;
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut here, &mut there) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self {
            url,
            cut,
            is_down,
            task,
        }
    }

    /// Closes all connections, and new ones at once, until [`Self::up`].
    pub fn down(&self) {
        self.is_down.store(true, Ordering::Relaxed);
        self.cut();
    }

    pub fn up(&self) {
        self.is_down.store(false, Ordering::Relaxed);
    }

    /// Closes all current connections.
    pub fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The version that the server says of itself before the login.
async fn version(url: &str) -> (u32, u32) {
    let (_, after) = url.split_once('@').expect("the URL has a user");
    let (address, _) = after.split_once('/').expect("the URL has a virtual host");
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(b"AMQP\x00\x00\x09\x01").await.unwrap();
    // A frame of the method connection.start: type, channel, size, payload.
    let mut head = [0; 7];
    socket.read_exact(&mut head).await.unwrap();
    let size = u32::from_be_bytes(head[3..].try_into().unwrap());
    let mut start = vec![0; size as usize];
    socket.read_exact(&mut start).await.unwrap();
    // The key with its length, the type of the value, and the length of the value.
    let key = b"\x07versionS";
    let at = start.windows(key.len()).position(|bytes| bytes == key);
    let value = &start[at.expect("a version") + key.len() + 4..];
    let number = |bytes: &[u8]| {
        let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
    };
    let dot = value.iter().position(|byte| *byte == b'.').unwrap();
    (number(value), number(&value[dot + 1..]))
}

/// Panics on a broker of another version than `SMSBRIDGE_TEST_RABBITMQ_VERSION`: its tests would tell nothing of that one.
async fn assert_wanted_version(url: &str) {
    let Ok(wanted) = std::env::var("SMSBRIDGE_TEST_RABBITMQ_VERSION") else {
        return;
    };
    let (major, minor) = version(url).await;
    assert!(
        wanted.is_empty() || wanted == format!("{major}.{minor}"),
        "SMSBRIDGE_TEST_RABBITMQ_VERSION is {wanted}, but the broker is RabbitMQ {major}.{minor}"
    );
}

fn start_node() -> Result<Node, String> {
    if let Ok(url) = std::env::var("SMSBRIDGE_TEST_AMQP_URL") {
        return Ok(Node { url, script: None });
    }
    run_script("run")
}

/// Runs `scripts/broker` with this argument; returns when it has printed a URL.
fn run_script(argument: &str) -> Result<Node, String> {
    let (script, url) = Script::start(argument)?;
    Ok(Node {
        url,
        script: Some(script),
    })
}
