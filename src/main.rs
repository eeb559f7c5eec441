//! Arguments → telemetry → configuration → command → exit status.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use smsbridge::cli::{Cli, CliError, EXIT_USAGE};

/// A quarter of a stream's time went into the system's libc, most of it the allocator (docs/BENCHMARKS.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => {
            // Help and version are no failures: they go to stdout. Nothing can be done where even that is closed.
            let _ = message.print();
            return if message.use_stderr() {
                ExitCode::from(EXIT_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output went away (`smsbridge events | head -1`): it has what it wanted.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}

fn run(cli: Cli) -> Result<(), CliError> {
    // One TLS provider for the whole process: none of its libraries brings its own.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        return Err(CliError::Failed("the TLS provider is set already".into()));
    }
    let runtime = runtime()
        .build()
        .map_err(|error| CliError::Failed(format!("can't start the runtime: {error}")))?;
    let result = runtime.block_on(cli.run());
    // A read of a terminal or a pipe can't be cancelled: don't wait for it.
    runtime.shutdown_background();
    result
}

/// Half of the processors for the runtime: the event log's thread and the system's side of the network want the rest, and
/// every worker more costs memory and hand-overs (docs/BENCHMARKS.md). tokio's own TOKIO_WORKER_THREADS says otherwise.
fn runtime() -> tokio::runtime::Builder {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        runtime.worker_threads(processors.div_ceil(2));
    }
    runtime
}
