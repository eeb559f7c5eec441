//! `GET /_sim/account`, `/_sim/requests`, and the tables for controls.

use super::*;
use crate::support::simulator::{API_KEY, PASSWORD, USERNAME};

#[tokio::test]
async fn the_account_has_credit_counts_and_reasons() {
    let simulator = TestSimulator::frozen_with(|config| config.balance_micros = 10_000_000).await;
    simulator.send(text(TO, "m-1", "a")).await;
    simulator.send(text("999010061234", "m-2", "b")).await;
    simulator.send(text(TO, "m-1", "a")).await;
    get(&simulator, "/sms/1/logs").await;
    simulator
        .fault(json!({"kind": "reset", "path": "/sms/1/reports"}))
        .await;
    let broken = simulator
        .request(Method::GET, "/sms/1/reports")
        .send()
        .await;
    assert!(broken.is_err());
    let account = simulator.get("/_sim/account").await;
    let logs = simulator.get("/sms/1/logs?messageId=m-1").await;
    let price = logs["results"][0]["price"]["pricePerMessage"]
        .as_f64()
        .unwrap();
    let balance = account["credit"]["balance"].as_f64().unwrap();
    assert!((balance - (10.0 - price)).abs() < 1e-9, "{balance}");
    assert_eq!(account["states"]["pending"], 1);
    assert_eq!(account["states"]["rejected"], 1);
    let named = |rows: &Value| -> Vec<(String, u64)> {
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| {
            (
                row["status"]["name"].as_str().unwrap().to_owned(),
                row["count"].as_u64().unwrap(),
            )
        })
        .collect()
    };
    assert_eq!(
        named(&account["rejections"]),
        [
            ("REJECTED_NETWORK".to_owned(), 1),
            ("REJECTED_DUPLICATE_MESSAGE_ID".to_owned(), 1)
        ]
    );
    assert_eq!(
        named(&account["statuses"]),
        [
            ("PENDING_WAITING_DELIVERY".to_owned(), 1),
            ("REJECTED_NETWORK".to_owned(), 1)
        ]
    );
    let requests = &account["requests"];
    assert_eq!(requests["total"], 5);
    assert_eq!(requests["perSecond"].as_array().unwrap().len(), 60);
    assert_eq!(
        requests["refused"],
        json!([
            {"status": null, "reason": "fault reset", "text": "A fault replaced the response", "count": 1},
            {"status": 401, "reason": "UNAUTHORIZED", "text": "Invalid login details", "count": 1},
        ])
    );
    assert_eq!(account["credentials"]["username"], USERNAME);
    assert_eq!(account["credentials"]["password"], PASSWORD);
    assert_eq!(account["credentials"]["apiKey"], API_KEY);
    let basic = simulator
        .anonymous(Method::GET, "/account/1/balance")
        .header(
            "authorization",
            account["credentials"]["basic"].as_str().unwrap(),
        );
    assert_eq!(simulator.answer(basic).await.status, 200);
    let address = simulator.address().to_string();
    assert_eq!(account["address"]["host"], address);
    assert_eq!(account["inbound"]["way"], "pull");
    let named = simulator
        .anonymous(Method::GET, "/_sim/account")
        .header("host", "localhost:1234");
    assert_eq!(
        simulator.answer(named).await.json()["address"]["baseUrl"],
        "http://localhost:1234"
    );
    simulator.post("/_sim/reset", json!({})).await;
    let account = simulator.get("/_sim/account").await;
    assert_eq!(account["requests"]["refused"], json!([]));
    assert_eq!(account["rejections"], json!([]));
    assert_eq!(account["states"]["rejected"], 0);
}

#[tokio::test]
async fn requests_are_kept_with_their_bodies_and_without_credentials() {
    let simulator = TestSimulator::start().await;
    let query =
        format!("/sms/1/text/query?username=Aladdin&password=open%20sesame&to={TO}&text=Hello");
    assert_eq!(get(&simulator, &query).await.status, 200);
    let token = json!({"username": USERNAME, "password": PASSWORD});
    simulator.post("/auth/1/session", token).await;
    simulator.send(text(TO, "m-1", "a")).await;
    let listed = simulator.get("/_sim/requests?limit=2").await;
    let seqs = |page: &Value| -> Vec<u64> {
        let rows = page["requests"].as_array().unwrap().iter();
        rows.map(|row| row["seq"].as_u64().unwrap()).collect()
    };
    assert_eq!(seqs(&listed), [1, 2]);
    assert_eq!(
        seqs(&simulator.get("/_sim/requests?limit=5&before=2").await),
        [0, 1]
    );
    let (query, session, send) = (
        simulator.get("/_sim/requests/0").await,
        simulator.get("/_sim/requests/1").await,
        simulator.get("/_sim/requests/2").await,
    );
    assert_eq!(query["query"], format!("to={TO}&text=Hello"));
    assert_eq!(
        (&session["body"], &session["answer"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(send["body"]["contentType"], "application/json");
    assert!(send["answer"]["text"].as_str().unwrap().contains("m-1"));
    for request in [&query, &session, &send] {
        let all = request.to_string().to_lowercase();
        assert!(
            !all.contains("sesame") && !all.contains("authorization"),
            "{all}"
        );
    }
    for unknown in ["3", "x", "-1"] {
        let path = format!("/_sim/requests/{unknown}");
        assert_eq!(get(&simulator, &path).await.status, 404);
    }
}

#[tokio::test]
async fn the_ids_of_a_large_request_can_be_left_out() {
    let simulator = TestSimulator::frozen().await;
    let destinations: Vec<_> = (0..1000)
        .map(|n| json!({"to": format!("4179{n:07}")}))
        .collect();
    simulator
        .send(json!({"text": "a", "destinations": destinations}))
        .await;
    let page = simulator.get("/_sim/requests?limit=1&ids=3").await;
    let request = &page["requests"][0];
    assert_eq!(request["messageIds"].as_array().unwrap().len(), 3);
    assert_eq!(request["messageCount"], 1000);
    let all = simulator.get("/_sim/requests?limit=1").await;
    let request = &all["requests"][0];
    assert_eq!(request["messageIds"].as_array().unwrap().len(), 1000);
    assert_eq!(request.get("messageCount"), None);
}

#[tokio::test]
async fn bodies_are_bounded_in_length_number_and_bytes() {
    let simulator = TestSimulator::start().await;
    let long = "я".repeat(40_000);
    simulator.send(text(TO, "m-long", &long)).await;
    let request = simulator.get("/_sim/requests/0").await;
    assert_eq!(request["body"]["cut"], true);
    assert!(request["body"]["bytes"].as_u64().unwrap() > 80_000);
    assert!(request["body"]["text"].as_str().unwrap().len() <= 32 << 10);
    let story = simulator.get("/_sim/messages/m-long").await;
    assert_eq!(story["request"]["destination"]["pointer"], Value::Null);
    // 300 bodies of 32 KiB are more than 8 MiB.
    for n in 1..300 {
        simulator.send(text(TO, &format!("m-{n}"), &long)).await;
    }
    assert_eq!(simulator.get("/_sim/requests/0").await["recorded"], false);
    assert_eq!(simulator.get("/_sim/requests/299").await["recorded"], true);
    for n in 0..501 {
        simulator.send(text(TO, &format!("s-{n}"), "short")).await;
    }
    assert_eq!(simulator.get("/_sim/requests/300").await["recorded"], false);
    let oldest = simulator.get("/_sim/requests/301").await;
    assert_eq!(oldest["recorded"], true);
    assert!(oldest["body"]["text"].as_str().unwrap().contains("s-1"));
}

#[tokio::test]
async fn every_outcome_of_the_table_happens() {
    let simulator = TestSimulator::frozen().await;
    let table = simulator.get("/_sim/outcomes").await;
    assert_eq!(table["statuses"].as_array().unwrap().len(), 34);
    assert_eq!(table["errors"].as_array().unwrap().len(), 91);
    for outcome in table["outcomes"].as_array().unwrap() {
        let example = outcome["example"].as_str().unwrap();
        assert!(example.starts_with(outcome["prefix"].as_str().unwrap()));
        simulator.send(text(example, example, "a")).await;
        let phone = simulator.get(&format!("/_sim/phones/{example}")).await;
        assert!(phone["phone"]["outcome"].is_string(), "{example}");
    }
    for status in table["statuses"].as_array().unwrap() {
        let to = format!("99901{:03}0000", status["id"].as_u64().unwrap());
        simulator.send(text(&to, &to, "a")).await;
        let sent = simulator.get(&format!("/_sim/messages/{to}")).await;
        assert_eq!(
            sent["message"]["accepted"] == false,
            status["rejects"] == true,
            "{to}"
        );
        if status["rejects"] == true {
            assert_eq!(sent["message"]["status"]["id"], status["id"]);
        }
    }
}

#[tokio::test]
async fn every_kind_of_fault_of_the_table_can_be_set_with_its_parameters() {
    let simulator = TestSimulator::start().await;
    let table = simulator.get("/_sim/faults/kinds").await;
    let kinds = table["kinds"].as_array().unwrap();
    let mut names = Vec::new();
    for kind in kinds {
        let mut fault = json!({"kind": kind["kind"]});
        let own = kind["parameters"].as_array().unwrap();
        for parameter in own.iter().chain(table["parameters"].as_array().unwrap()) {
            let value = match (parameter["type"].as_str().unwrap(), &parameter["default"]) {
                (_, default) if !default.is_null() => default.clone(),
                ("integer" | "number", _) => {
                    json!(parameter["min"].as_f64().unwrap().max(1.0) as u64)
                }
                ("boolean", _) => json!(true),
                ("string", _) => json!("/sms"),
                ("json", _) => json!({"a": 1}),
                (other, _) => panic!("{other}"),
            };
            fault[parameter["name"].as_str().unwrap()] = value;
        }
        let answer = simulator
            .try_send(Method::POST, "/_sim/faults", &fault)
            .await;
        assert_eq!(answer.status, 200, "{fault} {}", answer.text);
        let required = own.iter().find(|parameter| parameter["required"] == true);
        if let Some(required) = required {
            fault
                .as_object_mut()
                .unwrap()
                .remove(required["name"].as_str().unwrap());
            let answer = simulator
                .try_send(Method::POST, "/_sim/faults", &fault)
                .await;
            assert_eq!(answer.status, 400, "{fault}");
        }
        names.push(kind["kind"].as_str().unwrap());
    }
    // The error for an unknown kind lists all of them.
    let unknown = simulator
        .try_send(Method::POST, "/_sim/faults", &json!({"kind": "x"}))
        .await;
    let (_, known) = unknown
        .text
        .split_once("expected one of ")
        .expect(&unknown.text);
    let known: Vec<_> = known.split('`').skip(1).step_by(2).collect();
    assert_eq!(known, names);
    let listed = simulator.get("/_sim/faults").await;
    assert_eq!(listed["faults"].as_array().unwrap().len(), names.len());
}
