//! The simulator on its own: `cargo run -p infobip-simulator -- --listen 127.0.0.1:8090`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser;
use infobip_simulator::args::{SimulateArgs, run, until_signal};

/// A simulator of the Infobip SMS HTTP API.
#[derive(Parser)]
#[command(version)]
struct CommandLine {
    #[command(flatten)]
    args: SimulateArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = CommandLine::parse().args;
    let shutdown = match until_signal() {
        Ok(shutdown) => shutdown,
        Err(error) => return failed(&format!("cannot listen for signals: {error}")),
    };
    match run(args, shutdown).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(reason: &str) -> ExitCode {
    // A closed stderr leaves no way to report the error.
    let _ = writeln!(io::stderr(), "error: {reason}");
    ExitCode::FAILURE
}
