//! The throughput of the simulator in messages per second, with the load generator and the receiver of pushes in the same
//! process on the same cores, without and with an open page; its memory use with bounded retention; a week of virtual time.
//!
//! Each row has the measured value and the goal. `SMSBRIDGE_BENCH_SECONDS` is the time of each row (default 3).

use std::io::{Write as _, stdout};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use infobip_simulator::{Simulator, SimulatorConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

type BenchResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Concurrent connections.
const CONNECTIONS: usize = 32;

fn main() -> BenchResult<()> {
    let seconds = std::env::var("SMSBRIDGE_BENCH_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(bench(Duration::from_secs(seconds)))
}

async fn bench(time: Duration) -> BenchResult<()> {
    let mut out = stdout();
    writeln!(
        out,
        "| simulator, load generator included | messages/s | requests/s | reports pushed/s | messages/s with an open page | asked for |"
    )?;
    writeln!(out, "| --- | ---: | ---: | ---: | ---: | --- |")?;
    for (name, batch, pushed, wanted) in [
        (
            "requests of 100, reports scheduled",
            100,
            false,
            "100,000 messages/s",
        ),
        ("requests of 100, reports pushed in hundreds", 100, true, ""),
        (
            "requests of one, reports scheduled",
            1,
            false,
            "15,000 requests/s",
        ),
        ("requests of one, reports pushed in hundreds", 1, true, ""),
    ] {
        // In this order, so that what came before slows or speeds neither of them more than the other.
        let first = throughput(batch, pushed, false, time / 2).await?;
        let with_page = throughput(batch, pushed, true, time / 2)
            .await?
            .mean(&throughput(batch, pushed, true, time / 2).await?);
        let row = first.mean(&throughput(batch, pushed, false, time / 2).await?);
        let reports = if pushed {
            format!("{:.0}", row.reports)
        } else {
            "-".into()
        };
        writeln!(
            out,
            "| {name} | {:.0} | {:.0} | {reports} | {:.0} | {wanted} |",
            row.messages, row.requests, with_page.messages
        )?;
    }
    memory(&mut out).await?;
    week(&mut out).await
}

struct Throughput {
    messages: f64,
    requests: f64,
    reports: f64,
}

impl Throughput {
    fn mean(&self, other: &Self) -> Self {
        Self {
            messages: f64::midpoint(self.messages, other.messages),
            requests: f64::midpoint(self.requests, other.requests),
            reports: f64::midpoint(self.reports, other.reports),
        }
    }
}

fn config() -> SimulatorConfig {
    let mut config = SimulatorConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..SimulatorConfig::default()
    };
    config.bounds.messages = 500_000;
    config
}

struct BenchSimulator {
    address: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl BenchSimulator {
    async fn start(config: SimulatorConfig) -> BenchResult<Self> {
        let simulator = Simulator::bind(config).await?;
        let (address, stop) = (simulator.local_addr(), CancellationToken::new());
        let task = tokio::spawn(simulator.run(stop.clone()));
        Ok(Self {
            address,
            stop,
            task,
        })
    }

    async fn stop(self) -> BenchResult<()> {
        self.stop.cancel();
        Ok(self.task.await?)
    }
}

async fn throughput(
    batch: usize,
    pushed: bool,
    with_page: bool,
    time: Duration,
) -> BenchResult<Throughput> {
    let simulator = BenchSimulator::start(config()).await?;
    let reports = Arc::new(AtomicU64::new(0));
    let stop = CancellationToken::new();
    let receiver = receive_pushes(reports.clone(), stop.clone()).await?;
    if with_page {
        let page = read_as_a_page(simulator.address);
        tokio::spawn(stop.clone().run_until_cancelled_owned(page));
    }
    let body = send_body(
        batch,
        pushed
            .then(|| format!("http://{receiver}/reports"))
            .as_deref(),
    );
    let request: Arc<[u8]> = post("/sms/1/text/advanced", &body).into();
    let done = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let senders: Vec<_> = (0..CONNECTIONS)
        .map(|_| tokio::spawn(send(simulator.address, request.clone(), done.clone())))
        .collect();
    tokio::time::sleep(time).await;
    done.store(true, Ordering::Relaxed);
    let mut requests = 0;
    for sender in senders {
        requests += sender.await??;
    }
    let seconds = started.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
    let row = Throughput {
        messages: (requests * batch as u64) as f64 / seconds,
        requests: requests as f64 / seconds,
        reports: reports.load(Ordering::Relaxed) as f64 / seconds,
    };
    simulator.stop().await?;
    stop.cancel();
    Ok(row)
}

/// A million messages through a retention of 50,000.
async fn memory(out: &mut impl std::io::Write) -> BenchResult<()> {
    let mut config = config();
    config.bounds.messages = 50_000;
    let simulator = BenchSimulator::start(config).await?;
    let request = post("/sms/1/text/advanced", &send_body(100, None));
    let mut stream = TcpStream::connect(simulator.address).await?;
    let mut buffer = Vec::new();
    let mut sizes = Vec::new();
    for round in 1..=10_000_u32 {
        stream.write_all(&request).await?;
        read_answer(&mut stream, &mut buffer).await?;
        if [1000, 5000, 10_000].contains(&round) {
            sizes.push((u64::from(round) * 100, resident_mib()));
        }
    }
    let sizes: Vec<_> = sizes
        .iter()
        .map(|(messages, mib)| format!("{mib} MiB after {messages}"))
        .collect();
    writeln!(
        out,
        "\nProcess memory with 50,000 messages retained: {}.",
        sizes.join(", ")
    )?;
    simulator.stop().await
}

/// A week in which every minute a scheduled message is sent, delivered, and its report pushed.
async fn week(out: &mut impl std::io::Write) -> BenchResult<()> {
    let start_ms = 1_423_731_103_123;
    let simulator = BenchSimulator::start(SimulatorConfig {
        frozen: true,
        start_ms: Some(start_ms),
        ..config()
    })
    .await?;
    let reports = Arc::new(AtomicU64::new(0));
    let stop = CancellationToken::new();
    let receiver = receive_pushes(reports.clone(), stop.clone()).await?;
    let mut stream = TcpStream::connect(simulator.address).await?;
    let mut buffer = Vec::new();
    let started = Instant::now();
    for minute in 0..7 * 24 * 60_i64 {
        let at = jiff::Timestamp::from_millisecond(start_ms + minute * 60_000)?;
        let body = format!(
            r#"{{"messages":[{{"text":"a","sendAt":"{at}","notifyUrl":"http://{receiver}/","destinations":[{{"to":"41793026727"}}]}}]}}"#
        );
        stream
            .write_all(&post("/sms/1/text/advanced", &body))
            .await?;
        read_answer(&mut stream, &mut buffer).await?;
    }
    let advance = format!(r#"{{"advanceMs":{}}}"#, 7 * 24 * 3_600_000);
    stream.write_all(&post("/_sim/clock", &advance)).await?;
    read_answer(&mut stream, &mut buffer).await?;
    writeln!(
        out,
        "A week of virtual time with a message scheduled for every minute and {} reports pushed: {:.1} s (asked for: under 10 s).",
        reports.load(Ordering::Relaxed),
        started.elapsed().as_secs_f64()
    )?;
    stop.cancel();
    simulator.stop().await
}

/// Does what an open page does: follows the stream, and loads the first phones and a conversation twice a second.
async fn read_as_a_page(address: SocketAddr) -> BenchResult<()> {
    let mut stream = TcpStream::connect(address).await?;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: simulator\r\n\r\n").into_bytes();
    stream.write_all(&get("/_sim/stream")).await?;
    let follow = async {
        let mut events = vec![0; 64 * 1024];
        while stream.read(&mut events).await? > 0 {}
        BenchResult::Ok(())
    };
    let load = async {
        let (mut connection, mut buffer) = (TcpStream::connect(address).await?, Vec::new());
        loop {
            for path in ["/_sim/phones", "/_sim/phones/41793020000", "/_sim/account"] {
                connection.write_all(&get(path)).await?;
                // Before the first message the conversation is not found.
                buffer.clear();
                let head = read_head(&mut connection, &mut buffer)
                    .await?
                    .ok_or("closed")?;
                read_rest(&mut connection, &mut buffer, head).await?;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::select! {
        ended = follow => ended,
        ended = load => ended,
    }
}

fn send_body(batch: usize, notify_url: Option<&str>) -> String {
    let destinations: Vec<_> = (0..batch)
        .map(|n| format!(r#"{{"to":"4179302{n:04}"}}"#))
        .collect();
    let notify = notify_url
        .map(|url| format!(r#","notifyUrl":"{url}""#))
        .unwrap_or_default();
    format!(
        r#"{{"messages":[{{"from":"InfoSMS","text":"My first Infobip SMS"{notify},"destinations":[{}]}}]}}"#,
        destinations.join(",")
    )
}

fn post(path: &str, body: &str) -> Vec<u8> {
    // Credentials: demo:demo, the simulator's defaults.
    format!(
        "POST {path} HTTP/1.1\r\nHost: simulator\r\nAuthorization: Basic ZGVtbzpkZW1v\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn send(address: SocketAddr, request: Arc<[u8]>, done: Arc<AtomicBool>) -> BenchResult<u64> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sent, mut buffer) = (0, Vec::new());
    while !done.load(Ordering::Relaxed) {
        stream.write_all(&request).await?;
        read_answer(&mut stream, &mut buffer).await?;
        sent += 1;
    }
    Ok(sent)
}

/// Reads one response with status 200 and a Content-Length.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> BenchResult<()> {
    buffer.clear();
    let head = read_head(stream, buffer)
        .await?
        .ok_or("the simulator closed the connection")?;
    if !buffer.starts_with(b"HTTP/1.1 200") {
        return Err(String::from_utf8_lossy(buffer).into_owned().into());
    }
    read_rest(stream, buffer, head).await
}

/// Reads until the end of the head of a message. Returns its length.
async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> BenchResult<Option<usize>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            return Ok(Some(end + 4));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

async fn read_rest(stream: &mut TcpStream, buffer: &mut Vec<u8>, head: usize) -> BenchResult<()> {
    let headers = std::str::from_utf8(&buffer[..head])?;
    let length = headers
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(Ok(0), |(_, value)| value.trim().parse::<usize>())?;
    while buffer.len() < head + length {
        if stream.read_buf(buffer).await? == 0 {
            return Err("a message broke off".into());
        }
    }
    Ok(())
}

/// A server that responds to every push with 200 and counts the reports in it.
async fn receive_pushes(
    reports: Arc<AtomicU64>,
    stop: CancellationToken,
) -> BenchResult<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(
                stop.clone()
                    .run_until_cancelled_owned(receive(stream, reports.clone())),
            );
        }
    }));
    Ok(address)
}

async fn receive(mut stream: TcpStream, reports: Arc<AtomicU64>) -> BenchResult<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let Some(head) = read_head(&mut stream, &mut buffer).await? else {
            return Ok(());
        };
        read_rest(&mut stream, &mut buffer, head).await?;
        let count = buffer
            .windows(11)
            .filter(|window| window == b"\"messageId\"")
            .count();
        reports.fetch_add(count as u64, Ordering::Relaxed);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .await?;
    }
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib / 1024)
}
