//! The trace of a call, in its metadata `traceparent`: its events have it, and the API gets it only if that is configured.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, Uri, header},
    response::{IntoResponse as _, Response},
};
use serde_json::Value;
use smsbridge::proto::v1;
use tokio::sync::Semaphore;
use tonic::Request;

use crate::support::{
    bridge::{TestBridge, text_with_id},
    eventually,
    simulator::{PASSWORD, TestSimulator, USERNAME},
};

const TO: &str = "41793026727";
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER_TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

fn traced<T>(message: T, traces: &[&'static str]) -> Request<T> {
    let mut request = Request::new(message);
    for trace in traces {
        let value = trace.parse().unwrap();
        request.metadata_mut().append("traceparent", value);
    }
    request
}

fn send(request_id: &str, traces: &[&'static str]) -> Request<v1::SendSmsRequest> {
    traced(text_with_id(request_id, &[TO]), traces)
}

fn bulk(request_id: &str, messages: usize) -> v1::SendSmsBulkRequest {
    let message = text_with_id(request_id, &[TO]).message.unwrap();
    v1::SendSmsBulkRequest {
        request_id: request_id.into(),
        messages: vec![message; messages],
        ..Default::default()
    }
}

/// The traces of the events of results, by request id.
async fn traces(bridge: &TestBridge) -> Vec<(String, String)> {
    let events = bridge.all_events().await.into_iter();
    let results = events.filter(|event| event.r#type.starts_with("send."));
    results
        .map(|event| (event.request_id, event.traceparent))
        .collect()
}

#[tokio::test]
async fn the_trace_of_a_call_goes_to_its_events() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| config.http.public_url = None).await;
    let mut sms = bridge.sms();
    sms.send_sms(send("single", &[TRACE])).await.unwrap();
    // The event of an id is there once, and the repeated call adds none.
    sms.send_sms(send("single", &[OTHER_TRACE])).await.unwrap();
    let request = traced(bulk("bulk", 2), &[TRACE]);
    sms.send_sms_bulk(request).await.unwrap();
    // All messages of a stream have the trace of its call.
    let messages = ["stream-1", "stream-2"].map(|id| v1::StreamSmsRequest {
        correlation: String::new(),
        request: Some(text_with_id(id, &[TO])),
    });
    let request = traced(tokio_stream::iter(messages), &[TRACE]);
    let mut answers = sms.stream_sms(request).await.unwrap().into_inner();
    while answers.message().await.unwrap().is_some() {}
    for (id, none) in [
        ("none", &[][..]),
        ("two", &[TRACE, OTHER_TRACE]),
        (
            "invalid",
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"],
        ),
        (
            "all-zero",
            &["00-00000000000000000000000000000000-b7ad6b7169203331-01"],
        ),
    ] {
        sms.send_sms(send(id, none)).await.unwrap();
    }
    let expected = [
        ("single", TRACE),
        ("bulk", TRACE),
        ("bulk", TRACE),
        ("stream-1", TRACE),
        ("stream-2", TRACE),
        ("none", ""),
        ("two", ""),
        ("invalid", ""),
        ("all-zero", ""),
    ];
    let sorted = |mut traces: Vec<(String, String)>| {
        traces.sort();
        traces
    };
    let expected = sorted(
        expected
            .map(|(id, trace)| (id.to_owned(), trace.to_owned()))
            .into(),
    );
    assert_eq!(sorted(traces(&bridge).await), expected);
    // They are stored with it.
    let folder = bridge.stop().await;
    let bridge = TestBridge::at(&simulator.base_url(), folder, |_| ()).await;
    assert_eq!(sorted(traces(&bridge).await), expected);
    bridge.stop().await;
}

/// A send request: the number of its messages, and its headers `traceparent`.
type Seen = (usize, Vec<String>);

/// A proxy in front of the API that notes each send request.
#[derive(Clone)]
struct Proxy {
    api: String,
    client: reqwest::Client,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Each request needs a permit.
    open: Arc<Semaphore>,
}

impl Proxy {
    /// In front of the simulator. Returns its URL, too.
    async fn start(simulator: &TestSimulator) -> (Self, String) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let proxy = Self {
            api: simulator.base_url(),
            client: reqwest::Client::new(),
            seen: Arc::default(),
            open: Arc::new(Semaphore::new(0)),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(pass).with_state(proxy.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (proxy, url)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn pass(
    State(proxy): State<Proxy>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap();
    let messages = request["messages"].as_array().unwrap().len();
    let traces = headers.get_all("traceparent").iter();
    let traces = traces.map(|value| value.to_str().unwrap().to_owned());
    let seen = (messages, traces.collect());
    proxy.seen.lock().unwrap().push(seen);
    proxy.open.acquire().await.unwrap().forget();
    let answer = proxy
        .client
        .request(method, format!("{}{uri}", proxy.api))
        .basic_auth(USERNAME, Some(PASSWORD))
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .send()
        .await
        .unwrap();
    let (status, json) = (answer.status(), answer.bytes().await.unwrap());
    (status, [(header::CONTENT_TYPE, "application/json")], json).into_response()
}

/// What the API gets of: one message, a call with two messages, a message without a trace, and two calls that share a request.
async fn requests(send_traceparent: Option<bool>) -> Vec<Seen> {
    let simulator = TestSimulator::start().await;
    let (proxy, url) = Proxy::start(&simulator).await;
    let folder = tempfile::tempdir().unwrap();
    let bridge = TestBridge::at(&url, folder, |config| {
        config.http.public_url = None;
        config.send.max_requests_in_flight = 1;
        if let Some(send_traceparent) = send_traceparent {
            config.infobip.send_traceparent = send_traceparent;
        }
    })
    .await;
    let mut sms = bridge.sms();
    proxy.open.add_permits(3);
    sms.send_sms(send("single", &[TRACE])).await.unwrap();
    let request = traced(bulk("bulk", 2), &[TRACE]);
    sms.send_sms_bulk(request).await.unwrap();
    sms.send_sms(send("none", &[])).await.unwrap();
    // One is held by the API, and the two others wait for the only request.
    let call = |id, trace| {
        let mut sms = bridge.sms();
        tokio::spawn(async move { sms.send_sms(send(id, &[trace])).await.unwrap() })
    };
    let mut calls = vec![call("held", OTHER_TRACE)];
    eventually("the API has it", async || {
        (proxy.seen().len() == 4).then_some(())
    })
    .await;
    calls.extend([call("shared-1", TRACE), call("shared-2", OTHER_TRACE)]);
    eventually("both wait", async || {
        let waiting = bridge
            .metric("smsbridge_queued_destinations{lane=\"normal\"}")
            .await;
        (waiting == Some(2.0)).then_some(())
    })
    .await;
    proxy.open.add_permits(2);
    for call in calls {
        call.await.unwrap();
    }
    bridge.stop().await;
    proxy.seen()
}

#[tokio::test]
async fn the_api_gets_the_trace_of_a_request_with_one_message_if_that_is_configured() {
    let one = |trace: &str| (1, vec![trace.to_owned()]);
    let expected = [
        one(TRACE),
        (2, vec![]),
        (1, vec![]),
        one(OTHER_TRACE),
        (2, vec![]),
    ];
    assert_eq!(requests(Some(true)).await, expected);
}

#[tokio::test]
async fn the_api_gets_no_trace_unless_that_is_configured() {
    let expected = [1, 2, 1, 1, 2].map(|messages| (messages, vec![]));
    assert_eq!(requests(None).await, expected);
}
