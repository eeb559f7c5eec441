//! The scripts that developers run.

use std::{
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
};

fn broker(argument: &str, state: &Path) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/broker");
    let mut command = Command::new(script);
    command.arg(argument).env("SMSBRIDGE_BROKER_DIR", state);
    command
}

/// A terminal sends SIGINT to the process group of the demo. The bridge drains with its broker still there.
#[test]
fn ctrl_c_does_not_reach_the_broker_of_the_demo() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("broker");
    let child = broker("start", &state)
        .process_group(0)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let group = child.id().to_string();
    assert!(child.wait_with_output().unwrap().status.success());
    // The broker is a container or two processes.
    let pids = std::fs::read_to_string(state.join("pids")).unwrap_or_default();
    let is_container = state.join("container").exists();
    let groups: Vec<String> = pids
        .split_whitespace()
        .map(|pid| {
            let shown = Command::new("ps").args(["-o", "pgid=", "-p", pid]).output();
            String::from_utf8(shown.unwrap().stdout)
                .unwrap()
                .trim()
                .to_owned()
        })
        .collect();
    let stopped = broker("stop", &state).status().unwrap();
    assert!(stopped.success());
    assert!(is_container || groups.len() == 2, "{groups:?}");
    assert!(!groups.contains(&group), "{groups:?}");
    assert!(!groups.iter().any(String::is_empty), "{groups:?}");
}
