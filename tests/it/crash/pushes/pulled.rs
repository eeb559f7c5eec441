//! The rows that the bridge pulls meanwhile, from an API that gives each of them once. One pull is under way at a time, so that it is
//! known which rows it was given.
//!
//! A response that the API gave is in the bridge's memory until it is stored. So the rows of a pull that was not answered, because
//! the bridge was killed, may be no events, unless the bridge was killed at a point after it had stored them.

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, extract::State, routing::get};
use serde_json::json;
use smsbridge::proto::v1::{
    Event, PullDeliveryReportsRequest, PullReceivedMessagesRequest,
    inbox_service_client::InboxServiceClient, report_service_client::ReportServiceClient,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tonic::{Status, transport::Endpoint};

use super::{
    infobip::{Pushed, Row},
    oracle::row,
};

/// Rows that the API gives at once.
const AT_ONCE: usize = 5;
const BETWEEN_PULLS: Duration = Duration::from_millis(30);
const PULL_TIMEOUT: Duration = Duration::from_secs(4);
/// Pushed rows have lower numbers.
const FIRST: usize = 1_000_000;

pub struct Pulls {
    /// The base URL of the API.
    pub url: String,
    state: Arc<Mutex<Rows>>,
    serving: JoinHandle<()>,
    pulling: JoinHandle<()>,
}

#[derive(Default)]
struct Rows {
    reports: VecDeque<Row>,
    messages: VecDeque<Row>,
    /// How many may be given.
    released: usize,
    pulls: Vec<Pull>,
}

/// A pull to which the API has given rows.
struct Pull {
    rows: Vec<Row>,
    begun: Instant,
    /// When it was answered, or stored.
    done: Option<Instant>,
}

impl Rows {
    fn give(&mut self, is_report: bool) -> String {
        let rows = match is_report {
            true => &mut self.reports,
            false => &mut self.messages,
        };
        let count = rows.len().min(AT_ONCE).min(self.released);
        let given: Vec<_> = rows.drain(..count).collect();
        self.released -= count;
        let json: Vec<_> = given.iter().map(|row| row.json()).collect();
        if !given.is_empty() {
            self.pulls.push(Pull {
                rows: given,
                begun: Instant::now(),
                done: None,
            });
        }
        json!({"results": json}).to_string()
    }

    fn are_given(&self) -> bool {
        self.reports.is_empty() && self.messages.is_empty()
    }
}

impl Pulls {
    /// `reports` and `messages` rows, none of which is released.
    pub async fn start(
        reports: usize,
        messages: usize,
        address: watch::Receiver<Option<SocketAddr>>,
    ) -> Self {
        let rows = Rows {
            reports: (FIRST..FIRST + reports).map(Row::Delivered).collect(),
            messages: (FIRST..FIRST + messages).map(Row::Received).collect(),
            ..Rows::default()
        };
        let state = Arc::new(Mutex::new(rows));
        let give = |is_report| {
            get(move |State(rows): State<Arc<Mutex<Rows>>>| async move {
                rows.lock().unwrap().give(is_report)
            })
        };
        let router = Router::new()
            .route("/sms/1/reports", give(true))
            .route("/sms/1/inbox/reports", give(false))
            .with_state(Arc::clone(&state));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let pulling = tokio::spawn(pull_all(Arc::clone(&state), address));
        Self {
            url,
            state,
            serving,
            pulling,
        }
    }

    /// Lets the API give so many more.
    pub fn release(&self, rows: usize) {
        self.state.lock().unwrap().released += rows;
    }

    /// The bridge was killed after it had stored the last response.
    pub fn last_is_stored(&self) {
        if let Some(last) = self.state.lock().unwrap().pulls.last_mut() {
            last.done.get_or_insert_with(Instant::now);
        }
    }

    /// Waits until all rows are given.
    pub async fn finish(&mut self) {
        (&mut self.pulling).await.unwrap();
    }

    /// Rows that must be events and are not yet.
    pub fn missing(&self, events: &[Event]) -> usize {
        let found = found(events);
        let state = self.state.lock().unwrap();
        let done = state.pulls.iter().filter(|pull| pull.done.is_some());
        let rows = done.flat_map(|pull| &pull.rows);
        rows.filter(|row| !found.contains(row)).count()
    }

    /// The rows for the oracle, without those that went with a kill before they were stored; and how many these are.
    pub fn judged(&self, events: &[Event]) -> (Vec<Pushed>, usize) {
        let found = found(events);
        let (mut judged, mut gone) = (Vec::new(), 0);
        for pull in &self.state.lock().unwrap().pulls {
            for (place, &row) in pull.rows.iter().enumerate() {
                if pull.done.is_none() && !found.contains(&row) {
                    gone += 1;
                    continue;
                }
                judged.push(Pushed {
                    row,
                    place,
                    begun: pull.begun,
                    answered: pull.done.unwrap_or_else(Instant::now),
                    was_repeated: pull.done.is_none(),
                });
            }
        }
        (judged, gone)
    }
}

impl Drop for Pulls {
    fn drop(&mut self) {
        self.serving.abort();
        self.pulling.abort();
    }
}

fn found(events: &[Event]) -> BTreeSet<Row> {
    events.iter().filter_map(row).collect()
}

async fn pull_all(state: Arc<Mutex<Rows>>, mut address: watch::Receiver<Option<SocketAddr>>) {
    let mut is_report = true;
    while !state.lock().unwrap().are_given() {
        let at = *address.wait_for(Option::is_some).await.unwrap();
        let earlier = state.lock().unwrap().pulls.len();
        let pulled = tokio::time::timeout(PULL_TIMEOUT, pull(at.unwrap(), is_report)).await;
        if matches!(pulled, Ok(Ok(()))) {
            for pull in &mut state.lock().unwrap().pulls[earlier..] {
                pull.done = Some(Instant::now());
            }
        }
        is_report = !is_report;
        tokio::time::sleep(BETWEEN_PULLS).await;
    }
}

async fn pull(at: SocketAddr, is_report: bool) -> Result<(), Status> {
    let channel = Endpoint::from_shared(format!("http://{at}"))
        .unwrap()
        .connect()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    if is_report {
        let request = PullDeliveryReportsRequest::default();
        let mut client = ReportServiceClient::new(channel);
        client.pull_delivery_reports(request).await.map(drop)
    } else {
        let request = PullReceivedMessagesRequest::default();
        let mut client = InboxServiceClient::new(channel);
        client.pull_received_messages(request).await.map(drop)
    }
}
