//! The ids that are under way in this process, so that a call repeated meanwhile joins the first one.
//!
//! What is done is the event log's to remember: an id leaves here when its result is durable there.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use parking_lot::Mutex;

use super::call::Call;

/// Calls under way by wire id.
#[derive(Default)]
pub(super) struct Registry(Mutex<HashMap<String, (Arc<Call>, usize)>>);

/// What a slot is to the registry.
pub(super) enum Claim {
    /// Its id is new: this call sends it.
    Mine,
    /// Another call sends it.
    Of(Arc<Call>, usize),
}

impl Registry {
    /// Claims an id for a slot, unless another call has it.
    pub(super) fn claim(&self, call: &Arc<Call>, slot: usize) -> Claim {
        let Some(of) = call.slots.get(slot) else {
            return Claim::Mine;
        };
        match self.0.lock().entry(of.wire_id.clone()) {
            Entry::Occupied(entry) => Claim::Of(Arc::clone(&entry.get().0), entry.get().1),
            Entry::Vacant(entry) => {
                entry.insert((Arc::clone(call), slot));
                Claim::Mine
            }
        }
    }

    /// Forgets the ids that were claimed.
    pub(super) fn release<'a>(&self, wire_ids: impl Iterator<Item = &'a String>) {
        let mut claimed = self.0.lock();
        for wire_id in wire_ids {
            claimed.remove(wire_id);
        }
    }
}
