//! The child `scripts/broker`, which runs the broker of the tests and takes orders.
//!
//! Invariant: every wait for it has a deadline, and whatever ends the wait is reported with what the script said on stderr.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Mutex,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    time::Duration,
};

/// Longer than the script waits for anything while it carries out an order, so that it can report itself what it waited for.
const ORDER_DEADLINE: Duration = Duration::from_secs(300);
/// Before the start the script may install a version of the server, which has a deadline of 15 minutes.
const START_DEADLINE: Duration = Duration::from_secs(1_200);

/// It ends when its stdin closes: with this value or with this process.
pub struct Script {
    child: Child,
    /// The lines of its stdout.
    lines: Mutex<Receiver<String>>,
    /// Its stderr: a file, because a pipe that nobody reads fills.
    said: File,
}

impl Script {
    /// Runs it with this argument until it has printed a URL, which is returned.
    pub fn start(argument: &str) -> Result<(Self, String), String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/broker");
        let said = tempfile::tempfile().expect("a file for what scripts/broker says");
        let mut child = Command::new(path)
            .arg(argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(said.try_clone().expect("a second handle"))
            .spawn()
            .map_err(|error| format!("scripts/broker can't be run: {error}"))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut script = Self {
            child,
            lines: Mutex::new(read_lines(stdout)),
            said,
        };
        let url = script.line(START_DEADLINE)?;
        Ok((script, url))
    }

    /// The next line of its stdout, else the reason why there is none with what it said on stderr.
    fn line(&mut self, deadline: Duration) -> Result<String, String> {
        let lines = self.lines.get_mut().expect("no reader panicked");
        lines.recv_timeout(deadline).map_err(|error| {
            let said = self.said();
            match error {
                RecvTimeoutError::Disconnected => format!("scripts/broker ended: {said}"),
                RecvTimeoutError::Timeout => {
                    format!("scripts/broker printed nothing within {deadline:?}: {said}")
                }
            }
        })
    }

    /// Gives an order; returns the answer.
    pub fn answer(&mut self, order: &str) -> Result<String, String> {
        let stdin = self.child.stdin.as_mut().expect("stdin is piped");
        let written = writeln!(stdin, "{order}");
        let answer = self.line(ORDER_DEADLINE)?;
        written.map_err(|error| format!("scripts/broker reads no orders: {error}"))?;
        if answer.starts_with("failed: ") {
            return Err(format!("scripts/broker: {answer}: {}", self.said()));
        }
        Ok(answer)
    }

    fn said(&self) -> String {
        let mut bytes = vec![0; 64 * 1024];
        let read = self.said.read_at(&mut bytes, 0).unwrap_or_default();
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }
}

/// A thread of its own reads, so that a wait for a line can have a deadline. It ends with the child.
fn read_lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = mpsc::sync_channel(16);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line.trim().to_owned()).is_err() {
                return;
            }
        }
    });
    lines
}
