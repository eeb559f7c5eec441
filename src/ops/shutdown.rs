//! How the process is asked to end: SIGTERM or SIGINT asks for it, a second one forces it. `app` drains.

use std::{io, process};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// Exit status of a process that was ended by a second signal, with work unfinished.
const EXIT_FORCED: i32 = 1;

/// Listens for signals as long as it lives.
#[derive(Debug)]
#[must_use = "signals are heard as long as this lives"]
pub struct SignalWatch {
    _task: AbortOnDropHandle<()>,
}

/// From now on the first SIGTERM or SIGINT (Ctrl-C) cancels `shutdown`, and a second one ends the process at once with exit
/// status 1. Needs a tokio runtime.
///
/// # Errors
/// Where the system refuses the handlers.
pub fn watch_signals(shutdown: CancellationToken) -> io::Result<SignalWatch> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let task = tokio::spawn(async move {
        let name = next(&mut terminate, &mut interrupt).await;
        tracing::info!(
            signal = name,
            "asked to stop; a second signal stops at once"
        );
        shutdown.cancel();
        let name = next(&mut terminate, &mut interrupt).await;
        tracing::warn!(
            signal = name,
            "asked to stop again: ending with work unfinished"
        );
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

    /// Set in the process that gets the signals: this test, run again alone.
    const CHILD: &str = "SMSBRIDGE_TEST_SIGNALLED_CHILD";

    #[test]
    fn one_signal_asks_and_a_second_one_forces() {
        if env::var_os(CHILD).is_some() {
            return child();
        }
        for signal in ["TERM", "INT"] {
            let mut child = Command::new(env::current_exe().unwrap())
                .args([
                    "--exact",
                    "ops::shutdown::tests::one_signal_asks_and_a_second_one_forces",
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
