//! The API client over real sockets: its requests, and its classification of every failure.

use std::{net::SocketAddr, time::Duration};

use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::json;
use smsbridge::{
    config::{self, InboundOutput, InboundParameters},
    infobip::{
        ApiError, BatchKind, Client, InboxLogsQuery, LogsQuery, OutboundBatch, OutboundRow,
        ReportsQuery, SendResponse, WireDestination, account::Account, wire,
    },
    ops::metrics::Metrics,
    proto::v1::{self, StatusGroup, outbound_message::Content},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{body_json, body_string, header, method, path, query_param, query_param_is_missing},
};

/// Credentials and a text that no error may contain.
const SECRET: &str = "open sesame";
const NUMBER: &str = "41793026727";
const TEXT: &str = "Your code is 314159";

const ACCEPTED: &str = r#"{"messages":[{"to":"41793026727","status":{"groupId":1,"groupName":"PENDING","id":7,
    "name":"PENDING_ENROUTE","description":"Message sent to next instance"},"smsCount":1,"messageId":"default.m1"}]}"#;

fn config(base_url: &str) -> config::Infobip {
    config::Infobip {
        base_url: base_url.to_owned(),
        username: Some("Aladdin".into()),
        password: Some(SecretString::from(SECRET)),
        password_file: None,
        api_key: None,
        api_key_file: None,
        connect_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(10),
        send_requests_per_second: 0,
        send_messages_per_second: 0,
        log_requests_per_minute: 120,
        log_lag: Duration::from_secs(30),
        replicas: 0,
        send_traceparent: false,
        max_response_bytes: 64 * 1024,
    }
}

fn client(base_url: &str) -> Client {
    Client::new(&config(base_url), Metrics::new()).unwrap()
}

async fn send(client: &Client) -> Result<SendResponse, ApiError> {
    let message = v1::OutboundMessage {
        from: "InfoSMS".into(),
        content: Some(Content::Text(TEXT.into())),
        ..Default::default()
    };
    client
        .send(&OutboundBatch {
            kind: BatchKind::Text,
            bulk_id: None,
            tracking: None,
            traceparent: None,
            messages: vec![OutboundRow {
                message: &message,
                destinations: &[WireDestination {
                    to: NUMBER,
                    wire_id: "default.m1",
                }],
            }],
        })
        .await
}

/// A server that answers the requests of each connection with the given bytes, in order, and then closes it. An empty response
/// resets the connection. The server ends after one connection for each list.
async fn scripted(connections: Vec<Vec<Vec<u8>>>) -> (SocketAddr, JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let mut requests = 0;
        for answers in connections {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in answers {
                read_request(&mut stream).await;
                requests += 1;
                if answer.is_empty() {
                    stream.set_zero_linger().unwrap();
                    break;
                }
                stream.write_all(&answer).await.unwrap();
            }
        }
        requests
    });
    (address, server)
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&received).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length: ")?
                        .parse()
                        .ok()
                })
                .unwrap_or(0);
            if body.len() >= length {
                return text;
            }
        }
        assert_ne!(
            stream.read_buf(&mut received).await.unwrap(),
            0,
            "the request ended early"
        );
    }
}

fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn outcome_of(answer: Vec<u8>) -> Result<SendResponse, ApiError> {
    let (address, server) = scripted(vec![vec![answer]]).await;
    let outcome = send(&client(&format!("http://{address}"))).await;
    assert_eq!(server.await.unwrap(), 1, "each call is one request");
    outcome
}

#[track_caller]
fn assert_in_doubt(outcome: &Result<SendResponse, ApiError>, what: &str) {
    assert!(
        matches!(outcome, Err(ApiError::InDoubt { .. })),
        "{what}: {outcome:?}"
    );
    let said = format!("{outcome:?} {}", outcome.as_ref().unwrap_err());
    for secret in [SECRET, NUMBER, TEXT, "QWxhZGRpbjpvcGVuIHNlc2FtZQ"] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test]
async fn a_send_is_one_request_with_basic_credentials() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/sms/1/text/advanced"))
        .and(header(
            "authorization",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        ))
        .and(header("content-type", "application/json"))
        .and(body_json(json!({"messages": [{
            "from": "InfoSMS",
            "destinations": [{"to": NUMBER, "messageId": "default.m1"}],
            "text": TEXT,
        }]})))
        .respond_with(
            ResponseTemplate::new(200).set_body_raw(ACCEPTED, "application/json;charset=UTF-8"),
        )
        .expect(1)
        .mount(&server)
        .await;
    let answer = send(&client(&server.uri())).await.unwrap();
    let row = answer.destinations[0].as_ref().unwrap();
    assert_eq!(
        (row.status.group(), row.sms_count),
        (StatusGroup::Pending, Some(1))
    );
}

#[tokio::test]
async fn an_api_key_replaces_the_password() {
    let server = MockServer::start().await;
    Mock::given(path("/sms/1/text/advanced"))
        .and(header("authorization", "App k3y"))
        .respond_with(ResponseTemplate::new(200).set_body_string(ACCEPTED))
        .expect(1)
        .mount(&server)
        .await;
    let mut config = config(&server.uri());
    config.api_key = Some(SecretString::from("k3y"));
    let client = Client::new(&config, Metrics::new()).unwrap();
    send(&client).await.unwrap();
    assert!(!format!("{client:?}").contains("k3y"));
}

#[tokio::test]
async fn binary_messages_use_the_binary_endpoint() {
    let server = MockServer::start().await;
    Mock::given(path("/sms/1/binary/advanced"))
        .and(body_string(
            r#"{"messages":[{"destinations":[],"binary":{"hex":"54","dataCoding":4,"esmClass":0}}]}"#,
        ))
        .respond_with(ResponseTemplate::new(200).set_body_string(ACCEPTED))
        .expect(1)
        .mount(&server)
        .await;
    let message = v1::OutboundMessage {
        content: Some(Content::Binary(v1::BinaryContent {
            data: bytes::Bytes::from_static(b"T"),
            data_coding: 4,
            esm_class: 0,
        })),
        ..Default::default()
    };
    let batch = OutboundBatch {
        kind: BatchKind::Binary,
        bulk_id: None,
        tracking: None,
        traceparent: None,
        messages: vec![OutboundRow {
            message: &message,
            destinations: &[],
        }],
    };
    client(&server.uri()).send(&batch).await.unwrap();
}

#[tokio::test]
async fn a_failed_connection_is_not_sent() {
    for base_url in ["http://127.0.0.1:1", "http://no-such-host.invalid"] {
        let outcome = send(&client(base_url)).await;
        assert!(
            matches!(outcome, Err(ApiError::NotSent { .. })),
            "{base_url}: {outcome:?}"
        );
    }
    // A server that does not speak TLS.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"220 hello, this is no TLS\r\n")
            .await
            .unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        rest
    });
    let outcome = send(&client(&format!("https://{address}"))).await;
    assert!(
        matches!(outcome, Err(ApiError::NotSent { .. })),
        "{outcome:?}"
    );
    let received = server.await.unwrap();
    assert!(
        !received
            .windows(TEXT.len())
            .any(|window| window == TEXT.as_bytes())
    );
}

#[tokio::test]
async fn a_connect_timeout_is_not_sent() {
    // A full backlog leaves further connection attempts unanswered.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
    {
        held.push(stream);
    }
    let mut config = config(&format!("http://{address}"));
    config.connect_timeout = Duration::from_millis(200);
    let outcome = send(&Client::new(&config, Metrics::new()).unwrap()).await;
    assert!(
        matches!(&outcome, Err(ApiError::NotSent { detail }) if detail.contains("infobip.connect_timeout")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_failure_after_the_request_is_in_doubt() {
    let cut = &response("200 OK", "", ACCEPTED)[..120];
    let chunked =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10\r\n{\"messages\":[{\"t\r\n";
    let page = "<html><body><h1>Welcome</h1></body></html>";
    let large = format!("{{\"messages\":[],\"x\":\"{}\"}}", "y".repeat(70_000));
    for (what, answer) in [
        ("reset", vec![]),
        ("closed within the status line", b"HTTP/1.1 2".to_vec()),
        ("no HTTP", b"hello\r\n\r\n".to_vec()),
        ("truncated", cut.to_vec()),
        ("truncated chunks", chunked.as_bytes().to_vec()),
        (
            "a page",
            response("200 OK", "content-type: text/html\r\n", page),
        ),
        ("nothing", response("200 OK", "", "")),
        ("no content", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        ("half of a JSON", response("200 OK", "", "{\"messages\":[{")),
        ("other JSON", response("200 OK", "", "{\"results\":[]}")),
        ("too large", response("200 OK", "", &large)),
        ("500", response("500 Internal Server Error", "", "{}")),
        ("502", response("502 Bad Gateway", "", page)),
        (
            "503",
            response("503 Service Unavailable", "retry-after: 1\r\n", ""),
        ),
        ("504", response("504 Gateway Timeout", "", page)),
        ("408", response("408 Request Timeout", "", "")),
        (
            "303",
            response("303 See Other", "location: /elsewhere\r\n", ""),
        ),
    ] {
        assert_in_doubt(&outcome_of(answer).await, what);
    }
}

#[tokio::test]
async fn a_response_timeout_is_in_doubt() {
    // Headers and half of the body arrive in time, the rest never arrives.
    for answer in [
        String::new(),
        format!("HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{ACCEPTED}"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = config(&format!("http://{}", listener.local_addr().unwrap()));
        config.request_timeout = Duration::from_millis(300);
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            // Reads until the client gives up.
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        });
        let outcome = send(&Client::new(&config, Metrics::new()).unwrap()).await;
        assert_in_doubt(&outcome, "timeout");
        assert!(
            outcome
                .unwrap_err()
                .to_string()
                .contains("infobip.request_timeout")
        );
        server.await.unwrap();
    }
}

#[tokio::test]
async fn a_reset_pooled_connection_is_in_doubt() {
    // The second request goes out on the connection of the first and is not retried on another.
    let (address, server) = scripted(vec![vec![response("200 OK", "", ACCEPTED), vec![]]]).await;
    let client = client(&format!("http://{address}"));
    send(&client).await.unwrap();
    assert_in_doubt(&send(&client).await, "reset on reuse");
    assert_eq!(server.await.unwrap(), 2);
}

#[tokio::test]
async fn refusals_are_definite() {
    let page = "<html><body>413</body></html>";
    let envelope = r#"{"requestError":{"serviceException":{"messageId":"BAD_REQUEST","text":"Bad request",
        "validationErrors":{"messages[0].destinations":["must not be empty"]}}}}"#;
    assert_eq!(
        outcome_of(response("400 Bad Request", "", envelope)).await,
        Err(ApiError::Refused {
            http_status: 400,
            code: "BAD_REQUEST".into(),
            text: "Bad request".into(),
            validation_errors: vec![(
                "messages[0].destinations".into(),
                vec!["must not be empty".into()]
            )],
        })
    );
    for status in [
        "404 Not Found",
        "413 Content Too Large",
        "308 Permanent Redirect",
    ] {
        let outcome = outcome_of(response(status, "location: http://127.0.0.1:1/\r\n", page)).await;
        assert!(
            matches!(outcome, Err(ApiError::Refused { .. })),
            "{status}: {outcome:?}"
        );
    }
    let login = r#"{"requestError":{"serviceException":{"messageId":"UNAUTHORIZED","text":"Invalid login details"}}}"#;
    assert_eq!(
        outcome_of(response("401 Unauthorized", "", login)).await,
        Err(ApiError::CredentialsRefused {
            http_status: 401,
            text: "Invalid login details".into()
        })
    );
    for (headers, retry_after) in [
        ("", None),
        ("retry-after: 7\r\n", Some(7)),
        (
            "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nretry-after: Sun, 06 Nov 1994 08:50:07 GMT\r\n",
            Some(30),
        ),
    ] {
        assert_eq!(
            outcome_of(response("429 Too Many Requests", headers, "")).await,
            Err(ApiError::RateLimited {
                retry_after: retry_after.map(Duration::from_secs)
            })
        );
    }
    // A refusal with an incomplete body is still a refusal.
    let cut = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 500\r\n\r\n{".to_vec();
    assert!(matches!(
        outcome_of(cut).await,
        Err(ApiError::Refused {
            http_status: 400,
            ..
        })
    ));
}

#[tokio::test]
async fn read_operations_send_documented_queries_and_return_the_raw_body() {
    let server = MockServer::start().await;
    let raw =
        "{\"results\":[{\"messageId\":\"default.m1\", \"price\":{\"pricePerMessage\":0.0100}}]}";
    let answer = ResponseTemplate::new(200)
        .insert_header("date", "Sun, 06 Nov 1994 08:49:37 GMT")
        .set_body_raw(raw, "application/json;charset=UTF-8");
    Mock::given(method("GET"))
        .and(path("/sms/1/logs"))
        .and(query_param("messageId", "default.a,default.b~1"))
        .and(query_param("generalStatus", "DELIVERED"))
        .and(query_param("sentSince", "2015-02-12T08:51:43.120+00:00"))
        .and(query_param("limit", "1000"))
        .and(query_param_is_missing("bulkId"))
        .respond_with(answer.clone())
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(path("/sms/1/reports"))
        .and(query_param("bulkId", "default.b"))
        .and(query_param("limit", "5"))
        .respond_with(answer.clone())
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(path("/sms/1/inbox/reports"))
        .respond_with(answer.clone())
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(path("/sms/1/inbox/logs"))
        .and(query_param("keyword", "NO_KEYWORD"))
        .respond_with(answer)
        .expect(1)
        .mount(&server)
        .await;
    let config = config(&server.uri());
    let account = Account::new(&config, 0, Metrics::new()).unwrap();
    let client = &account.client;
    let logs = account
        .logs_now(&LogsQuery {
            message_ids: vec!["default.a".into(), "default.b~1".into()],
            general_status: Some(StatusGroup::Delivered),
            sent_since: Some("2015-02-12T08:51:43.12Z".parse().unwrap()),
            limit: Some(1000),
            ..LogsQuery::default()
        })
        .await
        .unwrap();
    assert_eq!(logs.body, raw);
    assert_eq!(logs.content_type, "application/json;charset=UTF-8");
    assert_eq!(
        logs.server_time,
        Some("1994-11-06T08:49:37Z".parse().unwrap())
    );
    let rows = wire::read_logs(&logs.body).unwrap();
    assert_eq!(
        rows.rows[0].log.price.as_ref().unwrap().price_per_message,
        "0.0100"
    );
    let reports = ReportsQuery {
        bulk_id: Some("default.b".into()),
        limit: Some(5),
        ..ReportsQuery::default()
    };
    client.reports(&reports).await.unwrap();
    client.inbox(None).await.unwrap();
    let inbox_logs = InboxLogsQuery {
        keyword: Some("NO_KEYWORD".into()),
        ..InboxLogsQuery::default()
    };
    client.inbox_logs(&inbox_logs).await.unwrap();
}

#[tokio::test]
async fn an_incomplete_destructive_read_is_in_doubt() {
    let whole = response("200 OK", "", "{\"results\":[{\"messageId\":\"a\"}]}");
    let (address, server) = scripted(vec![vec![whole[..whole.len() - 1].to_vec()]]).await;
    let outcome = client(&format!("http://{address}"))
        .reports(&ReportsQuery::default())
        .await;
    assert!(
        matches!(outcome, Err(ApiError::InDoubt { .. })),
        "{outcome:?}"
    );
    server.await.unwrap();
}

#[tokio::test]
async fn other_operations_send_documented_requests() {
    let server = MockServer::start().await;
    let mocks = [
        (
            "POST",
            "/number/1/query",
            json!({"to": [NUMBER]}),
            json!({"results": [{"to": NUMBER, "ported": true}]}),
        ),
        (
            "POST",
            "/number/1/notify",
            json!({"to": [NUMBER], "notifyUrl": "http://x/y", "notifyContentType": "application/json"}),
            json!({"results": [{"to": NUMBER, "messageId": "l1"}], "bulkId": "b"}),
        ),
        (
            "POST",
            "/sms/1/preview",
            json!({"text": "Hi", "languageCode": "TR"}),
            json!({"originalText": "Hi", "previews": [{"textPreview": "Hi", "messageCount": 1}]}),
        ),
        (
            "PUT",
            "/sms/1/bulks",
            json!({"sendAt": "2021-08-25T16:00:00.000+00:00"}),
            json!({"bulkId": "default.b", "sendAt": "2021-08-25T16:00:00.000+0000"}),
        ),
        (
            "PUT",
            "/sms/1/bulks/status",
            json!({"status": "PAUSED"}),
            json!({"bulkId": "default.b", "status": "PAUSED"}),
        ),
    ];
    for (verb, at, request, answer) in mocks {
        let mock = Mock::given(method(verb))
            .and(path(at))
            .and(body_json(request));
        let mock = match verb {
            "PUT" => mock.and(query_param("bulkId", "default.b")),
            _ => mock,
        };
        mock.respond_with(ResponseTemplate::new(200).set_body_json(answer))
            .expect(1)
            .mount(&server)
            .await;
    }
    for (verb, at, answer) in [
        (
            "GET",
            "/sms/1/bulks",
            "{\"bulkId\":\"default.b\",\"sendAt\":\"2021-08-25T16:00:00.000+0000\"}",
        ),
        (
            "GET",
            "/sms/1/bulks/status",
            "{\"bulkId\":\"default.b\",\"status\":\"PENDING\"}",
        ),
        (
            "POST",
            "/ct/1/log/end/default%2Em1",
            "{\"processKey\":\"A37D\"}",
        ),
        (
            "GET",
            "/account/1/balance",
            "{\"balance\":47.7900,\"currency\":\"EUR\"}",
        ),
    ] {
        Mock::given(method(verb))
            .and(path(at))
            .respond_with(ResponseTemplate::new(200).set_body_string(answer))
            .expect(1)
            .mount(&server)
            .await;
    }
    let client = client(&server.uri());
    let numbers = [NUMBER.to_owned()];
    assert_eq!(
        client.lookup(&numbers).await.unwrap().rows[0].lookup.ported,
        Some(true)
    );
    assert_eq!(
        client
            .lookup_async(&numbers, "http://x/y")
            .await
            .unwrap()
            .rows[0]
            .lookup_id,
        "l1"
    );
    let preview = v1::PreviewSmsRequest {
        text: "Hi".into(),
        language_code: "TR".into(),
        transliteration: String::new(),
    };
    assert_eq!(
        client.preview(&preview).await.unwrap().previews[0].message_count,
        1
    );
    let send_at: jiff::Timestamp = "2021-08-25T16:00:00Z".parse().unwrap();
    assert_eq!(client.get_bulk("default.b").await.unwrap().send_at, send_at);
    assert_eq!(
        client.put_bulk("default.b", send_at).await.unwrap().bulk_id,
        "default.b"
    );
    assert_eq!(
        client.get_bulk_status("default.b").await.unwrap(),
        v1::BulkStatus::Pending
    );
    assert_eq!(
        client
            .put_bulk_status("default.b", v1::BulkStatus::Paused)
            .await
            .unwrap(),
        v1::BulkStatus::Paused
    );
    assert_eq!(
        client.confirm_conversion("default.m1").await.unwrap(),
        "A37D"
    );
    assert_eq!(client.balance().await.unwrap().balance, "47.7900");
}

#[test]
fn a_client_requires_a_base_url_and_credentials() {
    let mut none = config("https://api.infobip.com");
    none.password = None;
    assert!(Client::new(&none, Metrics::new()).is_err());
    assert!(Client::new(&config("api.infobip.com"), Metrics::new()).is_err());
    let mut odd = config("https://api.infobip.com");
    odd.api_key = Some(SecretString::from("a\nb"));
    let refused = Client::new(&odd, Metrics::new()).unwrap_err().to_string();
    assert!(refused.contains("infobip.api_key"), "{refused}");
}

/// Calls every reader. Only a panic or a hang fails the test.
fn read_all(body: &[u8]) {
    let _ = wire::read_reports(body);
    let _ = wire::read_logs(body);
    let _ = wire::read_inbox(body);
    let _ = wire::read_lookups(body);
    let _ = wire::read_clicks(body);
}

fn received_from_query(pairs: &[(&str, &str)]) -> Result<wire::InboxRow, wire::UnreadableQuery> {
    let names = InboundParameters::default();
    wire::received_from_query(pairs.iter().copied(), &names, InboundOutput::Plain)
}

fn json_row(id: usize) -> String {
    format!(
        r#"{{"bulkId":"b","messageId":"m{id}","to":"41793026727","sentAt":"2015-02-12T09:51:43.123+0100",
        "price":{{"pricePerMessage":0.01,"currency":"EUR"}},"status":{{"groupId":3,"groupName":"DELIVERED","id":5}},
        "smsCount":1,"callbackData":"it's, {{a}} \"quoted\" one"}}"#
    )
}

fn xml_row(id: usize) -> String {
    format!(
        "<result><bulkId>b</bulkId><messageId>m{id}</messageId><to>41793026727</to>\
         <price><pricePerMessage>0.01</pricePerMessage><currency>EUR</currency></price>\
         <status><groupId>3</groupId><id>5</id></status><callbackData>a &lt;b&gt; &amp; c</callbackData></result>"
    )
}

/// Replaces, removes or inserts bytes.
fn mutate(row: &str, edits: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
    let mut bytes = row.as_bytes().to_vec();
    for (at, how, byte) in edits {
        if bytes.is_empty() {
            break;
        }
        let at = at.index(bytes.len());
        match how % 3 {
            0 => bytes[at] = *byte,
            1 => drop(bytes.remove(at)),
            _ => bytes.insert(at, *byte),
        }
    }
    bytes
}

fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, u8)>> {
    let byte = prop_oneof![
        prop::sample::select(b"{}[]\",:\\<>/&0 ".to_vec()),
        any::<u8>()
    ];
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), byte), 1..4)
}

/// Asserts that a batch of five rows, the third one mutated, keeps the other four.
fn assert_keeps_neighbours(head: &str, rows: &[String], between: &str, tail: &str, third: &[u8]) {
    let mut body = head.as_bytes().to_vec();
    for (at, row) in rows.iter().enumerate() {
        if at > 0 {
            body.extend_from_slice(between.as_bytes());
        }
        body.extend_from_slice(if at == 2 { third } else { row.as_bytes() });
    }
    body.extend_from_slice(tail.as_bytes());
    let found = wire::read_reports(&body).unwrap();
    let ids: Vec<_> = found.rows.iter().map(|row| row.wire_id.as_str()).collect();
    for id in ["m0", "m1", "m3", "m4"] {
        let count = ids.iter().filter(|found| **found == id).count();
        assert!(
            count >= 1,
            "{id} is lost of {}",
            String::from_utf8_lossy(&body)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
        read_all(&body);
        for start in ["{\"results\":[{", "[{\"messageId\":", "<r><results><result>", "<r><result><a>"] {
            read_all(&[start.as_bytes(), &body].concat());
        }
    }

    #[test]
    fn structured_noise_never_panics(body in "[{}\\[\\]\",:<>/&;a \\\\n0-9é]{0,200}") {
        read_all(body.as_bytes());
        let _ = received_from_query(&[("bin", body.as_str()), ("esmclass", "64"), ("datacoding", "8")]);
        let _ = received_from_query(&[("text", "x"), ("datetime", body.as_str()), ("datacoding", body.as_str())]);
    }

    #[test]
    fn arbitrary_bytes_of_a_push_never_panic(octets in prop::collection::vec(any::<u8>(), 1..60), coding: u8, class: u8) {
        let (bin, coding, class) = (hex::encode(&octets), coding.to_string(), class.to_string());
        let row = received_from_query(&[("bin", &bin), ("datacoding", &coding), ("esmclass", &class)]).unwrap();
        let whole = [row.received.user_data_header, row.received.data].concat();
        prop_assert_eq!(whole, octets);
    }

    #[test]
    fn a_mutated_json_row_does_not_affect_its_neighbours(edits in edits()) {
        let rows: Vec<_> = (0..5).map(json_row).collect();
        let third = mutate(&rows[2], &edits);
        assert_keeps_neighbours("{\"results\":[", &rows, ",\n", "]}", &third);
    }

    #[test]
    fn a_mutated_xml_row_does_not_affect_its_neighbours(edits in edits()) {
        let rows: Vec<_> = (0..5).map(xml_row).collect();
        let third = mutate(&rows[2], &edits);
        assert_keeps_neighbours("<reportResponse><results>", &rows, "\n", "</results></reportResponse>", &third);
    }

    #[test]
    fn a_field_of_any_type_keeps_its_row(field in 0usize..14, value in 0usize..9) {
        let fields = ["bulkId", "to", "from", "sentAt", "doneAt", "smsCount", "mccMnc", "mccmnc", "price", "status",
            "error", "callbackData", "text", "unknown"];
        let values = ["null", "true", "-1", "1e400", "\"\"", "\"x\"", "[1,[2]]", "{}", "{\"id\":[],\"groupId\":{},\"pricePerMessage\":[]}"];
        let body = format!(r#"{{"results":[{{"messageId":"m","{}":{}}}]}}"#, fields[field], values[value]);
        let found = wire::read_reports(body.as_bytes()).unwrap();
        prop_assert_eq!((found.rows.len(), found.bad.len()), (1, 0), "{}", body);
        let found = wire::read_logs(body.as_bytes()).unwrap();
        prop_assert_eq!((found.rows.len(), found.bad.len()), (1, 0), "{}", body);
    }
}
