//! `GET /_sim/phones?q=`: by number, by message id, by text.

use super::*;

async fn found(simulator: &TestSimulator, query: &str) -> Vec<(String, String)> {
    let page = simulator.get(&format!("/_sim/phones?{query}")).await;
    assert_eq!(page["complete"], true, "{page}");
    let phones = page["phones"].as_array().unwrap().iter();
    phones
        .map(|phone| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&phone["number"]), text(&phone["match"]["kind"]))
        })
        .collect()
}

fn pairs(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
    let wanted = wanted.iter();
    wanted
        .map(|(number, kind)| ((*number).to_owned(), (*kind).to_owned()))
        .collect()
}

#[tokio::test]
async fn phones_are_found_by_number_message_id_and_text() {
    let simulator = TestSimulator::frozen().await;
    simulator
        .send(text("41790000001", "m-1", "Call 385 now"))
        .await;
    simulator
        .send(text("385911234567", "m-2", "Привет, МИР"))
        .await;
    simulator
        .send(text("41790000001", "m-3", "Another one"))
        .await;
    let inbound = simulator.inbound("41790000002", TO, "call me").await;
    for (query, wanted) in [
        (
            "q=385",
            &[("385911234567", "number"), ("41790000001", "text")][..],
        ),
        ("q=%2B385+91", &[("385911234567", "number")]),
        ("q=m-3", &[("41790000001", "messageId")]),
        (&format!("q={inbound}"), &[("41790000002", "messageId")]),
        (
            "q=CALL",
            &[("41790000002", "text"), ("41790000001", "text")],
        ),
        ("q=мир", &[("385911234567", "text")]),
        ("q=call&state=received", &[("41790000002", "text")]),
        ("q=call&state=pending", &[("41790000001", "text")]),
        ("q=call&state=expired", &[]),
        ("q=nothing", &[]),
    ] {
        assert_eq!(found(&simulator, query).await, pairs(wanted), "{query}");
    }
    let page = simulator.get("/_sim/phones?q=385").await;
    assert_eq!(page["phones"][1]["match"]["messageId"], "m-1");
    assert_eq!(page["phones"][1]["match"]["text"], "Call 385 now");
    for bad in ["q=%20".to_owned(), format!("q={}", "a".repeat(101))] {
        refused_field(&simulator, &format!("/_sim/phones?{bad}"), "q").await;
    }
}

#[tokio::test]
async fn the_target_of_a_short_link_is_found() {
    let simulator = TestSimulator::frozen().await;
    let body = json!({"tracking": {"track": "URL"}, "messages": [{"destinations": [{"to": TO}],
        "text": "See https://example.com/OFFER"}]});
    simulator.post("/sms/1/text/advanced", body).await;
    assert_eq!(found(&simulator, "q=offer").await, pairs(&[(TO, "text")]));
}

#[tokio::test]
async fn a_search_that_stops_says_so_and_goes_on_from_there() {
    let simulator = TestSimulator::frozen().await;
    let destinations = |prefix: &str, count: u32| -> Vec<Value> {
        let numbers = (0..count).map(|n| json!({"to": format!("{prefix}{n:05}")}));
        numbers.collect()
    };
    let message = |wanted: &str, prefix: &str, count: u32| json!({"text": wanted, "destinations": destinations(prefix, count)});
    // The oldest message is the wanted one: more than one request reads come before it.
    simulator.send(message("a needle", "417900", 1)).await;
    for _ in 0..21 {
        simulator.send(message("hay", "417901", 10_000)).await;
    }
    let (mut query, mut scanned, mut requests) = ("q=needle".to_owned(), 0, 0);
    let phones = loop {
        let page = simulator.get(&format!("/_sim/phones?{query}")).await;
        scanned += page["scanned"].as_u64().unwrap();
        requests += 1;
        assert!(page["scanned"].as_u64().unwrap() <= 201_000);
        if page["complete"] == true {
            assert_eq!(page["cursor"], Value::Null);
            break page["phones"].clone();
        }
        assert_eq!(page["phones"], json!([]));
        query = format!("q=needle&cursor={}", page["cursor"].as_str().unwrap());
    };
    assert!(requests > 1);
    assert_eq!(scanned, 210_001);
    assert_eq!(strings(&phones, "number"), ["41790000000"]);

    // A page of numbers goes on, too.
    let page = simulator.get("/_sim/phones?q=417901&limit=200").await;
    let first = strings(&page["phones"], "number").join(" ");
    let cursor = page["cursor"].as_str().unwrap();
    let next = simulator
        .get(&format!("/_sim/phones?q=417901&limit=200&cursor={cursor}"))
        .await;
    assert_eq!(next["phones"].as_array().unwrap().len(), 200);
    for number in strings(&next["phones"], "number") {
        assert!(!first.contains(number), "{number} is on both pages");
    }
}
