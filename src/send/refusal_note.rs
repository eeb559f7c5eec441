//! How the API refused the request of a command in a way that speaks of no message (401, 403, an answer without its error envelope)
//! while it took other messages. The cause may be the command then, such as a text that a firewall refuses.
//!
//! Invariant: an outage, of one endpoint too, counts once at most, so no command is given up because of one (P1, docs/RELIABILITY.md).
//! Neighbours: `dispatcher::failure` writes it; `commands` counts the refusals and sends the command alone the next time.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::infobip::BatchKind;

/// What the refusal of a request says about the command, in the order of what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Refusal {
    /// Other commands were in the request, which may be the cause as well.
    WithOthers = 1,
    /// It had the request for itself, and the API took others within ten minutes.
    Alone = 2,
    /// The API took the request before it as well: the cause is the command.
    AloneAfterOthers = 3,
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
        let all = [
            Refusal::WithOthers,
            Refusal::Alone,
            Refusal::AloneAfterOthers,
        ];
        all.into_iter().find(|refusal| *refusal as u8 == noted)
    }
}

/// Whether the API took the last request of each kind: each has an endpoint of its own, which may be down alone.
#[derive(Debug, Default)]
pub(super) struct LastAnswers {
    text_was_taken: AtomicBool,
    binary_was_taken: AtomicBool,
}

impl LastAnswers {
    fn of(&self, kind: BatchKind) -> &AtomicBool {
        match kind {
            BatchKind::Text => &self.text_was_taken,
            BatchKind::Binary => &self.binary_was_taken,
        }
    }

    pub(super) fn taken(&self, kind: BatchKind) {
        self.of(kind).store(true, Ordering::Relaxed);
    }

    /// Returns whether the request before was taken.
    pub(super) fn failed(&self, kind: BatchKind) -> bool {
        self.of(kind).swap(false, Ordering::Relaxed)
    }
}
