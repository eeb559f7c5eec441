//! Nothing of a push is lost where its bytes are not what they should be.

use std::io::Write as _;

use reqwest::{Client, StatusCode, header};
use smsbridge::proto::v1::event::Payload;

use crate::support::{bridge::TestBridge, simulator::TestSimulator};

/// Endpoint and body of each quarantined body.
fn quarantined(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let file = rusqlite::Connection::open(folder.join("events.sqlite")).unwrap();
    let mut query = file
        .prepare("SELECT endpoint, body FROM quarantine ORDER BY id")
        .unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn bytes_that_are_not_utf8_are_in_quarantine_beside_their_event() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let client = Client::new();
    let latin1 =
        b"{\"results\":[{\"messageId\":\"1\",\"from\":\"41793026727\",\"text\":\"Z\xfcrich\"}]}";
    let pushed = client
        .post(bridge.webhook("inbound"))
        .body(latin1.to_vec())
        .send();
    assert_eq!(pushed.await.unwrap().status(), StatusCode::OK);
    let query = "sender=41793026727&text=Gen%E8ve&messageId=2";
    let url = format!("{}?{query}", bridge.webhook("inbound"));
    let pushed = client.get(url).send().await.unwrap();
    assert_eq!(pushed.status(), StatusCode::OK);
    let texts: Vec<_> = bridge
        .all_events()
        .await
        .into_iter()
        .filter_map(|event| match event.payload {
            Some(Payload::Received(received)) => Some(received.text),
            _ => None,
        })
        .collect();
    assert_eq!(texts, ["Z\u{fffd}rich", "Gen\u{fffd}ve"]);
    let folder = bridge.stop().await;
    let inbound = "inbound".to_owned();
    assert_eq!(
        quarantined(folder.path()),
        [
            (inbound.clone(), latin1.to_vec()),
            (inbound, query.as_bytes().to_vec())
        ]
    );
}

#[tokio::test]
async fn a_compressed_push_is_refused_and_not_answered_with_200() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"{\"results\":[]}").unwrap();
    let pushed = Client::new()
        .post(bridge.webhook("reports"))
        .header(header::CONTENT_ENCODING, "gzip")
        .body(packed.finish().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(pushed.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let folder = bridge.stop().await;
    assert!(quarantined(folder.path()).is_empty());
}
