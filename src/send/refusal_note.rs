//! How the API refused the request of a command in a way that speaks of no message (401, 403, an answer without its error envelope)
//! while it took other messages. The cause may be the command then, such as a text that a firewall refuses.
//!
//! Invariant: nothing is noted once the API has taken no send for ten minutes, so a total outage gives nobody up (P1, docs/RELIABILITY.md).
//! Neighbours: `dispatcher::failure` writes it; `commands` counts the refusals and sends the command alone the next time.

use std::sync::atomic::{AtomicU8, Ordering};

/// Whether other commands were in the request, which may be the cause as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    WithOthers = 1,
    Alone = 2,
}

/// The refusal of one attempt; of several the one that says most.
#[derive(Debug, Default)]
pub struct RefusalNote(AtomicU8);

impl RefusalNote {
    pub fn note(&self, refusal: Refusal) {
        self.0.fetch_max(refusal as u8, Ordering::Relaxed);
    }

    #[must_use]
    pub fn noted(&self) -> Option<Refusal> {
        let noted = self.0.load(Ordering::Relaxed);
        let all = [Refusal::WithOthers, Refusal::Alone];
        all.into_iter().find(|refusal| *refusal as u8 == noted)
    }
}
