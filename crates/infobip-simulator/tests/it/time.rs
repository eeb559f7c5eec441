//! The simulator's virtual time: the retry cycle, intermediate reports, a simulated week, equal results from equal seeds.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    receiver::PushReceiver,
    simulator::{START_MS, TestSimulator},
};

const TO: &str = "41793026727";

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// A simulator that pushes reports within two virtual milliseconds, without batching.
async fn prompt() -> TestSimulator {
    TestSimulator::frozen_with(|config| {
        config.delivery_latency_ms = (2, 2);
        config.push_batch_window_ms = 0;
    })
    .await
}

fn attempts(push: &Value) -> Vec<(i64, Option<u64>)> {
    let attempts = push["attempts"].as_array().unwrap();
    attempts
        .iter()
        .map(|attempt| {
            (
                (attempt["atMs"].as_i64().unwrap() - START_MS) / 60_000,
                attempt["status"].as_u64(),
            )
        })
        .collect()
}

#[tokio::test]
async fn a_server_that_fails_for_41_h_29_min_gets_its_report_exactly_once() {
    let (simulator, receiver) = (prompt().await, PushReceiver::start().await);
    receiver.answer_with(StatusCode::SERVICE_UNAVAILABLE);
    simulator.send(json!({"text": "a", "notifyUrl": receiver.url("/"), "destinations": [{"to": TO, "messageId": "m-1"}]})).await;
    simulator.advance(minutes(41 * 60 + 29)).await;
    assert_eq!(receiver.pushed().len(), 20);
    receiver.answer_with(StatusCode::OK);
    simulator.advance(minutes(2)).await;
    let pushed = receiver.pushed();
    assert_eq!(pushed.len(), 21);
    assert_eq!(pushed[20].json()["results"][0]["messageId"], "m-1");
    simulator.advance(minutes(7 * 24 * 60)).await;
    assert_eq!(receiver.pushed().len(), 21, "once accepted, never again");
    assert_eq!(simulator.pushes().await[0]["state"], "delivered");
}

#[tokio::test]
async fn a_server_that_never_answers_gets_21_attempts_at_the_manuals_times() {
    let (simulator, receiver) = (prompt().await, PushReceiver::start().await);
    // Only 200 accepts a push.
    receiver.answer_with(StatusCode::NO_CONTENT);
    simulator.send(json!({"text": "a", "notifyUrl": receiver.url("/"), "destinations": [{"to": TO, "messageId": "m-1"}]})).await;
    simulator.advance(minutes(41 * 60 + 31)).await;
    let pushes = simulator.pushes().await;
    let mut at = 0;
    let mut wanted = vec![(0, Some(204))];
    for n in 0..20 {
        at += 1 + n * n;
        wanted.push((at, Some(204)));
    }
    assert_eq!(attempts(&pushes[0]), wanted);
    assert_eq!(wanted.last().unwrap().0, 41 * 60 + 30);
    assert_eq!(pushes[0]["state"], "lost");
    simulator.advance(minutes(6 * 60)).await;
    assert_eq!(receiver.pushed().len(), 21);
    assert_eq!(
        simulator.get("/sms/1/reports").await,
        json!({"results": []}),
        "lost for pulling, too"
    );
    assert_eq!(
        simulator.get("/sms/1/logs?messageId=m-1").await["results"][0]["status"]["id"],
        5,
        "the logs have it"
    );
}

#[tokio::test]
async fn pushes_to_an_unreachable_server_are_retried() {
    let simulator = prompt().await;
    let url = PushReceiver::start().await.url("/gone");
    simulator
        .send(json!({"text": "a", "notifyUrl": url, "destinations": [{"to": TO}]}))
        .await;
    simulator.advance(minutes(4)).await;
    assert_eq!(
        attempts(&simulator.pushes().await[0]),
        [(0, None), (1, None), (3, None)]
    );
}

#[tokio::test]
async fn intermediate_reports_come_before_the_final_one_and_only_if_asked_for() {
    let (simulator, receiver) = (prompt().await, PushReceiver::start().await);
    for (id, wanted) in [("asked", true), ("not", false)] {
        let message = json!({"text": "a", "notifyUrl": receiver.url(&format!("/{id}")), "intermediateReport": wanted,
                             "destinations": [{"to": "999030027", "messageId": id}]});
        simulator.send(message).await;
    }
    simulator.advance(minutes(1)).await;
    let names = |path: &str| -> Vec<(Value, Value)> {
        let pushed = receiver.pushed();
        let reports = pushed
            .iter()
            .filter(|one| one.uri.path() == path)
            .flat_map(|one| one.json()["results"].as_array().unwrap().clone());
        reports
            .map(|report| {
                (
                    report["status"]["name"].clone(),
                    report["error"]["name"].clone(),
                )
            })
            .collect()
    };
    let last: (Value, Value) = ("DELIVERED_TO_HANDSET".into(), "NO_ERROR".into());
    assert_eq!(
        names("/asked"),
        [
            (
                "PENDING_WAITING_DELIVERY".into(),
                "EC_ABSENT_SUBSCRIBER".into()
            ),
            last.clone()
        ]
    );
    assert_eq!(names("/not"), [last]);
}

#[tokio::test]
async fn reports_are_pushed_in_hundreds_and_in_the_asked_format() {
    let (simulator, receiver) = (prompt().await, PushReceiver::start().await);
    let destinations: Vec<_> = (0..250)
        .map(|n| json!({"to": TO, "messageId": format!("m-{n}")}))
        .collect();
    simulator
        .send(
            json!({"text": "a", "notifyUrl": receiver.url("/json"), "destinations": destinations}),
        )
        .await;
    let xml = json!({"text": "a", "notifyUrl": receiver.url("/xml"), "notifyContentType": "application/xml", "destinations": [{"to": TO}]});
    simulator.send(xml).await;
    simulator.advance(minutes(1)).await;
    let pushed = receiver.pushed();
    let sizes: Vec<_> = pushed
        .iter()
        .filter(|one| one.uri.path() == "/json")
        .map(|one| one.json()["results"].as_array().unwrap().len())
        .collect();
    assert_eq!(sizes, [100, 100, 50]);
    let xml = pushed.iter().find(|one| one.uri.path() == "/xml").unwrap();
    assert_eq!(xml.headers["content-type"], "application/xml;charset=UTF-8");
    assert!(String::from_utf8_lossy(&xml.body).contains("<reportResponse><results><result>"));
}

#[tokio::test]
async fn the_clock_can_be_frozen_sped_up_and_read() {
    let simulator = TestSimulator::frozen().await;
    let clock = simulator.get("/_sim/clock").await;
    assert_eq!(
        (clock["nowMs"].as_i64(), clock["frozen"].as_bool()),
        (Some(START_MS), Some(true))
    );
    simulator
        .send(json!({"text": "a", "destinations": [{"to": "999040060"}]}))
        .await;
    simulator
        .post(
            "/_sim/clock",
            json!({"speed": 3_600_000.0, "frozen": false}),
        )
        .await;
    assert_eq!(simulator.all_final().await[0]["state"], "delivered");
    assert!(
        simulator.get("/_sim/clock").await["nowMs"]
            .as_i64()
            .unwrap()
            >= START_MS + 3_600_000
    );
    simulator.post("/_sim/clock", json!({"frozen": true})).await;
    let answer = simulator
        .answer(simulator.request(reqwest::Method::GET, "/sms/1/reports"))
        .await;
    let date = answer.headers["date"].to_str().unwrap().to_owned();
    assert!(date.contains("2015"), "the Date header is virtual: {date}");
    let wrong = simulator
        .try_send(
            reqwest::Method::POST,
            "/_sim/clock",
            &json!({"advanceMs": -1}),
        )
        .await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
}

/// A week with schedules, failures, retries and inbound messages. Returns the ledger, the pushes and the bodies that the
/// server received.
async fn week(seed: u64, receiver: &PushReceiver) -> (Vec<Value>, Vec<Value>, Vec<Vec<u8>>) {
    let before = receiver.pushed().len();
    let template = receiver.url("/in?f=%sender%&t=%text%&m=%messageId%");
    let simulator = TestSimulator::frozen_with(|config| {
        config.seed = seed;
        config.chances = infobip_simulator::Chances {
            undeliverable: 0.1,
            expired: 0.1,
            intermediate: 0.1,
        };
        config.inbound = Some(infobip_simulator::InboundPush::Get(template));
    })
    .await;
    simulator
        .fault(json!({"kind": "duplicate_push", "probability": 0.1}))
        .await;
    for day in 0..7_u64 {
        for hour in 0..4_u64 {
            let at_ms = START_MS + i64::try_from(day * 86_400_000 + hour * 3_600_000).unwrap();
            let send_at = jiff::Timestamp::from_millisecond(at_ms)
                .unwrap()
                .to_string();
            let destinations: Vec<_> = (0..20)
                .map(|n| json!({"to": format!("4179302{n:04}")}))
                .collect();
            let message = json!({"text": "a", "sendAt": send_at, "intermediateReport": true,
                                 "notifyUrl": receiver.url("/reports"), "destinations": destinations});
            simulator.send(message).await;
        }
    }
    for day in 0..7 {
        receiver.answer_with(if day % 2 == 0 {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        });
        simulator
            .inbound(TO, "385921004026", &format!("Day {day}"))
            .await;
        simulator.advance(minutes(24 * 60)).await;
    }
    let got = receiver.pushed().split_off(before);
    let got = got
        .into_iter()
        .map(|one| [one.uri.to_string().as_bytes(), b" ", &one.body].concat())
        .collect();
    (simulator.messages().await, simulator.pushes().await, got)
}

#[tokio::test]
async fn equal_seeds_produce_equal_weeks() {
    let receiver = PushReceiver::start().await;
    let first = week(42, &receiver).await;
    assert_eq!(first.0.len(), 7 * 4 * 20);
    let states = |state: &str| {
        first
            .0
            .iter()
            .filter(|message| message["state"] == state)
            .count()
    };
    assert!(states("delivered") > 300 && states("undeliverable") > 10 && states("expired") > 10);
    assert!(first.1.iter().any(|push| push["duplicateOf"].is_u64()));
    assert!(
        first
            .1
            .iter()
            .any(|push| push["attempts"].as_array().unwrap().len() > 5)
    );
    let again = week(42, &receiver).await;
    assert_eq!(first.0, again.0, "the ledger");
    assert_eq!(first.1, again.1, "the pushes");
    assert!(first.2 == again.2, "what the server got, byte for byte");
    let other = week(43, &receiver).await;
    assert_ne!(first.0, other.0);
}
