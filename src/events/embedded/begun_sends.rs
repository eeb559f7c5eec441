//! The sends that were begun and are not known to have ended: what a process that was killed leaves to the next one.
//!
//! Between a request to the API and the durable result a send stands nowhere else. It is noted here, in `sends.begun` beside
//! the log, before it may go out; so an id that comes again after the process was killed is in doubt, and is looked up before
//! it is sent again. Invariants: an id is in the file before its look-up is answered; the file holds no more than twice what
//! is under way and some. It is written without fsync: it outlives the process, not the machine. Neighbours: `look_ups` notes
//! here whose results the log has not got, `send` says when a call has ended.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};

use super::super::ContentDigest;

/// The file is written anew when it has so many lines, and most of them ended.
const MANY_LINES: usize = 20_000;

/// What is known of a send that has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BegunSend {
    pub(super) at: Timestamp,
    pub(super) digest: ContentDigest,
}

struct State {
    file: File,
    lines: usize,
    sends: HashMap<String, BegunSend>,
}

/// The sends under way, by wire id.
pub(super) struct BegunSends {
    path: PathBuf,
    /// Locked only where blocking is allowed.
    state: Mutex<State>,
    /// Ended since the last look: taken out of `state` by who has it next. No more than there were calls meanwhile.
    ended: Mutex<Vec<(String, ContentDigest)>>,
}

impl BegunSends {
    /// What the last process left, but for what `is_known` or is older than `oldest`.
    pub(super) fn open(
        path: PathBuf,
        oldest: Timestamp,
        mut is_known: impl FnMut(&str) -> bool,
    ) -> io::Result<Self> {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        // The last line may be half of one; so may any after the machine stopped.
        let sends: HashMap<_, _> = text
            .lines()
            .filter_map(parse)
            .filter(|(wire_id, send)| send.at >= oldest && !is_known(wire_id))
            .collect();
        let file = write_anew(&path, &sends)?;
        let state = Mutex::new(State {
            file,
            lines: sends.len(),
            sends,
        });
        Ok(Self {
            path,
            state,
            ended: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn ended(&self) -> MutexGuard<'_, Vec<(String, ContentDigest)>> {
        self.ended.lock()
    }

    /// For each of these, which have no result: how it was begun earlier, or `None`, and then it is begun now. Blocks.
    pub(super) fn begin(
        &self,
        sends: &[(&str, ContentDigest)],
    ) -> io::Result<Vec<Option<BegunSend>>> {
        let mut state = self.state();
        for (wire_id, digest) in std::mem::take(&mut *self.ended()) {
            // Who was refused for another content has not ended it.
            if state
                .sends
                .get(&wire_id)
                .is_some_and(|send| send.digest == digest)
            {
                state.sends.remove(&wire_id);
            }
        }
        let at = Timestamp::now();
        // After a write that failed this ends its half line.
        let mut lines = "\n".to_owned();
        let mut earlier = Vec::with_capacity(sends.len());
        for &(wire_id, digest) in sends {
            let begun = state.sends.get(wire_id).copied();
            if begun.is_none() {
                write_line(&mut lines, wire_id, BegunSend { at, digest });
            }
            earlier.push(begun);
        }
        state.file.write_all(lines.as_bytes())?;
        for (&(wire_id, digest), _) in sends.iter().zip(&earlier).filter(|(_, was)| was.is_none()) {
            let begun = BegunSend { at, digest };
            state.sends.insert(wire_id.to_owned(), begun);
            state.lines += 1;
        }
        if state.lines > MANY_LINES && state.lines > 2 * state.sends.len() {
            match write_anew(&self.path, &state.sends) {
                Ok(file) => {
                    state.file = file;
                    state.lines = state.sends.len();
                }
                // What is noted stands in the old file, which goes on.
                Err(error) => {
                    tracing::warn!(%error, "the notes of begun sends can't be written anew");
                }
            }
        }
        Ok(earlier)
    }

    /// Whether a send with this id was begun and has not ended. Blocks.
    pub(super) fn is_begun(&self, wire_id: &str) -> bool {
        self.state().sends.contains_key(wire_id)
    }

    /// The log knows what came of these, or nothing was attempted.
    pub(super) fn end(&self, sends: &[(String, ContentDigest)]) {
        self.ended().extend_from_slice(sends);
    }
}

/// Puts a file in the place of the old one, and leaves it open for more.
fn write_anew(path: &Path, sends: &HashMap<String, BegunSend>) -> io::Result<File> {
    let mut lines = String::new();
    for (wire_id, send) in sends {
        write_line(&mut lines, wire_id, *send);
    }
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(lines.as_bytes())?;
    fs::rename(&new, path)?;
    Ok(file)
}

/// A line: when (ms since 1970), what (hexadecimal), which.
fn write_line(lines: &mut String, wire_id: &str, send: BegunSend) {
    let digest = u128::from_be_bytes(send.digest);
    // Writing to a string does not fail.
    let _ = writeln!(
        lines,
        "{} {digest:032x} {wire_id}",
        send.at.as_millisecond()
    );
}

fn parse(line: &str) -> Option<(String, BegunSend)> {
    let mut fields = line.split(' ');
    let at = Timestamp::from_millisecond(fields.next()?.parse().ok()?).ok()?;
    let digest = u128::from_str_radix(fields.next()?, 16).ok()?.to_be_bytes();
    let wire_id = fields.next()?.to_owned();
    Some((wire_id, BegunSend { at, digest }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: ContentDigest = [7; 16];

    fn open(folder: &Path, is_known: impl FnMut(&str) -> bool) -> BegunSends {
        BegunSends::open(folder.join("sends.begun"), Timestamp::UNIX_EPOCH, is_known).unwrap()
    }

    fn begin(begun: &BegunSends, wire_id: &str) -> Option<ContentDigest> {
        let earlier = begun.begin(&[(wire_id, DIGEST)]).unwrap();
        earlier[0].map(|earlier| earlier.digest)
    }

    #[test]
    fn what_was_begun_and_did_not_end_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let begun = open(folder.path(), |_| false);
        for id in ["a.done", "a.open", "a.ended", "a.again"] {
            assert_eq!(begin(&begun, id), None, "{id}");
        }
        begun.end(&[("a.ended".into(), DIGEST), ("a.again".into(), DIGEST)]);
        begun.end(&[("a.open".into(), [8; 16])]);
        assert_eq!(begin(&begun, "a.again"), None, "it ended");
        assert_eq!(begin(&begun, "a.open"), Some(DIGEST));

        // It was killed: what ended is known by its result.
        drop(begun);
        let begun = open(folder.path(), |id| id == "a.done");
        assert_eq!(begin(&begun, "a.done"), None);
        assert_eq!(begin(&begun, "a.open"), Some(DIGEST));
        assert_eq!(begin(&begun, "a.again"), Some(DIGEST));

        // What is too old is nobody's concern any more.
        let path = folder.path().join("sends.begun");
        let begun = BegunSends::open(path, Timestamp::MAX, |_| false).unwrap();
        assert_eq!(begin(&begun, "a.open"), None);
    }

    #[test]
    fn half_a_line_spoils_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sends.begun");
        let digest = u128::from_be_bytes(DIGEST);
        let lines = format!("\0\0\nnonsense\n99 {digest:032x} a.open\n99 0123");
        fs::write(&path, lines).unwrap();
        let begun = open(folder.path(), |_| false);
        assert_eq!(begin(&begun, "a.open"), Some(DIGEST));
    }

    #[test]
    fn the_file_does_not_grow_with_what_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let begun = open(folder.path(), |_| false);
        assert_eq!(begin(&begun, "a.open"), None);
        for n in 0..3 * MANY_LINES {
            let id = format!("a.{n}");
            assert_eq!(begin(&begun, &id), None);
            begun.end(&[(id, DIGEST)]);
        }
        let text = fs::read_to_string(folder.path().join("sends.begun")).unwrap();
        assert!(text.lines().count() <= MANY_LINES + 1);
        assert!(text.contains(" a.open\n"));
    }
}
