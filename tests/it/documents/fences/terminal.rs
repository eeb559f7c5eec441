//! The terminals of a reader: a copy of the repository, a shell that keeps its folder and variables, and one command in the
//! background.
//!
//! Three things differ from a reader's machine. `smsbridge` and `cargo run` run the binary of this test, and `cargo build` and
//! `cargo install` do nothing. The bridge and the simulator listen on free ports, because tests run side by side: the documented
//! addresses stand for these. The reader's home is a folder of the workspace.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::fence::{Fence, Kind};
use crate::support::ports::unused_address;

/// Time limit for a fence, which may install packages, and for the start of a bridge, which may start a broker.
const DEADLINE: Duration = Duration::from_secs(300);
/// The words that start a bridge.
const STARTS_BRIDGE: [&str; 5] = [
    "smsbridge serve",
    "-- serve",
    "smsbridge demo",
    "-- demo",
    "make demo",
];
/// Time limit for the end of what runs in the background.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// What is not a part of the repository.
const NOT_COPIED: [&str; 5] = [
    "venv",
    "stubs",
    "node_modules",
    "__pycache__",
    "package-lock.json",
];

/// Runs the built program in place of `cargo run`.
const CARGO: &str = r#"#!/bin/sh
case "$1" in build | install) exit 0 ;; esac
case " $* " in *" -p infobip-simulator "*) program=simulate ;; *) program= ;; esac
while [ "$1" != -- ]; do shift; done
shift
exec smsbridge $program "$@"
"#;

/// The built program. A simulator listens where the test expects it.
const SMSBRIDGE: &str = r#"#!/bin/sh
case " $* " in
*" --listen "*) ;;
" simulate "*) set -- "$@" --listen "$TEST_SIMULATOR" ;;
esac
exec "$TEST_SMSBRIDGE" "$@"
"#;

/// rabbitmqctl for the broker that scripts/broker started.
const RABBITMQCTL: &str = r#"#!/bin/sh
set -eu
if [ -f "$SMSBRIDGE_BROKER_DIR/container" ]; then
  exec docker exec "$(cat "$SMSBRIDGE_BROKER_DIR/container")" rabbitmqctl "$@"
fi
read -r _ epmd <"$SMSBRIDGE_BROKER_DIR/pids"
arguments=$(ps -o args= -p "$epmd")
url=$(cat "$SMSBRIDGE_BROKER_DIR/url")
port=${url##*:}
export HOME="$SMSBRIDGE_BROKER_DIR/home" ERL_EPMD_PORT="${arguments##* }"
PATH=/usr/lib/rabbitmq/bin:/opt/homebrew/sbin:/usr/local/sbin:${PATH#*:}
exec rabbitmqctl --node "smsbridge-${port%%/*}@localhost" "$@"
"#;

/// Passwords of the users in docs/RABBITMQ.md.
pub(super) const PASSWORD: &str = "secret";

pub(super) struct Terminal {
    workspace: TempDir,
    environment: Vec<(&'static str, String)>,
    /// Where `serve` listens.
    grpc: String,
    admin: String,
    /// Where `simulate` listens.
    simulator: String,
    /// The gRPC address of the bridge that was started last.
    bridge: String,
    background: Option<Child>,
}

impl Terminal {
    pub(super) fn open() -> Self {
        // For the requests to /ready.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let workspace = TempDir::new().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for folder in ["examples", "proto", "scripts"] {
            copy(&root.join(folder), &workspace.path().join(folder));
        }
        fs::copy(root.join("Makefile"), workspace.path().join("Makefile")).unwrap();
        let debug = workspace.path().join("target/debug");
        fs::create_dir_all(&debug).unwrap();
        let binary = env!("CARGO_BIN_EXE_smsbridge");
        std::os::unix::fs::symlink(binary, debug.join("smsbridge")).unwrap();
        let bin = workspace.path().join("bin");
        fs::create_dir(&bin).unwrap();
        for (name, script) in [
            ("cargo", CARGO),
            ("smsbridge", SMSBRIDGE),
            ("rabbitmqctl", RABBITMQCTL),
        ] {
            let file = bin.join(name);
            fs::write(&file, script).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let [grpc, http, admin, simulator] = [(); 4].map(|()| unused_address().to_string());
        let path = std::env::var("PATH").unwrap();
        let environment = vec![
            ("PATH", format!("{}:{path}", bin.display())),
            ("PYTHONDONTWRITEBYTECODE", "1".into()),
            ("PIP_DISABLE_PIP_VERSION_CHECK", "1".into()),
            ("TEST_SMSBRIDGE", binary.into()),
            ("CARGO_TARGET_DIR", "target".into()),
            ("TEST_SIMULATOR", simulator.clone()),
            (
                "SMSBRIDGE_BROKER_DIR",
                workspace.path().join("broker").display().to_string(),
            ),
            ("SMSBRIDGE_GRPC__LISTEN", grpc.clone()),
            ("SMSBRIDGE_HTTP__PUBLIC_URL", format!("http://{http}")),
            ("SMSBRIDGE_HTTP__LISTEN", http),
            ("SMSBRIDGE_ADMIN__LISTEN", admin.clone()),
            ("SMSBRIDGE_INFOBIP__BASE_URL", format!("http://{simulator}")),
            ("BRIDGE_PASSWORD", PASSWORD.into()),
            ("BILLING_PASSWORD", PASSWORD.into()),
            ("CRM_PASSWORD", PASSWORD.into()),
        ];
        Self {
            workspace,
            environment,
            bridge: grpc.clone(),
            grpc,
            admin,
            simulator,
            background: None,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.workspace.path().join(name)
    }

    /// The URL of the broker that the lines of the document started.
    pub(super) fn broker_url(&self) -> String {
        let url =
            fs::read_to_string(self.file("broker/url")).expect("scripts/broker has started one");
        url.trim().to_owned()
    }

    /// Runs a fence as its kind says.
    ///
    /// # Errors
    /// What it printed, if it does not do what the document says.
    pub(super) async fn paste(&mut self, fence: &Fence) -> Result<(), String> {
        match fence.kind {
            Kind::Text => Ok(()),
            Kind::File(ref name) => {
                fs::write(self.file(name), &fence.text).unwrap();
                Ok(())
            }
            Kind::Shell => self.run(&shell(&self.adapted(&fence.text))).await,
            Kind::Python => {
                fs::write(self.file("pasted.py"), &fence.text).unwrap();
                self.run("(cd examples/python; venv/bin/python ../../pasted.py)")
                    .await
            }
            Kind::JavaScript => {
                // Node looks for packages beside the module.
                fs::write(self.file("examples/node/pasted.mjs"), &fence.text).unwrap();
                self.run("(cd examples/node; node pasted.mjs)").await
            }
            Kind::Background => {
                self.stop_background().await;
                self.start(fence).await
            }
        }
    }

    /// Runs shell lines in the folder and with the variables that earlier lines left.
    async fn run(&self, lines: &str) -> Result<(), String> {
        let script = format!(
            "exec 2>&1\n\
             if [ -f \"$TEST_STATE\" ]; then . \"$TEST_STATE\"; fi\n\
             set -eux\n{lines}\n\
             {{ set +x; }} 2>/dev/null\n\
             {{ export -p; printf 'cd %q\\n' \"$PWD\"; }} >\"$TEST_STATE\"\n"
        );
        let mut command = self.bash(&script);
        command.stdout(Stdio::piped()).kill_on_drop(true);
        let ended = tokio::time::timeout(DEADLINE, command.output()).await;
        let output = ended.map_err(|_| format!("it did not end within {DEADLINE:?}: {lines}"))?;
        let output = output.unwrap();
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stdout).into_owned())
        }
    }

    /// The lines with the addresses and the home of this terminal.
    fn adapted(&self, text: &str) -> String {
        let (_, port) = self.bridge.rsplit_once(':').expect("host and port");
        text.replace("127.0.0.1:8090", &self.simulator)
            .replace("127.0.0.1:50051", &self.bridge)
            .replace("localhost:50051", &format!("localhost:{port}"))
            .replace("~/", "home/")
    }

    /// Puts a folder of programs on the reader's path.
    pub(super) fn add_to_path(&mut self, folder: &Path) {
        let (_, path) = &mut self.environment[0];
        path.push(':');
        path.push_str(&folder.display().to_string());
    }

    /// Starts lines in the background, and waits until the bridge that they start is ready, or the simulator if they start no
    /// bridge.
    async fn start(&mut self, fence: &Fence) -> Result<(), String> {
        let log = self.file("background.log");
        let output = fs::File::create(&log).unwrap();
        let text = self.adapted(&fence.text);
        let has_bridge = STARTS_BRIDGE.iter().any(|words| text.contains(words));
        let mut command = self.bash(&text);
        command
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            // A group of its own, so that all of its processes can be ended.
            .process_group(0);
        self.background = Some(command.spawn().unwrap());
        let began = Instant::now();
        while began.elapsed() < DEADLINE {
            let printed = fs::read_to_string(&log).unwrap_or_default();
            let child = self.background.as_mut().unwrap();
            if let Some(status) = child.try_wait().unwrap() {
                return Err(format!("it ended with {status}:\n{printed}"));
            }
            // The demo prints where it listens; `serve` listens where the environment says.
            if printed.contains("Still serving") {
                self.bridge_is_at(&demo_address(&printed).ok_or(printed)?);
                return Ok(());
            }
            let probe = match has_bridge {
                true => format!("http://{}/ready", self.admin),
                false => format!("http://{}/_sim/state", self.simulator),
            };
            let ready = reqwest::get(probe).await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                if has_bridge {
                    self.bridge_is_at(&self.grpc.clone());
                }
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(fs::read_to_string(&log).unwrap())
    }

    /// Sets the variable that a reader sets where the bridge has another address than the default.
    fn bridge_is_at(&mut self, address: &str) {
        address.clone_into(&mut self.bridge);
        let state = fs::read_to_string(self.file("state")).unwrap_or_default();
        let state = format!("{state}export SMSBRIDGE_ADDRESS={address}\n");
        fs::write(self.file("state"), state).unwrap();
    }

    /// Ends what runs in the background, as Ctrl-C does. A broker keeps running.
    pub(super) async fn stop_background(&mut self) {
        let Some(mut child) = self.background.take() else {
            return;
        };
        let Some(group) = child.id() else { return };
        signal("-TERM", group);
        let ended = async {
            // A process that has ended is in the group until its parent has noticed that.
            while child.try_wait().is_ok_and(|status| status.is_none()) || signal("-0", group) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(STOP_DEADLINE, ended).await.is_err() {
            signal("-KILL", group);
        }
    }

    fn bash(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SMSBRIDGE_")) {
            command.env_remove(name);
        }
        command
            .arg("-c")
            .arg(script)
            .current_dir(self.workspace.path())
            .envs(self.environment.iter().cloned())
            .env("TEST_STATE", self.file("state"))
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(group) = self.background.as_ref().and_then(Child::id) {
            signal("-KILL", group);
        }
        let stop = std::process::Command::new(self.file("scripts/broker"))
            .arg("stop")
            .env("SMSBRIDGE_BROKER_DIR", self.file("broker"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        drop(stop);
    }
}

/// The lines, of which those that must fail do so.
fn shell(text: &str) -> String {
    let line = |line: &str| match line.split_once("# exit status 1") {
        Some((command, _)) => {
            format!("if {command}; then echo 'it succeeded'; exit 1; else test $? = 1; fi\n")
        }
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// Whether the signal could be sent to a process of the group.
fn signal(signal: &str, group: u32) -> bool {
    std::process::Command::new("kill")
        .args([signal, "--", &format!("-{group}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The gRPC address that the demo printed.
fn demo_address(printed: &str) -> Option<String> {
    let line = printed.lines().find(|line| line.contains("bridge, gRPC"))?;
    let word = line
        .split_whitespace()
        .find(|word| word.starts_with("127.0.0.1:"))?;
    Some(word.to_owned())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if NOT_COPIED.iter().any(|not_copied| name == *not_copied) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(name));
        } else {
            fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}
