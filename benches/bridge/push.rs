//! Pushes of delivery reports, as Infobip makes them, to `http.listen`: as fast as they are answered, or at a pace.

use std::{
    fmt::Write as _,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::{load::Measured, process::Bridge};

/// Reports in a push.
pub const REPORTS: u64 = 100;
/// The application of messages whose caller named none.
pub const DEFAULT: &str = "default";
/// A push that takes longer has failed: longer than the bridge lets one take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A number from an environment variable.
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Pushes to one bridge. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Pusher {
    client: reqwest::Client,
    url: String,
}

impl Pusher {
    pub fn to(bridge: &Bridge) -> Self {
        let client = reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .pool_max_idle_per_host(usize::MAX)
            .timeout(TIMEOUT)
            .build()
            .unwrap();
        Self {
            client,
            url: format!("http://{}/infobip/bench/reports", bridge.http),
        }
    }

    /// Whether the push is answered 200.
    pub async fn push(&self, body: Bytes) -> bool {
        let answer = self
            .client
            .post(&self.url)
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await;
        match answer {
            Ok(answer) => answer.status() == 200,
            Err(_) => false,
        }
    }

    /// Pushes this many reports in pushes of [`REPORTS`], on so many connections at a time, from the first push to the last answer.
    /// Each must be answered 200. The bodies are there before.
    pub async fn at_once(&self, reports: u64, connections: usize) -> Measured {
        let bodies: Vec<Bytes> = pushes(reports)
            .map(|numbers| body(&[DEFAULT], "bench", numbers))
            .collect();
        let bodies = Arc::new(bodies);
        let next = Arc::new(AtomicUsize::new(0));
        let begun = Instant::now();
        let tasks: Vec<_> = (0..connections)
            .map(|_| {
                let (pusher, bodies, next) = (self.clone(), Arc::clone(&bodies), Arc::clone(&next));
                tokio::spawn(async move {
                    while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                        assert!(
                            pusher.push(body.clone()).await,
                            "a push is not answered 200"
                        );
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        Measured {
            messages: reports,
            elapsed: begun.elapsed(),
            ..Measured::default()
        }
    }

    /// Pushes the reports with these numbers in pushes of [`REPORTS`] at a pace, at most `connections` at a time. Returns those of the
    /// pushes that were answered 200.
    pub async fn paced(
        &self,
        applications: &'static [&'static str],
        numbers: Range<u64>,
        per_second: u64,
        connections: usize,
    ) -> Vec<Range<u64>> {
        let permits = Arc::new(Semaphore::new(connections));
        let interval = Duration::from_secs_f64(REPORTS as f64 / per_second as f64);
        let mut ticks = tokio::time::interval(interval);
        let mut tasks = Vec::new();
        let first = numbers.start;
        for push in pushes(numbers.end - first) {
            let numbers = first + push.start..first + push.end;
            ticks.tick().await;
            let permit = Arc::clone(&permits).acquire_owned().await.unwrap();
            let pusher = self.clone();
            tasks.push(tokio::spawn(async move {
                let stored = pusher
                    .push(body(applications, "bench", numbers.clone()))
                    .await;
                drop(permit);
                stored.then_some(numbers)
            }));
        }
        let mut stored = Vec::new();
        for task in tasks {
            stored.extend(task.await.unwrap());
        }
        stored
    }
}

/// The numbers of the reports of each push.
fn pushes(reports: u64) -> impl Iterator<Item = Range<u64>> {
    (0..reports)
        .step_by(REPORTS as usize)
        .map(move |first| first..(first + REPORTS).min(reports))
}

/// A push of the reports with these numbers: messages of these applications in turn, delivered.
pub fn body(applications: &[&str], kind: &str, numbers: Range<u64>) -> Bytes {
    let mut body = String::with_capacity(64 + (numbers.end - numbers.start) as usize * 480);
    body.push_str(r#"{"results":["#);
    let first = numbers.start;
    for number in numbers {
        if number > first {
            body.push(',');
        }
        let application = applications[number as usize % applications.len()];
        let message_id = format!("{application}.{kind}-{number:012}");
        let _ = write!(
            body,
            r#"{{"bulkId":"bench-bulk","messageId":"{message_id}","to":"{}","sentAt":"2026-02-12T09:51:43.123+0100","doneAt":"2026-02-12T09:51:43.127+0100","smsCount":1,"price":{{"pricePerMessage":0.01,"currency":"EUR"}},"status":{{"groupId":3,"groupName":"DELIVERED","id":5,"name":"DELIVERED_TO_HANDSET","description":"Message delivered to handset"}},"error":{{"groupId":0,"groupName":"OK","id":0,"name":"NO_ERROR","description":"No Error","permanent":false}}}}"#,
            super::load::TO
        );
    }
    body.push_str("]}");
    body.into()
}

/// The kind and the number in a message id of [`body`], as its application knows it.
pub fn read_message_id(message_id: &str) -> Option<(&str, u64)> {
    let (kind, number) = message_id.rsplit_once('-')?;
    Some((kind, number.parse().ok()?))
}
