//! The page's side of the simulator: every endpoint under `/_sim/` that the page uses, who may use them, and their bounds.

mod account;
mod conversations;
mod guard;
mod phones;
mod search;
mod story;
mod stream;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::simulator::{Answer, TestSimulator};

const TO: &str = "41793026727";

/// A message of the text endpoints.
fn text(to: &str, id: &str, text: &str) -> Value {
    json!({"from": "InfoSMS", "destinations": [{"to": to, "messageId": id}], "text": text})
}

/// GET without credentials.
async fn get(simulator: &TestSimulator, path: &str) -> Answer {
    simulator
        .answer(simulator.anonymous(Method::GET, path))
        .await
}

/// The reasons of a 400 for one field.
async fn refused_field(simulator: &TestSimulator, path: &str, field: &str) -> String {
    let answer = get(simulator, path).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
    let errors = &answer.json()["requestError"]["serviceException"]["validationErrors"];
    errors[field][0].as_str().expect(&answer.text).to_owned()
}

fn strings<'a>(rows: &'a Value, field: &str) -> Vec<&'a str> {
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| row[field].as_str().unwrap()).collect()
}
