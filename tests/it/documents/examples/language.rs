//! The examples of each language, installed and ready to run.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{
    bridge::TestBridge,
    broker::TestBroker,
    external_programs::{Ended, GRPC_TOOLS, Node, Python, end, run},
};

pub(super) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The examples of one language.
pub(super) trait Examples {
    /// The folder with the scripts, and the ending of their names.
    const FOLDER: &str;
    const ENDING: &str;
    /// What a script has, and shared code has not.
    const ENTRY: &str;
    /// The script that sends one message.
    const SEND: &str;

    /// A script with its arguments.
    fn command(&self, script: &str, args: &[&str]) -> Command;

    /// The names of the scripts; other files are shared code.
    fn scripts(&self) -> Vec<String> {
        let files = std::fs::read_dir(repository(Self::FOLDER)).unwrap();
        let mut scripts = Vec::new();
        for file in files {
            let file = file.unwrap().path();
            let name = file.file_name().unwrap().to_str().unwrap();
            if let Some(script) = name.strip_suffix(Self::ENDING)
                && std::fs::read_to_string(&file)
                    .unwrap()
                    .contains(Self::ENTRY)
            {
                scripts.push(script.to_owned());
            }
        }
        scripts
    }

    /// Runs it against a bridge and returns its output; panics if it fails.
    async fn run(&self, bridge: &TestBridge, script: &str, args: &[&str]) -> String {
        run(self.at(bridge, script, args)).await
    }

    /// Runs it against a bridge, successful or not.
    async fn end(&self, bridge: &TestBridge, script: &str, args: &[&str]) -> Ended {
        end(self.at(bridge, script, args)).await
    }

    fn at(&self, bridge: &TestBridge, script: &str, args: &[&str]) -> Command {
        let mut command = self.command(script, args);
        command.env(
            "SMSBRIDGE_ADDRESS",
            format!("http://{}", bridge.addresses.grpc),
        );
        command
    }

    /// A script for a broker.
    fn on(&self, broker: &TestBroker, script: &str, args: &[&str]) -> Command {
        let mut command = self.command(script, args);
        command
            .env("SMSBRIDGE_AMQP__URL", &broker.url)
            .env("SMSBRIDGE_AMQP__PREFIX", &broker.prefix);
        command
    }
}

/// `examples/python` with its stubs.
pub(super) struct PythonExamples {
    python: Python,
    stubs: TempDir,
}

impl PythonExamples {
    pub(super) async fn ready() -> Self {
        let python = Python::with(&requirements(), GRPC_TOOLS).await;
        let stubs = tempfile::tempdir().unwrap();
        let mut make = python.script(&repository("examples/python/make_stubs.py"));
        make.arg(stubs.path());
        run(make).await;
        Self { python, stubs }
    }
}

pub(super) fn requirements() -> PathBuf {
    repository("examples/python/requirements.txt")
}

impl Examples for PythonExamples {
    const FOLDER: &str = "examples/python";
    const ENDING: &str = ".py";
    const ENTRY: &str = ".run(main)";
    const SEND: &str = "send_sms";

    fn command(&self, script: &str, args: &[&str]) -> Command {
        let script = repository(&format!("examples/python/{script}.py"));
        let mut command = self.python.script(&script);
        command.args(args).env("PYTHONPATH", self.stubs.path());
        command
    }
}

/// A copy of `examples/node` and the contract below the folder of the installed packages, where Node finds them.
pub(super) struct NodeExamples {
    node: Node,
    workspace: TempDir,
}

impl NodeExamples {
    pub(super) async fn ready() -> Self {
        let node = Node::with(&[repository("examples/node/package.json")]).await;
        let workspace = node.workspace();
        for folder in ["examples/node", "proto/smsbridge/v1"] {
            let copy = workspace.path().join(folder);
            std::fs::create_dir_all(&copy).unwrap();
            for file in std::fs::read_dir(repository(folder)).unwrap() {
                let file = file.unwrap().path();
                if file.is_file() {
                    std::fs::copy(&file, copy.join(file.file_name().unwrap())).unwrap();
                }
            }
        }
        Self { node, workspace }
    }
}

impl Examples for NodeExamples {
    const FOLDER: &str = "examples/node";
    const ENDING: &str = ".js";
    const ENTRY: &str = "\nrun(";
    const SEND: &str = "send";

    fn command(&self, script: &str, args: &[&str]) -> Command {
        let scripts = self.workspace.path().join("examples/node");
        let mut command = self.node.script(&scripts.join(format!("{script}.js")));
        command.args(args);
        command
    }
}
