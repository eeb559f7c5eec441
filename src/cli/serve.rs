//! `smsbridge serve`: runs the bridge.

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{CliError, config_args::ConfigArgs};
use crate::{
    app::{App, AppError},
    ops::{signals::watch_signals, telemetry},
};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  smsbridge serve --config smsbridge.toml
  SMSBRIDGE_INFOBIP__API_KEY=… smsbridge serve --infobip-base-url https://x1y2z3.api.infobip.com

smsbridge check-config prints every key with its value and its origin.")]
pub struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Serves until SIGTERM or Ctrl-C, then drains within `shutdown.grace`.
///
/// # Errors
/// [`CliError::Configuration`] with every mistake, before any port is bound; [`CliError::Failed`] if the bridge cannot start
/// or a server fails.
pub async fn run(args: ServeArgs) -> Result<(), CliError> {
    let file = args.config.file().map(|path| path.display().to_string());
    let config = args.config.load_for_serve()?.config;
    telemetry::init(&config.log).map_err(|error| CliError::Configuration(error.to_string()))?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = file.as_deref(),
        "smsbridge is starting"
    );
    let shutdown = CancellationToken::new();
    let _signals = watch_signals(shutdown.clone())
        .map_err(|error| CliError::Failed(format!("cannot install signal handlers: {error}")))?;
    let failed = |error: AppError| match error {
        error if error.is_configuration() => CliError::Configuration(error.to_string()),
        error => CliError::Failed(error.to_string()),
    };
    App::bind(config)
        .await
        .map_err(failed)?
        .run(shutdown)
        .await
        .map_err(failed)
}
