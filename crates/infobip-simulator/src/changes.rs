//! What changed since the last event of `/_sim/stream`.
//!
//! Invariants: while nobody listens, a change costs one comparison; at most [`MAX_LISTED_PHONES`] phones are listed, and more of them
//! are one flag. Neighbours: everything that changes [`crate::state`] marks it here, `engine::stream` takes it.

use crate::phones::{PhoneId, Phones};

/// Phones named in one event.
const MAX_LISTED_PHONES: usize = 100;

/// The changes since they were taken last.
#[derive(Debug)]
pub(crate) struct Changes {
    listening: bool,
    /// The number of the batch, from 1: a phone is listed once in each.
    batch: u64,
    taken: TakenChanges,
}

/// A batch of changes.
#[derive(Debug, Default)]
pub(crate) struct TakenChanges {
    pub(crate) phones: Vec<PhoneId>,
    /// More phones changed than are listed.
    pub(crate) all_phones: bool,
    pub(crate) clock: bool,
    pub(crate) pushes: bool,
    /// Everything was deleted.
    pub(crate) reset: bool,
}

impl TakenChanges {
    pub(crate) fn is_empty(&self) -> bool {
        let Self {
            phones,
            all_phones,
            clock,
            pushes,
            reset,
        } = self;
        phones.is_empty() && !all_phones && !clock && !pushes && !reset
    }
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            listening: false,
            batch: 1,
            taken: TakenChanges::default(),
        }
    }
}

impl Changes {
    /// Begins or ends to collect changes.
    pub(crate) fn listen(&mut self, listening: bool) {
        if self.listening != listening {
            self.take();
            self.listening = listening;
        }
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.listening
    }

    /// The conversation of a phone changed.
    pub(crate) fn phone(&mut self, phones: &mut Phones, id: Option<PhoneId>) {
        if !self.listening || self.taken.all_phones {
            return;
        }
        let Some(phone) = id.and_then(|id| phones.get_mut(id)) else {
            return;
        };
        if phone.listed_in == self.batch {
            return;
        }
        if self.taken.phones.len() == MAX_LISTED_PHONES {
            self.taken.all_phones = true;
            self.taken.phones.clear();
            return;
        }
        phone.listed_in = self.batch;
        self.taken.phones.extend(id);
    }

    pub(crate) fn pushes(&mut self) {
        self.taken.pushes = self.listening;
    }

    pub(crate) fn clock(&mut self) {
        self.taken.clock = self.listening;
    }

    /// Everything was deleted: the changes of a state that follows this one.
    pub(crate) fn after_reset(&self) -> Self {
        Self {
            listening: self.listening,
            batch: self.batch + 1,
            taken: TakenChanges {
                reset: self.listening,
                clock: self.listening,
                ..TakenChanges::default()
            },
        }
    }

    /// The changes since the last call.
    pub(crate) fn take(&mut self) -> TakenChanges {
        self.batch += 1;
        std::mem::take(&mut self.taken)
    }
}
