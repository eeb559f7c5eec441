//! Infobip's side of a run: pushes bodies with reports and received messages until each was answered with 200, some of them again
//! afterwards, and not in their order.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use reqwest::{Client, StatusCode, header};
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

/// Pushes under way at most.
const PUSHERS: usize = 8;
/// A push without an answer is repeated after this time, as Infobip does later.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
const BEFORE_REPEAT: Duration = Duration::from_millis(20);
/// Rows of a body at most, as in the API's pushes.
const MAX_ROWS: usize = 100;
/// One of so many bodies is pushed again although it was answered with 200.
const ONE_TWICE_OF: usize = 10;
/// How far a row may move from its place.
const DISORDER: usize = 40;
/// How many places a final report is behind the pending one of its message, before both move.
const BETWEEN_REPORTS: usize = 30;

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// A report that the message of this number is pending.
    Pending(usize),
    /// Its final report.
    Delivered(usize),
    /// A received message.
    Received(usize),
}

impl Row {
    fn is_received(self) -> bool {
        matches!(self, Self::Received(_))
    }

    pub fn json(self) -> Value {
        match self {
            Self::Pending(number) => report(
                number,
                json!({"groupId": 1, "groupName": "PENDING", "id": 26, "name": "PENDING_ACCEPTED"}),
            ),
            Self::Delivered(number) => report(
                number,
                json!({"groupId": 3, "groupName": "DELIVERED", "id": 5, "name": "DELIVERED_TO_HANDSET"}),
            ),
            Self::Received(number) => json!({
                "messageId": format!("in{number}"),
                "from": "41793026727",
                "to": "41793026700",
                "text": text(number),
                "receivedAt": "2026-03-01T10:00:00.000+0000",
                "smsCount": 1,
            }),
        }
    }
}

/// The text of a received message.
pub fn text(number: usize) -> String {
    format!("Answer {number}")
}

fn report(number: usize, status: Value) -> Value {
    json!({
        "messageId": format!("default.m{number}"),
        "to": format!("4179{number:07}"),
        "sentAt": "2026-03-01T10:00:00.000+0000",
        "doneAt": "2026-03-01T10:00:02.000+0000",
        "smsCount": 1,
        "status": status,
        "error": {"groupId": 0, "groupName": "OK", "id": 0, "name": "NO_ERROR"},
    })
}

/// When a row was first sent, and first answered with 200.
#[derive(Debug, Clone, Copy)]
pub struct Pushed {
    pub row: Row,
    /// In its body.
    pub place: usize,
    pub begun: Instant,
    pub answered: Instant,
    /// An earlier attempt of the same push got no 200.
    pub was_repeated: bool,
}

/// The bodies of a run, each with its rows: `reports` reports of messages and `received` received messages.
pub fn bodies(seed: u64, reports: usize, received: usize) -> Vec<Vec<Row>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut rows: Vec<(usize, Row)> = Vec::new();
    for number in 0.. {
        if rows.len() >= reports {
            break;
        }
        if random.random_bool(0.4) {
            rows.push((place(&mut random, rows.len()), Row::Pending(number)));
        }
        let behind = rows.len() + BETWEEN_REPORTS;
        rows.push((place(&mut random, behind), Row::Delivered(number)));
    }
    rows.truncate(reports);
    rows.sort_unstable();
    let mut bodies = of_rows(&mut random, rows);
    let received = (0..received).map(|number| (place(&mut random, number), Row::Received(number)));
    let received = received.collect();
    bodies.extend(of_rows(&mut random, received));
    // Neighbours stay near each other, so that a final report overtakes its pending one now and then.
    for near in bodies.chunks_mut(4) {
        near.shuffle(&mut random);
    }
    let (reports, received): (Vec<_>, Vec<_>) = bodies
        .into_iter()
        .partition(|body: &Vec<Row>| !body[0].is_received());
    mixed(&mut random, reports.into(), received.into())
}

fn place(random: &mut StdRng, index: usize) -> usize {
    index + random.random_range(0..DISORDER)
}

fn of_rows(random: &mut StdRng, rows: Vec<(usize, Row)>) -> Vec<Vec<Row>> {
    let mut rows = rows.into_iter().map(|(_, row)| row).peekable();
    let mut bodies = Vec::new();
    while rows.peek().is_some() {
        let count = match random.random_range(0..20) {
            0 => MAX_ROWS,
            1..=4 => random.random_range(2..10),
            _ => 1,
        };
        bodies.push(rows.by_ref().take(count).collect());
    }
    bodies
}

fn mixed(
    random: &mut StdRng,
    mut one: VecDeque<Vec<Row>>,
    mut other: VecDeque<Vec<Row>>,
) -> Vec<Vec<Row>> {
    let mut mixed = Vec::with_capacity(one.len() + other.len());
    while !(one.is_empty() && other.is_empty()) {
        let left = u32::try_from(one.len() + other.len()).unwrap();
        let first = u32::try_from(one.len()).unwrap();
        let next = match random.random_ratio(first, left) {
            true => one.pop_front(),
            false => other.pop_front(),
        };
        mixed.extend(next);
    }
    mixed
}

/// Pushes the bodies to whatever address the bridge has. Each waits for a permit of `released`.
pub struct Infobip {
    pushing: JoinSet<()>,
    pushed: Arc<Mutex<Vec<Pushed>>>,
}

struct Shared {
    bodies: Mutex<VecDeque<Vec<Row>>>,
    released: Arc<Semaphore>,
    address: watch::Receiver<Option<SocketAddr>>,
    client: Client,
    pushed: Arc<Mutex<Vec<Pushed>>>,
}

impl Infobip {
    pub fn start(
        bodies: Vec<Vec<Row>>,
        released: Arc<Semaphore>,
        address: watch::Receiver<Option<SocketAddr>>,
    ) -> Self {
        let pushed = Arc::default();
        let shared = Arc::new(Shared {
            bodies: Mutex::new(bodies.into()),
            released,
            address,
            // A connection to a killed process must not be taken for one to the next process.
            client: Client::builder()
                .timeout(ANSWER_TIMEOUT)
                .pool_max_idle_per_host(0)
                .build()
                .unwrap(),
            pushed: Arc::clone(&pushed),
        });
        let mut pushing = JoinSet::new();
        for _ in 0..PUSHERS {
            pushing.spawn(push_all(Arc::clone(&shared)));
        }
        Self { pushing, pushed }
    }

    /// Waits until each body was answered with 200.
    pub async fn finish(self) -> Vec<Pushed> {
        self.pushing.join_all().await;
        std::mem::take(&mut *self.pushed.lock().unwrap())
    }
}

async fn push_all(shared: Arc<Shared>) {
    let mut count = 0;
    loop {
        let Some(body) = ({ shared.bodies.lock().unwrap().pop_front() }) else {
            return;
        };
        shared.released.acquire().await.unwrap().forget();
        push(&shared, &body).await;
        count += 1;
        if count % ONE_TWICE_OF == 0 {
            push(&shared, &body).await;
        }
    }
}

/// Until the answer is 200.
async fn push(shared: &Shared, body: &[Row]) {
    let begun = Instant::now();
    let endpoint = match body[0].is_received() {
        true => "inbound",
        false => "reports",
    };
    let results: Vec<Value> = body.iter().map(|row| row.json()).collect();
    let json = json!({"results": results}).to_string();
    let mut address = shared.address.clone();
    let mut was_repeated = false;
    loop {
        let at = *address.wait_for(Option::is_some).await.unwrap();
        let request = shared
            .client
            .post(format!("http://{}/infobip/local/{endpoint}", at.unwrap()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(json.clone());
        match request.send().await {
            Ok(answer) if answer.status() == StatusCode::OK => break,
            Ok(answer) if answer.status() != StatusCode::SERVICE_UNAVAILABLE => {
                panic!("a push was answered with {}", answer.status())
            }
            Ok(_) | Err(_) => {}
        }
        was_repeated = true;
        tokio::time::sleep(BEFORE_REPEAT).await;
    }
    let answered = Instant::now();
    let mut pushed = shared.pushed.lock().unwrap();
    pushed.extend(body.iter().enumerate().map(|(place, &row)| Pushed {
        row,
        place,
        begun,
        answered,
        was_repeated,
    }));
}
