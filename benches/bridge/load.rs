//! The load: plain HTTP to the simulator as the ceiling, gRPC to the bridge as ours.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use smsbridge::proto::v1::{self, outbound_message::Content, sms_service_client::SmsServiceClient};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::process::{Bridge, Simulator};

pub const TO: &str = "41793026727";
pub const TEXT: &str = "Your code is 123456";

/// What came of a load.
#[derive(Default)]
pub struct Measured {
    pub messages: u64,
    pub elapsed: Duration,
    /// Of single calls; zero for streams.
    pub median: Duration,
    /// What the bridge used; zero where that was not looked at.
    pub cpu: Duration,
    /// How many requests the simulator got; zero where that was not looked at.
    pub requests: u64,
    /// The most memory that the process had; zero where that was not looked at.
    pub peak_bytes: u64,
}

impl Measured {
    /// Of single calls, of one message each, by how long each took.
    pub fn of_calls(mut took: Vec<Duration>, elapsed: Duration) -> Self {
        took.sort_unstable();
        Self {
            messages: took.len() as u64,
            elapsed,
            median: took[took.len() / 2],
            ..Self::default()
        }
    }

    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64()
    }
}

/// Whether the callers' sends can be repeated safely: those with a request id are looked for in the event log first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RequestIds {
    None,
    Unique,
}

/// Where the load goes and for how long.
pub struct Load {
    simulator: String,
    bridge: String,
    duration: Duration,
    http: reqwest::Client,
    ids: Arc<AtomicU64>,
}

impl Load {
    pub fn new(simulator: &Simulator, bridge: &Bridge, duration: Duration) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .build()
            .unwrap();
        Self {
            simulator: format!("http://{}/sms/1/text/advanced", simulator.address),
            bridge: format!("http://{}", bridge.address),
            duration,
            http,
            ids: Arc::default(),
        }
    }

    /// So many callers, one message a request, to the simulator directly.
    pub async fn plain_http(&self, callers: usize) -> Measured {
        self.http(callers, 1).await
    }

    /// Requests of many messages, to the simulator directly.
    pub async fn batched_http(&self, callers: usize, messages: usize) -> Measured {
        self.http(callers, messages).await
    }

    async fn http(&self, callers: usize, messages: usize) -> Measured {
        let one = |_| {
            let (http, url, ids) = (
                self.http.clone(),
                self.simulator.clone(),
                Arc::clone(&self.ids),
            );
            move || {
                let (http, url) = (http.clone(), url.clone());
                let first = ids.fetch_add(messages as u64, Ordering::Relaxed);
                async move {
                    let answer = http
                        .post(url)
                        .basic_auth("demo", Some("demo"))
                        .header("content-type", "application/json")
                        .body(body(first, messages))
                        .send()
                        .await
                        .unwrap();
                    assert!(answer.status().is_success());
                    assert!(answer.bytes().await.unwrap().starts_with(b"{"));
                }
            }
        };
        let mut measured = self.callers((0..callers).map(one)).await;
        measured.messages *= messages as u64;
        measured
    }

    /// So many callers, one message a call, on one connection for every 16 of them.
    pub async fn unary(&self, callers: usize, request_ids: RequestIds) -> Measured {
        let mut channels = Vec::new();
        for _ in 0..callers.div_ceil(16) {
            channels.push(
                Channel::from_shared(self.bridge.clone())
                    .unwrap()
                    .tcp_nodelay(true)
                    .connect()
                    .await
                    .unwrap(),
            );
        }
        let one = |caller: usize| {
            let client = SmsServiceClient::new(channels[caller / 16].clone());
            let ids = Arc::clone(&self.ids);
            move || {
                let mut client = client.clone();
                let mut request = request();
                if request_ids == RequestIds::Unique {
                    request.request_id = format!("bench-{}", ids.fetch_add(1, Ordering::Relaxed));
                }
                async move {
                    let sent = client.send_sms(request).await.unwrap().into_inner();
                    assert_eq!(sent.results[0].outcome(), v1::Outcome::Accepted);
                }
            }
        };
        self.callers((0..callers).map(one)).await
    }

    async fn callers<C, F>(&self, callers: impl Iterator<Item = C>) -> Measured
    where
        C: FnMut() -> F + Send + 'static,
        F: Future<Output = ()> + Send,
    {
        let begun = Instant::now();
        let end = begun + self.duration;
        let tasks: Vec<_> = callers
            .map(|mut call| {
                tokio::spawn(async move {
                    let mut took = Vec::new();
                    while Instant::now() < end {
                        let begun = Instant::now();
                        call().await;
                        took.push(begun.elapsed());
                    }
                    took
                })
            })
            .collect();
        let mut took = Vec::new();
        for task in tasks {
            took.extend(task.await.unwrap());
        }
        let elapsed = begun.elapsed();
        Measured::of_calls(took, elapsed)
    }

    /// One stream with so many messages in flight.
    pub async fn stream(&self, in_flight: usize) -> Measured {
        let channel = Channel::from_shared(self.bridge.clone())
            .unwrap()
            .connect()
            .await
            .unwrap();
        let permits = Arc::new(Semaphore::new(in_flight));
        let (requests, waiting) = mpsc::channel(256);
        let begun = Instant::now();
        let end = begun + self.duration;
        let writer = tokio::spawn({
            let permits = Arc::clone(&permits);
            async move {
                while Instant::now() < end {
                    permits.acquire().await.unwrap().forget();
                    let request = v1::StreamSmsRequest {
                        correlation: String::new(),
                        request: Some(request()),
                    };
                    requests.send(request).await.unwrap();
                }
            }
        });
        let mut answers = SmsServiceClient::new(channel)
            .stream_sms(ReceiverStream::new(waiting))
            .await
            .unwrap()
            .into_inner();
        let mut messages = 0;
        while let Some(answer) = answers.message().await.unwrap() {
            assert_eq!(answer.results[0].outcome(), v1::Outcome::Accepted);
            messages += 1;
            permits.add_permits(1);
        }
        writer.await.unwrap();
        Measured {
            messages,
            elapsed: begun.elapsed(),
            ..Measured::default()
        }
    }
}

/// A message to one destination, without a request id.
pub fn request() -> v1::SendSmsRequest {
    let message = v1::OutboundMessage {
        from: "InfoSMS".into(),
        destinations: vec![v1::Destination {
            to: TO.into(),
            message_id: String::new(),
        }],
        content: Some(Content::Text(TEXT.into())),
        ..Default::default()
    };
    v1::SendSmsRequest {
        message: Some(message),
        ..Default::default()
    }
}

fn body(first: u64, messages: usize) -> String {
    let mut body = String::with_capacity(64 + messages * 128);
    body.push_str(r#"{"messages":["#);
    for n in 0..messages as u64 {
        if n > 0 {
            body.push(',');
        }
        let id = first + n;
        body.push_str(&format!(
            r#"{{"from":"InfoSMS","destinations":[{{"to":"{TO}","messageId":"bench-{id}"}}],"text":"{TEXT}"}}"#
        ));
    }
    body.push_str("]}");
    body
}
