//! `GET /_sim/phones/{number}`: what a phone shows, and hostile contents.

use std::time::Duration;

use super::*;

async fn bubbles(simulator: &TestSimulator, number: &str) -> Vec<Value> {
    let mut page = simulator.get(&format!("/_sim/phones/{number}")).await;
    match page["bubbles"].take() {
        Value::Array(bubbles) => bubbles,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn both_directions_are_in_the_order_in_which_they_came() {
    let simulator = TestSimulator::frozen().await;
    for n in 0..7 {
        // A frozen clock: all have the same time, and other phones are in between.
        if n % 3 == 1 {
            let id = simulator.inbound(TO, "41793026700", "answer").await;
            assert!(!id.is_empty());
        } else {
            simulator.send(text(TO, &format!("m-{n}"), "text")).await;
        }
        let other = format!("o-{n}");
        simulator.send(text("41790000001", &other, "other")).await;
    }
    let mut seen = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let page = simulator.get(&format!("/_sim/phones/{TO}{query}")).await;
        seen.extend(page["bubbles"].as_array().unwrap().clone());
        let Some(cursor) = page["cursor"].as_str() else {
            break;
        };
        query = format!("?limit=2&cursor={cursor}");
        simulator
            .send(text(TO, &format!("new-{}", seen.len()), "new"))
            .await;
    }
    let order: Vec<_> = seen
        .iter()
        .map(|bubble| match bubble["direction"].as_str() {
            Some("in") => "in",
            _ => bubble["messageId"].as_str().unwrap(),
        })
        .collect();
    assert_eq!(order, ["m-6", "m-5", "in", "m-3", "m-2", "in", "m-0"]);
}

#[tokio::test]
async fn a_cursor_shows_no_other_phone() {
    let simulator = TestSimulator::frozen().await;
    for n in 0..2 {
        simulator.send(text(TO, &format!("m-{n}"), "mine")).await;
    }
    simulator.send(text("41790000001", "o-1", "other")).await;
    let page = simulator.get(&format!("/_sim/phones/{TO}?limit=1")).await;
    let cursor = page["cursor"].as_str().unwrap();
    let path = format!("/_sim/phones/41790000001?cursor={cursor}");
    refused_field(&simulator, &path, "cursor").await;
    assert_eq!(get(&simulator, "/_sim/phones/123").await.status, 404);
}

#[tokio::test]
async fn a_text_has_its_encoding_and_its_parts() {
    let simulator = TestSimulator::frozen().await;
    let turkish = json!({"languageCode": "TR", "singleShift": true});
    for (id, message, alphabet, table, parts) in [
        ("m-0", json!({"text": "Hello €"}), "gsm7", Value::Null, 1),
        ("m-1", json!({"text": "Привет 😀"}), "ucs2", Value::Null, 1),
        (
            "m-2",
            json!({"text": "a".repeat(161)}),
            "gsm7",
            Value::Null,
            2,
        ),
        (
            "m-3",
            json!({"text": "ğ", "language": turkish}),
            "gsm7",
            json!("Turkish single shift"),
            1,
        ),
        (
            "m-4",
            json!({"text": "Ως", "transliteration": "GREEK"}),
            "gsm7",
            Value::Null,
            1,
        ),
    ] {
        let mut message = message;
        message["destinations"] = json!([{"to": TO, "messageId": id}]);
        simulator.send(message).await;
        let bubble = bubbles(&simulator, TO).await.remove(0);
        assert_eq!(bubble["messageId"], id);
        assert_eq!(bubble["encoding"]["alphabet"], alphabet, "{id}");
        assert_eq!(bubble["encoding"]["table"], table, "{id}");
        assert_eq!(bubble["parts"], parts, "{id}");
    }
    let greek = &bubbles(&simulator, TO).await[0];
    assert_eq!(greek["text"], "ΩΣ");
    assert_eq!(greek["encoding"]["transliteration"], "GREEK");
    let plain = &bubbles(&simulator, TO).await[4];
    assert_eq!(plain["charactersRemaining"], 160 - 8);
}

#[tokio::test]
async fn octets_are_hexadecimal_in_both_directions() {
    let simulator = TestSimulator::frozen().await;
    let message = json!({"messages": [{"destinations": [{"to": TO, "messageId": "m-1"}], "flash": true,
        "binary": {"hex": "06 05 04 15 8a 00 00 AA", "dataCoding": 4, "esmClass": 64}}]});
    simulator.post("/sms/1/binary/advanced", message).await;
    let inbound = json!({"from": TO, "to": "41793026700", "hex": "0041d83d", "dataCoding": 8});
    simulator.post("/_sim/inbound", inbound).await;
    let bubbles = bubbles(&simulator, TO).await;
    assert_eq!(bubbles[0]["binary"]["hex"], "0041d83d");
    assert_eq!(bubbles[0]["text"], "A\u{fffd}");
    assert_eq!(bubbles[1]["text"], Value::Null);
    assert_eq!(
        bubbles[1]["binary"],
        json!({"hex": "060504158a0000aa", "cut": false, "octets": 8, "dataCoding": 4, "esmClass": 64})
    );
    assert_eq!(bubbles[1]["encoding"]["name"], "binary");
    assert_eq!(bubbles[1]["flash"], true);
}

#[tokio::test]
async fn a_scheduled_message_says_when_and_an_expired_one_that_it_is() {
    let simulator = TestSimulator::frozen().await;
    let mut message = text("999051234567", "m-1", "later");
    message["sendAt"] = "2015-02-12T09:51:43.123Z".into();
    message["validityPeriod"] = 60.into();
    simulator.send(message).await;
    let bubble = bubbles(&simulator, "999051234567").await.remove(0);
    let start_ms = crate::support::simulator::START_MS;
    assert_eq!(bubble["state"], "scheduled");
    assert_eq!(bubble["scheduledForMs"], start_ms + 3_600_000);
    assert_eq!(bubble["expiresAtMs"], start_ms + 7_200_000);
    assert_eq!(bubble["doneAtMs"], Value::Null);
    simulator.advance(Duration::from_secs(3 * 3600)).await;
    let bubble = bubbles(&simulator, "999051234567").await.remove(0);
    assert_eq!(bubble["state"], "expired");
    assert_eq!(bubble["scheduledForMs"], Value::Null);
    assert_eq!(bubble["error"]["name"], "EC_VALIDITYEXPIRED");
    assert_eq!(bubble["doneAtMs"], start_ms + 7_200_000);
    assert_eq!(bubble["report"], "waiting");
}

#[tokio::test]
async fn short_links_lead_to_this_server_and_their_clicks_are_counted() {
    let simulator = TestSimulator::frozen_with(|config| config.bounds.links = 2).await;
    let body = json!({"tracking": {"track": "URL"}, "messages": [{"destinations": [{"to": TO, "messageId": "m-1"}],
        "text": "See https://example.com/a and https://example.com/b."}]});
    simulator.post("/sms/1/text/advanced", body).await;
    let link = |bubble: &Value, at: usize| bubble["links"][at].clone();
    let bubble = bubbles(&simulator, TO).await.remove(0);
    let first = link(&bubble, 0);
    assert_eq!(first["target"], "https://example.com/a");
    assert_eq!(first["clicks"], 0);
    let shown = bubble["text"].as_str().unwrap();
    assert!(shown.contains(first["short"].as_str().unwrap()), "{shown}");
    let followed = get(&simulator, first["path"].as_str().unwrap()).await;
    assert_eq!(followed.status, StatusCode::FOUND);
    assert_eq!(followed.headers["location"], "https://example.com/a");
    assert_eq!(followed.headers.get("content-security-policy"), None);
    let bubble = bubbles(&simulator, TO).await.remove(0);
    assert_eq!(link(&bubble, 0)["clicks"], 1);
    assert_eq!(link(&bubble, 1)["clicks"], 0);
    // Two other links: these are evicted.
    let body = json!({"tracking": {"track": "URL"}, "messages": [{"destinations": [{"to": "41790000001"}],
        "text": "https://example.com/c https://example.com/d"}]});
    simulator.post("/sms/1/text/advanced", body).await;
    let bubble = bubbles(&simulator, TO).await.remove(0);
    assert_eq!(link(&bubble, 0)["gone"], true);
}

#[tokio::test]
async fn a_keyword_is_split_off_and_a_pull_is_seen() {
    let simulator = TestSimulator::start().await;
    let keyword = json!({"to": "41793026700", "keyword": "WIN"});
    simulator.post("/_sim/keywords", keyword).await;
    simulator.inbound(TO, "41793026700", "win now").await;
    let bubble = bubbles(&simulator, TO).await.remove(0);
    assert_eq!(bubble["keyword"], "win");
    assert_eq!(bubble["cleanText"], "now");
    assert_eq!(bubble["report"], "waiting");
    simulator.get("/sms/1/inbox/reports").await;
    assert_eq!(bubbles(&simulator, TO).await[0]["report"], "pulled");
}

#[tokio::test]
async fn hostile_contents_are_data() {
    let simulator = TestSimulator::frozen().await;
    let hostile = [
        "<script>alert(1)</script>\"'&\\u0000",
        "\u{202e}evil\u{202c}\u{0}\u{1}\u{7f}\u{2028}\u{2029}\u{feff}",
        "]]>\r\n\r\ndata: {}\n\nevent: bye\n\n",
    ];
    for (n, content) in hostile.iter().enumerate() {
        let mut message = text(TO, &format!("m-{n}-{content}"), content);
        message["from"] = "<b>\u{202e}\"".into();
        simulator.send(message).await;
        simulator.inbound(content, content, content).await;
        let bubble = bubbles(&simulator, TO).await.remove(0);
        assert_eq!(bubble["text"], *content);
        assert_eq!(bubble["sender"], "<b>\u{202e}\"");
        let phone = &simulator.get("/_sim/phones").await["phones"][0];
        assert_eq!(phone["last"]["text"], *content);
        let encoded = percent(phone["number"].as_str().unwrap());
        let inbound = simulator.get(&format!("/_sim/phones/{encoded}")).await;
        assert_eq!(inbound["bubbles"][0]["text"], *content);
        let id = percent(bubble["messageId"].as_str().unwrap());
        let story = simulator.get(&format!("/_sim/messages/{id}")).await;
        assert_eq!(story["message"]["text"], *content);
        assert_eq!(story["request"]["destination"]["index"], 0);
    }

    // 10,000 characters are more than 25 parts: rejected, and shown.
    let long = "я".repeat(10_001);
    simulator.send(text(TO, "m-long", &long)).await;
    let bubble = bubbles(&simulator, TO).await.remove(0);
    assert_eq!(bubble["state"], "rejected");
    assert_eq!(bubble["text"].as_str().unwrap().chars().count(), 10_000);
    assert_eq!(bubble["textCut"], true);
    assert_eq!(bubble["characters"], 10_001);

    // A lone surrogate is no text: the request is refused, and its body is shown as it came.
    let body = r#"{"messages":[{"text":"a \ud800 b","destinations":[{"to":"41793026727"}]}]}"#;
    let request = simulator
        .request(Method::POST, "/sms/1/text/advanced")
        .header("content-type", "application/json")
        .body(body);
    assert_eq!(simulator.answer(request).await.status, 400);
    let refused = simulator.get("/_sim/requests?refused=true&limit=1").await;
    let seq = &refused["requests"][0]["seq"];
    let request = simulator.get(&format!("/_sim/requests/{seq}")).await;
    assert_eq!(request["body"]["text"], body);
    assert_eq!(request["refused"]["reason"], "BAD_REQUEST");

    // What is no number gets no phone, and nothing breaks.
    simulator.send(text(&"9".repeat(10_000), "m-no", "x")).await;
    simulator.inbound(&"8".repeat(10_000), TO, "x").await;
    let total = simulator.get("/_sim/phones").await["total"].clone();
    assert_eq!(total, 1 + hostile.len());
    let story = simulator.get("/_sim/messages/m-no").await;
    assert_eq!(story["changes"][0]["what"], "rejected");
}

#[tokio::test]
async fn enormous_contents_are_shown_in_part() {
    let simulator = TestSimulator::frozen().await;
    let long = "needle ".repeat(300_000);
    simulator.send(text(TO, "m-1", &long)).await;
    let octets = json!({"messages": [{"destinations": [{"to": TO, "messageId": "m-2"}],
        "binary": {"hex": "00".repeat(1_000_000), "dataCoding": 4}}]});
    simulator.post("/sms/1/binary/advanced", octets).await;
    let mut invalid = text(&"x".repeat(1_000_000), "m-3", "to nobody");
    invalid["from"] = "y".repeat(1_000_000).into();
    simulator.send(invalid).await;
    let received = simulator.inbound(&"z".repeat(1_000_000), TO, &long).await;
    for path in [
        format!("/_sim/phones/{TO}"),
        "/_sim/phones".to_owned(),
        "/_sim/phones?q=needle".to_owned(),
        "/_sim/messages/m-1".to_owned(),
        "/_sim/messages/m-2".to_owned(),
        "/_sim/messages/m-3".to_owned(),
        format!("/_sim/messages/{received}"),
        "/_sim/requests?limit=10".to_owned(),
        "/_sim/requests/0".to_owned(),
    ] {
        let answer = get(&simulator, &path).await;
        assert_eq!(answer.status, 200, "{path}");
        let length = answer.text.len();
        assert!(length < 200_000, "{path} {length}");
    }
    let story = simulator.get("/_sim/messages/m-2").await;
    assert_eq!(story["message"]["binary"]["octets"], 1_000_000);
    assert_eq!(story["message"]["binary"]["cut"], true);
    assert_eq!(story["segments"].as_array().unwrap().len(), 50);
}

/// All bytes of a text in percent-encoding.
fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
