//! The events of asynchronous look-ups: the API's rows name neither the request nor the application.

use reqwest::{Client, StatusCode};
use smsbridge::proto::v1::{
    Event, RequestNumberLookupRequest, lookup_service_client::LookupServiceClient,
};

use crate::support::{bridge::TestBridge, simulator::TestSimulator};

const TO: &str = "41793026727";

/// Requests a look-up for an application, and waits for its event.
async fn look_up(bridge: &TestBridge, application: &str) -> Event {
    let mut events = bridge.events().await;
    let to = vec![TO.to_owned()];
    let mut request = tonic::Request::new(RequestNumberLookupRequest { to });
    let name = application.parse().unwrap();
    request
        .metadata_mut()
        .insert("x-smsbridge-application", name);
    let mut client = LookupServiceClient::new(bridge.channel.clone());
    client.request_number_lookup(request).await.unwrap();
    events.next_of("lookup.completed").await
}

#[tokio::test]
async fn each_look_up_of_a_number_has_an_event_although_the_answers_are_equal() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let mut ids = std::collections::HashSet::new();
    for application in ["shop", "shop", "billing"] {
        let event = look_up(&bridge, application).await;
        assert_eq!(event.application, application);
        assert!(ids.insert(event.id));
    }
    bridge.stop().await;
}

#[tokio::test]
async fn a_push_of_look_ups_that_is_repeated_adds_no_event() {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let row = |rest: &str| format!(r#"{{"to":"{TO}","mccMnc":"22801"{rest}}}"#);
    let rows = [row(""), row("").replace(TO, "41793026728")].join(",");
    let without_ids = format!(r#"{{"results":[{rows}]}}"#);
    let with_bulk_id = |id: &str| format!(r#"{{"results":[{rows}],"bulkId":"{id}"}}"#);
    let in_xml = format!(
        "<ncResponse><bulkId>b-3</bulkId><results><result><to>{TO}</to></result></results></ncResponse>"
    );
    let with_row_id = |id: &str| {
        format!(
            r#"{{"results":[{}]}}"#,
            row(&format!(r#","messageId":"{id}""#))
        )
    };
    for (query, body, added) in [
        ("?application=shop&request=r-1", without_ids.clone(), 2),
        ("?application=shop&request=r-1", without_ids.clone(), 0),
        ("?application=shop&request=r-2", without_ids.clone(), 2),
        // The notify URL of an earlier version has no request.
        ("?application=shop", with_bulk_id("b-1"), 2),
        ("?application=shop", with_bulk_id("b-1"), 0),
        ("?application=shop", with_bulk_id("b-2"), 2),
        ("?application=shop", in_xml.replace("b-3", "b-1"), 0),
        ("?application=shop", in_xml.clone(), 1),
        ("?application=shop", with_row_id("l-1"), 1),
        ("?application=shop", with_row_id("l-1"), 0),
        ("?application=shop", with_row_id("l-2"), 1),
        ("?application=shop", without_ids.clone(), 2),
        ("?application=shop", without_ids.clone(), 0),
    ] {
        let before = bridge.all_events().await.len();
        let url = format!("{}{query}", bridge.webhook("lookups"));
        let answer = Client::new().post(url).body(body.clone()).send().await;
        assert_eq!(answer.unwrap().status(), StatusCode::OK);
        let events = bridge.all_events().await;
        assert_eq!(events.len() - before, added, "{query} {body}");
    }
    bridge.stop().await;
}
