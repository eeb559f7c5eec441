//! The commands in flight in this process, and those that were handled but could not be acknowledged.
//!
//! When the broker delivers such a command again, the new delivery waits for the earlier one or is acknowledged at once. It is
//! never carried out a second time.

use std::collections::HashMap;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::primitives::recent_map::RecentMap;

/// Unacknowledged commands that are remembered at least.
const MIN_UNACKNOWLEDGED: usize = 16_384;

/// The application and the request id of a command.
pub(super) type Key = (String, String);

#[derive(Default)]
pub(super) struct Ledger {
    entries: Mutex<Entries>,
    some_ended: Notify,
}

#[derive(Default)]
struct Entries {
    /// The number of deliveries of each command.
    in_flight: HashMap<Key, usize>,
    unacknowledged: RecentMap<Key, (), MIN_UNACKNOWLEDGED>,
}

/// A command in flight, until it is dropped.
pub(super) struct InFlight<'a> {
    ledger: &'a Ledger,
    key: Key,
}

impl Ledger {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock()
    }

    /// Begins a command that was delivered for the first time.
    pub(super) fn begin(&self, key: Key) -> InFlight<'_> {
        *self.entries().in_flight.entry(key.clone()).or_default() += 1;
        InFlight { ledger: self, key }
    }

    /// Begins a redelivered command when no earlier delivery of it is in flight. `None` if an earlier delivery was handled, so
    /// that this one only needs to be acknowledged.
    pub(super) async fn begin_redelivered(&self, key: Key) -> Option<InFlight<'_>> {
        loop {
            let some_ended = self.some_ended.notified();
            tokio::pin!(some_ended);
            // Registered before the check, so that a delivery that ends after the check is noticed.
            some_ended.as_mut().enable();
            {
                let mut entries = self.entries();
                if entries.unacknowledged.contains_key(&key) {
                    return None;
                }
                if !entries.in_flight.contains_key(&key) {
                    entries.in_flight.insert(key.clone(), 1);
                    return Some(InFlight { ledger: self, key });
                }
            }
            some_ended.await;
        }
    }

    /// Remembers a handled command whose acknowledgement failed: the broker will deliver it again.
    pub(super) fn note_unacknowledged(&self, key: Key) {
        self.entries().unacknowledged.insert(key, ());
    }

    /// Forgets a command that is acknowledged.
    pub(super) fn note_acknowledged(&self, key: &Key) {
        self.entries().unacknowledged.remove(key);
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut entries = self.ledger.entries();
        if let Some(count) = entries.in_flight.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                entries.in_flight.remove(&self.key);
            }
        }
        drop(entries);
        self.ledger.some_ended.notify_waiters();
    }
}
