//! Events before they are in the log: their types, their ids, and what the log needs to know about them.
//!
//! An event's id is derived from what happened, so that duplicates have the same id whatever source they came from
//! (DESIGN, "Applications and ids").

use jiff::Timestamp;
use sha1::{Digest as _, Sha1};
use uuid::{Builder, Uuid};

use super::ContentDigest;
use crate::{
    message::{
        id::{ApplicationName, callers_bulk_id, owner, uuid_text},
        time,
    },
    proto::v1::{self, event::Payload},
};

/// The namespace of event ids (a random UUID of our own).
const NAMESPACE: Uuid = Uuid::from_u128(0x5f0e_6f6c_8a44_4b51_9d0b_3c5f_52a1_7e90);

/// An event that is to be appended.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The event, without a cursor.
    pub event: v1::Event,
    /// The id that Infobip sees, of the message that it is about. Empty where it is about none.
    pub wire_id: String,
    /// For results: what was sent, where its caller can repeat it.
    pub digest: Option<ContentDigest>,
}

impl NewEvent {
    /// The result for one destination, known since `at`: `send.accepted`, `send.rejected` or `send.unknown`.
    #[must_use]
    pub fn send_result(
        application: &ApplicationName,
        request_id: &str,
        digest: Option<ContentDigest>,
        result: Box<v1::SendResult>,
        at: Timestamp,
    ) -> Self {
        let event_type = match result.outcome() {
            v1::Outcome::Accepted => "send.accepted",
            v1::Outcome::Rejected => "send.rejected",
            v1::Outcome::Unknown | v1::Outcome::Unspecified => "send.unknown",
        };
        let wire_id = application.wire_id(&result.message_id);
        let event = v1::Event {
            id: derive_id(event_type, &[&wire_id]),
            request_id: request_id.to_owned(),
            ..event_at(
                at,
                event_type,
                application.as_str(),
                Payload::Result(result),
            )
        };
        Self {
            event,
            wire_id,
            digest,
        }
    }

    /// A delivery report: `report.*` by its group. `wire_id` is the message's id as Infobip gave it; the report gets the
    /// caller's. An id that the bridge did not make belongs to the application `foreign`.
    #[must_use]
    pub fn report(wire_id: &str, mut report: v1::DeliveryReport, source_payload: String) -> Self {
        let (application, message_id) = owner(wire_id);
        report.message_id = message_id.to_owned();
        report.bulk_id = callers_bulk_id(&report.bulk_id);
        let event_type = report_type(&report);
        let done_at_ms = report
            .done_at
            .as_ref()
            .map(|at| at.seconds * 1000 + i64::from(at.nanos) / 1_000_000);
        let id = derive_id(
            "report",
            &[
                wire_id,
                &code_key(
                    report
                        .status
                        .as_ref()
                        .map(|status| (status.id, status.name.as_str())),
                ),
                &code_key(
                    report
                        .error
                        .as_ref()
                        .map(|error| (error.id, error.name.as_str())),
                ),
                &done_at_ms.map(|ms| ms.to_string()).unwrap_or_default(),
            ],
        );
        let event = v1::Event {
            id,
            source_payload,
            ..event(event_type, &application, Payload::Report(Box::new(report)))
        };
        Self {
            event,
            wire_id: wire_id.to_owned(),
            digest: None,
        }
    }

    /// A message from a phone: `inbound.received`.
    #[must_use]
    pub fn received(
        application: &ApplicationName,
        received: v1::ReceivedMessage,
        source_payload: String,
    ) -> Self {
        let id = derive_id("inbound", &[&received.message_id]);
        let event = v1::Event {
            id,
            source_payload,
            ..event(
                "inbound.received",
                application.as_str(),
                Payload::Received(Box::new(received)),
            )
        };
        Self {
            event,
            wire_id: String::new(),
            digest: None,
        }
    }

    /// A click: `link.clicked`. `wire_id` is the message's id as Infobip gave it. The push itself is what makes it one
    /// click: it carries no id and no time of the click (WIRE.md, "Push").
    #[must_use]
    pub fn click(wire_id: &str, mut click: v1::LinkClick, source_payload: String) -> Self {
        let (application, message_id) = owner(wire_id);
        click.message_id = message_id.to_owned();
        click.bulk_id = callers_bulk_id(&click.bulk_id);
        let id = derive_id("click", &[wire_id, &source_payload]);
        let event = v1::Event {
            id,
            source_payload,
            ..event(
                "link.clicked",
                &application,
                Payload::Click(Box::new(click)),
            )
        };
        Self {
            event,
            wire_id: wire_id.to_owned(),
            digest: None,
        }
    }

    /// The answer to an asynchronous look-up: `lookup.completed`.
    #[must_use]
    pub fn lookup(
        application: &ApplicationName,
        lookup: v1::NumberLookup,
        source_payload: String,
    ) -> Self {
        let id = derive_id("lookup", &[&lookup.to, &source_payload]);
        let event = v1::Event {
            id,
            source_payload,
            ..event(
                "lookup.completed",
                application.as_str(),
                Payload::Lookup(Box::new(lookup)),
            )
        };
        Self {
            event,
            wire_id: String::new(),
            digest: None,
        }
    }

    /// A command that could not be carried out: `command.invalid`. `body_key` identifies the command (its request id, or a
    /// digest of its body).
    #[must_use]
    pub fn invalid_command(
        application: &ApplicationName,
        request_id: &str,
        body_key: &str,
        invalid: v1::InvalidCommand,
    ) -> Self {
        let id = derive_id(
            "command.invalid",
            &[application.as_str(), request_id, body_key],
        );
        let event = v1::Event {
            id,
            request_id: request_id.to_owned(),
            ..event(
                "command.invalid",
                application.as_str(),
                Payload::InvalidCommand(Box::new(invalid)),
            )
        };
        Self {
            event,
            wire_id: String::new(),
            digest: None,
        }
    }

    /// The result of a send that it is.
    #[must_use]
    pub fn result(&self) -> Option<&v1::SendResult> {
        match &self.event.payload {
            Some(Payload::Result(result)) => Some(result),
            _ => None,
        }
    }

    /// The result of a send that it is, taken out.
    #[must_use]
    pub fn into_result(self) -> Option<Box<v1::SendResult>> {
        match self.event.payload {
            Some(Payload::Result(result)) => Some(result),
            _ => None,
        }
    }

    /// Whether it is a report after which nothing more happens to its message.
    #[must_use]
    pub fn is_final_report(&self) -> bool {
        matches!(&self.event.payload, Some(Payload::Report(report)) if report.r#final)
    }

    /// Whether it is a report that must not follow a final one (promise 6).
    #[must_use]
    pub fn is_pending_report(&self) -> bool {
        matches!(&self.event.payload, Some(Payload::Report(report)) if !report.r#final)
    }
}

fn report_type(report: &v1::DeliveryReport) -> &'static str {
    use v1::StatusGroup as Group;
    match report
        .status
        .as_ref()
        .map_or(Group::Unspecified, v1::Status::group)
    {
        Group::Accepted | Group::Pending => "report.pending",
        Group::Delivered => "report.delivered",
        Group::Undeliverable => "report.undeliverable",
        Group::Expired => "report.expired",
        Group::Rejected => "report.rejected",
        Group::Unspecified => "report.other",
    }
}

/// A code's name where it has one, else its id: sources differ in ids more than in names (WIRE.md, "Push").
fn code_key(code: Option<(i32, &str)>) -> String {
    match code {
        Some((_, name)) if !name.is_empty() => name.to_owned(),
        Some((id, _)) => id.to_string(),
        None => String::new(),
    }
}

/// A UUID of version 5. Hashed with the processor's instructions, which `Uuid::new_v5` does not use.
fn derive_id(kind: &str, parts: &[&str]) -> String {
    let mut hash = Sha1::new();
    hash.update(NAMESPACE);
    hash.update(kind);
    for part in parts {
        // A length before each part: no two lists of parts give the same key.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    uuid_text(Builder::from_sha1_bytes(std::array::from_fn(|octet| hash[octet])).into_uuid())
}

fn event(event_type: &str, application: &str, payload: Payload) -> v1::Event {
    event_at(Timestamp::now(), event_type, application, payload)
}

fn event_at(at: Timestamp, event_type: &str, application: &str, payload: Payload) -> v1::Event {
    v1::Event {
        time: Some(time::to_proto(at)),
        r#type: event_type.to_owned(),
        application: application.to_owned(),
        payload: Some(payload),
        ..v1::Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(done_at_seconds: i64, callback_data: &str) -> v1::DeliveryReport {
        v1::DeliveryReport {
            bulk_id: "internal".into(),
            done_at: Some(pbjson_types::Timestamp {
                seconds: done_at_seconds,
                nanos: 0,
            }),
            status: Some(v1::Status {
                id: 5,
                name: "DELIVERED_TO_HANDSET".into(),
                group: v1::StatusGroup::Delivered.into(),
                ..Default::default()
            }),
            callback_data: callback_data.into(),
            r#final: true,
            ..Default::default()
        }
    }

    #[test]
    fn a_report_has_one_id_whatever_its_source() {
        let pushed = NewEvent::report("billing.m1", report(7, "mine"), "{}".into());
        let logged = NewEvent::report("billing.m1", report(7, ""), String::new());
        assert_eq!(pushed.event.id, logged.event.id);
        assert_ne!(
            pushed.event.id,
            NewEvent::report("billing.m1", report(8, ""), String::new())
                .event
                .id
        );
        assert_ne!(
            pushed.event.id,
            NewEvent::report("shop.m1", report(7, ""), String::new())
                .event
                .id
        );
        assert_eq!(
            (
                pushed.event.application.as_str(),
                pushed.event.r#type.as_str()
            ),
            ("billing", "report.delivered")
        );
    }

    /// What consumers stored must mean the same to the next version.
    #[test]
    fn ids_of_events_are_of_version_5() {
        let key = b"report\0\0\0\0\0\0\0\x01a\0\0\0\0\0\0\0\0";
        let id = Uuid::new_v5(&NAMESPACE, key).to_string();
        assert_eq!(derive_id("report", &["a", ""]), id);
    }

    #[test]
    fn ids_of_others_are_foreign() {
        let event = NewEvent::report("2250be2d4219-3af1", report(7, ""), String::new());
        assert_eq!(event.event.application, "foreign");
        assert!(
            matches!(event.event.payload, Some(Payload::Report(report)) if report.message_id == "2250be2d4219-3af1")
        );
    }
}
