//! What this process has published recently: the results of sends, and which messages have a final report.
//!
//! Bounded: the oldest entries are forgotten.

use std::hash::{BuildHasher as _, RandomState};

use crate::{
    events::{NewEvent, RecordedSend},
    primitives::recent_map::RecentMap,
    proto::v1::event::Payload,
};

/// Results of sends that are always kept (some hundred bytes each).
const SENDS: usize = 8192;
/// Final reports that are always kept (16 bytes each).
const FINALS: usize = 65_536;

#[derive(Default)]
pub(super) struct History {
    sends: RecentMap<String, RecordedSend, SENDS>,
    /// Keyed by a hash of the wire id. A collision drops a pending report at worst.
    finals: RecentMap<u64, (), FINALS>,
    hasher: RandomState,
}

impl History {
    /// If the event is a final report, remembers that its message has one.
    pub(super) fn note_final(&mut self, new: &NewEvent) {
        if new.is_final_report() {
            let key = self.hasher.hash_one(&new.wire_id);
            self.finals.insert(key, ());
        }
    }

    /// Whether the event may be published: a pending report must not follow a final one (P6).
    pub(super) fn allows(&self, new: &NewEvent) -> bool {
        !new.is_pending_report()
            || !self
                .finals
                .contains_key(&self.hasher.hash_one(&new.wire_id))
    }

    /// If the event is the result of a send that the caller can repeat, remembers the result.
    pub(super) fn note_send(&mut self, new: &NewEvent) {
        if let (Some(Payload::Result(result)), Some(digest)) = (&new.event.payload, new.digest) {
            let result = result.clone();
            self.sends
                .insert(new.wire_id.clone(), RecordedSend { digest, result });
        }
    }

    pub(super) fn send(&self, wire_id: &String) -> Option<RecordedSend> {
        self.sends.get(wire_id).cloned()
    }
}
