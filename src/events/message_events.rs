//! All that the log has of one message: results, reports and clicks.
//!
//! Neighbours: `grpc` asks; the embedded engine looks into its index, the broker engine reads its stream.

use futures_util::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use prost::Message as _;
use uuid::Uuid;

use super::{EventLog, ReadError, Start, filter};
use crate::{
    message::{id::FOREIGN_APPLICATION, time},
    proto::v1::{self, event::Payload},
};

/// Maximum number of events of an answer. A link may be clicked often.
pub const MAX_EVENTS: usize = 1_000;
/// Maximum size of the events of an answer, below what gRPC clients take by default.
pub const MAX_BYTES: usize = 3 * 1024 * 1024;

/// How much earlier than its id the events of a message are searched for: the clock of the broker may differ.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// A message of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageKey {
    pub application: String,
    /// The caller's id, or the one that the bridge made.
    pub message_id: String,
}

impl MessageKey {
    /// The id at Infobip.
    #[must_use]
    pub fn wire_id(&self) -> String {
        if self.application == FOREIGN_APPLICATION {
            self.message_id.clone()
        } else {
            [&self.application, ".", &self.message_id].concat()
        }
    }

    /// When the id was made, if the bridge made it: then no event of the message is older.
    #[must_use]
    pub fn made_at(&self) -> Option<Timestamp> {
        let id = self.message_id.split('~').next().unwrap_or_default();
        let id = Uuid::try_parse(id).ok()?;
        let (seconds, nanoseconds) = id.get_timestamp()?.to_unix();
        let nanoseconds = i32::try_from(nanoseconds).ok()?;
        Timestamp::new(i64::try_from(seconds).ok()?, nanoseconds).ok()
    }

    /// Whether this is an event of the message.
    #[must_use]
    pub fn is_of(&self, event: &v1::Event) -> bool {
        let is_sent = matches!(
            event.payload,
            Some(Payload::Result(_) | Payload::Report(_) | Payload::Click(_))
        );
        is_sent
            && event.application == self.application
            && filter::message_id(event) == Some(&self.message_id)
    }
}

/// The events of a message, in the order of the log.
#[derive(Debug, Default, PartialEq)]
pub struct MessageEvents {
    pub events: Vec<v1::Event>,
    /// Whether there are more, beyond [`MAX_EVENTS`] or [`MAX_BYTES`].
    pub is_cut: bool,
    bytes: usize,
}

impl MessageEvents {
    /// Adds an event, unless it is older than `since`; returns whether another one may be added.
    pub(super) fn add(&mut self, event: v1::Event, since: Option<Timestamp>) -> bool {
        let at = event.time.as_ref().and_then(time::from_proto);
        if since.is_some_and(|since| at.is_some_and(|at| at < since)) {
            return true;
        }
        self.bytes += event.encoded_len();
        if self.events.len() >= MAX_EVENTS || self.bytes > MAX_BYTES && !self.events.is_empty() {
            self.is_cut = true;
            return false;
        }
        self.events.push(event);
        true
    }
}

/// Finds the events of a message by reading the log, from `since` or from when the id was made.
pub(super) async fn read<L: EventLog + ?Sized>(
    log: &L,
    message: &MessageKey,
    since: Option<Timestamp>,
) -> Result<MessageEvents, ReadError> {
    let made_at = message.made_at();
    let oldest = made_at.and_then(|at| at.checked_sub(CLOCK_TOLERANCE).ok());
    let start = since.max(oldest).unwrap_or(Timestamp::UNIX_EPOCH);
    let applications = vec![message.application.clone()];
    let mut batches = log
        .read_applications(Start::Since(start), true, applications)
        .await?;
    let mut found = MessageEvents::default();
    while let Some(batch) = batches.next().await {
        for event in batch?.into_iter().filter(|event| message.is_of(event)) {
            if !found.add(event, since) {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_the_bridge_made_tells_when() {
        let key = |message_id: &str| MessageKey {
            application: "shop".into(),
            message_id: message_id.into(),
        };
        let id = Uuid::now_v7().to_string();
        let before = Timestamp::now() - SignedDuration::from_secs(2);
        for id in [id.clone(), format!("{id}~3")] {
            let made_at = key(&id).made_at();
            assert!(made_at.is_some_and(|at| at > before), "{made_at:?}");
        }
        for id in ["order-17", "5f0e6f6c-8a44-4b51-9d0b-3c5f52a17e90", ""] {
            assert_eq!(key(id).made_at(), None, "{id}");
        }
    }

    #[test]
    fn answers_are_bounded() {
        let mut found = MessageEvents::default();
        for _ in 0..MAX_EVENTS {
            assert!(found.add(v1::Event::default(), None));
        }
        assert!(!found.add(v1::Event::default(), None));
        assert_eq!((found.events.len(), found.is_cut), (MAX_EVENTS, true));

        let large = v1::Event {
            source_payload: "x".repeat(MAX_BYTES),
            ..v1::Event::default()
        };
        let mut found = MessageEvents::default();
        assert!(found.add(large.clone(), None), "the first always has room");
        assert!(!found.add(large, None));
        assert_eq!((found.events.len(), found.is_cut), (1, true));
    }
}
