//! Attempts of a command that the API refuses: they have an end only where it takes others (docs/RELIABILITY.md, P1 and P7).

use std::{
    cell::Cell,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use smsbridge::amqp::headers::{number_header, text_header};

use super::custody::{SEND_PATH, Setup};
use crate::support::{
    broker::TestBroker,
    eventually,
    simulator::{PASSWORD, USERNAME},
};

/// A text that the firewall refuses.
const FORBIDDEN: &str = "forbidden";
const DELAYS_MS: [i64; 3] = [50, 100, 200];
const NEIGHBOURS: usize = 40;

/// A firewall in front of the API: it refuses requests with a forbidden text.
#[derive(Clone)]
struct Firewall {
    api: String,
    status: StatusCode,
    client: reqwest::Client,
    /// The number of messages in each refused request.
    refused: Arc<Mutex<Vec<usize>>>,
}

impl Firewall {
    /// Returns the URL of the API behind it.
    fn start(&self) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let router = Router::new().fallback(pass).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }
}

async fn pass(State(firewall): State<Firewall>, method: Method, uri: Uri, body: Bytes) -> Response {
    if String::from_utf8_lossy(&body).contains(FORBIDDEN) {
        let request: Value = serde_json::from_slice(&body).unwrap();
        let messages = request["messages"].as_array().unwrap().len();
        firewall.refused.lock().unwrap().push(messages);
        return (firewall.status, "<html>no</html>").into_response();
    }
    let answer = firewall
        .client
        .request(method, format!("{}{uri}", firewall.api))
        .basic_auth(USERNAME, Some(PASSWORD))
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .send()
        .await
        .unwrap();
    let (status, json) = (answer.status(), answer.bytes().await.unwrap());
    (status, [(header::CONTENT_TYPE, "application/json")], json).into_response()
}

impl Setup {
    async fn publish_text(&self, request_id: &str, to: &str, text: &str) {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id(request_id.into());
        let command = json!({"message":
            {"from": "InfoSMS", "destinations": [{"to": to}], "text": text}});
        let commands = self.broker.topology().commands();
        let body = command.to_string();
        self.client
            .publish(&commands, "sms.send", properties, body.as_bytes())
            .await;
    }
}

/// With 403 the commands of its request come back as well, and with 406 they wait. They are sent, and no attempt of theirs counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_refused_alone_while_others_are_taken_is_given_up() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    for status in [StatusCode::FORBIDDEN, StatusCode::NOT_ACCEPTABLE] {
        let broker = TestBroker::start().await;
        broker.declare_delays(DELAYS_MS).await;
        let mut firewall = Firewall {
            api: String::new(),
            status,
            client: reqwest::Client::new(),
            refused: Arc::default(),
        };
        let setup = Setup::start_on(broker, |config| {
            firewall.api = std::mem::take(&mut config.infobip.base_url);
            config.infobip.base_url = firewall.start();
            config.amqp.max_attempts = 3;
            config.send.max_batch = 10;
        })
        .await;
        for n in 0..NEIGHBOURS {
            if n == NEIGHBOURS / 2 {
                setup.publish_text("poison", "41793999999", FORBIDDEN).await;
            }
            setup.publish_command(n).await;
        }
        // An attempt counts only if the API took the request before it, so others are sent all the time.
        let neighbours = Cell::new(NEIGHBOURS);
        let dead = setup.broker.topology().dead();
        let letter = eventually("the command is given up", async || {
            setup
                .publish_command(neighbours.replace(neighbours.get() + 1))
                .await;
            setup.client.try_take(&dead).await
        })
        .await;
        let neighbours = neighbours.get();
        let headers = letter.properties.headers().as_ref();
        let reason = text_header(headers, "smsbridge-reason").unwrap();
        let id = letter.properties.message_id().clone().unwrap().to_string();
        assert_eq!((id.as_str(), reason.as_str()), ("poison", "ATTEMPT_LIMIT"));
        let detail = text_header(headers, "smsbridge-detail").unwrap();
        assert!(
            detail.contains(&format!("HTTP {}", status.as_u16())),
            "{detail}"
        );
        setup.accepted(neighbours).await;
        setup.assert_delivered_once(neighbours).await;
        assert!(setup.results("send.rejected").await.is_empty());
        let refused = firewall.refused.lock().unwrap().clone();
        let alone = refused.iter().filter(|messages| **messages == 1).count();
        // More of them if a refusal followed another one.
        assert!(alone >= 3, "{refused:?}");
        assert_eq!(refused[refused.len() - 2..], [1, 1], "{refused:?}");
        let dead = setup.client.try_take(&setup.broker.topology().dead()).await;
        assert!(dead.is_none(), "{dead:?}");
        setup.bridge.stop().await;
    }
}

/// The API took a message, and takes none now: that is no fault of a command. Only the first refusal counts.
#[tokio::test(flavor = "multi_thread")]
async fn no_attempt_in_an_outage_counts() {
    let broker = TestBroker::start().await;
    broker.declare_delays(DELAYS_MS).await;
    let setup = Setup::start_on(broker, |config| config.amqp.max_attempts = 2).await;
    setup.publish_command(1).await;
    setup.accepted(1).await;
    setup
        .simulator
        .fault(json!({"kind": "status", "status": 401, "path": SEND_PATH}))
        .await;
    setup.publish_command(0).await;
    // Its first attempt counts, the second one does not.
    setup.sends_seen(3).await;
    // An earlier process counted attempts of this one.
    let mut headers = FieldTable::default();
    headers.insert("smsbridge-refusals".into(), AMQPValue::LongLongInt(30));
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id("counted".into())
        .with_headers(headers);
    let command = json!({"message":
        {"from": "InfoSMS", "destinations": [{"to": "41793999999"}], "text": "Hello"}});
    let (commands, body) = (setup.broker.topology().commands(), command.to_string());
    setup
        .client
        .publish(&commands, "sms.send", properties, body.as_bytes())
        .await;
    let mut attempts = 0;
    while attempts < 9 {
        let seen = setup.sends_seen(attempts + 1).await;
        attempts = seen.len();
    }
    setup.simulator.heal().await;
    setup.accepted(3).await;
    let dead = setup.client.try_take(&setup.broker.topology().dead()).await;
    assert!(dead.is_none(), "{dead:?}");
    setup.bridge.stop().await;
}

/// A copy that an earlier process counted.
#[tokio::test(flavor = "multi_thread")]
async fn the_count_of_attempts_stays_with_the_copy() {
    let setup = Setup::start(|_| ()).await;
    setup.publish_command(0).await;
    setup.accepted(1).await;
    setup
        .simulator
        .fault(json!({"kind": "status", "status": 403, "count": 1, "path": SEND_PATH}))
        .await;
    setup.publish_command(1).await;
    let retry = format!("{}.retry.60s", setup.broker.prefix);
    let copy = setup.client.take(&retry).await;
    let refusals = number_header(copy.properties.headers().as_ref(), "smsbridge-refusals");
    assert_eq!(refusals, Some(1));
    setup.bridge.stop().await;
}
