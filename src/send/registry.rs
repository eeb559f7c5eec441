//! The ids of calls in progress in this process, so that a call repeated at the same time joins the first one.
//!
//! Invariant: an id is claimed until its call is done. Then its result is in the event log, or nothing was sent, or the journal of
//! begun sends still has it.
//! Neighbours: `idempotency` claims ids here before it asks the event log.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use parking_lot::Mutex;

use super::call::Call;

/// Calls in progress and their slots, by wire id.
#[derive(Default)]
pub(super) struct Registry(Mutex<HashMap<String, (Arc<Call>, usize)>>);

/// Whether a slot claimed its id.
pub(super) enum Claim {
    /// No other call in progress has the id: this call sends it.
    Mine,
    /// Another call is sending it: that call and its slot.
    HeldBy(Arc<Call>, usize),
}

impl Registry {
    /// Claims the id of a slot, unless another call has it.
    pub(super) fn claim(&self, call: &Arc<Call>, slot: usize) -> Claim {
        match self.0.lock().entry(call.slots[slot].wire_id.clone()) {
            Entry::Occupied(entry) => Claim::HeldBy(Arc::clone(&entry.get().0), entry.get().1),
            Entry::Vacant(entry) => {
                entry.insert((Arc::clone(call), slot));
                Claim::Mine
            }
        }
    }

    /// Releases claimed ids.
    pub(super) fn release<'a>(&self, wire_ids: impl Iterator<Item = &'a String>) {
        let mut claimed = self.0.lock();
        for wire_id in wire_ids {
            claimed.remove(wire_id);
        }
    }
}
