//! The client commands of the built binary: their requests, their output and their exit status.

use std::{
    ffi::OsStr,
    process::{Output, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use self::scripted_bridge::ScriptedBridge;

mod account_preview_statuses;
mod configuration;
mod connection;
mod demo;
mod demo_lines;
mod inbox_reports_lookup;
mod logs_and_events;
mod operator;
mod presentation;
mod real_bridge;
mod scripted_bridge;
mod send;
mod send_file;
mod simulate;
mod terminal;

/// Timeout of one command.
const DEADLINE: Duration = Duration::from_secs(60);

/// How a command ended.
struct Ended {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Ended {
    #[track_caller]
    fn expect(self, status: i32) -> Self {
        assert_eq!(
            self.status, status,
            "exit status; stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self
    }

    fn json_lines(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// The built binary, without the SMSBRIDGE_ variables of this process.
fn smsbridge() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smsbridge"));
    for (name, _) in std::env::vars() {
        if name.starts_with("SMSBRIDGE_") {
            command.env_remove(name);
        }
    }
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

async fn run(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ended {
    end(smsbridge().args(args)).await
}

async fn run_at<'a>(bridge: &ScriptedBridge, args: impl AsRef<[&'a str]>) -> Ended {
    end(smsbridge()
        .env("SMSBRIDGE_ADDRESS", &bridge.address)
        .args(args.as_ref()))
    .await
}

async fn end(command: &mut Command) -> Ended {
    let output = tokio::time::timeout(DEADLINE, command.output()).await;
    read(output.expect("the command ends").unwrap())
}

/// Waits for the end of a process whose stdout and stderr are pipes.
async fn ended(child: Child) -> Ended {
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output()).await;
    read(output.expect("the command ends").unwrap())
}

fn read(output: Output) -> Ended {
    Ended {
        status: output.status.code().expect("an exit status"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Sends SIGINT, as Ctrl-C does.
async fn interrupt(child: &Child) {
    let id = child.id().expect("it runs").to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status().await;
    assert!(sent.unwrap().success());
}
