//! The command line: one file for each subcommand.
//!
//! Invariants: every command ends in `Ok` or in a [`CliError`], whose exit status is 0, 1, 64 or 130
//! (docs/OPERATIONS.md#probes-shutdown-exit-status); results go to stdout, everything else to stderr. The client commands
//! depend only on the contract ([`crate::proto`]), like any other gRPC client. `serve` and `demo` depend on
//! [`crate::config`] and [`crate::app`].
//!
//! A new subcommand is a file with `pub struct XArgs` and `pub async fn run(args: XArgs) -> Result<(), CliError>`, a variant
//! of [`Command`] and a line in [`Cli::run`].

use std::{ffi::OsString, io};

use clap::{Parser, Subcommand};
use infobip_simulator::args::SimulateArgs;

mod admin;
pub mod amqp_url;
mod balance;
pub mod check_config;
pub mod codes;
pub mod completions;
pub mod config_args;
pub mod connect;
pub mod dead;
pub mod demo;
mod event_queue;
pub mod events;
pub mod inbox;
mod interrupt;
pub mod logs;
pub mod lookup;
pub mod message;
pub mod numbers;
pub mod output;
pub mod preview;
pub mod quarantine;
pub mod reconcile;
mod removal;
pub mod reports;
pub mod rpc_error;
pub mod send;
pub mod serve;
pub mod statuses;
pub mod time;
pub mod token;
pub mod topology;
mod with_body;

/// Exit status of a command that failed.
pub const EXIT_FAILED: u8 = 1;
/// Exit status of an invalid command line or configuration (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;
/// Exit status after Ctrl-C: 128 and the number of SIGINT, as a shell reports a process that the signal ended.
pub const EXIT_INTERRUPTED: u8 = 130;

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

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the bridge.
    Serve(serve::ServeArgs),
    /// Simulate the Infobip SMS HTTP API.
    Simulate(SimulateArgs),
    /// Run a simulator and a bridge in one process, and show every flow.
    Demo(demo::DemoArgs),
    /// Check the configuration and print each value with its origin.
    CheckConfig(check_config::CheckConfigArgs),
    /// Print the bridge's exchanges, queues and bindings, or declare them on the broker.
    Topology(topology::TopologyArgs),
    /// Create bearer tokens for gRPC callers.
    Token(token::TokenArgs),
    /// Send a message to one or more numbers, or a message for each record of a file.
    Send(Box<send::SendArgs>),
    /// Pull unread delivery reports.
    Reports(reports::ReportsArgs),
    /// Read the API's logs of sent messages.
    Logs(logs::LogsArgs),
    /// Pull received messages, or list them.
    Inbox(inbox::InboxArgs),
    /// Look up numbers.
    Lookup(lookup::LookupArgs),
    /// Print what became of one message.
    Message(message::MessageArgs),
    /// Read the event log.
    Events(events::EventsArgs),
    /// Print the account's credit.
    Balance(balance::BalanceArgs),
    /// Print how many segments a text has.
    Preview(preview::PreviewArgs),
    /// Print the code tables of statuses and errors.
    Statuses(statuses::StatusesArgs),
    /// Print the completions of a shell.
    Completions(completions::CompletionsArgs),
    /// List, show, replay or discard dead letters: commands that could not be carried out.
    Dead(dead::DeadArgs),
    /// List, show, replay or discard what the API sent and the bridge could not read.
    Quarantine(quarantine::QuarantineArgs),
    /// Compare the API's logs with the event log, and publish the reports that are missing.
    #[command(hide = true)]
    Reconcile(reconcile::ReconcileArgs),
}

impl Cli {
    /// Parses the arguments of this process.
    ///
    /// # Errors
    /// clap's error, which is also how help and version are printed.
    pub fn parse_arguments() -> Result<Self, clap::Error> {
        let mut arguments: Vec<OsString> = std::env::args_os().collect();
        // `smsbridge help --help`: clap takes `--help` for the name of a command.
        if arguments.get(1).is_some_and(|first| first == "help") {
            arguments.retain(|argument| argument != "--help" && argument != "-h");
        }
        Self::try_parse_from(arguments)
    }

    /// Runs the command.
    ///
    /// # Errors
    /// [`CliError`], whose exit status tells a failure from an invalid command line.
    pub async fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::Serve(args) => serve::run(args).await,
            Command::Simulate(simulate) => {
                let shutdown = infobip_simulator::args::until_signal().map_err(|error| {
                    CliError::Failed(format!("cannot install signal handlers: {error}"))
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
            Command::Message(args) => message::run(args).await,
            Command::Events(args) => events::run(args).await,
            Command::Balance(args) => balance::run(args).await,
            Command::Preview(args) => preview::run(args).await,
            Command::Statuses(args) => statuses::run(args).await,
            Command::Completions(args) => completions::run(&args),
            Command::Dead(args) => dead::run(args).await,
            Command::Quarantine(args) => quarantine::run(args).await,
            Command::Reconcile(args) => reconcile::run(args).await,
        }
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line is invalid in a way that clap does not check.
    #[error("{0}")]
    Usage(String),
    /// The configuration is invalid: all mistakes, each with its key and the origin of its value.
    #[error("{0}")]
    Configuration(String),
    /// The command failed: what happened and what to do.
    #[error("{0}")]
    Failed(String),
    /// Ctrl-C ended the command before its work was done: how far it came and what to do.
    #[error("{0}")]
    Interrupted(String),
    /// No connection to a bridge could be made.
    #[error(transparent)]
    Unreachable(#[from] connect::Unreachable),
    /// The bridge answered a call with an error, or the connection broke.
    #[error(transparent)]
    Rpc(#[from] rpc_error::RpcError),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// The exit status of the process: [`EXIT_USAGE`], [`EXIT_INTERRUPTED`] or [`EXIT_FAILED`].
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Configuration(_) => EXIT_USAGE,
            Self::Interrupted(_) => EXIT_INTERRUPTED,
            Self::Failed(_) | Self::Unreachable(_) | Self::Rpc(_) | Self::Output(_) => EXIT_FAILED,
        }
    }
}
