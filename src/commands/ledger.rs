//! The commands in flight in this process, and those that were handled but could not be acknowledged.
//!
//! When the broker delivers such a command again, the new delivery waits for the earlier one or is acknowledged at once. It is
//! never carried out a second time. Invariants: what was handled is acknowledged at once only for one delivery that the broker marks
//! as redelivered, and only for a time, because the broker may have redelivered it to another replica; a copy is always carried out,
//! because its original may have been acknowledged in its favour.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::primitives::recent_map::RecentMap;

/// Unacknowledged commands that are remembered at least.
const MIN_UNACKNOWLEDGED: usize = 16_384;
/// How long an unacknowledged command is remembered. One that is forgotten is looked up when the broker delivers it again.
const MAX_AGE: Duration = Duration::from_secs(600);

/// The application and the request id of a command; of a look-up with its kind.
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
    /// When they were handled.
    unacknowledged: RecentMap<Key, Instant, MIN_UNACKNOWLEDGED>,
}

/// A command in flight, until it is dropped.
pub(super) struct InFlight<'a> {
    ledger: &'a Ledger,
    key: Key,
}

/// What becomes of a redelivered command.
pub(super) enum Redelivered<'a> {
    Begun(InFlight<'a>),
    /// An earlier delivery was handled: this one only needs to be acknowledged.
    Handled,
    /// Its session ended while it waited: the broker delivers it again.
    Lost,
}

impl Ledger {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock()
    }

    /// Begins a command that was delivered for the first time.
    pub(super) fn begin(&self, key: Key) -> InFlight<'_> {
        let mut entries = self.entries();
        // Its publisher used the id before. What was noted of that command does not hold for this one.
        entries.unacknowledged.remove(&key);
        *entries.in_flight.entry(key.clone()).or_default() += 1;
        InFlight { ledger: self, key }
    }

    /// Begins a copy when no other delivery of the command is in flight.
    pub(super) async fn begin_copy(&self, key: Key) -> InFlight<'_> {
        self.when_alone(&key, |entries| {
            entries.in_flight.insert(key.clone(), 1);
        })
        .await;
        InFlight { ledger: self, key }
    }

    /// Begins a redelivered command when no other delivery of it is in flight.
    pub(super) async fn begin_redelivered(
        &self,
        key: Key,
        can_acknowledge: impl FnOnce() -> bool,
    ) -> Redelivered<'_> {
        let must_begin = self
            .when_alone(&key, |entries| {
                if !can_acknowledge() {
                    return None;
                }
                let handled_at = entries.unacknowledged.remove(&key);
                let is_handled = handled_at.is_some_and(|at| at.elapsed() < MAX_AGE);
                if !is_handled {
                    entries.in_flight.insert(key.clone(), 1);
                }
                Some(!is_handled)
            })
            .await;
        match must_begin {
            Some(true) => Redelivered::Begun(InFlight { ledger: self, key }),
            Some(false) => Redelivered::Handled,
            None => Redelivered::Lost,
        }
    }

    /// Waits until no delivery of the command is in flight, then decides.
    async fn when_alone<T>(&self, key: &Key, decide: impl FnOnce(&mut Entries) -> T) -> T {
        loop {
            let some_ended = self.some_ended.notified();
            tokio::pin!(some_ended);
            // Registered before the check, so that a delivery that ends after the check is noticed.
            some_ended.as_mut().enable();
            {
                let mut entries = self.entries();
                if !entries.in_flight.contains_key(key) {
                    return decide(&mut entries);
                }
            }
            some_ended.await;
        }
    }

    /// Remembers a handled command whose acknowledgement failed: the broker will deliver it again.
    pub(super) fn note_unacknowledged(&self, key: Key) {
        self.entries().unacknowledged.insert(key, Instant::now());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        ("default".into(), "r1".into())
    }

    #[tokio::test]
    async fn one_redelivery_of_a_handled_command_is_acknowledged_and_its_copy_is_carried_out() {
        let ledger = Ledger::default();
        ledger.note_unacknowledged(key());
        drop(ledger.begin_copy(key()).await);
        let redelivered = || ledger.begin_redelivered(key(), || true);
        let lost = ledger.begin_redelivered(key(), || false).await;
        assert!(matches!(lost, Redelivered::Lost));
        assert!(matches!(redelivered().await, Redelivered::Handled));
        assert!(matches!(redelivered().await, Redelivered::Begun(_)));
    }

    /// The broker delivered the earlier command to another replica, and its publisher uses the id again.
    #[tokio::test]
    async fn a_handled_command_says_nothing_of_a_later_one_with_its_id() {
        let ledger = Ledger::default();
        ledger.note_unacknowledged(key());
        let lost = ledger.begin(key());
        // Its session is lost, and it is delivered again while it is in flight.
        let redelivered = ledger.begin_redelivered(key(), || true);
        let ending = async { drop(lost) };
        let (redelivered, ()) = tokio::join!(redelivered, ending);
        assert!(matches!(redelivered, Redelivered::Begun(_)));
    }
}
