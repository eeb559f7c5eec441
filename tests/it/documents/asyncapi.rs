//! docs/asyncapi.yaml against the contract and a real bridge: its schemas are those of proto/smsbridge/v1, the bridge carries
//! out each command in it and reads each event in it, and what the bridge publishes is valid by it.
//!
//! `make check` asks AsyncAPI's own parser whether the document is valid.

mod examples;
mod schemas;

use std::env;

use serde_json::Value;
use smsbridge::{config::EventEncoding, message::event_type::EventType};

use self::schemas::Schemas;
use crate::support::document::read;

/// What follows this line in the document is made from the contract.
const MADE: &str = "    # Made from proto/smsbridge/v1 from here on.\n";
/// Set this variable to write the schemas into the document.
const WRITE: &str = "SMSBRIDGE_WRITE_ASYNCAPI";
const PATH: &str = "docs/asyncapi.yaml";

#[test]
fn schemas_are_those_of_the_contract() {
    let document = read(PATH).expect(PATH);
    let (by_hand, made) = document.split_once(MADE).expect(MADE);
    let commands = [
        "SendSmsRequest",
        "SendSmsBulkRequest",
        "LookupNumbersRequest",
    ];
    let published = [
        "Event",
        "SendSmsResponse",
        "SendSmsBulkResponse",
        "LookupNumbersResponse",
    ];
    let schemas = Schemas::read().yaml(&commands, &published);
    if env::var_os(WRITE).is_some() {
        std::fs::write(PATH, format!("{by_hand}{MADE}{schemas}")).unwrap();
        return;
    }
    assert!(
        made == schemas,
        "the contract changed: run `{WRITE}=1 cargo test --test it asyncapi`, and look at what changed in {PATH}"
    );
}

fn document() -> Value {
    yaml_serde::from_str(&read(PATH).expect(PATH)).expect("it is YAML")
}

#[test]
fn each_content_type_of_events_is_described() {
    let document = document();
    let described =
        &document["components"]["x-amqp-properties"]["event"]["properties"]["content_type"]["enum"];
    let written = EventEncoding::ALL.map(|one| Value::from(one.content_type()));
    assert_eq!(described, &Value::from(written.to_vec()));
}

#[test]
fn each_type_of_event_is_described() {
    let document = document();
    let described = &document["channels"]["events"]["parameters"]["type"]["enum"];
    let described: Vec<_> = described.as_array().unwrap().iter().collect();
    let written = EventType::ALL.map(|one| Value::from(one.as_str()));
    assert_eq!(described, written.iter().collect::<Vec<_>>());
}
