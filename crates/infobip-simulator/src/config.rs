//! The simulator's configuration, with defaults for local use.
//!
//! Behaviour that docs/INFOBIP_API.md marks as unknown (`[?]`) is a setting here, so that tests can cover each possibility.
//! Neighbours: `args` fills it from the command line, every other module reads it.

use std::{fmt, net::SocketAddr, time::Duration};

use serde::Serialize;

use crate::clock::HOUR_MS;

/// The behaviour of the simulated account, and the limits on stored data.
#[derive(Clone)]
pub struct SimulatorConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// User name of the account, for `Basic`, the query interface and the token endpoints.
    pub username: String,
    /// Password of the account.
    pub password: String,
    /// Key accepted as `Authorization: App <key>`; `None`: that scheme is rejected.
    pub api_key: Option<String>,
    /// Where inbound messages are pushed; `None`: they stay in the inbox until they are pulled.
    pub inbound: Option<InboundPush>,
    /// Where clicks on shortened links are pushed; `None`: they are only recorded.
    pub clicks_url: Option<String>,
    /// Seed of ids, latencies and chances.
    pub seed: u64,
    /// Virtual seconds that pass in one real second.
    pub speed: f64,
    /// Starts with the clock frozen; only `advance` moves it.
    pub frozen: bool,
    /// Virtual time at the start in milliseconds since 1970; `None`: the real time.
    pub start_ms: Option<i64>,
    /// Minimum and maximum time from sending to the final report, in virtual milliseconds.
    pub delivery_latency_ms: (u32, u32),
    /// Status id in the response for an accepted message: 7 as captured live, 0 as the manual's samples (docs/INFOBIP_API.md#sending).
    pub accepted_status: u16,
    /// Returns a bulk id even for a single destination, as later API versions do.
    pub always_bulk_id: bool,
    /// Sender of messages without a `from`.
    pub default_sender: String,
    /// Chances of other outcomes for ordinary numbers.
    pub chances: Chances,
    /// Credits of the account in millionths of the currency.
    pub balance_micros: u64,
    /// Currency of balance and prices.
    pub currency: String,
    /// Price per part of a number whose network is unknown, in millionths.
    pub default_price_micros: u64,
    /// Rejects 20 different or 6 identical messages an hour to one number (status 20).
    pub flooding: bool,
    /// Numbers with one of these prefixes are rejected with REJECTED_NETWORK (6).
    pub forbidden_prefixes: Vec<String>,
    /// Rejects numbers whose network is unknown with REJECTED_PREFIX_MISSING (8).
    pub require_known_prefix: bool,
    /// Requests to `/sms/1/logs` answered in a virtual minute; 0: no limit.
    pub logs_per_minute: usize,
    /// Adds `Retry-After` to a 429 (docs/INFOBIP_API.md#errors: unknown whether the API does).
    pub retry_after: bool,
    /// How long logs, reports and received messages can be read, in virtual milliseconds (manual: 48 h).
    pub log_retention_ms: i64,
    /// Maximum reports in one push (docs/INFOBIP_API.md#limits: 100).
    pub push_batch_max: usize,
    /// Maximum time a report waits to be batched with others into one push, in virtual milliseconds.
    pub push_batch_window_ms: i64,
    /// Timeout of a push request, in real time.
    pub push_timeout: Duration,
    /// Maximum number of concurrent pushes.
    pub push_concurrency: usize,
    /// Chance that a looked-up number is ported.
    pub lookup_ported: f64,
    /// Chance that a looked-up number is roaming.
    pub lookup_roaming: f64,
    /// Keywords of inbound numbers.
    pub keywords: Vec<Keyword>,
    /// Base URL of short links. The simulator serves their paths under its own address.
    pub short_url_base: String,
    /// Names, beside addresses and local names, by which browsers may reach the page and the control interface.
    pub allowed_hosts: Vec<String>,
    /// The bridge that is demonstrated with this simulator: its addresses, for the lines that the page shows.
    pub bridge: Option<BridgeAddresses>,
    /// Limits on the memory that the simulator uses.
    pub bounds: Bounds,
    /// Prints a line for each request to stderr.
    pub access_log: bool,
}

/// Probabilities, 0 to 1, of other outcomes than delivery for ordinary numbers; drawn from the seed and the message id.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chances {
    /// UNDELIVERABLE with the permanent error EC_UNKNOWN_SUBSCRIBER.
    pub undeliverable: f64,
    /// EXPIRED with EC_ABSENT_SUBSCRIBER.
    pub expired: f64,
    /// An intermediate EC_ABSENT_SUBSCRIBER, then delivered.
    pub intermediate: f64,
}

/// How inbound messages are pushed.
#[derive(Debug, Clone)]
pub enum InboundPush {
    /// GET on a URL template (manual "PUSH RECEIVED MESSAGES").
    Get(String),
    /// POST of the inbox JSON to a URL.
    Post(String),
}

/// A keyword that is recognised at the beginning of messages to a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyword {
    /// The receiving number, digits only.
    pub to: String,
    /// The word; ASCII case is ignored.
    pub word: String,
}

/// How to reach a bridge that uses this simulator.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BridgeAddresses {
    /// Its gRPC server, `host:port`.
    pub grpc: String,
    /// The address of its webhooks.
    pub http: String,
    /// The address of its probes and metrics.
    pub admin: String,
    /// The broker, if it may be shown, and the prefix of the names on it.
    pub amqp_url: Option<String>,
    /// The prefix of its exchanges and queues, if it has a broker.
    pub amqp_prefix: Option<String>,
    /// The command by which the bridge was started.
    pub binary: String,
}

/// Limits on the stored data. When a limit is exceeded, the oldest entries are removed and counted.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Messages in ledger and logs.
    pub messages: usize,
    /// Estimated bytes of those messages.
    pub message_bytes: usize,
    /// Received messages.
    pub received: usize,
    /// Requests in `/_sim/requests`.
    pub requests: usize,
    /// Finished pushes in `/_sim/pushes`.
    pub pushes: usize,
    /// Shortened links.
    pub links: usize,
    /// Clicks in `/_sim/clicks`.
    pub clicks: usize,
    /// Bytes of one request's body.
    pub body_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            messages: 1_000_000,
            message_bytes: 512 << 20,
            received: 100_000,
            requests: 100_000,
            pushes: 20_000,
            links: 100_000,
            clicks: 10_000,
            body_bytes: 32 << 20,
        }
    }
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8090)),
            username: "demo".into(),
            password: "demo".into(),
            api_key: None,
            inbound: None,
            clicks_url: None,
            seed: 1,
            speed: 1.0,
            frozen: false,
            start_ms: None,
            delivery_latency_ms: (200, 600),
            accepted_status: 7,
            always_bulk_id: false,
            default_sender: "InfoSMS".into(),
            chances: Chances::default(),
            balance_micros: 1_000_000_000_000,
            currency: "EUR".into(),
            default_price_micros: 10_000,
            flooding: false,
            forbidden_prefixes: Vec::new(),
            require_known_prefix: false,
            logs_per_minute: 120,
            retry_after: false,
            log_retention_ms: 48 * HOUR_MS,
            push_batch_max: 100,
            push_batch_window_ms: 20,
            push_timeout: Duration::from_secs(10),
            push_concurrency: 64,
            lookup_ported: 0.1,
            lookup_roaming: 0.05,
            keywords: Vec::new(),
            short_url_base: "http://s.test".into(),
            allowed_hosts: Vec::new(),
            bridge: None,
            bounds: Bounds::default(),
            access_log: false,
        }
    }
}

impl fmt::Debug for SimulatorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatorConfig")
            .field("listen", &self.listen)
            .field("seed", &self.seed)
            .field("speed", &self.speed)
            .field("frozen", &self.frozen)
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}
