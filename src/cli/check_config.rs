//! `smsbridge check-config`: prints the effective configuration, each value with its origin, or every mistake.

use std::io::{self, Write};

use clap::Args;
use serde_json::{Value, json};

use super::{CliError, config_args::ConfigArgs};
use crate::config::{DEFAULTS, EffectiveValue, Loaded};

/// Lines are padded to at most this width, so that the origins after them are aligned. A longer line is not padded.
const MAX_ALIGNED: usize = 60;

#[derive(Debug, Args)]
#[command(
    after_help = "Without options the output is a configuration file; secrets are comments in it.

Examples:
  smsbridge check-config --config smsbridge.toml
  smsbridge check-config --defaults > smsbridge.toml
  SMSBRIDGE_GRPC__LISTEN=127.0.0.1:6000 smsbridge check-config

Exit status: 0 if `smsbridge serve` would accept this configuration; else 64, with all mistakes. Ports and the broker are not tried."
)]
pub struct CheckConfigArgs {
    /// Print every key with its default and its comment, and check nothing
    #[arg(long, conflicts_with = "json")]
    defaults: bool,
    /// Print JSON, one value a line: key, value, origin
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Prints every value that is set, as TOML or JSON, with its origin.
///
/// # Errors
/// [`CliError::Configuration`] with every mistake.
pub fn run(args: &CheckConfigArgs) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    if args.defaults {
        out.write_all(DEFAULTS.as_bytes())?;
        return Ok(out.flush()?);
    }
    let Loaded {
        config,
        effective: values,
    } = args.config.load_for_serve()?;
    if config.infobip.is_unencrypted() {
        writeln!(
            io::stderr(),
            "warning: credentials and messages would go to the API unencrypted: use https:// in infobip.base_url"
        )?;
    }
    if args.json {
        for value in &values {
            writeln!(out, "{}", as_json(value))?;
        }
    } else {
        write_toml(&values, &mut out)?;
    }
    Ok(out.flush()?)
}

/// Writes `key = value  # origin`, the origins aligned.
fn write_toml(values: &[EffectiveValue], out: &mut impl Write) -> io::Result<()> {
    let line = |set: &EffectiveValue| match &set.value {
        Some(value) => format!("{} = {value}", set.key),
        None => format!("# {} = (secret)", set.key),
    };
    let lines: Vec<_> = values.iter().map(|set| (line(set), &set.origin)).collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).max();
    let width = width.unwrap_or_default().min(MAX_ALIGNED);
    for (line, origin) in lines {
        writeln!(out, "{line:width$}  # {origin}")?;
    }
    Ok(())
}

fn as_json(set: &EffectiveValue) -> Value {
    let mut line = json!({"key": set.key, "origin": set.origin.to_string()});
    match &set.value {
        Some(text) => {
            let table: Option<toml::Table> = toml::from_str(&format!("value = {text}")).ok();
            let value = table.and_then(|mut table| table.remove("value"));
            line["value"] = value
                .and_then(|value| serde_json::to_value(value).ok())
                .unwrap_or_else(|| text.as_str().into());
        }
        None => line["secret"] = true.into(),
    }
    line
}
