//! What this process remembers of what it published: the results of sends, and which messages have a final report.
//!
//! Bounded: each part keeps two generations and forgets the older one when the younger is full.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
};

use crate::{
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

    /// Whether the event may be published: a pending report may not follow a final one (promise 6).
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

/// A map that forgets the oldest entries: between `N` and `2 * N` of them stay.
struct Generations<K, V, const N: usize> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V, const N: usize> Default for Generations<K, V, N> {
    fn default() -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }
}

impl<K: Hash + Eq, V, const N: usize> Generations<K, V, N> {
    fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= N {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_keep_the_youngest_and_stay_bounded() {
        let mut map = Generations::<u32, u32, 10>::default();
        for key in 0..1000 {
            map.insert(key, key);
            for recent in key.saturating_sub(9)..=key {
                assert_eq!(map.get(&recent), Some(&recent), "{recent} of {key}");
            }
            assert!(map.young.len() + map.old.len() <= 20);
        }
        assert_eq!(map.get(&0), None);
    }
}
