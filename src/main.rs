//! Parses the arguments, runs the command and turns its error into a message and an exit status.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use smsbridge::{
    cli::{Cli, CliError, EXIT_USAGE, output::colour::Tone},
    ops::terminal::takes_colours,
};

/// With the system's allocator, a quarter of the CPU time of a stream was spent in it (docs/BENCHMARKS.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::parse_arguments() {
        Ok(cli) => cli,
        Err(message) => {
            // clap prints help and version to stdout, which may be closed.
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
        // The reader of our output has closed the pipe (`smsbridge events | head -1`): not a failure.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            let label = match takes_colours(&io::stderr()) {
                true => Tone::Bad.paint("error:"),
                false => "error:".to_owned(),
            };
            let _ = writeln!(io::stderr(), "{label} {error}");
            ExitCode::from(error.exit_status())
        }
    }
}

fn run(cli: Cli) -> Result<(), CliError> {
    // rustls needs one provider for the process: our libraries are built without a default one.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        return Err(CliError::Failed(
            "a TLS provider is already installed".into(),
        ));
    }
    let runtime = runtime()
        .build()
        .map_err(|error| CliError::Failed(format!("cannot start the tokio runtime: {error}")))?;
    let result = runtime.block_on(cli.run());
    // A blocking read of a terminal or a pipe cannot be cancelled: do not wait for it.
    runtime.shutdown_background();
    result
}

/// Half as many worker threads as processors: the event log's thread and the kernel's network stack use the rest, and each
/// further worker costs memory and context switches (docs/BENCHMARKS.md). TOKIO_WORKER_THREADS overrides it.
fn runtime() -> tokio::runtime::Builder {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        runtime.worker_threads(processors.div_ceil(2));
    }
    runtime
}
