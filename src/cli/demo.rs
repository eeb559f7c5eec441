//! `smsbridge demo`: simulator and bridge in one process, every flow once, and then serving on.
//!
//! It speaks to the bridge as any client would: by gRPC, and by the broker where there is one.

mod broker;
mod flows;
mod story;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use clap::Args;
use infobip_simulator::{InboundPush, Simulator, SimulatorConfig};
use tokio_util::sync::CancellationToken;

use self::story::Story;
use super::CliError;
use crate::{
    app::{Addresses, App},
    config::Config,
    ops::{shutdown::watch_signals, telemetry},
};

/// The credentials of the demo's simulated account.
const USERNAME: &str = "demo";
const PASSWORD: &str = "demo";
/// How long all flows may take together.
const PATIENCE: Duration = Duration::from_secs(60);

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  smsbridge demo
  smsbridge demo --once
  smsbridge demo --amqp-url amqp://guest:guest@127.0.0.1:5672/%2f")]
pub struct DemoArgs {
    /// End after the flows, with exit status 0 if each of them worked
    #[arg(long)]
    once: bool,
    /// A broker: the demo then also publishes a command to it and consumes the events
    #[arg(
        long,
        value_name = "URL",
        env = "SMSBRIDGE_AMQP__URL",
        hide_env_values = true
    )]
    amqp_url: Option<String>,
}

/// Where everything of the demo is.
pub(super) struct Places {
    simulator: SocketAddr,
    bridge: Addresses,
}

/// Runs the demo.
///
/// # Errors
/// [`CliError::Failed`] where something did not start, or a flow did not work.
pub async fn run(args: DemoArgs) -> Result<(), CliError> {
    let failed = |error: &dyn std::fmt::Display| CliError::Failed(error.to_string());
    // The usual ports where they are free, so that the printed lines look like everyday's.
    let (bridge_http, simulator_port) = (free_or_any(8080), free_or_any(8090));
    let folder = std::env::temp_dir().join(format!("smsbridge-demo-{}", std::process::id()));
    let config = configuration(&args, bridge_http, simulator_port, &folder)?;
    let mut quiet = config.log.clone();
    "warn".clone_into(&mut quiet.filter);
    telemetry::init(&quiet).map_err(|error| failed(&error))?;
    let shutdown = CancellationToken::new();
    let _signals = watch_signals(shutdown.clone()).map_err(|error| failed(&error))?;

    let simulator = Simulator::bind(SimulatorConfig {
        listen: simulator_port,
        username: USERNAME.to_owned(),
        password: PASSWORD.to_owned(),
        inbound: Some(InboundPush::Get(inbound_template(bridge_http))),
        clicks_url: Some(format!("http://{bridge_http}/infobip/local/clicks")),
        ..SimulatorConfig::default()
    })
    .await
    .map_err(|error| failed(&error))?;
    let app = App::bind(config).await.map_err(|error| failed(&error))?;
    let places = Places {
        simulator: simulator.local_addr(),
        bridge: app.addresses(),
    };

    let stop_simulator = CancellationToken::new();
    let simulating = tokio::spawn(simulator.run(stop_simulator.clone()));
    let stop_bridge = shutdown.child_token();
    let mut serving = tokio::spawn(app.run(stop_bridge.clone()));

    let told = tokio::select! {
        told = tokio::time::timeout(PATIENCE, tell(&args, &places)) => {
            told.unwrap_or_else(|_| Err(CliError::Failed(format!("the flows did not end within {PATIENCE:?}"))))
        }
        () = shutdown.cancelled() => Ok(()),
    };
    if told.is_ok() && !args.once && !shutdown.is_cancelled() {
        Story::default().where_to_look(&places, args.amqp_url.as_deref())?;
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = &mut serving => {}
        }
    }
    stop_bridge.cancel();
    let served = if serving.is_finished() {
        Ok(())
    } else {
        join(serving).await
    };
    stop_simulator.cancel();
    let _ = simulating.await;
    // What the demo wrote is of no use to anybody.
    let _ = tokio::fs::remove_dir_all(&folder).await;
    told.and(served)
}

async fn join(
    serving: tokio::task::JoinHandle<Result<(), crate::app::AppError>>,
) -> Result<(), CliError> {
    match serving.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(CliError::Failed(error.to_string())),
        Err(error) => Err(CliError::Failed(error.to_string())),
    }
}

async fn tell(args: &DemoArgs, places: &Places) -> Result<(), CliError> {
    let mut story = Story::default();
    story.begin(places, args.amqp_url.is_some())?;
    flows::all(&mut story, places).await?;
    if let Some(url) = &args.amqp_url {
        broker::flow(&mut story, url).await?;
    }
    story.end()
}

fn configuration(
    args: &DemoArgs,
    http: SocketAddr,
    simulator: SocketAddr,
    folder: &std::path::Path,
) -> Result<Config, CliError> {
    let mut flags: Vec<(String, String)> = [
        ("infobip.base_url", format!("http://{simulator}")),
        ("infobip.username", USERNAME.to_owned()),
        ("infobip.password", PASSWORD.to_owned()),
        ("grpc.listen", free_or_any(50051).to_string()),
        // Few call a demo: it need not say that more would need more open files.
        ("grpc.max_connections", "100".to_owned()),
        ("http.listen", http.to_string()),
        ("http.public_url", format!("http://{http}")),
        ("admin.listen", free_or_any(9090).to_string()),
        ("events.data_dir", folder.display().to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    if let Some(url) = &args.amqp_url {
        flags.push(("amqp.url".to_owned(), url.clone()));
    }
    Config::load(None, std::iter::empty(), &flags)
        .map_err(|error| CliError::Configuration(error.to_string()))
}

fn free_or_any(port: u16) -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let bound = TcpListener::bind(usual).or_else(|_| TcpListener::bind(any));
    bound
        .and_then(|listener| listener.local_addr())
        .unwrap_or(usual)
}

fn inbound_template(bridge: SocketAddr) -> String {
    format!(
        "http://{bridge}/infobip/local/inbound?sender=%sender%&receiver=%receiver%&text=%text%&bin=%bin%&datetime=%datetime%&messageId=%messageId%&datacoding=%datacoding%&esmclass=%esmclass%"
    )
}
