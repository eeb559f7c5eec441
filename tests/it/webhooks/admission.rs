//! Who may push: signatures on the path of subscriptions, and networks behind proxies.

use hmac::{Hmac, Mac as _};
use reqwest::{Client, StatusCode, header};
use sha2::Sha256;
use smsbridge::config::Config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{REPORT, begun, half_a_push, read_to_end};
use crate::support::{
    bridge::{LONG_AFTER, TestBridge},
    eventually,
    simulator::TestSimulator,
};

const KEY: &str = "a key of this test";
const OLD_KEY: &str = "the key before it";

/// The configuration of `text`, laid over the one of the test. A network has no other way in than its text.
fn networks(config: &mut Config, allowed: &str, proxies: &str) {
    let variables = [
        ("SMSBRIDGE_HTTP__ALLOWED_NETWORKS", allowed),
        ("SMSBRIDGE_HTTP__TRUSTED_PROXIES", proxies),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let read = Config::load(None, variables.into_iter(), &[]).unwrap();
    config.http.allowed_networks = read.http.allowed_networks;
    config.http.trusted_proxies = read.http.trusted_proxies;
}

fn signed_with(config: &mut Config) {
    config.http.hmac_key = Some(KEY.to_owned().into());
    config.http.hmac_previous_key = Some(OLD_KEY.to_owned().into());
    config.http.hmac_header = Some("X-Signature".into());
    config.http.secret = Some("a-secret-of-this-test".to_owned().into());
}

fn signature(key: &str, body: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    hex::encode(mac.chain_update(body).finalize().into_bytes())
}

#[tokio::test]
async fn a_push_to_the_path_of_subscriptions_needs_a_signature() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, signed_with).await;
    let url = |endpoint: &str| {
        let http = bridge.addresses.http;
        format!("http://{http}/infobip/subscriptions/{endpoint}")
    };
    let inbound =
        r#"{"results":[{"messageId":"i-1","from":"41793026727","to":"41790000000","text":"Hi"}]}"#;
    let click = r#"{"notificationType":"CLICKED","recipient":"41793026727","url":"https://example.com","messageId":"m-1"}"#;
    let lookup = r#"{"results":[{"to":"41793026727","ported":false}]}"#;
    let client = Client::new();
    let push = async |endpoint: &str, body: &'static str, signature: Option<String>| {
        let mut request = client.post(url(endpoint)).body(body);
        if let Some(signature) = signature {
            request = request.header("x-signature", signature);
        }
        request.send().await.unwrap().status()
    };
    let other = signature("a key of a stranger", REPORT);
    let of_another_body = signature(KEY, inbound);
    for refused in [None, Some("".into()), Some(other), Some(of_another_body)] {
        let status = push("reports", REPORT, refused).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
    // Neither the secret nor a GET takes the place of the signature.
    let template = format!(
        "{}?sender=41793026727&text=Hi&messageId=i-0",
        url("inbound")
    );
    let get = client.get(template).send().await.unwrap();
    assert_eq!(get.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(bridge.all_events().await.is_empty());
    let unauthorized =
        r#"smsbridge_webhook_bodies_total{endpoint="reports",result="unauthorized"}"#;
    assert_eq!(bridge.metric(unauthorized).await, Some(4.0));

    for (endpoint, body, key) in [
        ("reports", REPORT, KEY),
        ("inbound", inbound, OLD_KEY),
        ("clicks", click, KEY),
        ("lookups?application=shop&request=7", lookup, KEY),
    ] {
        let status = push(endpoint, body, Some(signature(key, body))).await;
        assert_eq!(status, StatusCode::OK, "{endpoint}");
    }
    let events = bridge.all_events().await;
    let of: Vec<_> = events
        .iter()
        .map(|event| (event.r#type.as_str(), event.application.as_str()))
        .collect();
    assert_eq!(
        of,
        [
            ("report.delivered", "foreign"),
            ("inbound.received", "default"),
            ("link.clicked", "foreign"),
            // The signature does not cover the URL.
            ("lookup.completed", "default")
        ]
    );
    // The other paths are as before.
    let secret = url("reports").replace("subscriptions", "a-secret-of-this-test");
    let pushed = client.post(secret).body(REPORT).send().await.unwrap();
    assert_eq!(pushed.status(), StatusCode::OK);
    bridge.stop().await;
}

/// Without a key the segment is not taken for a secret either, although any secret is admitted there.
#[tokio::test]
async fn without_a_key_there_is_no_path_of_subscriptions() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let url = bridge.webhook("reports").replace("local", "subscriptions");
    let request = Client::new().post(url).body(REPORT);
    let pushed = request.header("x-signature", signature(KEY, REPORT)).send();
    assert_eq!(pushed.await.unwrap().status(), StatusCode::NOT_FOUND);
    bridge.stop().await;
}

#[tokio::test]
async fn bodies_with_unverified_signatures_leave_places_to_others() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        signed_with(config);
        config.http.max_concurrent_requests = 4;
        config.http.header_timeout = LONG_AFTER;
        config.http.request_timeout = LONG_AFTER;
    })
    .await;
    let address = bridge.addresses.http;
    let path = |segment: &str| format!("http://{address}/infobip/{segment}/reports");
    let client = Client::new();
    let signed = async || {
        let request = client.post(path("subscriptions")).body(REPORT);
        let signature = signature(KEY, REPORT);
        let request = request.header("x-signature", signature);
        request.send().await.unwrap().status()
    };
    // A stranger knows how long a signature is, and never sends the whole body.
    let invented = format!("host: x\r\nx-signature: {}", "00".repeat(32));
    let half = half_a_push().replace("/local/", "/subscriptions/");
    let mut stranger = begun(address, &half.replace("host: x", &invented)).await;
    eventually("the stranger holds the place", async || {
        (signed().await == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    let by_secret = client.post(path("a-secret-of-this-test")).body(REPORT);
    assert_eq!(by_secret.send().await.unwrap().status(), StatusCode::OK);
    stranger.write_all(&REPORT.as_bytes()[10..]).await.unwrap();
    let mut answer = [0; 12];
    stranger.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    assert_eq!(signed().await, StatusCode::OK);
    bridge.stop().await;
}

#[tokio::test]
async fn only_clients_of_the_allowed_networks_may_push() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        networks(config, "192.0.2.0/24", "127.0.0.0/8");
    })
    .await;
    let client = Client::new();
    let push = async |forwarded: Option<&str>| {
        let mut request = client.post(bridge.webhook("reports")).body(REPORT);
        if let Some(forwarded) = forwarded {
            request = request.header("X-Forwarded-For", forwarded);
        }
        request.send().await.unwrap().status()
    };
    for (forwarded, status) in [
        (None, StatusCode::FORBIDDEN),
        (Some("198.51.100.1"), StatusCode::FORBIDDEN),
        // The client wrote the first one, the proxy the second one.
        (Some("192.0.2.1, 198.51.100.1"), StatusCode::FORBIDDEN),
        (Some("192.0.2.1, unknown"), StatusCode::FORBIDDEN),
        (Some("198.51.100.1, 192.0.2.1"), StatusCode::OK),
        (Some("192.0.2.1, 127.0.0.3"), StatusCode::OK),
    ] {
        assert_eq!(push(forwarded).await, status, "{forwarded:?}");
    }
    let series = r#"smsbridge_webhook_bodies_total{endpoint="reports",result="unauthorized"}"#;
    assert_eq!(bridge.metric(series).await, Some(4.0));
    // By GET too.
    let get = format!("{}?sender=1&text=Hi", bridge.webhook("inbound"));
    let get = client.get(get).send().await.unwrap();
    assert_eq!(get.status(), StatusCode::FORBIDDEN);
    // Before the body is read; and the connection is closed.
    let mut slow = begun(bridge.addresses.http, &half_a_push()).await;
    let answer = read_to_end(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    bridge.stop().await;
}

#[tokio::test]
async fn a_client_that_is_no_proxy_cannot_name_another() {
    let simulator = TestSimulator::start().await;
    for (allowed, status) in [
        ("192.0.2.0/24", StatusCode::FORBIDDEN),
        ("192.0.2.0/24, 127.0.0.1", StatusCode::OK),
    ] {
        let bridge = TestBridge::with(&simulator, |config| networks(config, allowed, "")).await;
        let request = Client::new().post(bridge.webhook("reports")).body(REPORT);
        let request = request.header(header::FORWARDED, "for=192.0.2.1");
        let pushed = request.header("X-Forwarded-For", "192.0.2.1").send();
        assert_eq!(pushed.await.unwrap().status(), status, "{allowed}");
        bridge.stop().await;
    }
}
