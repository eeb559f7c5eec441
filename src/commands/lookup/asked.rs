//! Look-ups that this process has asked, by application and request id: a publisher repeats a command whose confirm it missed, and
//! the broker may move a copy twice. Such a command is not asked again.
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

struct Entry {
    /// How often the command had been in a retry queue. A copy counts one more than its original.
    attempt: i64,
    /// The digest of all its numbers; `None` if only copies came to this process.
    numbers: Option<[u8; 32]>,
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
        let known = asked.get(key).map(|entry| (entry.attempt, entry.numbers));
        let numbers = match known {
            None => numbers,
            Some((before, of_original)) if before < attempt => of_original,
            // The broker moved the copy twice.
            Some(_) if !is_original => return Ok(Noted::Repeated),
            Some((_, None)) => return Ok(Noted::Doubtful),
            Some((_, of_original)) if of_original == numbers => return Ok(Noted::Repeated),
            Some(_) => {
                return Err(Invalid::new(
                    Reason::IdReused,
                    "the request id was used for a look-up of other numbers",
                ));
            }
        };
        asked.insert(key.clone(), Entry { attempt, numbers });
        Ok(Noted::New)
    }

    /// The command ended without an answer, and may be published again.
    pub(super) fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
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
        asked.forget(&key);
        assert_eq!(note(2, &rest), Ok(Noted::New));
        assert_eq!(note(0, &all), Ok(Noted::Doubtful), "no original was seen");
    }
}
