//! The command line: one file for each subcommand, with its arguments and what it does.
//!
//! Invariants: every command ends in `Ok` or in a [`CliError`], whose exit status is 0, 1 or 64
//! (docs/OPERATIONS.md#probes-shutdown-exit-status); results go to stdout, everything else to stderr. The client commands know the contract ([`crate::proto`]) only: they see
//! of a running bridge what any other gRPC client sees. `serve`, `simulate` and `demo` know [`crate::config`] and the
//! composition root.
//!
//! A new subcommand is a file with `pub struct XArgs` and `pub async fn run(args: XArgs) -> Result<(), CliError>`, a variant
//! of [`Command`] and a line in [`Cli::run`].

use std::io;

use clap::{Parser, Subcommand};
use infobip_simulator::args::SimulateArgs;

pub mod check_config;
pub mod codes;
pub mod config_args;
pub mod connect;
pub mod dead;
pub mod demo;
pub mod events;
pub mod inbox;
pub mod kept;
pub mod logs;
pub mod lookup;
pub mod numbers;
pub mod output;
pub mod quarantine;
pub mod reconcile;
pub mod reports;
pub mod send;
pub mod serve;
pub mod time;
pub mod token;
pub mod topology;

/// Exit status of a command that failed.
pub const EXIT_FAILED: u8 = 1;
/// Exit status where the command line or the configuration is wrong (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// A bridge between your services (gRPC, RabbitMQ) and the Infobip SMS HTTP API, with a simulator of that API.
#[derive(Debug, Parser)]
#[command(
    name = "smsbridge",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What `smsbridge` can do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run the bridge.
    Serve(serve::ServeArgs),
    /// Simulate the Infobip SMS HTTP API.
    Simulate(SimulateArgs),
    /// Run a simulator and a bridge in one process, and show every flow.
    Demo(demo::DemoArgs),
    /// Check the configuration and show each value with where it came from.
    CheckConfig(check_config::CheckConfigArgs),
    /// Show what the bridge needs on the broker, or declare it.
    Topology(topology::TopologyArgs),
    /// Make the tokens that gRPC callers show.
    Token(token::TokenArgs),
    /// Send a message to some numbers, or one for each record of a file.
    Send(Box<send::SendArgs>),
    /// Pull unread delivery reports.
    Reports(reports::ReportsArgs),
    /// Read the API's logs of sent messages.
    Logs(logs::LogsArgs),
    /// Pull received messages, or list them.
    Inbox(inbox::InboxArgs),
    /// Ask what is known of numbers.
    Lookup(lookup::LookupArgs),
    /// Read the event log.
    Events(events::EventsArgs),
    /// List, replay or discard commands that were given up.
    Dead(dead::DeadArgs),
    /// List, replay or discard what the API sent and the bridge could not read.
    Quarantine(quarantine::QuarantineArgs),
    /// Compare the API's logs with the event log now, and publish what is missing.
    Reconcile(reconcile::ReconcileArgs),
}

impl Cli {
    /// Does what the command line asks for.
    ///
    /// # Errors
    /// [`CliError`], whose exit status says whether the command failed or was wrong.
    pub async fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::Serve(args) => serve::run(args).await,
            Command::Simulate(simulate) => {
                let shutdown = infobip_simulator::args::until_signal().map_err(|error| {
                    CliError::Failed(format!("can't listen for signals: {error}"))
                })?;
                infobip_simulator::args::run(simulate, shutdown)
                    .await
                    .map_err(|error| CliError::Failed(error.to_string()))
            }
            Command::Demo(args) => demo::run(args).await,
            Command::CheckConfig(args) => check_config::run(&args),
            Command::Topology(args) => topology::run(args).await,
            Command::Token(args) => token::run(&args),
            Command::Send(args) => send::run(*args).await,
            Command::Reports(args) => reports::run(args).await,
            Command::Logs(args) => logs::run(args).await,
            Command::Inbox(args) => inbox::run(args).await,
            Command::Lookup(args) => lookup::run(args).await,
            Command::Events(args) => events::run(args).await,
            Command::Dead(args) => dead::run(args).await,
            Command::Quarantine(args) => quarantine::run(args).await,
            Command::Reconcile(args) => reconcile::run(args).await,
        }
    }
}

/// Why a command ended without success.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line is wrong in a way that its parser can't see.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong: all mistakes, each with its key and where its value came from.
    #[error("{0}")]
    Configuration(String),
    /// The command failed: what happened and what to do.
    #[error("{0}")]
    Failed(String),
    /// No bridge answers.
    #[error(transparent)]
    Unreachable(#[from] connect::Unreachable),
    /// A bridge answered with an error.
    #[error(transparent)]
    Call(#[from] connect::CallError),
    /// The output can't be written.
    #[error("can't write the output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// The exit status of the process: [`EXIT_USAGE`] or [`EXIT_FAILED`].
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Configuration(_) => EXIT_USAGE,
            Self::Failed(_) | Self::Unreachable(_) | Self::Call(_) | Self::Output(_) => EXIT_FAILED,
        }
    }
}
