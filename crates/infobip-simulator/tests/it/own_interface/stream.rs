//! `GET /_sim/stream`: server-sent events of what changed.

use std::time::{Duration, Instant};

use super::*;
use crate::support::eventually;

const DEADLINE: Duration = Duration::from_secs(60);

/// A listener that reads events.
struct Listener {
    response: reqwest::Response,
    buffer: String,
}

impl Listener {
    async fn begin(simulator: &TestSimulator) -> Self {
        let request = simulator.anonymous(Method::GET, "/_sim/stream");
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.headers()["content-type"],
            "text/event-stream;charset=UTF-8"
        );
        Self {
            response,
            buffer: String::new(),
        }
    }

    /// The next event, with its name; `None` at the end of the stream.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.buffer = rest;
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
                if let (Some(name), Some(data)) = (field("event: "), field("data: ")) {
                    return Some((name.to_owned(), serde_json::from_str(data).unwrap()));
                }
                continue;
            }
            let chunk = tokio::time::timeout(DEADLINE, self.response.chunk())
                .await
                .expect("an event");
            self.buffer
                .push_str(std::str::from_utf8(&chunk.ok()??).unwrap());
        }
    }

    async fn expect(&mut self, wanted: &str) -> Value {
        let (name, data) = self.next().await.expect(wanted);
        assert_eq!(name, wanted, "{data}");
        data
    }

    /// Reads changes until one fulfils the condition; returns all of them.
    async fn until(&mut self, what: &str, condition: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut changes = Vec::new();
        loop {
            let change = self.expect("change").await;
            let done = condition(&change);
            changes.push(change);
            if done {
                return changes;
            }
            assert!(changes.len() < 1000, "{what}");
        }
    }
}

#[tokio::test]
async fn events_say_what_changed() {
    let simulator = TestSimulator::frozen().await;
    let mut listener = Listener::begin(&simulator).await;
    let hello = listener.expect("hello").await;
    assert_eq!(hello["counts"]["phones"], 0);
    assert_eq!(hello["clock"]["frozen"], true);
    assert!(hello["instance"].is_string());

    simulator.send(text(TO, "m-1", "a")).await;
    let sent = listener
        .until("a send", |change| change["counts"]["requests"] == 1)
        .await;
    assert_eq!(sent.last().unwrap()["counts"]["states"]["pending"], 1);
    assert!(
        sent.iter().any(|change| change["phones"] == json!([TO])),
        "{sent:?}"
    );
    assert!(sent.iter().all(|change| change["clockChanged"] == false));

    simulator.inbound("41790000001", TO, "hi").await;
    let received = listener.expect("change").await;
    assert_eq!(received["phones"], json!(["41790000001"]));
    assert_eq!(received["requestsChanged"], false);

    simulator.advance(Duration::from_secs(1)).await;
    let delivered = listener
        .until("a delivery", |change| change["clockChanged"] == true)
        .await;
    assert_eq!(
        delivered.last().unwrap()["counts"]["states"]["delivered"],
        1
    );
    assert!(
        delivered
            .iter()
            .any(|change| change["phones"] == json!([TO]))
    );

    simulator
        .fault(json!({"kind": "html", "path": "/nothing"}))
        .await;
    let fault = listener.expect("change").await;
    assert_eq!(fault["faultsChanged"], true);
    assert_eq!(fault["counts"]["faults"], 1);

    simulator.post("/_sim/reset", json!({})).await;
    let reset = listener
        .until("a reset", |change| change["reset"] == true)
        .await;
    let reset = reset.last().unwrap();
    assert_eq!(reset["counts"]["phones"], 0);
    assert_eq!([&hello["generation"], &reset["generation"]], [0, 1]);
}

#[tokio::test]
async fn many_changes_are_one_event_of_bounded_size() {
    let simulator = TestSimulator::frozen().await;
    let mut listener = Listener::begin(&simulator).await;
    listener.expect("hello").await;
    let began = Instant::now();
    let destinations: Vec<_> = (0..1000)
        .map(|n| json!({"to": format!("4179{n:07}")}))
        .collect();
    for _ in 0..20 {
        simulator
            .send(json!({"text": "a", "destinations": destinations}))
            .await;
    }
    let changes = listener
        .until("all sends", |change| change["counts"]["requests"] == 20)
        .await;
    let most = began.elapsed().as_millis() / 200 + 2;
    assert!(
        changes.len() as u128 <= most,
        "{} events in {:?}",
        changes.len(),
        began.elapsed()
    );
    let first = &changes[0];
    assert_eq!(first["allPhones"], true);
    assert_eq!(first["phones"], json!([]));
    assert_eq!(changes.last().unwrap()["counts"]["sent"], 20_000);
}

#[tokio::test]
async fn listeners_are_bounded_and_places_are_given_back() {
    let simulator = TestSimulator::frozen().await;
    let mut listeners = Vec::new();
    for _ in 0..16 {
        let mut listener = Listener::begin(&simulator).await;
        listener.expect("hello").await;
        listeners.push(listener);
    }
    let refused = get(&simulator, "/_sim/stream").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        refused.text.contains("TOO_MANY_LISTENERS"),
        "{}",
        refused.text
    );
    listeners.pop();
    eventually("a place", async || {
        let request = simulator.anonymous(Method::GET, "/_sim/stream");
        (request.send().await.unwrap().status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stop_of_the_simulator_ends_the_stream() {
    let simulator = infobip_simulator::Simulator::start().await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/_sim/stream", simulator.base_url());
    let mut listener = Listener {
        response: client.get(url).send().await.unwrap(),
        buffer: String::new(),
    };
    listener.expect("hello").await;
    let began = Instant::now();
    simulator.stop().await;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "it ends without the grace period"
    );
    listener.expect("bye").await;
    assert_eq!(listener.next().await, None);
}
