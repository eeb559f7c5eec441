//! Events before they are appended: their types, their ids, and the keys by which the log finds them.
//!
//! Invariant: an event's id is derived from its content, so that duplicates from different sources have the same id
//! (`docs/EVENTS.md`, "Ids and duplicates"). Consumers store these ids, so the derivation must never change.

use std::fmt;

use jiff::Timestamp;
use sha1::{Digest as _, Sha1};
use uuid::{Builder, Uuid};

use super::ContentDigest;
use crate::{
    message::{
        applications::Applications,
        codes,
        event_type::EventType,
        id::{ApplicationName, uuid_text},
        reason::Reason,
        time,
        traceparent::Traceparent,
    },
    proto::v1::{self, event::Payload},
};

/// The namespace of event ids: a random UUID.
const NAMESPACE: Uuid = Uuid::from_u128(0x5f0e_6f6c_8a44_4b51_9d0b_3c5f_52a1_7e90);

/// An event to append.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The event, without a cursor.
    pub event: v1::Event,
    /// The type of `event`.
    pub event_type: EventType,
    /// The message's id at Infobip. Empty for an event that is not about a message.
    pub wire_id: String,
    /// For results of sends that the caller can repeat: the digest of the content.
    pub digest: Option<ContentDigest>,
}

impl NewEvent {
    /// Type and id for a log line: the wire id of its message, or its own id if it has no message.
    pub fn logged(&self) -> impl fmt::Display {
        let id = if self.wire_id.is_empty() {
            &self.event.id
        } else {
            &self.wire_id
        };
        fmt::from_fn(move |f| write!(f, "{}:{id}", self.event.r#type))
    }

    fn new(
        at: Timestamp,
        event_type: EventType,
        application: &str,
        id: String,
        payload: Payload,
    ) -> Self {
        Self {
            event: v1::Event {
                id,
                time: Some(time::to_proto(at)),
                r#type: event_type.as_str().to_owned(),
                application: application.to_owned(),
                payload: Some(payload),
                ..v1::Event::default()
            },
            event_type,
            wire_id: String::new(),
            digest: None,
        }
    }

    /// Sets the trace of the command or call that caused it. The id does not depend on it: a duplicate may have another.
    #[must_use]
    pub fn caused_by(mut self, traceparent: Option<Traceparent>) -> Self {
        if let Some(traceparent) = traceparent {
            self.event.traceparent = traceparent.to_string();
        }
        self
    }

    /// The result for one destination, or for a message without destinations, known since `at`: `send.accepted`,
    /// `send.rejected` or `send.unknown`.
    ///
    /// The event of an `ID_REUSED` has a different id and no digest, so that the log keeps the first content of the id.
    #[must_use]
    pub fn send_result(
        application: &ApplicationName,
        request_id: &str,
        digest: Option<ContentDigest>,
        result: Box<v1::SendResult>,
        at: Timestamp,
    ) -> Self {
        let event_type = match result.outcome() {
            v1::Outcome::Accepted => EventType::SendAccepted,
            v1::Outcome::Rejected => EventType::SendRejected,
            v1::Outcome::Unknown | v1::Outcome::Unspecified => EventType::SendUnknown,
        };
        let reused = is_reused_id(&result);
        let (wire_id, id, digest) = if result.message_id.is_empty() {
            // A message without destinations has no id: the event's is derived from its place in the request.
            let index = result.message_index.to_string();
            let fresh = request_id.is_empty().then(|| Uuid::now_v7().to_string());
            let request = fresh.as_deref().unwrap_or(request_id);
            let parts = [application.as_str(), request, &index];
            (String::new(), derive_id(event_type.as_str(), &parts), None)
        } else if reused {
            let wire_id = application.wire_id(&result.message_id);
            let content = digest.map(hex::encode).unwrap_or_default();
            let key = [&wire_id, Reason::IdReused.as_str(), &content];
            let id = derive_id(event_type.as_str(), &key);
            (wire_id, id, None)
        } else {
            let wire_id = application.wire_id(&result.message_id);
            let id = derive_id(event_type.as_str(), &[&wire_id]);
            (wire_id, id, digest)
        };
        let payload = Payload::Result(result);
        let mut new = Self::new(at, event_type, application.as_str(), id, payload);
        request_id.clone_into(&mut new.event.request_id);
        Self {
            wire_id,
            digest,
            ..new
        }
    }

    /// A delivery report: `report.*`, by the group of its status. `wire_id` is the message's id as Infobip sent it; the
    /// event gets the caller's id. A message whose id none of the applications made belongs to the application `foreign`.
    #[must_use]
    pub fn report(
        applications: &Applications,
        wire_id: &str,
        mut report: v1::DeliveryReport,
        source_payload: String,
    ) -> Self {
        let (application, message_id) = applications.owner(wire_id);
        report.message_id = message_id.to_owned();
        report.bulk_id = applications.callers_bulk_id(&report.bulk_id);
        let status = report.status.as_ref().map(codes::status_key);
        let status = status.unwrap_or_default();
        let error = codes::error_key(report.error.as_ref());
        let done_at_ms = report.done_at.as_ref().map_or_else(String::new, |at| {
            (at.seconds * 1000 + i64::from(at.nanos) / 1_000_000).to_string()
        });
        let id = derive_id("report", &[wire_id, &status, &error, &done_at_ms]);
        let event_type = report_type(&report);
        let payload = Payload::Report(Box::new(report));
        let mut new = Self::new(Timestamp::now(), event_type, &application, id, payload);
        new.event.source_payload = source_payload;
        Self {
            wire_id: wire_id.to_owned(),
            ..new
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
        let mut new = Self::new(
            Timestamp::now(),
            EventType::InboundReceived,
            application.as_str(),
            id,
            Payload::Received(Box::new(received)),
        );
        new.event.source_payload = source_payload;
        new
    }

    /// A click: `link.clicked`. `wire_id` is the message's id as Infobip sent it. A push carries neither an id nor the time
    /// of the click, so the id is derived from the whole payload (`docs/INFOBIP_API.md`).
    #[must_use]
    pub fn click(
        applications: &Applications,
        wire_id: &str,
        mut click: v1::LinkClick,
        source_payload: String,
    ) -> Self {
        let (application, message_id) = applications.owner(wire_id);
        click.message_id = message_id.to_owned();
        click.bulk_id = applications.callers_bulk_id(&click.bulk_id);
        let id = derive_id("click", &[wire_id, &source_payload]);
        let mut new = Self::new(
            Timestamp::now(),
            EventType::LinkClicked,
            &application,
            id,
            Payload::Click(Box::new(click)),
        );
        new.event.source_payload = source_payload;
        Self {
            wire_id: wire_id.to_owned(),
            ..new
        }
    }

    /// The answer to an asynchronous number look-up: `lookup.completed`. `request` identifies the request, because the API's row
    /// does not: the answer of today may equal that of yesterday. If it is empty, the id is derived from the row.
    #[must_use]
    pub fn lookup(
        application: &str,
        request: &str,
        lookup: v1::NumberLookup,
        source_payload: String,
    ) -> Self {
        let id = if request.is_empty() {
            derive_id("lookup", &[&lookup.to, &source_payload])
        } else {
            derive_id("lookup.request", &[request, &lookup.to])
        };
        let mut new = Self::new(
            Timestamp::now(),
            EventType::LookupCompleted,
            application,
            id,
            Payload::Lookup(Box::new(lookup)),
        );
        new.event.source_payload = source_payload;
        new
    }

    /// The result of a number that a command asked for: `lookup.completed`. With a request id the event's id does not depend on the
    /// result, so that a redelivered command, whose numbers are reported as unknown, adds no second result.
    #[must_use]
    pub fn lookup_result(
        application: &ApplicationName,
        request_id: &str,
        lookup: v1::NumberLookup,
    ) -> Self {
        let fresh = request_id.is_empty().then(|| Uuid::now_v7().to_string());
        let request = fresh.as_deref().unwrap_or(request_id);
        let parts = [application.as_str(), request, &lookup.to];
        let id = derive_id("lookup.command", &parts);
        let source_payload = lookup.source_payload.clone();
        let payload = Payload::Lookup(Box::new(lookup));
        let event_type = EventType::LookupCompleted;
        let mut new = Self::new(
            Timestamp::now(),
            event_type,
            application.as_str(),
            id,
            payload,
        );
        new.event.source_payload = source_payload;
        request_id.clone_into(&mut new.event.request_id);
        new
    }

    /// A command that could not be carried out: `command.invalid`. `body_key` identifies the command by its request id or
    /// by a digest of its body.
    #[must_use]
    pub fn invalid_command(
        application: &ApplicationName,
        request_id: &str,
        body_key: &str,
        invalid: v1::InvalidCommand,
    ) -> Self {
        let event_type = EventType::CommandInvalid;
        let id = derive_id(
            event_type.as_str(),
            &[application.as_str(), request_id, body_key],
        );
        let payload = Payload::InvalidCommand(Box::new(invalid));
        let mut new = Self::new(
            Timestamp::now(),
            event_type,
            application.as_str(),
            id,
            payload,
        );
        request_id.clone_into(&mut new.event.request_id);
        new
    }

    /// The result of a send, if this event is one.
    #[must_use]
    pub fn result(&self) -> Option<&v1::SendResult> {
        match &self.event.payload {
            Some(Payload::Result(result)) => Some(result),
            _ => None,
        }
    }

    /// The result of a send, if this event is one.
    #[must_use]
    pub fn into_result(self) -> Option<Box<v1::SendResult>> {
        match self.event.payload {
            Some(Payload::Result(result)) => Some(result),
            _ => None,
        }
    }

    /// Whether this is a report after which no other report of its message follows.
    #[must_use]
    pub fn is_final_report(&self) -> bool {
        matches!(&self.event.payload, Some(Payload::Report(report)) if report.r#final)
    }

    /// Whether this is a report that must not follow a final one of the same message (P6). A report of an unknown group is none:
    /// its status may be final.
    #[must_use]
    pub fn is_pending_report(&self) -> bool {
        self.event_type == EventType::ReportPending && !self.is_final_report()
    }
}

/// Whether this is the rejection of an id that was used for other content.
pub(super) fn is_reused_id(result: &v1::SendResult) -> bool {
    let refusal = result.refusal.as_ref();
    refusal.is_some_and(|refusal| refusal.reason == Reason::IdReused.as_str())
}

fn report_type(report: &v1::DeliveryReport) -> EventType {
    use v1::StatusGroup as Group;
    match report
        .status
        .as_ref()
        .map_or(Group::Unspecified, v1::Status::group)
    {
        Group::Accepted | Group::Pending => EventType::ReportPending,
        Group::Delivered => EventType::ReportDelivered,
        Group::Undeliverable => EventType::ReportUndeliverable,
        Group::Expired => EventType::ReportExpired,
        Group::Rejected => EventType::ReportRejected,
        Group::Unspecified => EventType::ReportOther,
    }
}

/// A UUID of version 5. `Uuid::new_v5` computes SHA-1 without the processor's SHA instructions; this does not.
fn derive_id(kind: &str, parts: &[&str]) -> String {
    let mut hash = Sha1::new();
    hash.update(NAMESPACE);
    hash.update(kind);
    for part in parts {
        // The length before each part keeps two different lists of parts from giving the same key.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    uuid_text(Builder::from_sha1_bytes(std::array::from_fn(|byte| hash[byte])).into_uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(done_at_seconds: i64, callback_data: &str) -> v1::DeliveryReport {
        v1::DeliveryReport {
            bulk_id: "internal".into(),
            done_at: Some(crate::proto::Timestamp {
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
    fn reports_from_different_sources_have_the_same_id() {
        let pushed = NewEvent::report(
            &Applications::default(),
            "billing.m1",
            report(7, "mine"),
            "{}".into(),
        );
        let logged = NewEvent::report(
            &Applications::default(),
            "billing.m1",
            report(7, ""),
            String::new(),
        );
        assert_eq!(pushed.event.id, logged.event.id);
        assert_ne!(
            pushed.event.id,
            NewEvent::report(
                &Applications::default(),
                "billing.m1",
                report(8, ""),
                String::new()
            )
            .event
            .id
        );
        assert_ne!(
            pushed.event.id,
            NewEvent::report(
                &Applications::default(),
                "shop.m1",
                report(7, ""),
                String::new()
            )
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

    /// The API's logs of 2015 have a group instead of the error NO_ERROR, and some sources no error at all.
    #[test]
    fn reports_whose_codes_are_written_differently_have_the_same_id() {
        let id = |status: &str, error: Option<v1::Error>| {
            let mut report = report(7, "");
            report.status.as_mut().unwrap().name = status.into();
            report.error = error;
            let applications = Applications::default();
            NewEvent::report(&applications, "billing.m1", report, String::new())
                .event
                .id
        };
        let no_error = v1::Error {
            name: "NO_ERROR".into(),
            group: v1::ErrorGroup::Ok.into(),
            ..Default::default()
        };
        let group_alone = v1::Error {
            group_name: "Ok".into(),
            group: v1::ErrorGroup::Ok.into(),
            ..Default::default()
        };
        let expected = id("DELIVERED_TO_HANDSET", Some(no_error));
        assert_eq!(id("DELIVERED_TO_HANDSET", Some(group_alone)), expected);
        assert_eq!(id("DELIVERED_TO_HANDSET", None), expected);
        assert_eq!(id("", None), expected);
        assert_eq!(id("Delivered to handset", None), expected);
        assert_ne!(id("DELIVERED_TO_OPERATOR", None), expected);
    }

    /// Some rows have only the name of the group.
    #[test]
    fn reports_with_a_group_alone_have_an_id_for_each_group() {
        let id = |group: v1::StatusGroup| {
            let mut report = report(7, "");
            report.status = Some(v1::Status {
                group: group.into(),
                ..Default::default()
            });
            let applications = Applications::default();
            NewEvent::report(&applications, "billing.m1", report, String::new())
                .event
                .id
        };
        assert_ne!(id(v1::StatusGroup::Pending), id(v1::StatusGroup::Delivered));
    }

    /// Consumers store ids, so the next version must derive the same ones.
    #[test]
    fn event_ids_are_uuids_of_version_5() {
        let key = b"report\0\0\0\0\0\0\0\x01a\0\0\0\0\0\0\0\0";
        let id = Uuid::new_v5(&NAMESPACE, key).to_string();
        assert_eq!(derive_id("report", &["a", ""]), id);
    }

    #[test]
    fn a_number_of_a_command_has_one_event_whatever_its_result() {
        let shop = ApplicationName::parse("shop").unwrap();
        let id = |request: &str, to: &str, mcc_mnc: &str| {
            let lookup = v1::NumberLookup {
                to: to.into(),
                mcc_mnc: mcc_mnc.into(),
                ..Default::default()
            };
            NewEvent::lookup_result(&shop, request, lookup).event.id
        };
        assert_eq!(id("r1", "4179", "22801"), id("r1", "4179", ""));
        assert_ne!(id("r1", "4179", ""), id("r1", "4178", ""));
        assert_ne!(id("r1", "4179", ""), id("r2", "4179", ""));
        assert_ne!(id("", "4179", ""), id("", "4179", ""), "each is its own");
    }

    #[test]
    fn messages_with_other_ids_belong_to_foreign() {
        let event = NewEvent::report(
            &Applications::default(),
            "2250be2d4219-3af1",
            report(7, ""),
            String::new(),
        );
        assert_eq!(event.event.application, "foreign");
        assert!(
            matches!(event.event.payload, Some(Payload::Report(report)) if report.message_id == "2250be2d4219-3af1")
        );
    }
}
