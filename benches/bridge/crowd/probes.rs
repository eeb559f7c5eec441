//! Single pushes and sends at a steady rate, each timed from when it was due; and when a healthy subscriber has the event of the push.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use smsbridge::proto::v1::{self, sms_service_client::SmsServiceClient};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Bridge, Pusher, connect, read_message_id};
use crate::{
    load,
    push::{DEFAULT, body},
};

/// Pushes in a second, and sends.
const PER_SECOND: f64 = 50.0;
/// The kind of the probes' message ids.
pub const PROBE: &str = "probe";
/// How long the last event may take to a healthy subscriber. Also what one counts that never came.
const ARRIVAL: Duration = Duration::from_secs(60);

/// When a healthy subscriber got the event of each probe. Cheap to clone.
#[derive(Clone, Default)]
pub struct Arrivals {
    at: Arc<Mutex<HashMap<u64, Instant>>>,
    /// No two probes have the same number.
    next: Arc<AtomicU64>,
}

impl Arrivals {
    /// Notes the event of a probe.
    pub fn note(&self, message_id: &str) {
        if let Some((PROBE, number)) = read_message_id(message_id) {
            self.at.lock().entry(number).or_insert_with(Instant::now);
        }
    }
}

/// What the probes took.
#[derive(Default)]
pub struct Probes {
    pub pushes: Vec<Duration>,
    pub sends: Vec<Duration>,
    /// From when the push was due.
    pub arrivals: Vec<Duration>,
    /// The numbers of those that were answered 200.
    pub stored: Vec<u64>,
    pub refused: u64,
}

/// Probes that are under way.
pub struct Probing {
    stop: CancellationToken,
    running: JoinHandle<Probes>,
}

/// A push: its number, when it was due, how long it took, and whether it was answered 200.
struct Pushed {
    number: u64,
    due: Instant,
    took: Duration,
    stored: bool,
}

impl Probing {
    pub async fn start(bridge: &Bridge, arrivals: &Arrivals) -> Self {
        let (pusher, sms) = (Pusher::to(bridge), connect(bridge).await);
        let stop = CancellationToken::new();
        let probing = run(
            pusher,
            SmsServiceClient::new(sms),
            arrivals.clone(),
            stop.clone(),
        );
        Self {
            stop,
            running: tokio::spawn(probing),
        }
    }

    pub async fn end(self) -> Probes {
        self.stop.cancel();
        self.running.await.unwrap()
    }
}

async fn run(
    pusher: Pusher,
    sms: SmsServiceClient<tonic::transport::Channel>,
    arrivals: Arrivals,
    stop: CancellationToken,
) -> Probes {
    let begun = Instant::now();
    let (mut pushes, mut sends) = (Vec::new(), Vec::new());
    for probe in 0_u32.. {
        let due = begun + Duration::from_secs_f64(f64::from(probe) / PER_SECOND);
        let sleep = tokio::time::sleep_until(due.into());
        if stop.run_until_cancelled(sleep).await.is_none() {
            break;
        }
        let number = arrivals.next.fetch_add(1, Ordering::Relaxed);
        let (pusher, mut sms) = (pusher.clone(), sms.clone());
        pushes.push(tokio::spawn(async move {
            let stored = pusher
                .push(body(&[DEFAULT], PROBE, number..number + 1))
                .await;
            let took = due.elapsed();
            Pushed {
                number,
                due,
                took,
                stored,
            }
        }));
        // Halfway to the next push.
        let due = due + Duration::from_secs_f64(0.5 / PER_SECOND);
        sends.push(tokio::spawn(async move {
            tokio::time::sleep_until(due.into()).await;
            let sent = sms.send_sms(load::request()).await.unwrap().into_inner();
            assert_eq!(sent.results[0].outcome(), v1::Outcome::Accepted);
            due.elapsed()
        }));
    }
    let mut probes = Probes::default();
    for send in sends {
        probes.sends.push(send.await.unwrap());
    }
    let mut pushed = Vec::new();
    for push in pushes {
        pushed.push(push.await.unwrap());
    }
    let deadline = Instant::now() + ARRIVAL;
    for Pushed {
        number,
        due,
        took,
        stored,
    } in pushed
    {
        probes.pushes.push(took);
        if !stored {
            probes.refused += 1;
            continue;
        }
        probes.stored.push(number);
        let arrived = loop {
            let arrived = arrivals.at.lock().remove(&number);
            if arrived.is_some() || Instant::now() >= deadline {
                break arrived;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let took = arrived.map_or(ARRIVAL, |at| at.saturating_duration_since(due));
        probes.arrivals.push(took);
    }
    probes
}
