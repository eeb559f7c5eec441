//! `smsbridge demo`: runs a simulator and a bridge in one process, shows every flow once, then keeps serving.
//!
//! It calls the bridge as any client would: over gRPC, and through the broker where `--amqp-url` names one.
//!
//! Invariant: the environment cannot point the demo to something real. Its configuration is built here; its names on the
//! broker begin with a prefix that no other run has, and it deletes them at the end.

mod broker;
mod flows;
mod ports;
mod story;
mod where_to_look;

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use clap::Args;
use infobip_simulator::{BridgeAddresses, InboundPush, Simulator, SimulatorConfig};
use tokio_util::sync::CancellationToken;

use self::{broker::Broker, ports::Ports, story::Story};
use super::CliError;
use crate::{
    app::{Addresses, App},
    config::Config,
    ops::{signals::watch_signals, telemetry},
};

/// The credentials of the demo's simulated account.
const USERNAME: &str = "demo";
const PASSWORD: &str = "demo";
/// How often ports are chosen: another process may take one between its choice and its use.
const PORT_CHOICES: usize = 5;
/// How long the bridge may take to be ready: its connection to the broker is opened after the start.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// How often the bridge is asked whether it is ready.
const READY_INTERVAL: Duration = Duration::from_millis(50);
/// Timeout of all flows together.
const FLOWS_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  smsbridge demo
  smsbridge demo --once
  smsbridge demo --amqp-url amqp://guest:guest@127.0.0.1:5672/%2f")]
pub struct DemoArgs {
    /// Exit after the flows, with status 0 if all of them succeed
    #[arg(long)]
    once: bool,
    /// Also publish a command to this broker and consume events from it. The demo declares queues and exchanges of its own
    /// there (`smsbridge-demo-…`) and deletes them at the end. The environment is not read
    #[arg(long, value_name = "URL")]
    amqp_url: Option<String>,
}

/// The addresses of the demo's parts.
pub(super) struct Endpoints<'a> {
    simulator: SocketAddr,
    bridge: Addresses,
    broker: Option<&'a Broker>,
    ports: &'a Ports,
}

/// # Errors
/// [`CliError::Failed`] if a part does not start, a flow does not work, or the demo cannot delete its names on the broker.
pub async fn run(args: DemoArgs) -> Result<(), CliError> {
    // Other demos and real bridges may use the same broker, and the same folder for temporary files.
    let name = format!("smsbridge-demo-{:08x}", rand::random::<u32>());
    let folder = std::env::temp_dir().join(&name);
    let ports = Ports::choose();
    let config = configuration(&args, &name, &ports, &folder)?;
    let mut quiet = config.log.clone();
    "warn".clone_into(&mut quiet.filter);
    telemetry::init(&quiet).map_err(failed)?;
    let shutdown = CancellationToken::new();
    let _signals = watch_signals(shutdown.clone()).map_err(failed)?;
    let broker = match &args.amqp_url {
        Some(url) => Some(Broker::reach(url, &config.amqp).await?),
        None => None,
    };
    let outcome = match bind(&args, config, ports, &name, &folder).await {
        Ok(servers) => serve(&args, servers, broker.as_ref(), &shutdown).await,
        Err(error) => Err(error),
    };
    // The demo's event log is deleted.
    let _ = tokio::fs::remove_dir_all(&folder).await;
    let deleted = match &broker {
        Some(broker) => broker.delete_topology().await,
        None => Ok(()),
    };
    if let (Err(_), Err(left)) = (&outcome, &deleted) {
        // The other error becomes the message of the process.
        writeln!(io::stderr(), "{left}")?;
    }
    outcome.and(deleted)
}

/// Simulator and bridge with their ports.
struct Servers {
    simulator: Simulator,
    app: App,
    ports: Ports,
}

/// Binds the ports; chooses others if one was taken meanwhile.
async fn bind(
    args: &DemoArgs,
    config: Config,
    ports: Ports,
    name: &str,
    folder: &Path,
) -> Result<Servers, CliError> {
    let mut bound = try_bind(args, config, ports, name).await;
    for _ in 1..PORT_CHOICES {
        if bound.is_ok() {
            break;
        }
        let ports = Ports::choose();
        let config = configuration(args, name, &ports, folder)?;
        bound = try_bind(args, config, ports, name).await;
    }
    bound
}

async fn try_bind(
    args: &DemoArgs,
    config: Config,
    ports: Ports,
    name: &str,
) -> Result<Servers, CliError> {
    let simulator = Simulator::bind(SimulatorConfig {
        listen: ports.simulator,
        username: USERNAME.to_owned(),
        password: PASSWORD.to_owned(),
        inbound: Some(InboundPush::Get(inbound_template(ports.http))),
        clicks_url: Some(format!("http://{}/infobip/local/clicks", ports.http)),
        bridge: Some(bridge_addresses(args, &ports, name)),
        ..SimulatorConfig::default()
    })
    .await
    .map_err(failed)?;
    let app = App::bind(config).await.map_err(failed)?;
    Ok(Servers {
        simulator,
        app,
        ports,
    })
}

/// Runs simulator and bridge: shows the flows, then keeps serving until `shutdown`, unless `--once` is given.
async fn serve(
    args: &DemoArgs,
    servers: Servers,
    broker: Option<&Broker>,
    shutdown: &CancellationToken,
) -> Result<(), CliError> {
    let Servers {
        simulator,
        app,
        ports,
    } = servers;
    let endpoints = Endpoints {
        simulator: simulator.local_addr(),
        bridge: app.addresses(),
        broker,
        ports: &ports,
    };

    let stop_simulator = CancellationToken::new();
    let simulating = tokio::spawn(simulator.run(stop_simulator.clone()));
    let stop_bridge = shutdown.child_token();
    let mut serving = tokio::spawn(app.run(stop_bridge.clone()));

    let work = async {
        tokio::time::timeout(FLOWS_TIMEOUT, show(&endpoints))
            .await
            .map_err(|_| failed(format!("the flows did not end within {FLOWS_TIMEOUT:?}")))??;
        if !args.once {
            where_to_look::print(&Story::default(), &endpoints)?;
            std::future::pending::<()>().await;
        }
        Ok(())
    };
    let (outcome, served) = tokio::select! {
        outcome = work => (outcome, None),
        () = shutdown.cancelled() => (Ok(()), None),
        ended = &mut serving => (Ok(()), Some(ended)),
    };
    stop_bridge.cancel();
    let served = match served {
        Some(ended) => ended,
        None => serving.await,
    };
    stop_simulator.cancel();
    let _ = simulating.await;
    outcome.and(match served {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed(error)),
        Err(error) => Err(failed(error)),
    })
}

async fn show(endpoints: &Endpoints<'_>) -> Result<(), CliError> {
    let mut story = Story::default();
    story.begin(endpoints)?;
    until_ready(endpoints.bridge.admin).await?;
    flows::all(&mut story, endpoints).await?;
    if let Some(broker) = endpoints.broker {
        broker::flow(&mut story, broker).await?;
    }
    story.end()
}

/// Waits until the bridge is ready. Until then it refuses to send, because nothing could be recorded.
async fn until_ready(admin: SocketAddr) -> Result<(), CliError> {
    // The environment may name a proxy, which does not know this machine's loopback addresses.
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(READY_TIMEOUT)
        .build()
        .map_err(failed)?;
    let url = format!("http://{admin}/ready");
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        let response = client.get(&url).send().await.map_err(failed)?;
        if response.status().is_success() {
            return Ok(());
        }
        let why = response.text().await.map_err(failed)?;
        if Instant::now() > deadline {
            return Err(failed(format!(
                "the bridge is not ready after {} s: {}",
                READY_TIMEOUT.as_secs(),
                why.trim_end().replace('\n', ": ")
            )));
        }
        tokio::time::sleep(READY_INTERVAL).await;
    }
}

fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::Failed(error.to_string())
}

fn configuration(
    args: &DemoArgs,
    prefix: &str,
    ports: &Ports,
    folder: &Path,
) -> Result<Config, CliError> {
    let Ports {
        grpc,
        http,
        admin,
        simulator,
        ..
    } = ports;
    let mut flags: Vec<(String, String)> = [
        ("infobip.base_url", format!("http://{simulator}")),
        ("infobip.username", USERNAME.to_owned()),
        ("infobip.password", PASSWORD.to_owned()),
        ("grpc.listen", grpc.to_string()),
        // A demo has few callers. With the default the process may warn about its limit of open files.
        ("grpc.max_connections", "100".to_owned()),
        ("http.listen", http.to_string()),
        ("http.public_url", format!("http://{http}")),
        ("admin.listen", admin.to_string()),
        ("events.data_dir", folder.display().to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    if let Some(url) = &args.amqp_url {
        flags.push(("amqp.url".to_owned(), url.clone()));
        flags.push(("amqp.prefix".to_owned(), prefix.to_owned()));
    }
    // No file and no environment.
    Config::load(None, std::iter::empty(), &flags)
        .map_err(|error| CliError::Configuration(error.to_string()))
}

/// What the simulator's page shows to be copied. Others may see it, so no password of a broker is there.
fn bridge_addresses(args: &DemoArgs, ports: &Ports, name: &str) -> BridgeAddresses {
    let url = args.amqp_url.as_deref();
    BridgeAddresses {
        grpc: ports.grpc.to_string(),
        http: ports.http.to_string(),
        admin: ports.admin.to_string(),
        amqp_url: url
            .filter(|url| where_to_look::is_default_user(url))
            .map(str::to_owned),
        amqp_prefix: url.map(|_| name.to_owned()),
        binary: where_to_look::this_binary(),
    }
}

fn inbound_template(bridge: SocketAddr) -> String {
    format!(
        "http://{bridge}/infobip/local/inbound?sender=%sender%&receiver=%receiver%&text=%text%&bin=%bin%&datetime=%datetime%&messageId=%messageId%&datacoding=%datacoding%&esmclass=%esmclass%"
    )
}
