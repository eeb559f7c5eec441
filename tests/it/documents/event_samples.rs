//! The samples in docs/EVENTS.md: one of each type, as the bridge makes it.

use std::env;

use serde_json::{Value, json};
use smsbridge::{
    events::NewEvent,
    message::{
        applications::Applications, event_type::EventType, id::ApplicationName,
        traceparent::Traceparent,
    },
    proto::{Timestamp, v1},
};

use crate::support::document::read;

const PATH: &str = "docs/EVENTS.md";
/// The samples are between these lines.
const BEGIN: &str = "<!-- Made by a test from here on: tests/it/documents/event_samples.rs -->\n";
const END: &str = "<!-- Made until here. -->\n";
/// Set this variable to write the samples into the document.
const WRITE: &str = "SMSBRIDGE_WRITE_EVENT_SAMPLES";

fn application() -> ApplicationName {
    ApplicationName::parse("billing").unwrap()
}

/// The status of a report or a result.
fn status(group: (i32, &str), id: i32, name: &str, description: &str, of: &str) -> Value {
    json!({
        "groupId": group.0, "groupName": group.1, "id": id, "name": name, "description": description, "group": of,
    })
}

fn result(result: Value) -> NewEvent {
    let result: v1::SendResult = serde_json::from_value(result).unwrap();
    let at = "2026-11-30T09:30:00.120Z".parse().unwrap();
    let new = NewEvent::send_result(&application(), "order-4711", None, Box::new(result), at);
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    new.caused_by(Traceparent::parse(traceparent))
}

fn report(status: Value, error: Value, is_final: bool) -> NewEvent {
    let row = json!({
        "to": "41793026727", "sentAt": "2026-11-30T09:30:00.100Z", "doneAt": "2026-11-30T09:30:06Z", "smsCount": 1,
        "mccMnc": "22801", "price": {"pricePerMessage": "0.01", "currency": "EUR"}, "status": status, "error": error,
        "final": is_final, "source": "REPORT_SOURCE_PUSH",
    });
    let report: v1::DeliveryReport = serde_json::from_value(row).unwrap();
    let payload = r#"{"messageId":"billing.order-4711","to":"41793026727","…":"…"}"#;
    NewEvent::report(
        &Applications::default(),
        "billing.order-4711",
        report,
        payload.to_owned(),
    )
}

fn sample(event_type: EventType) -> Option<NewEvent> {
    let accepted = status(
        (1, "PENDING"),
        26,
        "PENDING_ACCEPTED",
        "Message sent to next instance",
        "STATUS_GROUP_PENDING",
    );
    let no_error = json!({"groupName": "OK", "name": "NO_ERROR", "description": "No Error", "group": "ERROR_GROUP_OK"});
    let absent = json!({
        "groupId": 1, "groupName": "HANDSET_ERRORS", "id": 27, "name": "EC_ABSENT_SUBSCRIBER", "description": "Absent Subscriber",
        "group": "ERROR_GROUP_HANDSET",
    });
    let to = "41793026727";
    Some(match event_type {
        EventType::SendAccepted => result(json!({
            "to": to, "messageId": "order-4711", "outcome": "OUTCOME_ACCEPTED", "status": accepted, "smsCount": 1,
        })),
        EventType::SendRejected => result(json!({
            "to": to, "messageId": "order-4711", "outcome": "OUTCOME_REJECTED",
            "refusal": {"reason": "EXPIRED", "detail": "it had to be sent before 2026-11-30T09:30:00Z"},
        })),
        EventType::SendUnknown => result(json!({
            "to": to, "messageId": "order-4711", "outcome": "OUTCOME_UNKNOWN",
            "refusal": {"reason": "OUTCOME_UNKNOWN", "detail": "the API did not answer, and its logs do not have the message"},
        })),
        EventType::ReportPending => report(
            status(
                (1, "PENDING"),
                7,
                "PENDING_ENROUTE",
                "Message sent to next instance",
                "STATUS_GROUP_PENDING",
            ),
            absent,
            false,
        ),
        EventType::ReportDelivered => report(
            status(
                (3, "DELIVERED"),
                5,
                "DELIVERED_TO_HANDSET",
                "Message delivered to handset",
                "STATUS_GROUP_DELIVERED",
            ),
            no_error,
            true,
        ),
        EventType::ReportUndeliverable => report(
            status(
                (2, "UNDELIVERABLE"),
                9,
                "UNDELIVERABLE_NOT_DELIVERED",
                "Message sent not delivered",
                "STATUS_GROUP_UNDELIVERABLE",
            ),
            absent,
            true,
        ),
        EventType::ReportExpired => report(
            status(
                (4, "EXPIRED"),
                15,
                "EXPIRED_EXPIRED",
                "Message expired",
                "STATUS_GROUP_EXPIRED",
            ),
            absent,
            true,
        ),
        EventType::ReportRejected => report(
            status(
                (5, "REJECTED"),
                6,
                "REJECTED_NETWORK",
                "Network is forbidden",
                "STATUS_GROUP_REJECTED",
            ),
            no_error,
            true,
        ),
        EventType::ReportOther => report(
            status(
                (9, "NEW_GROUP"),
                90,
                "NEW_STATUS",
                "A status that this version does not know",
                "STATUS_GROUP_UNSPECIFIED",
            ),
            no_error,
            false,
        ),
        EventType::ReportMissing => return None,
        EventType::InboundReceived => {
            let received = json!({
                "messageId": "817790313235066447", "from": "385916242493", "to": "41793026700", "text": "QUIZ Yes",
                "cleanText": "Yes", "keyword": "QUIZ", "receivedAt": "2026-11-30T09:31:59.100Z", "smsCount": 1,
            });
            let payload = r#"{"messageId":"817790313235066447","…":"…"}"#.to_owned();
            NewEvent::received(
                &application(),
                serde_json::from_value(received).unwrap(),
                payload,
            )
        }
        EventType::LinkClicked => {
            let click = json!({
                "notificationType": "CLICKED", "recipient": to, "url": "https://example.com/parcels/4711",
                "sentAt": "2026-11-30T09:30:00Z", "deviceType": "Phone", "os": "Android", "countryName": "Switzerland",
            });
            let payload = r#"{"messageId":"billing.order-4711","…":"…"}"#.to_owned();
            let click = serde_json::from_value(click).unwrap();
            NewEvent::click(
                &Applications::default(),
                "billing.order-4711",
                click,
                payload,
            )
        }
        EventType::LookupCompleted => {
            let lookup = json!({
                "to": to, "mccMnc": "22801", "ported": false,
                "originalNetwork": {"networkName": "Swisscom", "networkPrefix": "79", "countryName": "Switzerland", "countryPrefix": "41"},
                "status": status((3, "DELIVERED"), 5, "DELIVERED_TO_HANDSET", "Message delivered to handset", "STATUS_GROUP_DELIVERED"),
            });
            let lookup = serde_json::from_value(lookup).unwrap();
            NewEvent::lookup_result(&application(), "clean-up-17", lookup)
        }
        EventType::CommandInvalid => {
            let invalid = json!({
                "reason": "INVALID_REQUEST", "detail": "message.destinations is empty: give at least one destination",
                "routingKey": "sms.send",
                "violations": [{"field": "message.destinations", "description": "is empty: give at least one destination"}],
            });
            let invalid = serde_json::from_value(invalid).unwrap();
            NewEvent::invalid_command(&application(), "order-4712", "body", invalid)
        }
    })
}

/// The samples as they are in the document.
fn made() -> String {
    let mut text = String::new();
    for event_type in EventType::ALL {
        let Some(new) = sample(event_type) else {
            continue;
        };
        assert_eq!(new.event_type, event_type, "it is a sample of its type");
        let mut event = new.event;
        let at: jiff::Timestamp = "2026-11-30T09:30:07.500Z".parse().unwrap();
        event.time = Some(Timestamp {
            seconds: at.as_second(),
            nanos: at.subsec_nanosecond(),
        });
        let read: v1::Event =
            serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();
        assert_eq!(read, event);
        let shown = serde_json::to_string_pretty(&event).unwrap();
        text.push_str(&format!(
            "\n`{}`:\n\n```json\n{shown}\n```\n",
            event_type.as_str()
        ));
    }
    text.push('\n');
    text
}

#[test]
fn events_document_has_a_sample_of_each_type_as_the_bridge_makes_it() {
    let document = read(PATH).expect(PATH);
    let (before, rest) = document.split_once(BEGIN).expect(BEGIN);
    let (samples, after) = rest.split_once(END).expect(END);
    if env::var_os(WRITE).is_some() {
        std::fs::write(PATH, format!("{before}{BEGIN}{}{END}{after}", made())).unwrap();
        return;
    }
    assert!(
        samples == made(),
        "an event changed: run `{WRITE}=1 cargo test --test it event_samples`, and look at what changed in {PATH}"
    );
}
