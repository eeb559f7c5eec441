//! `GET /_sim/phones`: the list, its pages and its filter.

use std::time::Duration;

use super::*;

async fn numbers(simulator: &TestSimulator, query: &str) -> Vec<String> {
    let page = simulator.get(&format!("/_sim/phones{query}")).await;
    strings(&page["phones"], "number")
        .into_iter()
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn phones_are_listed_by_their_latest_message_of_either_direction() {
    let simulator = TestSimulator::frozen().await;
    simulator.send(text("41790000001", "m-1", "one")).await;
    simulator.send(text("41790000002", "m-2", "two")).await;
    simulator.inbound("+41790000001", "41793026700", "Hi").await;
    assert_eq!(
        numbers(&simulator, "").await,
        ["41790000001", "41790000002"]
    );
    let page = simulator.get("/_sim/phones").await;
    let phone = &page["phones"][0];
    assert_eq!(phone["sent"], 1);
    assert_eq!(phone["received"], 1);
    assert_eq!(phone["states"]["pending"], 1);
    assert_eq!(phone["country"], "Switzerland");
    assert_eq!(phone["last"]["direction"], "in");
    assert_eq!(phone["last"]["text"], "Hi");
    assert_eq!(phone["last"]["sender"], "41793026700");
    assert_eq!(phone["last"]["state"], "received");
    assert_eq!(page["phones"][1]["last"]["messageId"], "m-2");
    assert_eq!(page["total"], 2);
    assert_eq!(page["cursor"], Value::Null);

    simulator.send(text("41790000002", "m-3", "three")).await;
    assert_eq!(
        numbers(&simulator, "").await,
        ["41790000002", "41790000001"]
    );
}

#[tokio::test]
async fn states_are_counted_as_they_change_and_filter_the_list() {
    let simulator = TestSimulator::frozen().await;
    let later = "2015-02-13T08:51:43Z";
    let mut scheduled = text("41790000001", "m-1", "later");
    scheduled["sendAt"] = later.into();
    simulator.send(scheduled).await;
    for (to, id) in [
        ("41790000002", "m-2"),
        ("9990200010000", "m-3"),
        ("999010061234", "m-4"),
        ("999051234567", "m-5"),
    ] {
        simulator.send(text(to, id, "now")).await;
    }
    simulator
        .inbound("41790000009", "41793026700", "from a phone")
        .await;
    simulator.advance(Duration::from_secs(1)).await;
    for (state, wanted) in [
        ("scheduled", "41790000001"),
        ("delivered", "41790000002"),
        ("undeliverable", "9990200010000"),
        ("rejected", "999010061234"),
        ("pending", "999051234567"),
        ("received", "41790000009"),
    ] {
        let found = numbers(&simulator, &format!("?state={state}")).await;
        assert_eq!(found, [wanted], "{state}");
    }
    simulator.advance(Duration::from_secs(49 * 3600)).await;
    assert!(numbers(&simulator, "?state=pending").await.is_empty());
    assert!(numbers(&simulator, "?state=scheduled").await.is_empty());
    assert_eq!(
        numbers(&simulator, "?state=expired").await,
        ["999051234567"]
    );
    let reason = refused_field(&simulator, "/_sim/phones?state=gone", "state").await;
    assert!(reason.contains("undeliverable"), "{reason}");
}

#[tokio::test]
async fn pages_follow_each_other_while_phones_become_active() {
    let simulator = TestSimulator::frozen().await;
    let number = |n: u32| format!("4179000{n:04}");
    for n in 0..25 {
        simulator
            .send(text(&number(n), &format!("m-{n}"), "text"))
            .await;
    }
    let mut seen = Vec::new();
    let mut query = "?limit=10".to_owned();
    loop {
        let page = simulator.get(&format!("/_sim/phones{query}")).await;
        assert!(page["phones"].as_array().unwrap().len() <= 10);
        seen.extend(
            strings(&page["phones"], "number")
                .into_iter()
                .map(str::to_owned),
        );
        let Some(cursor) = page["cursor"].as_str() else {
            break;
        };
        query = format!("?limit=10&cursor={cursor}");
        // The phone that the cursor names becomes the newest, and another one is new.
        let last = seen.last().unwrap().clone();
        simulator.inbound(&last, "41793026700", "again").await;
        simulator.inbound("41791111111", "41793026700", "new").await;
    }
    let wanted: Vec<_> = (0..25).rev().map(number).collect();
    assert_eq!(seen, wanted, "each phone once, none is left out");
}

#[tokio::test]
async fn a_cursor_of_before_a_reset_is_refused() {
    let simulator = TestSimulator::frozen().await;
    for n in 0..3 {
        simulator
            .send(text(&format!("4179000000{n}"), &format!("m-{n}"), "text"))
            .await;
    }
    let page = simulator.get("/_sim/phones?limit=1").await;
    let cursor = page["cursor"].as_str().unwrap().to_owned();
    simulator.post("/_sim/reset", json!({})).await;
    let path = format!("/_sim/phones?limit=1&cursor={cursor}");
    let reason = refused_field(&simulator, &path, "cursor").await;
    assert!(reason.contains("begin without it"), "{reason}");
    assert_eq!(simulator.get("/_sim/phones").await["total"], 0);
    for bad in ["x", "c0-1-1", "p0-1-4294967296", "p0--1", "%F0%9F%98%80"] {
        let path = format!("/_sim/phones?cursor={bad}");
        refused_field(&simulator, &path, "cursor").await;
    }
}

#[tokio::test]
async fn a_page_has_at_most_200_rows_and_a_text_160_characters() {
    let simulator = TestSimulator::frozen().await;
    simulator.send(text(TO, "m-1", &"я".repeat(1000))).await;
    let phone = &simulator.get("/_sim/phones").await["phones"][0];
    assert_eq!(phone["last"]["text"].as_str().unwrap().chars().count(), 160);
    assert_eq!(phone["last"]["textCut"], true);
    for limit in ["0", "201", "-1", "many"] {
        let path = format!("/_sim/phones?limit={limit}");
        refused_field(&simulator, &path, "limit").await;
        let path = format!("/_sim/phones/{TO}?limit={limit}");
        refused_field(&simulator, &path, "limit").await;
    }
}

#[tokio::test]
async fn a_phone_goes_when_its_last_message_is_evicted() {
    let simulator = TestSimulator::frozen_with(|config| {
        config.bounds.messages = 3;
        config.bounds.received = 1;
    })
    .await;
    for n in 0..4 {
        simulator
            .send(text(&format!("4179000000{n}"), &format!("m-{n}"), "text"))
            .await;
    }
    simulator.inbound("41790000007", "41793026700", "a").await;
    simulator.inbound("41790000008", "41793026700", "b").await;
    let page = simulator.get("/_sim/phones").await;
    assert_eq!(
        strings(&page["phones"], "number"),
        ["41790000008", "41790000003", "41790000002", "41790000001"]
    );
    assert_eq!(page["total"], 4);
    assert_eq!(
        get(&simulator, "/_sim/phones/41790000000").await.status,
        StatusCode::NOT_FOUND
    );
    // A phone that is written to again keeps its place in the list, and only the messages that are left.
    simulator.send(text("41790000001", "m-9", "again")).await;
    let phone = simulator.get("/_sim/phones/41790000001").await;
    assert_eq!(phone["phone"]["sent"], 1);
    assert_eq!(strings(&phone["bubbles"], "messageId"), ["m-9"]);
    assert_eq!(simulator.get("/_sim/account").await["states"]["pending"], 3);
}
