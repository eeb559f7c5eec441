//! The simulator and the bridge as processes, and what the bridge uses of the machine.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::load::Measured;

/// The bridge that is measured: `SMSBRIDGE_BENCH_BINARY` names another one, to compare versions.
pub fn binary() -> PathBuf {
    std::env::var_os("SMSBRIDGE_BENCH_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_smsbridge").into(), PathBuf::from)
}

/// Kills its process when it goes.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

async fn wait_for(address: SocketAddr) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "nothing listens on {address}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A simulator whose every answer takes a while.
pub struct Simulator {
    pub address: SocketAddr,
    client: reqwest::Client,
    _process: Killed,
}

impl Simulator {
    pub async fn start(latency_ms: u64) -> Self {
        let address = free_port();
        let process = Command::new(binary())
            .args([
                "simulate",
                "--listen",
                &address.to_string(),
                "--logs-per-minute",
                "0",
            ])
            .args(["--max-messages", "400000"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for(address).await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let simulator = Self {
            address,
            client,
            _process: Killed(process),
        };
        if latency_ms > 0 {
            let fault = format!(
                r#"{{"kind":"latency","probability":1.0,"ms":{latency_ms},"path":"/sms/1/text/advanced"}}"#
            );
            let faults = format!("http://{address}/_sim/faults");
            let set = simulator
                .client
                .post(faults)
                .header("content-type", "application/json")
                .body(fault);
            assert!(set.send().await.unwrap().status().is_success());
        }
        simulator
    }

    /// When messages to this number were accepted.
    pub async fn accepted_at(&self, to: &str) -> Vec<(String, jiff::Timestamp)> {
        let url = format!("http://{}/_sim/messages?to={to}", self.address);
        let response = self.client.get(url).send().await.unwrap();
        let ledger: serde_json::Value =
            serde_json::from_str(&response.text().await.unwrap()).unwrap();
        let rows = ledger["messages"].as_array().unwrap();
        rows.iter()
            .map(|row| {
                let at = row["acceptedAt"].as_str().unwrap();
                let at = jiff::Zoned::strptime("%Y-%m-%dT%H:%M:%S%.f%z", at)
                    .map(|at| at.timestamp())
                    .or_else(|_| jiff::Timestamp::strptime("%Y-%m-%dT%H:%M:%S%.f%z", at));
                (row["messageId"].as_str().unwrap().to_owned(), at.unwrap())
            })
            .collect()
    }

    /// Runs a load, and notes how many requests came of it.
    pub async fn asked_by(&self, load: impl Future<Output = Measured>) -> Measured {
        let before = self.requests().await;
        let measured = load.await;
        Measured {
            requests: self.requests().await - before,
            ..measured
        }
    }

    /// How many requests came, since the start.
    async fn requests(&self) -> u64 {
        let answer = self
            .client
            .get(format!("http://{}/_sim/requests?limit=1", self.address))
            .send()
            .await
            .unwrap();
        let answer: serde_json::Value =
            serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        answer["requests"][0]["seq"]
            .as_u64()
            .map_or(0, |seq| seq + 1)
    }
}

/// A bridge in front of a simulator.
pub struct Bridge {
    pub address: SocketAddr,
    /// What Infobip would push to.
    pub http: SocketAddr,
    admin: SocketAddr,
    client: reqwest::Client,
    process: Killed,
    folder: TempDir,
}

/// A bridge that was asked to end, and did.
pub struct Ended {
    /// From SIGTERM to the end of the process.
    pub took: Duration,
    pub succeeded: bool,
    /// Its `events.data_dir`.
    pub folder: TempDir,
}

impl Bridge {
    pub async fn start(simulator: &Simulator, broker: Option<&str>) -> Self {
        let settings: Vec<_> = broker
            .map(|url| ("SMSBRIDGE_AMQP__URL", url.to_owned()))
            .into_iter()
            .collect();
        Self::start_with(simulator, &settings).await
    }

    /// With settings from environment variables.
    pub async fn start_with(simulator: &Simulator, settings: &[(&str, String)]) -> Self {
        Self::start_at(tempfile::tempdir().unwrap(), simulator, settings).await
    }

    /// With a folder that an earlier bridge may have used.
    pub async fn start_at(
        folder: TempDir,
        simulator: &Simulator,
        settings: &[(&str, String)],
    ) -> Self {
        let (address, http, admin) = (free_port(), free_port(), free_port());
        let mut command = Command::new(binary());
        command
            .args([
                "serve",
                "--infobip-base-url",
                &format!("http://{}", simulator.address),
            ])
            .args(["--grpc-listen", &address.to_string()])
            .args([
                "--http-listen",
                &http.to_string(),
                "--admin-listen",
                &admin.to_string(),
            ])
            .args([
                "--events-data-dir",
                folder.path().to_str().unwrap(),
                "--log-filter",
                "error",
            ])
            .env("SMSBRIDGE_INFOBIP__USERNAME", "demo")
            .env("SMSBRIDGE_INFOBIP__PASSWORD", "demo")
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null());
        let process = Killed(command.spawn().unwrap());
        wait_for(address).await;
        wait_for(admin).await;
        Self {
            address,
            http,
            admin,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            process,
            folder,
        }
    }

    /// Sends SIGTERM and waits for the end, for a minute at most.
    pub async fn end(self) -> Ended {
        let Self {
            mut process,
            folder,
            ..
        } = self;
        let began = Instant::now();
        let pid = rustix::process::Pid::from_child(&process.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = loop {
            if let Some(status) = process.0.try_wait().unwrap() {
                break status;
            }
            let waited = began.elapsed();
            assert!(waited < Duration::from_secs(60), "the bridge does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        Ended {
            took: began.elapsed(),
            succeeded: status.success(),
            folder,
        }
    }

    /// Runs a load, and notes the processor time that it cost the bridge (Linux).
    pub async fn used_by(&self, load: impl Future<Output = Measured>) -> Measured {
        let before = self.cpu();
        let measured = load.await;
        Measured {
            cpu: self.cpu() - before,
            ..measured
        }
    }

    /// The value of a series of `/metrics`; 0 if it is not there.
    pub async fn metric(&self, series: &str) -> u64 {
        let url = format!("http://{}/metrics", self.admin);
        let response = self.client.get(url).send().await.unwrap();
        let text = response.text().await.unwrap();
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
            .and_then(|value| value.parse::<f64>().ok())
            .map_or(0, |value| value as u64)
    }

    pub fn cpu(&self) -> Duration {
        cpu_of(self.process.0.id())
    }

    /// The most memory that it had up to now, in bytes (Linux).
    pub fn peak_bytes(&self) -> u64 {
        peak_bytes_of(self.process.0.id())
    }
}

/// The processor time of a process (Linux).
pub fn cpu_of(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // After the name in brackets: utime and stime are the 12th and 13th, in ticks of 10 ms.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

/// The most memory that a process had up to now, in bytes (Linux).
pub fn peak_bytes_of(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let peak_kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|text| text.parse::<u64>().ok());
    peak_kib.unwrap_or_default() * 1024
}
