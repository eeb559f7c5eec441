//! `smsbridge simulate`: the simulator of the Infobip SMS HTTP API, on its own.

use std::io::{self, Write as _};
use std::net::SocketAddr;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::CliError;
use crate::simulator::{InboundPush, Keyword, Simulator, SimulatorConfig};

/// Arguments of `simulate`.
#[derive(Args, Clone)]
pub struct SimulateArgs {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    pub listen: SocketAddr,
    /// User name that callers must give.
    #[arg(long, default_value = "demo")]
    pub username: String,
    /// Password that callers must give.
    #[arg(long, default_value = "demo")]
    pub password: String,
    /// Key that is accepted as `Authorization: App KEY`.
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<String>,
    /// URL template to which inbound messages are pushed by GET, like `http://host/in?from=%sender%&text=%text%`.
    /// Without it they wait to be pulled.
    #[arg(long, value_name = "TEMPLATE")]
    pub inbound_url: Option<String>,
    /// URL to which inbound messages are pushed by POST instead.
    #[arg(long, value_name = "URL", conflicts_with = "inbound_url")]
    pub inbound_post_url: Option<String>,
    /// URL to which clicks on shortened links are pushed.
    #[arg(long, value_name = "URL")]
    pub clicks_url: Option<String>,
    /// Virtual seconds per real second.
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = positive)]
    pub speed: f64,
    /// Seed of ids, latencies and chances.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Start with the clock standing still; `POST /_sim/clock` moves it.
    #[arg(long)]
    pub frozen: bool,
    /// Least and most virtual milliseconds to a final report.
    #[arg(long, value_name = "LEAST-MOST", default_value = "200-600", value_parser = range)]
    pub latency_ms: (u32, u32),
    /// Chance of UNDELIVERABLE for ordinary numbers.
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = chance)]
    pub undeliverable: f64,
    /// Chance of EXPIRED for ordinary numbers.
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = chance)]
    pub expired: f64,
    /// Chance of an intermediate error for ordinary numbers.
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = chance)]
    pub intermediate: f64,
    /// Status id of an accepted message: 7 as seen live, 0 as in the manual.
    #[arg(long, value_name = "ID", default_value_t = 7)]
    pub accepted_status: u16,
    /// Credits of the account.
    #[arg(long, value_name = "AMOUNT", default_value_t = 1_000_000)]
    pub balance: u64,
    /// Reject 20 different or 6 identical messages an hour to one number.
    #[arg(long)]
    pub flooding: bool,
    /// Requests to the logs in a virtual minute; 0: no limit.
    #[arg(long, value_name = "N", default_value_t = 120)]
    pub logs_per_minute: usize,
    /// Keyword of an inbound number; may be repeated.
    #[arg(long = "keyword", value_name = "NUMBER=WORD", value_parser = keyword)]
    pub keywords: Vec<Keyword>,
    /// What short links begin with.
    #[arg(long, value_name = "URL", default_value = "http://s.test")]
    pub short_url_base: String,
    /// Messages that are remembered.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub max_messages: usize,
}

impl std::fmt::Debug for SimulateArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulateArgs")
            .field("listen", &self.listen)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl From<SimulateArgs> for SimulatorConfig {
    fn from(args: SimulateArgs) -> Self {
        let mut config = Self {
            listen: args.listen,
            username: args.username,
            password: args.password,
            api_key: args.api_key,
            inbound: args
                .inbound_url
                .map(InboundPush::Get)
                .or(args.inbound_post_url.map(InboundPush::Post)),
            clicks_url: args.clicks_url,
            speed: args.speed,
            seed: args.seed,
            frozen: args.frozen,
            delivery_latency_ms: args.latency_ms,
            accepted_status: args.accepted_status,
            balance_micros: args.balance.saturating_mul(1_000_000),
            flooding: args.flooding,
            logs_per_minute: args.logs_per_minute,
            keywords: args.keywords,
            short_url_base: args.short_url_base,
            ..Self::default()
        };
        config.chances.undeliverable = args.undeliverable;
        config.chances.expired = args.expired;
        config.chances.intermediate = args.intermediate;
        config.bounds.messages = args.max_messages;
        config
    }
}

/// Runs the simulator until `shutdown`.
///
/// # Errors
/// [`CliError::Failed`] if the address cannot be bound; it names the address and the remedy.
pub async fn run(args: SimulateArgs, shutdown: CancellationToken) -> Result<(), CliError> {
    let simulator = Simulator::bind(args.into())
        .await
        .map_err(|error| CliError::Failed(error.to_string()))?;
    let address = simulator.local_addr();
    // People read it; nothing depends on its being written.
    let _ = writeln!(
        io::stderr(),
        "The simulator listens on http://{address}. Its ledger: curl http://{address}/_sim/messages"
    );
    simulator.run(shutdown).await;
    Ok(())
}

/// Cancelled by SIGINT or SIGTERM.
///
/// # Errors
/// [`CliError::Failed`] if the system does not let us listen for them.
pub fn until_signal() -> Result<CancellationToken, CliError> {
    let cannot = |error: io::Error| CliError::Failed(format!("can't listen for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let shutdown = CancellationToken::new();
    let signalled = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        signalled.cancel();
    });
    Ok(shutdown)
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|n: &f64| *n > 0.0 && *n <= 1e9)
        .ok_or_else(|| "must be above 0 and at most 1000000000".into())
}

fn chance(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|p| (0.0..=1.0).contains(p))
        .ok_or_else(|| "must be from 0 to 1".into())
}

fn range(text: &str) -> Result<(u32, u32), String> {
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    match (least.trim().parse(), most.trim().parse()) {
        (Ok(least), Ok(most)) if least <= most => Ok((least, most)),
        _ => Err("must be milliseconds like 200-600".into()),
    }
}

fn keyword(text: &str) -> Result<Keyword, String> {
    match text.split_once('=') {
        Some((to, word)) if !to.is_empty() && !word.is_empty() => Ok(Keyword {
            to: to.trim_start_matches('+').to_owned(),
            word: word.to_owned(),
        }),
        _ => Err("must be NUMBER=WORD".into()),
    }
}
