//! How the process ends: SIGTERM or SIGINT asks for it, a second one forces it, and work in flight gets `shutdown.grace`.

use std::{future::Future, io, process, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle, task::TaskTracker};

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

/// The tasks of the process and the wish that they end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
    grace: Duration,
}

/// Work that did not finish in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{tasks} tasks did not finish within `shutdown.grace` ({grace:?})")]
pub struct Unfinished {
    /// How many tasks.
    pub tasks: usize,
    /// How long they had.
    pub grace: Duration,
}

impl Shutdown {
    /// A process that gives its work `grace` to finish.
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        Self {
            token: CancellationToken::new(),
            tasks: TaskTracker::new(),
            grace,
        }
    }

    /// Cancelled when the process is to end.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Runs work that [`Shutdown::drain`] waits for. It is to watch the token, or to be short.
    pub fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(work)
    }

    /// Asks everything to end, and waits until it has, `shutdown.grace` at most.
    ///
    /// # Errors
    /// [`Unfinished`] says how much did not end in time.
    pub async fn drain(&self) -> Result<(), Unfinished> {
        let deadline = Instant::now() + self.grace;
        self.token.cancel();
        self.tasks.close();
        timeout_at(deadline, self.tasks.wait())
            .await
            .map_err(|_| Unfinished {
                tasks: self.tasks.len(),
                grace: self.grace,
            })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        io::{BufRead as _, BufReader, Write as _},
        process::{Child, Command, Stdio},
    };

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_is_in_flight_finishes() {
        let shutdown = Shutdown::new(Duration::from_secs(60));
        let (finish, finished) = oneshot::channel::<()>();
        let token = shutdown.token();
        let work = shutdown.spawn(async move {
            token.cancelled().await;
            finished.await.is_ok()
        });
        let drained = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.drain().await }
        });
        shutdown.token().cancelled().await;
        assert!(!drained.is_finished(), "the work is still there");
        finish.send(()).unwrap();
        assert_eq!(drained.await.unwrap(), Ok(()));
        assert!(work.await.unwrap());
    }

    #[tokio::test]
    async fn what_does_not_finish_is_counted() {
        let grace = Duration::from_millis(20);
        let shutdown = Shutdown::new(grace);
        for _ in 0..2 {
            shutdown.spawn(std::future::pending::<()>());
        }
        let before = Instant::now();
        assert_eq!(shutdown.drain().await, Err(Unfinished { tasks: 2, grace }));
        assert!(before.elapsed() >= grace);
    }

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
