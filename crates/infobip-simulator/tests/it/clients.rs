//! Third-party clients, unmodified, against the simulator: an independent reading of the manual.
//!
//! `tests/clients/` pins their versions and has one script for each language, which makes all of a client's `/sms/1/…`
//! calls and prints the responses. The clients are installed once into the build's temporary folder. docs/SIMULATOR.md lists
//! their calls to other versions (`/sms/2/…`, `/sms/3/…`).

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{
    account::Account,
    external_programs::{self, Node, Python},
    simulator::{API_KEY, PASSWORD, USERNAME},
};

fn clients(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(path)
}

/// Runs a client's script and returns its output.
async fn call(mut command: Command, account: &Account) -> Value {
    command
        .env("SIMULATOR_URL", account.base_url())
        .env("SIMULATOR_USERNAME", USERNAME)
        .env("SIMULATOR_PASSWORD", PASSWORD)
        .env("SIMULATOR_API_KEY", API_KEY)
        .env("NOW", "2015-02-12T08:00:00+00:00")
        .env("SEND_AT", "2015-02-20T16:00:00.000+00:00")
        .env("SEND_AT_LATER", "2015-02-25T16:00:00+00:00");
    let printed = external_programs::run(command).await;
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

#[tokio::test]
async fn npm_clients_call_every_endpoint_they_know() {
    let node = Node::with(&[
        clients("node/package.json"),
        clients("node/package-lock.json"),
    ])
    .await;
    let account = Account::with_quiz().await;
    let results = call(node.script(&clients("node/calls.js")), &account).await;

    // infobip 0.1.0
    assert_eq!(
        results["send"]["messages"][0]["status"]["name"], "MESSAGE_ACCEPTED",
        "{results:#}"
    );
    assert_eq!(results["send"].get("bulkId"), None);
    let numbers: Vec<_> = rows(&results["sendBulk"]["messages"])
        .iter()
        .map(|row| row["to"].clone())
        .collect();
    assert_eq!(numbers, ["41793026727", "41793026834", "41793026835"]);
    assert!(results["sendBulk"]["bulkId"].is_string());
    assert_eq!(
        results["refused"]["requestError"]["serviceException"]["messageId"],
        "UNAUTHORIZED"
    );

    // @infobip-api/sdk 0.3.2
    assert_eq!(results["query"]["status"], 200);
    assert_eq!(rows(&results["query"]["body"]["messages"]).len(), 2);
    assert_eq!(
        results["preview"]["body"]["previews"][1]["charactersRemaining"],
        95
    );
    let report = &results["reports"]["body"]["results"];
    assert_eq!(rows(report).len(), 1, "{results:#}");
    assert_eq!(
        report[0]["messageId"],
        results["send"]["messages"][0]["messageId"]
    );
    assert_eq!(report[0]["status"]["name"], "DELIVERED_TO_HANDSET");
    assert_eq!(results["reportsAgain"]["body"], json!({"results": []}));
    assert_eq!(rows(&results["logs"]["body"]["results"]).len(), 2);
    assert_eq!(
        results["inbox"]["body"]["results"][0]["cleanText"],
        "Correct answer is Paris"
    );
    let bulk = |time: &str| json!({"bulkId": "node-bulk", "sendAt": time});
    assert_eq!(
        results["scheduled"]["body"],
        bulk("2015-02-20T16:00:00.000+0000")
    );
    assert_eq!(
        results["rescheduled"]["body"],
        bulk("2015-02-25T16:00:00.000+0000"),
        "{results:#}"
    );
    assert_eq!(
        results["status"]["body"],
        json!({"bulkId": "node-bulk", "status": "PENDING"})
    );
    assert_eq!(
        results["statusUpdated"]["body"],
        json!({"bulkId": "node-bulk", "status": "CANCELED"})
    );
    assert_eq!(results["byKey"]["status"], 200);
}

async fn python(requirements: &str) -> Value {
    let manifest = clients(&format!("python/{requirements}"));
    let python = Python::with(&manifest, &["--no-deps"]).await;
    let account = Account::with_quiz().await;
    call(python.script(&clients("python/calls.py")), &account).await
}

/// Checks the calls to `/sms/1/` that both versions have.
fn assert_inbox_bulks_and_preview(results: &Value, bulk_id: &str) {
    assert_eq!(
        results["preview"]["previews"][1]["charactersRemaining"], 95,
        "{results:#}"
    );
    let received = &results["inbox"]["results"][0];
    assert_eq!(
        (&received["keyword"], &received["cleanText"]),
        (&json!("QUIZ"), &json!("Correct answer is Paris"))
    );
    assert_eq!(results["inbox"]["pendingMessageCount"], 0);
    assert_eq!(results["scheduled"]["bulkId"], bulk_id);
    // The clients print dates in different forms; the day identifies the date.
    let day = |value: &Value| value["sendAt"].as_str().map(|time| time[..10].to_owned());
    assert_eq!(day(&results["scheduled"]), Some("2015-02-20".into()));
    assert_eq!(day(&results["rescheduled"]), Some("2015-02-25".into()));
    assert_eq!(results["status"]["status"], "PENDING");
    assert_eq!(results["statusUpdated"]["status"], "PAUSED");
    assert_eq!(results["unknownBulk"]["status"], 404);
    assert_eq!(
        results["unknownBulk"]["body"]["requestError"]["serviceException"]["messageId"],
        "NOT_FOUND"
    );
    assert_eq!(results["refused"]["status"], 401);
}

#[tokio::test]
async fn official_python_client_of_v1_calls_every_endpoint_it_knows() {
    let results = python("requirements-4.0.0.txt").await;
    assert_inbox_bulks_and_preview(&results, "python-bulk-4");
    assert_eq!(rows(&results["reports"]["results"]).len(), 2, "{results:#}");
    assert_eq!(
        results["reports"]["results"][0]["status"]["name"],
        "DELIVERED_TO_HANDSET"
    );
    assert_eq!(results["reportsAgain"]["results"], json!([]));
    assert_eq!(rows(&results["logs"]["results"]).len(), 2);
    assert_eq!(results["logs"]["results"][0]["mccMnc"], "22801");
}

#[tokio::test]
async fn current_official_python_client_calls_every_v1_endpoint_it_knows() {
    let results = python("requirements-6.0.0.txt").await;
    assert_inbox_bulks_and_preview(&results, "python-bulk-6");
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
