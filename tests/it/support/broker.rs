//! A broker for tests: one node for the whole test process, names of its own for each test.
//!
//! The first of: `SMSBRIDGE_TEST_AMQP_URL`; a container (image `SMSBRIDGE_TEST_RABBITMQ_IMAGE`) where a Docker engine
//! answers; a private node of an installed `rabbitmq-server`. The latter two are started by `scripts/broker run`, which
//! holds on to this process by a pipe and removes everything when it ends, however it ends. None of them: the test fails
//! and says what to install.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, OnceLock},
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
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use super::eventually;

/// A node. It ends when the child's stdin closes: with this value, or with this process.
pub struct Node {
    url: String,
    _child: Option<Child>,
}

static NODE: OnceLock<Result<Node, String>> = OnceLock::new();

/// A broker, and a prefix that no other test uses.
pub struct TestBroker {
    /// Where it is.
    pub url: String,
    /// What this test's names begin with.
    pub prefix: String,
}

impl TestBroker {
    /// The node of this process, which the first test that asks for it starts.
    pub async fn start() -> Self {
        let node = tokio::task::spawn_blocking(|| NODE.get_or_init(start_node))
            .await
            .expect("the broker's start does not panic");
        match node {
            Ok(node) => Self {
                url: node.url.clone(),
                prefix: format!("test-{}", Uuid::new_v4().simple()),
            },
            Err(message) => panic!("{message}"),
        }
    }

    /// A node of its own, with the prefix that a real bridge has by default. The node ends with the returned [`Node`].
    pub async fn start_alone() -> (Self, Node) {
        let node = tokio::task::spawn_blocking(run_node)
            .await
            .expect("the broker's start does not panic")
            .unwrap_or_else(|message| panic!("{message}"));
        let broker = Self {
            url: node.url.clone(),
            prefix: "smsbridge".into(),
        };
        (broker, node)
    }
}

impl TestBroker {
    /// `[amqp]` for this test.
    pub fn config(&self) -> config::Amqp {
        config::Amqp {
            url: Some(self.url.clone().into()),
            url_file: None,
            prefix: self.prefix.clone(),
            application_from: config::ApplicationFrom::AppId,
            prefetch: 100,
            confirm_timeout: Duration::from_secs(10),
            stream_retention: Duration::from_secs(3600),
        }
    }

    /// The names of this test.
    pub fn topology(&self) -> Topology {
        Topology::new(&self.config())
    }

    /// Where it is.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::parse(&self.url.clone().into()).expect("the broker's URL is one")
    }

    /// A way to the broker that can be cut.
    pub async fn proxy(&self) -> Proxy {
        Proxy::start(&self.url).await
    }

    /// A publisher that is ready, so that everything is declared.
    pub async fn publisher(&self) -> Arc<Publisher> {
        self.publisher_at(self.endpoint()).await
    }

    /// The same by way of `endpoint`.
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

    /// A client of its own, as another program would have one.
    pub async fn client(&self) -> Client {
        let connection = Connection::connect(&self.url, ConnectionProperties::default())
            .await
            .expect("the broker takes connections");
        let channel = connection.create_channel().await.expect("a channel");
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .expect("confirms");
        Client {
            channel,
            _connection: connection,
        }
    }
}

/// A foreign AMQP client.
pub struct Client {
    pub channel: Channel,
    _connection: Connection,
}

impl Client {
    /// Publishes and waits for the confirm.
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

    /// A queue of its own, bound to an exchange.
    pub async fn bind_queue(
        &self,
        exchange: &str,
        pattern: &str,
        arguments: &[(&'static str, AMQPValue)],
    ) -> String {
        let name = format!("{exchange}.{}", Uuid::new_v4().simple());
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

    /// Takes the next message of a queue, waiting for it.
    pub async fn take(&self, queue: &str) -> Delivery {
        let what = format!("a message is in {queue}");
        eventually(&what, || self.try_take(queue)).await
    }

    /// Takes the next message of a queue, if there is one.
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

/// A relay in front of the broker, whose connections can be cut.
pub struct Proxy {
    /// The broker's URL by way of the relay.
    pub url: String,
    cut: tokio::sync::watch::Sender<u32>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    async fn start(url: &str) -> Self {
        let (before, after) = url.split_once('@').expect("the URL has a user");
        let (broker, vhost) = after.split_once('/').expect("the URL has a virtual host");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (cut, cuts) = tokio::sync::watch::channel(0);
        let broker = broker.to_owned();
        let url = format!("{before}@127.0.0.1:{port}/{vhost}");
        let task = tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
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
        Self { url, cut, task }
    }

    /// Ends all connections of now.
    pub fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn start_node() -> Result<Node, String> {
    if let Ok(url) = std::env::var("SMSBRIDGE_TEST_AMQP_URL") {
        return Ok(Node { url, _child: None });
    }
    run_node()
}

fn run_node() -> Result<Node, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/broker");
    let mut child = Command::new(script)
        .arg("run")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("scripts/broker can't be run: {error}"))?;
    let mut url = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    stdout
        .read_line(&mut url)
        .map_err(|error| format!("scripts/broker said nothing: {error}"))?;
    if url.is_empty() {
        let mut said = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            let _ = stderr.read_to_string(&mut said);
        }
        return Err(said);
    }
    Ok(Node {
        url: url.trim().to_owned(),
        _child: Some(child),
    })
}
