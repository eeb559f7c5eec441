//! What this process remembers of what it published: the results of sends, and which messages have a final report.
//!
//! Bounded: what is older than a generation or two is forgotten.

use std::hash::{BuildHasher as _, RandomState};

use crate::{
    amqp::generations::Generations,
    events::{NewEvent, RecordedSend},
    proto::v1::event::Payload,
};

/// Results of sends in one generation (some hundred octets each).
const SENDS: usize = 8192;
/// Final reports in one generation (16 octets each).
const FINALS: usize = 65_536;

/// What this process remembers.
#[derive(Default)]
pub(super) struct Memory {
    sends: Generations<String, RecordedSend, SENDS>,
    /// By a hash of the wire id: two ids that share one cost a pending report at worst.
    finals: Generations<u64, (), FINALS>,
    hasher: RandomState,
}

impl Memory {
    /// Remembers that a message has its final report, where the event is one.
    pub(super) fn note_final(&mut self, new: &NewEvent) {
        if new.is_final_report() {
            let key = self.hasher.hash_one(&new.wire_id);
            self.finals.insert(key, ());
        }
    }

    /// Whether the event may be published: a pending report may not follow a final one (P6, docs/RELIABILITY.md).
    pub(super) fn allows(&self, new: &NewEvent) -> bool {
        !new.is_pending_report()
            || self
                .finals
                .get(&self.hasher.hash_one(&new.wire_id))
                .is_none()
    }

    /// Remembers the result of a send, where the event is one that a caller can repeat.
    pub(super) fn note_send(&mut self, new: &NewEvent) {
        if let (Some(Payload::Result(result)), Some(digest)) = (&new.event.payload, new.digest) {
            let result = result.clone();
            self.sends
                .insert(new.wire_id.clone(), RecordedSend { digest, result });
        }
    }

    /// The result of an earlier send.
    pub(super) fn send(&self, wire_id: &String) -> Option<RecordedSend> {
        self.sends.get(wire_id).cloned()
    }
}
