//! A bridge as the built binary, in a process of its own, so that a test can measure its memory and kill it.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use smsbridge::{app::Addresses, proto::v1::sms_service_client::SmsServiceClient};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};
use tonic::transport::{Channel, Endpoint};

use super::{
    DEADLINE, eventually,
    simulator::{PASSWORD, TestSimulator, USERNAME},
};

/// A running process, killed when dropped; [`BridgeProcess::stop`] sends SIGTERM.
pub struct BridgeProcess {
    pub address: SocketAddr,
    pub addresses: Addresses,
    child: Child,
    /// Its stderr so far.
    said: Arc<Mutex<String>>,
    hearing: JoinHandle<()>,
    folder: TempDir,
}

/// What is left of a process.
pub struct Ended {
    pub folder: TempDir,
    /// If it ended by itself.
    pub status: Option<ExitStatus>,
    /// Its stderr.
    pub said: String,
    /// If it was killed by the test.
    pub peak_memory_mb: Option<usize>,
}

impl BridgeProcess {
    /// Starts the binary with a simulator and some environment variables.
    pub async fn start(simulator: &TestSimulator, settings: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), simulator, settings).await
    }

    /// The same with the folder of an earlier process.
    pub async fn start_in(
        folder: TempDir,
        simulator: &TestSimulator,
        settings: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smsbridge"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SMSBRIDGE_")) {
            command.env_remove(name);
        }
        let mut child = command
            .arg("serve")
            .env("SMSBRIDGE_INFOBIP__BASE_URL", simulator.base_url())
            .env("SMSBRIDGE_INFOBIP__USERNAME", USERNAME)
            .env("SMSBRIDGE_INFOBIP__PASSWORD", PASSWORD)
            .env("SMSBRIDGE_INFOBIP__LOG_REQUESTS_PER_MINUTE", "100000")
            .env("SMSBRIDGE_GRPC__LISTEN", "127.0.0.1:0")
            .env("SMSBRIDGE_HTTP__LISTEN", "127.0.0.1:0")
            .env("SMSBRIDGE_HTTP__PUBLIC_URL", "http://127.0.0.1:0")
            .env("SMSBRIDGE_ADMIN__LISTEN", "127.0.0.1:0")
            .env("SMSBRIDGE_EVENTS__DATA_DIR", folder.path())
            .env("SMSBRIDGE_LOG__FORMAT", "json")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let hearing = tokio::spawn({
            let said = Arc::clone(&said);
            async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    let mut said = said.lock().unwrap();
                    said.push_str(&line);
                    said.push('\n');
                }
            }
        });
        let addresses = eventually("the bridge listens", || {
            let ended = child.try_wait().unwrap();
            let said = said.lock().unwrap();
            let addresses = said.lines().find_map(listening);
            // It may be killed as soon as it listens.
            assert!(addresses.is_some() || ended.is_none(), "{said}");
            std::future::ready(addresses)
        })
        .await;
        Self {
            address: addresses.grpc,
            addresses,
            child,
            said,
            hearing,
            folder,
        }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap()
    }

    /// Opens a new connection.
    pub async fn connect(&self) -> Channel {
        self.endpoint().connect().await.unwrap()
    }

    pub async fn sms(&self) -> SmsServiceClient<Channel> {
        SmsServiceClient::new(self.connect().await)
    }

    /// Its peak memory in MB (`VmHWM`).
    pub fn peak_memory_mb(&self) -> usize {
        let status = std::fs::read_to_string(self.proc("status")).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = peak.unwrap().trim().trim_end_matches(" kB");
        kilobytes.parse::<usize>().unwrap() / 1024
    }

    /// Number of its open files.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(self.proc("fd")).unwrap().count()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.id())
    }

    /// The lines that it has logged so far.
    pub fn logged(&self) -> Vec<Value> {
        parsed(&self.said.lock().unwrap())
    }

    /// The answer of `/ready`.
    pub async fn ready(&self) -> String {
        let url = format!("http://{}/ready", self.addresses.admin);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }

    /// The folder of its event log.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Sends SIGKILL; returns its folder.
    pub async fn kill(self) -> TempDir {
        self.kill_after(Duration::ZERO).await.folder
    }

    /// Sends SIGKILL if it does not end by itself in this time.
    pub async fn kill_after(mut self, time: Duration) -> Ended {
        let status = tokio::time::timeout(time, self.child.wait()).await;
        let status = status.ok().map(|status| status.unwrap());
        let mut peak_memory_mb = None;
        if status.is_none() {
            peak_memory_mb = Some(self.peak_memory_mb());
            self.child.kill().await.unwrap();
        }
        self.hearing.await.unwrap();
        let said = std::mem::take(&mut *self.said.lock().unwrap());
        Ended {
            folder: self.folder,
            status,
            said,
            peak_memory_mb,
        }
    }

    /// The page of its metrics.
    pub async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.addresses.admin);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }

    /// Sends a signal, such as `STOP` and `CONT`.
    pub async fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let signal = format!("-{name}");
        let told = Command::new("kill").args([&signal, &id]).status().await;
        assert!(told.unwrap().success());
    }

    /// Sends SIGTERM; returns its exit status and its stderr.
    pub async fn stop(mut self) -> (ExitStatus, String) {
        self.signal("TERM").await;
        let ended = tokio::time::timeout(DEADLINE, self.child.wait())
            .await
            .expect("the bridge stops")
            .unwrap();
        self.hearing.await.unwrap();
        let said = std::mem::take(&mut *self.said.lock().unwrap());
        (ended, said)
    }
}

/// The JSON lines of a log.
pub fn parsed(said: &str) -> Vec<Value> {
    let line = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    said.lines().map(line).collect()
}

/// The addresses, from the log line with them.
fn listening(line: &str) -> Option<Addresses> {
    let line: Value = serde_json::from_str(line).ok()?;
    let address = |key: &str| {
        let value = line[key].as_str()?;
        value.parse::<SocketAddr>().ok()
    };
    (line["message"] == "listening").then_some(Addresses {
        grpc: address("grpc")?,
        http: address("http")?,
        admin: address("admin")?,
    })
}
