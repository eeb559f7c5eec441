//! The HTTP ports, `http.listen` and `admin.listen`, under slow, silent and many clients, and the responses that Infobip gets
//! meanwhile.

mod admission;
mod answered_after;
mod bodies;
mod inbound_template;

use std::{net::SocketAddr, time::Duration};

use reqwest::{Client, Response, StatusCode, header};
use smsbridge::proto::v1::{
    RequestNumberLookupRequest, event::Payload, lookup_service_client::LookupServiceClient,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    DEADLINE,
    bridge::{LONG_AFTER, TestBridge, text_with_id},
    eventually,
    simulator::TestSimulator,
};

const REPORT: &str = r#"{"results":[{"messageId":"m-1","to":"41793026727","status":{"groupId":3,"groupName":"DELIVERED","id":5,"name":"DELIVERED_TO_HANDSET"}}]}"#;

async fn push(bridge: &TestBridge) -> Response {
    Client::new()
        .post(bridge.webhook("reports"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(REPORT)
        .send()
        .await
        .unwrap()
}

/// A connection that has sent these bytes and sends nothing more.
async fn begun(address: SocketAddr, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream
}

/// The head of a push and an incomplete body.
fn half_a_push() -> String {
    format!(
        "POST /infobip/local/reports HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
        REPORT.len(),
        &REPORT[..10]
    )
}

/// Reads until the other side closes the connection.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut text))
        .await
        .expect("the connection is closed")
        .unwrap();
    text
}

#[tokio::test]
async fn a_connection_without_a_request_head_is_closed() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.http.header_timeout = Duration::from_secs(2);
    })
    .await;
    let address = bridge.addresses.http;
    let half_a_head = "POST /infobip/local/reports HTTP/1.1\r\nhost: x\r\n";
    let whole = format!("{}{}", half_a_push(), &REPORT[10..]);
    for bytes in ["", half_a_head, &whole] {
        let mut stream = begun(address, bytes).await;
        let answer = read_to_end(&mut stream).await;
        // Only the complete request gets a response; then its connection is idle.
        assert_eq!(
            answer.starts_with("HTTP/1.1 200"),
            bytes == whole,
            "{answer}"
        );
    }
    assert_eq!(push(&bridge).await.status(), StatusCode::OK);
    bridge.stop().await;
}

#[tokio::test]
async fn an_incomplete_body_is_answered_with_408() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.http.request_timeout = Duration::from_secs(2);
        config.http.header_timeout = LONG_AFTER;
    })
    .await;
    let mut slow = begun(bridge.addresses.http, &half_a_push()).await;
    let answer = read_to_end(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_eq!(push(&bridge).await.status(), StatusCode::OK);
    bridge.stop().await;
}

#[tokio::test]
async fn more_connections_than_allowed_wait_until_one_ends() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.http.max_connections = 2;
        config.http.request_timeout = LONG_AFTER;
    })
    .await;
    let address = bridge.addresses.http;
    let half = half_a_push();
    let (first, second) = (begun(address, &half).await, begun(address, &half).await);
    let mut pushed = Box::pin(push(&bridge));
    let waiting = tokio::time::timeout(Duration::from_millis(200), pushed.as_mut()).await;
    assert!(waiting.is_err(), "{waiting:?}");
    drop(first);
    let answer = tokio::time::timeout(DEADLINE, pushed).await;
    let answer = answer.expect("a place is free");
    assert_eq!(answer.status(), StatusCode::OK);
    drop(second);
    bridge.stop().await;
}

/// More connections than there are places send half a head and wait.
#[tokio::test]
async fn connections_without_a_request_give_their_places_to_pushes() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.http.max_connections = 3;
        config.http.header_timeout = LONG_AFTER;
    })
    .await;
    let address = bridge.addresses.http;
    let known = Client::new();
    let push = async |client: &Client| {
        let request = client.post(bridge.webhook("reports")).body(REPORT);
        let answer = tokio::time::timeout(DEADLINE, request.send()).await;
        let answer = answer.expect("the push has a place").unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    };
    push(&known).await;
    let half_a_head = "POST /infobip/local/reports HTTP/1.1\r\nhost: x\r\n";
    let mut strangers = Vec::new();
    for _ in 0..6 {
        strangers.push(begun(address, half_a_head).await);
        strangers.push(begun(address, "").await);
    }
    push(&Client::new()).await;
    // A connection that has had a push keeps its place longer.
    push(&known).await;
    // The first of the strangers gave its place up; the last one has it.
    assert_eq!(read_to_end(&mut strangers[0]).await, "");
    let rest = format!("{}{}", half_a_push(), &REPORT[10..]);
    let mut last = strangers.pop().expect("there are twelve");
    last.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    last.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    // One that had a push gives its place up too, where no other waits.
    drop(strangers);
    let clients: Vec<Client> = (0..4).map(|_| Client::new()).collect();
    for client in &clients {
        push(client).await;
    }
    drop(last);
    bridge.stop().await;
}

/// Without the secret a client gets 404, or 405 for a method that no push has.
#[tokio::test]
async fn strangers_that_keep_their_connections_keep_no_push_waiting() {
    let simulator = TestSimulator::start().await;
    let secret = "a-secret-of-this-test";
    let bridge = TestBridge::with(&simulator, |config| {
        config.http.max_connections = 3;
        config.http.header_timeout = LONG_AFTER;
        config.http.secret = Some(secret.to_owned().into());
    })
    .await;
    let address = bridge.addresses.http;
    let mut strangers = Vec::new();
    for (line, status) in [
        ("GET /", 404),
        ("GET /infobip/guessed/inbound", 404),
        ("PUT /infobip/guessed/reports", 405),
    ] {
        let mut stranger = begun(address, &format!("{line} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        let mut answer = [0; 12];
        stranger.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, format!("HTTP/1.1 {status}").as_bytes());
        strangers.push(stranger);
    }
    let url = format!("http://{address}/infobip/{secret}/reports");
    let pushed = Client::new().post(url).body(REPORT).send();
    let pushed = tokio::time::timeout(DEADLINE, pushed).await;
    assert_eq!(
        pushed.expect("a place is free").unwrap().status(),
        StatusCode::OK
    );
    for mut stranger in strangers {
        read_to_end(&mut stranger).await;
    }
    bridge.stop().await;
}

#[tokio::test]
async fn pushes_above_the_limit_get_503_and_unauthorized_ones_do_not_count() {
    let simulator = TestSimulator::start().await;
    let secret = "a-secret-of-this-test";
    let bridge = TestBridge::with(&simulator, |config| {
        config.http.max_concurrent_requests = 1;
        config.http.header_timeout = LONG_AFTER;
        config.http.request_timeout = LONG_AFTER;
        config.http.secret = Some(secret.to_owned().into());
    })
    .await;
    let address = bridge.addresses.http;
    let push = async || {
        let url = format!("http://{address}/infobip/{secret}/reports");
        let request = Client::new().post(url).body(REPORT);
        request.send().await.unwrap()
    };
    // A push with a wrong secret.
    let mut stranger = begun(address, &half_a_push()).await;
    let answer = read_to_end(&mut stranger).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert_eq!(push().await.status(), StatusCode::OK);

    let known = half_a_push().replace("/local/", &format!("/{secret}/"));
    let mut slow = begun(address, &known).await;
    let refused = eventually("the slow push holds the place", async || {
        let answer = push().await;
        (answer.status() != StatusCode::OK).then_some(answer)
    })
    .await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
    slow.write_all(&REPORT.as_bytes()[10..]).await.unwrap();
    let mut answer = [0; 15];
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    assert_eq!(push().await.status(), StatusCode::OK);
    bridge.stop().await;
}

#[tokio::test]
async fn a_push_gets_503_in_time_if_the_event_log_hangs() {
    let simulator = TestSimulator::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.sqlite");
    let bridge = TestBridge::at(&simulator.base_url(), folder, |config| {
        config.http.request_timeout = Duration::from_millis(300);
    })
    .await;
    // Other writers wait for this transaction, for longer than the request timeout.
    let blocking = rusqlite::Connection::open(path).unwrap();
    blocking.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(4), push(&bridge)).await;
    let answer = answer.expect("an answer before SQLite gives up");
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key(header::RETRY_AFTER));
    blocking.execute_batch("ROLLBACK").unwrap();
    eventually("the next push is stored", async || {
        (push(&bridge).await.status() == StatusCode::OK).then_some(())
    })
    .await;
    bridge.stop().await;
}

#[tokio::test]
async fn connections_without_a_request_do_not_delay_shutdown() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.shutdown.grace = LONG_AFTER;
        config.http.header_timeout = LONG_AFTER;
    })
    .await;
    let address = bridge.addresses.http;
    let mut silent = begun(address, "").await;
    let mut half = begun(address, "POST /infobip/local/reports HTTP/1.1\r\n").await;
    // The client keeps this connection open for the next push.
    let client = Client::new();
    let answer = client
        .post(bridge.webhook("reports"))
        .body(REPORT)
        .send()
        .await;
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
    bridge.stop().await;
    read_to_end(&mut silent).await;
    read_to_end(&mut half).await;
}

/// The API gets the credentials in the notify URL only.
#[tokio::test]
async fn reports_and_lookup_results_arrive_with_basic_auth_alone() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.http.basic_username = Some("info bip@x".into());
        config.http.basic_password = Some("p:ss/w\u{f6}rd?#%41".to_owned().into());
    })
    .await;
    let mut events = bridge.events().await;
    let message = text_with_id("r-1", &["41793026727"]);
    bridge.sms().send_sms(message).await.unwrap();
    let event = events.next_of("report.delivered").await;
    let Some(Payload::Report(report)) = event.payload else {
        panic!("{event:?}")
    };
    assert_eq!(report.message_id, "r-1");
    assert_eq!(push(&bridge).await.status(), StatusCode::UNAUTHORIZED);

    let mut lookups = LookupServiceClient::new(bridge.channel.clone());
    let request = RequestNumberLookupRequest {
        to: vec!["41793026727".into()],
    };
    lookups.request_number_lookup(request).await.unwrap();
    events.next_of("lookup.completed").await;
    bridge.stop().await;
}
