//! Signals: the first SIGTERM or SIGINT begins the shutdown, a second one ends the process at once. `app` drains.

use std::{io, process};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// Exit status after a second signal, with work unfinished.
const EXIT_FORCED: i32 = 1;

/// Handles signals until it is dropped.
#[derive(Debug)]
#[must_use = "signals are handled until this is dropped"]
pub struct SignalWatch {
    _task: AbortOnDropHandle<()>,
}

/// From now on the first SIGTERM or SIGINT (Ctrl-C) cancels `shutdown`, and a second one ends the process at once with exit
/// status 1. Must be called in a tokio runtime.
///
/// # Errors
/// The system rejects the handlers.
pub fn watch_signals(shutdown: CancellationToken) -> io::Result<SignalWatch> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let task = tokio::spawn(async move {
        let name = next(&mut terminate, &mut interrupt).await;
        tracing::info!(
            signal = name,
            "shutting down; a second signal ends the process at once"
        );
        shutdown.cancel();
        let name = next(&mut terminate, &mut interrupt).await;
        tracing::warn!(signal = name, "second signal: ending with work unfinished");
        process::exit(EXIT_FORCED);
    });
    Ok(SignalWatch {
        _task: AbortOnDropHandle::new(task),
    })
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        io::{BufRead as _, BufReader, Write as _},
        process::{Child, Command, Stdio},
    };

    use super::*;

    /// Set in the process that gets the signals, which runs this test only.
    const CHILD: &str = "SMSBRIDGE_TEST_SIGNALLED_CHILD";

    #[test]
    fn the_first_signal_begins_shutdown_and_the_second_forces_it() {
        if env::var_os(CHILD).is_some() {
            return child();
        }
        for signal in ["TERM", "INT"] {
            let mut child = Command::new(env::current_exe().unwrap())
                .args([
                    "--exact",
                    "ops::signals::tests::the_first_signal_begins_shutdown_and_the_second_forces_it",
                ])
                .arg("--nocapture")
                .env(CHILD, "1")
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut wait_for =
                |wanted: &str| lines.by_ref().any(|line| line.unwrap().ends_with(wanted));
            assert!(wait_for("listening"));
            kill(&child, signal);
            assert!(
                wait_for("asked to stop"),
                "the first {signal} cancels the token"
            );
            kill(&child, signal);
            assert_eq!(child.wait().unwrap().code(), Some(EXIT_FORCED));
        }
    }

    /// A process whose work never ends.
    fn child() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let shutdown = CancellationToken::new();
            let _watch = watch_signals(shutdown.clone()).unwrap();
            say("listening");
            shutdown.cancelled().await;
            say("asked to stop");
            std::future::pending::<()>().await;
        });
    }

    fn say(line: &str) {
        let mut out = io::stdout();
        writeln!(out, "{line}").unwrap();
        out.flush().unwrap();
    }

    fn kill(child: &Child, signal: &str) {
        let status = Command::new("kill")
            .args([format!("-{signal}"), child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }
}
