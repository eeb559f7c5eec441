//! A simulator in this process, on a free port.

use std::{net::SocketAddr, time::Duration};

use infobip_simulator::{Simulator, SimulatorConfig};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::eventually;

/// User name of every [`TestSimulator`].
pub const USERNAME: &str = "Aladdin";
pub const PASSWORD: &str = "open sesame";
pub const API_KEY: &str = "0f1e2d3c";
/// Start of frozen clocks: 12 February 2015, 08:51:43.123 UTC.
pub const START_MS: i64 = 1_423_731_103_123;

/// Stops when dropped.
pub struct TestSimulator {
    address: SocketAddr,
    client: reqwest::Client,
    _stop: DropGuard,
}

/// A response of the simulator.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub content_type: String,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl TestSimulator {
    /// With the default settings, except that messages are delivered at once.
    pub async fn start() -> Self {
        Self::with(|config| config.delivery_latency_ms = (1, 5)).await
    }

    /// With a frozen clock at [`START_MS`] that only [`Self::advance`] moves.
    pub async fn frozen() -> Self {
        Self::frozen_with(|_| ()).await
    }

    /// Like [`Self::frozen`], with changed settings.
    pub async fn frozen_with(configure: impl FnOnce(&mut SimulatorConfig)) -> Self {
        Self::with(|config| {
            config.frozen = true;
            config.start_ms = Some(START_MS);
            configure(config);
        })
        .await
    }

    /// With changed settings.
    pub async fn with(configure: impl FnOnce(&mut SimulatorConfig)) -> Self {
        let mut config = SimulatorConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            username: USERNAME.into(),
            password: PASSWORD.into(),
            api_key: Some(API_KEY.into()),
            ..SimulatorConfig::default()
        };
        configure(&mut config);
        let simulator = Simulator::bind(config).await.unwrap();
        let address = simulator.local_addr();
        let stop = CancellationToken::new();
        tokio::spawn(simulator.run(stop.clone()));
        // The client does not follow redirects: a short link leads out of the test.
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self {
            address,
            client,
            _stop: stop.drop_guard(),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://address`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A request with Basic credentials.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.base_url()))
            .basic_auth(USERNAME, Some(PASSWORD))
    }

    pub fn anonymous(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.base_url()))
    }

    pub async fn answer(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let header = response
            .headers()
            .get("content-type")
            .map(|value| value.to_str().unwrap().to_owned());
        Answer {
            status: response.status(),
            content_type: header.unwrap_or_default(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    /// GET with credentials; panics unless the status is 200.
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.answer(self.request(Method::GET, path)).await;
        assert_eq!(answer.status, StatusCode::OK, "GET {path}: {}", answer.text);
        answer.json()
    }

    /// Sends JSON with credentials.
    pub async fn try_send(&self, method: Method, path: &str, body: &Value) -> Answer {
        let request = self
            .request(method, path)
            .header("content-type", "application/json")
            .body(body.to_string());
        self.answer(request).await
    }

    /// POST of JSON with credentials; panics unless the status is 200.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.try_send(Method::POST, path, &body).await;
        assert_eq!(
            answer.status,
            StatusCode::OK,
            "POST {path}: {}",
            answer.text
        );
        answer.json()
    }

    pub async fn messages(&self) -> Vec<Value> {
        list(self.get("/_sim/messages").await, "messages")
    }

    /// The requests that the simulator received, without those to `/_sim/`.
    pub async fn requests(&self) -> Vec<Value> {
        list(self.get("/_sim/requests").await, "requests")
    }

    pub async fn paths(&self) -> Vec<String> {
        let path = |request: &Value| request["path"].as_str().unwrap().to_owned();
        self.requests().await.iter().map(path).collect()
    }

    pub async fn pushes(&self) -> Vec<Value> {
        list(self.get("/_sim/pushes").await, "pushes")
    }

    pub async fn fault(&self, fault: Value) {
        self.post("/_sim/faults", fault).await;
    }

    /// Removes all faults.
    pub async fn heal(&self) {
        let answer = self
            .answer(self.request(Method::DELETE, "/_sim/faults"))
            .await;
        assert_eq!(answer.status, StatusCode::OK);
    }

    /// Advances virtual time and waits until the pushes that became due are answered.
    pub async fn advance(&self, by: Duration) {
        self.post(
            "/_sim/clock",
            json!({"advanceMs": u64::try_from(by.as_millis()).unwrap()}),
        )
        .await;
    }

    /// Simulates a message from a phone; returns its id.
    pub async fn inbound(&self, from: &str, to: &str, text: &str) -> String {
        let answer = self
            .post(
                "/_sim/inbound",
                json!({"from": from, "to": to, "text": text}),
            )
            .await;
        answer["messageId"].as_str().unwrap().to_owned()
    }

    /// Sends `message` over the advanced endpoint; returns the response.
    pub async fn send(&self, message: Value) -> Value {
        self.post("/sms/1/text/advanced", json!({"messages": [message]}))
            .await
    }

    /// Waits until every message in the ledger is final.
    pub async fn all_final(&self) -> Vec<Value> {
        eventually("every message is final", || async {
            let messages = self.messages().await;
            let open = |message: &Value| {
                matches!(message["state"].as_str(), Some("scheduled" | "pending"))
            };
            (!messages.iter().any(open)).then_some(messages)
        })
        .await
    }
}

fn list(mut value: Value, name: &str) -> Vec<Value> {
    match value[name].take() {
        Value::Array(list) => list,
        other => panic!("no list {name:?}: {other}"),
    }
}
