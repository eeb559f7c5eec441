//! A bridge as users run it: the built binary, so that its memory and its end are its own.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use smsbridge::proto::v1::sms_service_client::SmsServiceClient;
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

/// A running process. Killed when dropped; [`BridgeProcess::stop`] ends it as operators do.
pub struct BridgeProcess {
    pub address: SocketAddr,
    child: Child,
    /// What it has said on stderr.
    said: Arc<Mutex<String>>,
    hearing: JoinHandle<()>,
    folder: TempDir,
}

impl BridgeProcess {
    /// In front of a simulator, with some variables set.
    pub async fn start(simulator: &TestSimulator, settings: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), simulator, settings).await
    }

    /// The same with a folder that another one has left.
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
        let address = eventually("the bridge listens", || {
            let ended = child.try_wait().unwrap();
            let said = said.lock().unwrap();
            assert_eq!(ended, None, "{said}");
            std::future::ready(said.lines().find_map(listening))
        })
        .await;
        Self {
            address,
            child,
            said,
            hearing,
            folder,
        }
    }

    /// How to connect to it.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap()
    }

    /// A connection of its own.
    pub async fn connect(&self) -> Channel {
        self.endpoint().connect().await.unwrap()
    }

    pub async fn sms(&self) -> SmsServiceClient<Channel> {
        SmsServiceClient::new(self.connect().await)
    }

    /// The most memory that it has had so far, in MB (`VmHWM`).
    pub fn peak_memory_mb(&self) -> usize {
        let status = std::fs::read_to_string(self.proc("status")).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = peak.unwrap().trim().trim_end_matches(" kB");
        kilobytes.parse::<usize>().unwrap() / 1024
    }

    /// How many files it has open.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(self.proc("fd")).unwrap().count()
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.child.id().expect("it runs"))
    }

    /// Where its event log is.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// SIGKILL; what it leaves.
    pub async fn kill(mut self) -> TempDir {
        self.child.kill().await.unwrap();
        self.hearing.await.unwrap();
        self.folder
    }

    /// SIGTERM; its end, and all that it said.
    pub async fn stop(mut self) -> (ExitStatus, String) {
        let id = self.child.id().expect("it runs").to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status().await;
        assert!(told.unwrap().success());
        let ended = tokio::time::timeout(DEADLINE, self.child.wait())
            .await
            .expect("the bridge stops")
            .unwrap();
        self.hearing.await.unwrap();
        let said = std::mem::take(&mut *self.said.lock().unwrap());
        (ended, said)
    }
}

/// The address of gRPC, from the line that says where the bridge listens.
fn listening(line: &str) -> Option<SocketAddr> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let address = line["grpc"]
        .as_str()
        .filter(|_| line["message"] == "listening")?;
    address.parse().ok()
}
