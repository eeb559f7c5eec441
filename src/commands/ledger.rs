//! Which commands this process has under way, and which it finished but could not acknowledge: when the broker delivers
//! such a command again, it is waited for or acknowledged, never carried out a second time.

use std::collections::HashMap;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::primitives::recent_map::RecentMap;

/// Commands of one generation that are remembered as finished.
const FINISHED: usize = 16_384;

/// The application and the request id of a command.
pub(super) type Key = (String, String);

/// See the module.
#[derive(Default)]
pub(super) struct Ledger {
    entries: Mutex<Entries>,
    something_finished: Notify,
}

#[derive(Default)]
struct Entries {
    under_way: HashMap<Key, usize>,
    finished: RecentMap<Key, (), FINISHED>,
}

/// A command that is under way, until dropped.
pub(super) struct UnderWay<'a> {
    ledger: &'a Ledger,
    key: Key,
}

impl Ledger {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock()
    }

    /// A command that was delivered for the first time begins.
    pub(super) fn begin(&self, key: Key) -> UnderWay<'_> {
        *self.entries().under_way.entry(key.clone()).or_default() += 1;
        UnderWay { ledger: self, key }
    }

    /// A command that was delivered again begins, once an earlier delivery of it that is under way has ended; `None` where
    /// that one left nothing to do but to acknowledge.
    pub(super) async fn begin_again(&self, key: Key) -> Option<UnderWay<'_>> {
        loop {
            let finished = self.something_finished.notified();
            tokio::pin!(finished);
            finished.as_mut().enable();
            {
                let mut entries = self.entries();
                if entries.finished.contains_key(&key) {
                    return None;
                }
                if !entries.under_way.contains_key(&key) {
                    entries.under_way.insert(key.clone(), 1);
                    return Some(UnderWay { ledger: self, key });
                }
            }
            finished.await;
        }
    }

    /// Everything was done, but the broker does not know: it will deliver the command again.
    pub(super) fn note_unacknowledged(&self, key: Key) {
        self.entries().finished.insert(key, ());
    }

    /// The broker knows now.
    pub(super) fn note_acknowledged(&self, key: &Key) {
        self.entries().finished.remove(key);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut entries = self.ledger.entries();
        if let Some(count) = entries.under_way.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                entries.under_way.remove(&self.key);
            }
        }
        drop(entries);
        self.ledger.something_finished.notify_waiters();
    }
}
