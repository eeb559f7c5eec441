//! The command line of the simulator: `smsbridge simulate` and the binary of this crate take the same arguments.

mod parse;

use std::{
    io::{self, Write as _},
    net::SocketAddr,
};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::parse::{chance, digits, host_name, keyword, positive, range};
use crate::{
    Bounds, InboundPush, Keyword, Simulator, SimulatorConfig, SimulatorError, clock::HOUR_MS,
};

/// The command line of the simulator, of both binaries.
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
    /// Without it they stay in the inbox until they are pulled.
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
    /// Start with the clock frozen; `POST /_sim/clock` moves it.
    #[arg(long)]
    pub frozen: bool,
    /// Minimum and maximum virtual milliseconds from sending to the final report.
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
    /// Reject numbers with this prefix with REJECTED_NETWORK; may be repeated.
    #[arg(long = "forbidden-prefix", value_name = "DIGITS", value_parser = digits)]
    pub forbidden_prefixes: Vec<String>,
    /// Reject numbers of unknown networks with REJECTED_PREFIX_MISSING.
    #[arg(long)]
    pub require_known_prefix: bool,
    /// Answer a send to a single destination with a bulk id, too.
    #[arg(long)]
    pub always_bulk_id: bool,
    /// Requests to the logs in a virtual minute; 0: no limit.
    #[arg(long, value_name = "N", default_value_t = 120)]
    pub logs_per_minute: usize,
    /// Send `Retry-After` with a 429.
    #[arg(long)]
    pub retry_after: bool,
    /// Virtual hours for which logs, reports and received messages can be read.
    #[arg(long, value_name = "HOURS", default_value_t = 48)]
    pub retention_hours: u32,
    /// Chance that a looked-up number is ported.
    #[arg(long, value_name = "P", default_value_t = 0.1, value_parser = chance)]
    pub lookup_ported: f64,
    /// Chance that a looked-up number is roaming.
    #[arg(long, value_name = "P", default_value_t = 0.05, value_parser = chance)]
    pub lookup_roaming: f64,
    /// Keyword of an inbound number; may be repeated.
    #[arg(long = "keyword", value_name = "NUMBER=WORD", value_parser = keyword)]
    pub keywords: Vec<Keyword>,
    /// Base URL of short links.
    #[arg(long, value_name = "URL", default_value = "http://s.test")]
    pub short_url_base: String,
    /// Name by which browsers may open the page under `/_sim/`, beside IP addresses, localhost and names without a dot; may be
    /// repeated.
    #[arg(long = "allow-host", value_name = "NAME", value_parser = host_name)]
    pub allowed_hosts: Vec<String>,
    /// Print a line for each request: method, path, status, milliseconds.
    #[arg(long, short)]
    pub verbose: bool,
    /// Limits on memory.
    #[command(flatten)]
    pub bounds: BoundsArgs,
}

/// Arguments that bound the simulator's memory; when a limit is exceeded, the oldest entries are removed.
#[derive(Args, Clone, Copy)]
#[command(next_help_heading = "Memory")]
pub struct BoundsArgs {
    /// Maximum number of stored messages.
    #[arg(long, value_name = "N", default_value_t = Bounds::default().messages)]
    pub max_messages: usize,
    /// Maximum estimated size of the stored messages.
    #[arg(long, value_name = "BYTES", default_value_t = Bounds::default().message_bytes)]
    pub max_message_bytes: usize,
    /// Maximum number of stored received messages.
    #[arg(long, value_name = "N", default_value_t = Bounds::default().received)]
    pub max_received: usize,
    /// Maximum number of requests in `/_sim/requests`.
    #[arg(long, value_name = "N", default_value_t = Bounds::default().requests)]
    pub max_requests: usize,
    /// Maximum number of finished pushes in `/_sim/pushes`.
    #[arg(long, value_name = "N", default_value_t = Bounds::default().pushes)]
    pub max_pushes: usize,
    /// Maximum number of short links that still resolve.
    #[arg(long, value_name = "N", default_value_t = Bounds::default().links)]
    pub max_links: usize,
    /// Maximum number of clicks in `/_sim/clicks`.
    #[arg(long, value_name = "N", default_value_t = Bounds::default().clicks)]
    pub max_clicks: usize,
    /// Maximum size of a request body.
    #[arg(long, value_name = "BYTES", default_value_t = Bounds::default().body_bytes)]
    pub max_body_bytes: usize,
}

impl From<BoundsArgs> for Bounds {
    fn from(args: BoundsArgs) -> Self {
        Self {
            messages: args.max_messages,
            message_bytes: args.max_message_bytes,
            received: args.max_received,
            requests: args.max_requests,
            pushes: args.max_pushes,
            links: args.max_links,
            clicks: args.max_clicks,
            body_bytes: args.max_body_bytes,
        }
    }
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
            forbidden_prefixes: args.forbidden_prefixes,
            require_known_prefix: args.require_known_prefix,
            always_bulk_id: args.always_bulk_id,
            logs_per_minute: args.logs_per_minute,
            retry_after: args.retry_after,
            log_retention_ms: i64::from(args.retention_hours) * HOUR_MS,
            lookup_ported: args.lookup_ported,
            lookup_roaming: args.lookup_roaming,
            keywords: args.keywords,
            short_url_base: args.short_url_base,
            allowed_hosts: args.allowed_hosts,
            bounds: args.bounds.into(),
            access_log: args.verbose,
            ..Self::default()
        };
        config.chances.undeliverable = args.undeliverable;
        config.chances.expired = args.expired;
        config.chances.intermediate = args.intermediate;
        config
    }
}

/// Runs the simulator until `shutdown`.
///
/// # Errors
/// [`SimulatorError::Listen`] if the address cannot be bound; it names the address and the remedy.
pub async fn run(args: SimulateArgs, shutdown: CancellationToken) -> Result<(), SimulatorError> {
    let simulator = Simulator::bind(args.into()).await?;
    let address = simulator.local_addr();
    // Information only: a closed stderr is no error.
    let _ = writeln!(
        io::stderr(),
        "The simulator listens on http://{address}. Its phones: http://{address}/_sim/"
    );
    simulator.run(shutdown).await;
    Ok(())
}

/// A token that SIGINT or SIGTERM cancels.
///
/// # Errors
/// The system's error if the signal handlers cannot be installed.
pub fn until_signal() -> io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
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

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        args: SimulateArgs,
    }

    fn config(line: &str) -> SimulatorConfig {
        let words = std::iter::once("simulate").chain(line.split_whitespace());
        CommandLine::try_parse_from(words).expect(line).args.into()
    }

    #[test]
    fn without_flags_the_defaults_hold() {
        let (parsed, default) = (config(""), SimulatorConfig::default());
        assert_eq!(format!("{parsed:?}"), format!("{default:?}"));
        assert_eq!(parsed.balance_micros, default.balance_micros);
        assert_eq!(parsed.delivery_latency_ms, default.delivery_latency_ms);
        assert_eq!(parsed.log_retention_ms, default.log_retention_ms);
        assert_eq!(parsed.logs_per_minute, default.logs_per_minute);
        assert_eq!(parsed.short_url_base, default.short_url_base);
        assert!((parsed.lookup_ported - default.lookup_ported).abs() < f64::EPSILON);
        assert!((parsed.lookup_roaming - default.lookup_roaming).abs() < f64::EPSILON);
        assert!(!parsed.retry_after && !parsed.always_bulk_id && !parsed.require_known_prefix);
        assert!(parsed.forbidden_prefixes.is_empty());
    }

    #[test]
    fn every_switch_reaches_the_simulator() {
        let parsed = config(
            "--retry-after --always-bulk-id --require-known-prefix --forbidden-prefix +850 --forbidden-prefix 53 \
             --retention-hours 2 --lookup-ported 1 --lookup-roaming 0.5 --max-messages 1 --max-message-bytes 2 \
             --allow-host sim.example.com --max-received 3 --max-requests 4 --max-pushes 5 --max-links 6 --max-clicks 7 --max-body-bytes 8",
        );
        assert!(parsed.retry_after && parsed.always_bulk_id && parsed.require_known_prefix);
        assert_eq!(parsed.forbidden_prefixes, ["850", "53"]);
        assert_eq!(parsed.allowed_hosts, ["sim.example.com"]);
        assert_eq!(parsed.log_retention_ms, 2 * HOUR_MS);
        assert!((parsed.lookup_ported - 1.0).abs() < f64::EPSILON);
        assert!((parsed.lookup_roaming - 0.5).abs() < f64::EPSILON);
        let bounds = parsed.bounds;
        assert_eq!(
            [
                bounds.messages,
                bounds.message_bytes,
                bounds.received,
                bounds.requests,
                bounds.pushes,
                bounds.links,
                bounds.clicks,
                bounds.body_bytes
            ],
            [1, 2, 3, 4, 5, 6, 7, 8]
        );
    }

    #[test]
    fn mistakes_are_refused() {
        for line in [
            "--forbidden-prefix abc",
            "--forbidden-prefix +",
            "--lookup-ported 2",
            "--retention-hours -1",
            "--allow-host http://sim.example.com/",
            "--allow-host sim.example.com:8090",
            "--max-body-bytes many",
        ] {
            let words = std::iter::once("simulate").chain(line.split_whitespace());
            assert!(CommandLine::try_parse_from(words).is_err(), "{line}");
        }
    }

    #[test]
    fn the_document_names_every_switch() {
        let document = include_str!("../../../docs/SIMULATOR.md");
        for flag in CommandLine::command()
            .get_arguments()
            .filter_map(clap::Arg::get_long)
        {
            assert!(
                document.contains(&format!("--{flag}`"))
                    || document.contains(&format!("--{flag} ")),
                "docs/SIMULATOR.md does not name --{flag}"
            );
        }
    }
}
