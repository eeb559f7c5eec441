//! Those who misbehave: strangers with half a request, watchers, subscribers that read or acknowledge nothing, and on a broker the full
//! queue of somebody else.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use smsbridge::proto::v1::{
    self, event_service_client::EventServiceClient, stream_events_request::Start,
    subscribe_response::Item,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tonic::Streaming;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};

use super::{
    APPLICATIONS, Bridge, Log, connect,
    subscribers::{Subscribed, subscribe},
};

/// Connections with half the head of a request, to each port.
const HALF_OPEN: usize = 300;
const HALF_A_HEAD: &[u8] = b"POST /infobip/bench/reports HTTP/1.1\r\nhost: bench\r\ncontent-le";
const HALF_A_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
/// Streams of `grpc.health.v1.Health/Watch`, on as few connections as the bridge allows.
const WATCHES: usize = 500;
const WATCHES_OF_CONNECTION: usize = 16;
/// Subscribers that acknowledge nothing, and the deliveries that each may have: the most that the bridge allows. The subscriptions of an
/// application share 64 MiB, so they are spread over four applications.
const HOARDERS: usize = 10;
const MOST_OUTSTANDING: i32 = 10_000;

/// They go away when it is dropped.
pub struct Crowd {
    _tasks: JoinSet<()>,
    _watches: Vec<Streaming<HealthCheckResponse>>,
    _stopped: Streaming<v1::StreamEventsResponse>,
    _stuck: Option<Subscribed>,
    unacknowledged: Arc<AtomicU64>,
}

impl Crowd {
    pub async fn gather(bridge: &Bridge, log: &mut Log) -> Self {
        let mut tasks = JoinSet::new();
        for _ in 0..HALF_OPEN {
            tasks.spawn(half_open(bridge.http, HALF_A_HEAD));
            tasks.spawn(half_open(bridge.address, HALF_A_PREFACE));
        }
        let unacknowledged = Arc::<AtomicU64>::default();
        let stuck = match log {
            Log::Embedded => {
                for hoarder in 0..HOARDERS {
                    let application = APPLICATIONS[1 + hoarder % (APPLICATIONS.len() - 1)];
                    let name = "hoard";
                    let subscribed =
                        subscribe(bridge, Some(application), name, MOST_OUTSTANDING).await;
                    tasks.spawn(hoard(subscribed, Arc::clone(&unacknowledged)));
                }
                Some(subscribe(bridge, None, "stuck", MOST_OUTSTANDING).await)
            }
            Log::Broker(broker) => {
                broker.bind_full_queue().await;
                None
            }
        };
        Self {
            _tasks: tasks,
            _watches: watches(bridge).await,
            _stopped: stopped(bridge).await,
            _stuck: stuck,
            unacknowledged,
        }
    }

    /// The deliveries that were read and not acknowledged.
    pub fn unacknowledged(&self) -> u64 {
        self.unacknowledged.load(Ordering::Relaxed)
    }
}

/// Holds a connection half open, and opens it again when the bridge has closed it.
async fn half_open(address: SocketAddr, half: &[u8]) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(address).await
            && stream.write_all(half).await.is_ok()
        {
            let mut answer = [0; 256];
            while stream
                .read(&mut answer)
                .await
                .is_ok_and(|length| length > 0)
            {}
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn hoard(subscribed: Subscribed, unacknowledged: Arc<AtomicU64>) {
    let Subscribed {
        requests: _requests,
        mut responses,
    } = subscribed;
    while let Ok(Some(response)) = responses.message().await {
        if let Some(Item::Delivery(_)) = response.item {
            unacknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn watches(bridge: &Bridge) -> Vec<Streaming<HealthCheckResponse>> {
    let mut watches = Vec::with_capacity(WATCHES);
    while watches.len() < WATCHES {
        let mut health = HealthClient::new(connect(bridge).await);
        for _ in 0..WATCHES_OF_CONNECTION.min(WATCHES - watches.len()) {
            let watch = health.watch(HealthCheckRequest::default()).await.unwrap();
            watches.push(watch.into_inner());
        }
    }
    watches
}

/// A reader of all events that stops after the first one.
async fn stopped(bridge: &Bridge) -> Streaming<v1::StreamEventsResponse> {
    let request = v1::StreamEventsRequest {
        start: Some(Start::Since(smsbridge::proto::Timestamp::default())),
        ..v1::StreamEventsRequest::default()
    };
    let mut events = EventServiceClient::new(connect(bridge).await)
        .stream_events(request)
        .await
        .unwrap()
        .into_inner();
    assert!(events.message().await.unwrap().is_some());
    events
}
