//! Look-ups that this process has asked, by application and request id: a publisher repeats a command whose confirm it missed, and
//! the broker may move a copy twice. Such a command is not asked again; of one that became a dead letter, nothing but what was left
//! of it.
//!
//! Only this process's are known, and only the last ones (docs/RELIABILITY.md#look-ups).

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::{
    commands::{invalid::Invalid, ledger::Key},
    message::reason::Reason,
    primitives::recent_map::RecentMap,
};

/// Commands that are remembered at least.
const REMEMBERED: usize = 8_192;

#[derive(Default)]
pub(in crate::commands) struct Asked(Mutex<RecentMap<Key, Entry, REMEMBERED>>);

#[derive(Clone, Copy)]
struct Entry {
    /// How often the command had been in a retry queue. A copy counts one more than its original.
    attempt: i64,
    /// The digest of all its numbers; `None` if only copies came to this process.
    numbers: Option<[u8; 32]>,
    /// Whether its numbers are what was left of a command when it became a dead letter. Others of the command were asked.
    is_rest: bool,
    /// Whether it is a dead letter, of which nothing was asked: it may be published again.
    is_dead: bool,
}

/// What is known of a command that is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// It was not asked before, as far as this process knows.
    New,
    /// It was: there is nothing to do.
    Repeated,
    /// A command with this id was asked. Whether it had the same numbers is not known.
    Doubtful,
}

impl Asked {
    /// Notes that a command is asked now.
    ///
    /// # Errors
    /// [`Reason::IdReused`] if the id was used for other numbers.
    pub(super) fn note(
        &self,
        key: &Key,
        attempt: i64,
        numbers: &[String],
    ) -> Result<Noted, Invalid> {
        let is_original = attempt == 0;
        let numbers = is_original.then(|| digest(numbers));
        let mut asked = self.0.lock();
        let known = asked.get(key).copied();
        let numbers = match known {
            None => numbers,
            Some(entry) if entry.attempt < attempt => entry.numbers,
            // The broker moved the copy twice.
            Some(_) if !is_original => return Ok(Noted::Repeated),
            Some(Entry { numbers: None, .. }) => return Ok(Noted::Doubtful),
            Some(entry) if entry.numbers == numbers && entry.is_dead => numbers,
            Some(entry) if entry.numbers == numbers => return Ok(Noted::Repeated),
            Some(_) => {
                return Err(Invalid::new(
                    Reason::IdReused,
                    "the request id was used for a look-up of other numbers",
                ));
            }
        };
        let entry = Entry {
            attempt,
            numbers,
            is_rest: known.is_some_and(|entry| entry.is_rest),
            is_dead: false,
        };
        asked.insert(key.clone(), entry);
        Ok(Noted::New)
    }

    /// The command became a dead letter with the numbers that are left. They may be published again under its id; if others were
    /// asked before, only they.
    pub(super) fn died(&self, key: &Key, attempt: i64, left: &[String]) {
        let left = Some(digest(left));
        let mut asked = self.0.lock();
        let is_untouched = |entry: &Entry| entry.numbers == left && !entry.is_rest;
        if asked.get(key).is_some_and(is_untouched) {
            asked.remove(key);
            return;
        }
        let entry = Entry {
            attempt,
            numbers: left,
            is_rest: true,
            is_dead: true,
        };
        asked.insert(key.clone(), entry);
    }
}

fn digest(numbers: &[String]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for number in numbers {
        digest.update(number);
        digest.update(",");
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_is_asked_once_and_its_copies_once_each() {
        let asked = Asked::default();
        let key = ("shop".to_owned(), "r1".to_owned());
        let (all, rest) = (["41".to_owned(), "42".to_owned()], ["42".to_owned()]);
        let note = |attempt, numbers: &[String]| asked.note(&key, attempt, numbers);
        assert_eq!(note(0, &all), Ok(Noted::New));
        assert_eq!(note(0, &all), Ok(Noted::Repeated));
        assert_eq!(note(1, &rest), Ok(Noted::New), "a copy");
        assert_eq!(note(1, &rest), Ok(Noted::Repeated), "moved twice");
        assert_eq!(note(0, &all), Ok(Noted::Repeated));
        let other = note(0, &rest).unwrap_err();
        assert_eq!(other.reason, Reason::IdReused);
        let key = ("shop".to_owned(), "r2".to_owned());
        let note = |attempt, numbers: &[String]| asked.note(&key, attempt, numbers);
        assert_eq!(note(2, &rest), Ok(Noted::New));
        assert_eq!(note(0, &all), Ok(Noted::Doubtful), "no original was seen");
    }

    #[test]
    fn of_a_dead_letter_only_what_was_left_is_asked_again() {
        let asked = Asked::default();
        let key = ("shop".to_owned(), "r1".to_owned());
        let (all, rest) = (["41".to_owned(), "42".to_owned()], ["42".to_owned()]);
        let note = |attempt, numbers: &[String]| asked.note(&key, attempt, numbers);
        // Nothing was asked, so that all of it may be corrected.
        assert_eq!(note(0, &all), Ok(Noted::New));
        asked.died(&key, 0, &all);
        assert_eq!(note(0, &rest), Ok(Noted::New));
        asked.died(&key, 0, &rest);
        // The first number was asked before the copy was made, which the API refuses; and so it does when the letter is replayed.
        assert_eq!(note(0, &all), Ok(Noted::New));
        assert_eq!(note(1, &rest), Ok(Noted::New), "the copy");
        for attempt in [1, 0] {
            asked.died(&key, attempt, &rest);
            assert_eq!(note(0, &all).unwrap_err().reason, Reason::IdReused);
            assert_eq!(note(0, &rest), Ok(Noted::New), "the letter");
            assert_eq!(note(0, &rest), Ok(Noted::Repeated));
        }
        assert_eq!(note(1, &rest), Ok(Noted::New), "a copy of the letter");
    }
}
