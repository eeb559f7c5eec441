//! `smsbridge check-config`: prints the effective configuration, each value with its origin, or every mistake.

use std::io::{self, Write};

use clap::Args;

use super::{CliError, config_args::ConfigArgs};
use crate::config::Loaded;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  smsbridge check-config --config smsbridge.toml
  SMSBRIDGE_GRPC__LISTEN=127.0.0.1:6000 smsbridge check-config

Exit status: 0 if `smsbridge serve` would start with this configuration; else 64, with all mistakes.")]
pub struct CheckConfigArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Prints every value that is set, as TOML, with its origin.
///
/// # Errors
/// [`CliError::Configuration`] with every mistake.
pub fn run(args: &CheckConfigArgs) -> Result<(), CliError> {
    let loaded = args.config.load_for_serve()?;
    Ok(write_effective(&loaded, &mut io::stdout().lock())?)
}

/// Writes `key = value  # origin`, the origins aligned.
fn write_effective(loaded: &Loaded, out: &mut impl Write) -> io::Result<()> {
    let lines: Vec<_> = loaded
        .effective
        .iter()
        .map(|value| (format!("{} = {}", value.key, value.value), &value.origin))
        .collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).max();
    let width = width.unwrap_or_default().min(60);
    for (line, origin) in lines {
        writeln!(out, "{line:width$}  # {origin}")?;
    }
    out.flush()
}
