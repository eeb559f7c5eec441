//! `smsbridge simulate --verbose`.

use super::*;

#[tokio::test]
async fn verbose_prints_a_line_for_each_request() {
    let mut child = smsbridge()
        .args(["simulate", "--listen", "127.0.0.1:0", "--verbose"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut next = async || {
        tokio::time::timeout(DEADLINE, lines.next_line())
            .await
            .expect("a line")
            .unwrap()
            .unwrap()
    };
    let first = next().await;
    let address = first
        .split_whitespace()
        .find_map(|word| word.strip_prefix("http://"));
    let address = address.unwrap().trim_end_matches('.').to_owned();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let sent = client
        .post(format!(
            "http://{address}/sms/1/text/single?secret=41793026727"
        ))
        .basic_auth("demo", Some("demo"))
        .header("content-type", "application/json")
        .body(r#"{"from":"InfoSMS","to":"41793026727","text":"Hello"}"#)
        .send();
    assert_eq!(sent.await.unwrap().status(), 200);
    let line = next().await;
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[..3], ["POST", "/sms/1/text/single", "200"], "{line}");
    assert_eq!(words[4], "ms", "{line}");
    words[3].parse::<f64>().unwrap();
    assert_eq!(words.len(), 5, "{line}");

    let fault = client
        .post(format!("http://{address}/_sim/faults"))
        .header("content-type", "application/json")
        .body(r#"{"kind":"reset","path":"/sms/1/reports"}"#)
        .send();
    assert_eq!(fault.await.unwrap().status(), 200);
    let line = next().await;
    assert!(line.starts_with("POST /_sim/faults 200 "), "{line}");
    let broken = client.get(format!("http://{address}/sms/1/reports")).send();
    assert!(broken.await.is_err());
    let line = next().await;
    assert!(line.starts_with("GET /sms/1/reports broken "), "{line}");
}
