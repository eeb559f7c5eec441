//! The addresses and credentials of the broker: the host of `amqp.url`, and other nodes of the same cluster.
//!
//! Invariants: a round tries each node at most once, beginning with the one that this purpose used last; it ends with the first error
//! that would be the same at every node (a refused login, a conflict). Nothing here shows the password. Neighbours: `session` opens a
//! session with a node, `topology` opens and declares, `status` has the outages of all nodes together.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use lapin::uri::AMQPUri;
use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};

use super::{AmqpError, Session, status::BrokerStatus};
use crate::{
    config::{self, BrokerUrlError, parse_broker_node, parse_broker_url, tls::BrokerTlsPaths},
    primitives::bounded_text::cut,
};

/// Timeout of opening a connection with the only node.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The same where another node can be tried.
const CONNECT_TIMEOUT_OF_SEVERAL: Duration = Duration::from_secs(4);
/// Timeout of all declarations of a session with the only node.
const DECLARE_TIMEOUT: Duration = Duration::from_secs(30);
/// The same where another node can be tried.
const DECLARE_TIMEOUT_OF_SEVERAL: Duration = Duration::from_secs(10);
/// The heartbeat interval, unless the URL sets one (`?heartbeat=`).
const HEARTBEAT_SECONDS: u16 = 15;
/// The length of what one of several nodes said, in the error that has all.
const MAX_SAID_BYTES: usize = 200;

/// Cheap to clone; clones share the state.
#[derive(Clone)]
pub struct Endpoint {
    /// That of `amqp.url` first. Never empty.
    nodes: Arc<[Node]>,
    tls: Arc<BrokerTlsPaths>,
    address: Arc<str>,
    status: BrokerStatus,
    /// For each purpose the node that it used last.
    last: Arc<Mutex<BTreeMap<&'static str, Arc<AtomicUsize>>>>,
}

/// One address of the broker.
pub(super) struct Node {
    pub(super) uri: AMQPUri,
    host_and_port: String,
    /// Host, port and virtual host.
    pub(super) address: Arc<str>,
}

impl Node {
    fn new(uri: AMQPUri) -> Self {
        let (host, port) = (&uri.authority.host, uri.authority.port);
        let host_and_port = match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        let address = format!("{host_and_port} (vhost {})", uri.vhost).into();
        Self {
            uri,
            host_and_port,
            address,
        }
    }
}

impl Endpoint {
    /// The endpoint of the configuration; `None` without a broker.
    ///
    /// # Errors
    /// [`BrokerUrlError`].
    pub fn configured(amqp: &config::Amqp) -> Result<Option<Self>, BrokerUrlError> {
        let endpoint = amqp.url.as_ref().map(Self::parse).transpose()?;
        Ok(endpoint.map(|endpoint| endpoint.with_other_nodes(&amqp.other_nodes).with_tls(amqp)))
    }

    /// The same with the TLS files of the configuration, which an `amqp://` URL does not use.
    #[must_use]
    pub fn with_tls(self, amqp: &config::Amqp) -> Self {
        Self {
            tls: Arc::new(BrokerTlsPaths::new(amqp)),
            ..self
        }
    }

    /// Reads a URL such as `amqp.url`.
    ///
    /// # Errors
    /// [`BrokerUrlError`].
    pub fn parse(url: &SecretString) -> Result<Self, BrokerUrlError> {
        let mut uri = parse_broker_url(url.expose_secret())?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        Ok(Self::of_nodes(vec![Node::new(uri)]))
    }

    /// The same with other nodes of its cluster, as in `amqp.other_nodes`. What is no address, or is there already, is left out.
    #[must_use]
    pub fn with_other_nodes(self, others: &[String]) -> Self {
        let first = &self.nodes[0].uri;
        let mut nodes = vec![Node::new(first.clone())];
        for (host, port) in others
            .iter()
            .filter_map(|node| parse_broker_node(node).ok())
        {
            let mut uri = first.clone();
            uri.authority.host = host;
            uri.authority.port = port.unwrap_or(uri.authority.port);
            let node = Node::new(uri);
            if nodes.iter().all(|known| known.address != node.address) {
                nodes.push(node);
            }
        }
        Self {
            tls: self.tls,
            ..Self::of_nodes(nodes)
        }
    }

    fn of_nodes(nodes: Vec<Node>) -> Self {
        let addresses: Vec<&str> = nodes
            .iter()
            .map(|node| node.host_and_port.as_str())
            .collect();
        let address = format!("{} (vhost {})", addresses.join(", "), nodes[0].uri.vhost);
        Self {
            address: address.into(),
            nodes: nodes.into(),
            tls: Arc::default(),
            status: BrokerStatus::default(),
            last: Arc::default(),
        }
    }

    /// The user that the bridge connects as.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.nodes[0].uri.authority.userinfo.username
    }

    /// The heartbeat interval that the bridge asks for.
    #[must_use]
    pub fn heartbeat(&self) -> Duration {
        let seconds = self.nodes[0].uri.query.heartbeat;
        let seconds = seconds.filter(|seconds| *seconds > 0);
        Duration::from_secs(seconds.unwrap_or(HEARTBEAT_SECONDS).into())
    }

    /// Hosts and ports, and the virtual host.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The state of the broker that the sessions of a running bridge report.
    #[must_use]
    pub fn status(&self) -> &BrokerStatus {
        &self.status
    }

    pub(super) fn tls(&self) -> &Arc<BrokerTlsPaths> {
        &self.tls
    }

    /// How long opening a connection with one node may take.
    pub(super) fn connect_timeout(&self) -> Duration {
        match self.nodes.len() {
            1 => CONNECT_TIMEOUT,
            _ => CONNECT_TIMEOUT_OF_SEVERAL,
        }
    }

    /// How long the declarations of a session with one node may take. Those that the broker carried out stay, so the next attempt has
    /// less to do.
    pub(super) fn declare_timeout(&self) -> Duration {
        match self.nodes.len() {
            1 => DECLARE_TIMEOUT,
            _ => DECLARE_TIMEOUT_OF_SEVERAL,
        }
    }

    /// Attempts at all nodes, one after the other. `purpose` is the one of the session.
    pub(super) fn round(&self, purpose: &'static str) -> Round<'_> {
        let last = Arc::clone(self.last.lock().entry(purpose).or_default());
        Round {
            endpoint: self,
            purpose,
            begins_with: last.load(Ordering::Relaxed),
            last,
            said: Vec::new(),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// One attempt at each node, until a session is open.
pub(super) struct Round<'a> {
    endpoint: &'a Endpoint,
    purpose: &'static str,
    begins_with: usize,
    last: Arc<AtomicUsize>,
    /// The errors so far: one for each node that was tried.
    said: Vec<AmqpError>,
}

impl<'a> Round<'a> {
    /// The node of the next attempt.
    pub(super) fn node(&self) -> &'a Node {
        &self.endpoint.nodes[self.index()]
    }

    fn index(&self) -> usize {
        (self.begins_with + self.said.len()) % self.endpoint.nodes.len()
    }

    /// The session is open: the next round begins with its node.
    pub(super) fn succeeded(&self, session: &Session) {
        let index = self.index();
        if self.last.swap(index, Ordering::Relaxed) != index {
            tracing::info!(
                address = session.address(),
                purpose = self.purpose,
                "another node of the broker is used"
            );
        }
    }

    /// The attempt failed. Returns to try the next node.
    ///
    /// # Errors
    /// The error, if every node would say the same; [`AmqpError::NoNode`] if all of several nodes were tried.
    pub(super) fn failed(&mut self, error: AmqpError) -> Result<(), AmqpError> {
        let count = self.endpoint.nodes.len();
        if count == 1 || error.is_of_every_node() {
            return Err(error);
        }
        tracing::debug!(address = &*self.node().address, purpose = self.purpose, %error, "a node of the broker cannot be used");
        self.said.push(error);
        if self.said.len() < count {
            return Ok(());
        }
        let nodes = (0..count).map(|n| &self.endpoint.nodes[(self.begins_with + n) % count]);
        let of_nodes = nodes.zip(&self.said).map(|(node, error)| {
            let said = error.short();
            format!("{}: {}", node.host_and_port, cut(&said, MAX_SAID_BYTES))
        });
        let detail = of_nodes.collect::<Vec<_>>().join("; ");
        let same = |cause: &&str| self.said.iter().all(|error| error.cause() == *cause);
        let cause = self.said.first().map(AmqpError::cause);
        Err(AmqpError::NoNode {
            cause: cause.filter(same).unwrap_or("away"),
            detail,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(others: &[&str]) -> Endpoint {
        let others: Vec<String> = others.iter().map(|&node| node.to_owned()).collect();
        let url = "amqp://me:secret@rabbit-1:5673/sms?heartbeat=7";
        Endpoint::parse(&url.into())
            .unwrap()
            .with_other_nodes(&others)
    }

    fn away() -> AmqpError {
        AmqpError::Unreachable {
            address: String::new(),
            detail: "refused".repeat(1000),
        }
    }

    #[test]
    fn an_endpoint_never_shows_its_password() {
        let endpoint = Endpoint::parse(&"amqp://me:secret@broker.example:5673/sms".into()).unwrap();
        assert_eq!(format!("{endpoint:?}"), "broker.example:5673 (vhost sms)");
        let error = Endpoint::parse(&"http://me:secret@broker.example".into()).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn a_url_without_a_host_is_refused() {
        for url in ["amqp:///%2f", "amqp:me:secret@host"] {
            let error = Endpoint::parse(&url.into()).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn other_nodes_share_all_but_host_and_port() {
        let endpoint = endpoint(&["rabbit-2", "[::1]:5672", "rabbit-1:5673"]);
        assert_eq!(
            endpoint.address(),
            "rabbit-1:5673, rabbit-2:5673, [::1]:5672 (vhost sms)"
        );
        for node in &*endpoint.nodes {
            assert_eq!(node.uri.authority.userinfo.password, "secret");
            assert_eq!(node.uri.query.heartbeat, Some(7));
        }
    }

    #[test]
    fn a_round_tries_each_node_and_tells_what_each_said_in_short() {
        let endpoint = endpoint(&["rabbit-2", "rabbit-3"]);
        let mut round = endpoint.round("test");
        for _ in 0..2 {
            round.failed(away()).unwrap();
        }
        let error = round.failed(away()).unwrap_err();
        let text = error.to_string();
        for node in ["rabbit-1:5673: ", "; rabbit-2:5673: ", "; rabbit-3:5673: "] {
            assert!(text.contains(node), "{node} in {text}");
        }
        assert!(text.len() < 3 * 300, "{text}");
        assert_eq!(error.cause(), "away");
    }

    #[test]
    fn what_every_node_would_say_ends_a_round() {
        let endpoint = endpoint(&["rabbit-2"]);
        let refused = AmqpError::Refused {
            cause: "login",
            address: "rabbit-1".into(),
            problem: "no".into(),
        };
        let error = endpoint.round("test").failed(refused).unwrap_err();
        assert_eq!(error.cause(), "login");
    }
}
