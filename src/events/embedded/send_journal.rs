//! The journal of begun sends: the next process reads which sends a killed process may have made.
//!
//! Between the request to the API and its durable result, nothing else records a send. So its wire id is written to the file
//! `sends.begun` before the request may leave. If the caller repeats the id after a crash, the send is in doubt and is looked
//! up in the API's logs before it is sent again.
//!
//! Invariants: an id is in the file before its lookup returns; the file is rewritten once most of its lines have ended, so
//! its size is bounded by the sends in flight. It is written without fsync: it survives a crash of the process, not of the
//! machine.
//! Neighbours: `lookup_batcher` enters sends without a result, `send` ends them.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};

use super::{super::ContentDigest, private};

/// The file is rewritten when it has more lines than this and most of them have ended.
const COMPACT_AFTER_LINES: usize = 20_000;

/// A send without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BegunSend {
    pub(super) at: Timestamp,
    pub(super) digest: ContentDigest,
}

struct State {
    file: File,
    lines: usize,
    /// Whether a failed write may have left an incomplete line.
    is_torn: bool,
    sends: HashMap<String, BegunSend>,
}

pub(super) struct JournalFile {
    path: PathBuf,
    /// Locked only on threads that may block.
    state: Mutex<State>,
    /// Sends that ended since the last [`JournalFile::begin`], which removes them from `state`. Bounded by the calls in between.
    ended: Mutex<Vec<(String, ContentDigest)>>,
}

impl JournalFile {
    /// Reads the journal of the last process, without sends that have a result (`is_known`) or are older than `oldest`.
    pub(super) fn open(
        path: PathBuf,
        oldest: Timestamp,
        mut is_known: impl FnMut(&str) -> bool,
    ) -> io::Result<Self> {
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        // The last line may be incomplete; after a crash of the machine, any line may be, and have bytes that are no text.
        let text = String::from_utf8_lossy(&bytes);
        let sends: HashMap<_, _> = text
            .lines()
            .filter_map(parse)
            .filter(|(wire_id, send)| send.at >= oldest && !is_known(wire_id))
            .collect();
        let file = rewrite(&path, &sends)?;
        let state = Mutex::new(State {
            file,
            lines: sends.len(),
            is_torn: false,
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

    /// Begins sends that have no result. Returns for each the earlier begun send with its id, or `None` if it begins now.
    /// An id with a space or a control character is invalid and is never sent: it is not entered, because it could forge a line.
    /// Blocks.
    pub(super) fn begin(
        &self,
        sends: &[(&str, ContentDigest)],
    ) -> io::Result<Vec<Option<BegunSend>>> {
        let mut state = self.state();
        for (wire_id, digest) in std::mem::take(&mut *self.ended()) {
            // A call that was rejected for conflicting content must not remove the original's entry.
            if state
                .sends
                .get(&wire_id)
                .is_some_and(|send| send.digest == digest)
            {
                state.sends.remove(&wire_id);
            }
        }
        let at = Timestamp::now();
        let mut lines = String::new();
        if state.is_torn {
            lines.push('\n');
        }
        let mut earlier = Vec::with_capacity(sends.len());
        for &(wire_id, digest) in sends {
            let begun = state.sends.get(wire_id).copied();
            if begun.is_none() && is_one_field(wire_id) {
                write_line(&mut lines, wire_id, BegunSend { at, digest });
            }
            earlier.push(begun);
        }
        state.is_torn = true;
        state.file.write_all(lines.as_bytes())?;
        state.is_torn = false;
        for (&(wire_id, digest), earlier) in sends.iter().zip(&earlier) {
            if earlier.is_some() || !is_one_field(wire_id) {
                continue;
            }
            let begun = BegunSend { at, digest };
            state.sends.insert(wire_id.to_owned(), begun);
            state.lines += 1;
        }
        if state.lines > COMPACT_AFTER_LINES && state.lines > 2 * state.sends.len() {
            match rewrite(&self.path, &state.sends) {
                Ok(file) => {
                    state.file = file;
                    state.lines = state.sends.len();
                }
                // The old file has every entry and stays in use.
                Err(error) => {
                    tracing::warn!(%error, "cannot rewrite the journal of begun sends; the old file stays in use");
                }
            }
        }
        Ok(earlier)
    }

    /// Whether a send with this id was begun and has not ended. Blocks.
    pub(super) fn is_begun(&self, wire_id: &str) -> bool {
        self.state().sends.contains_key(wire_id)
    }

    /// Ends sends: the log has their results, or nothing was sent.
    pub(super) fn end(&self, sends: &[(String, ContentDigest)]) {
        self.ended().extend_from_slice(sends);
    }
}

/// Replaces the file, and returns the new one open for appending.
fn rewrite(path: &Path, sends: &HashMap<String, BegunSend>) -> io::Result<File> {
    let mut lines = String::new();
    for (wire_id, send) in sends {
        write_line(&mut lines, wire_id, *send);
    }
    let new = path.with_extension("new");
    let mut file = private::create_file(&new)?;
    file.write_all(lines.as_bytes())?;
    fs::rename(&new, path)?;
    Ok(file)
}

/// Whether a wire id is one field of a line.
fn is_one_field(wire_id: &str) -> bool {
    wire_id.bytes().all(|byte| byte > b' ')
}

/// A line: begun at (ms since 1970), content digest (hexadecimal), wire id.
fn write_line(lines: &mut String, wire_id: &str, send: BegunSend) {
    let digest = u128::from_be_bytes(send.digest);
    writeln!(
        lines,
        "{} {digest:032x} {wire_id}",
        send.at.as_millisecond()
    )
    .expect("writing to a string cannot fail");
}

fn parse(line: &str) -> Option<(String, BegunSend)> {
    let mut fields = line.split(' ');
    let at = Timestamp::from_millisecond(fields.next()?.parse().ok()?).ok()?;
    let digest = u128::from_str_radix(fields.next()?, 16).ok()?.to_be_bytes();
    let wire_id = fields.next()?.to_owned();
    if fields.next().is_some() {
        return None;
    }
    Some((wire_id, BegunSend { at, digest }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: ContentDigest = [7; 16];

    fn open(folder: &Path, is_known: impl FnMut(&str) -> bool) -> JournalFile {
        JournalFile::open(folder.join("sends.begun"), Timestamp::UNIX_EPOCH, is_known).unwrap()
    }

    fn begin(journal: &JournalFile, wire_id: &str) -> Option<ContentDigest> {
        let earlier = journal.begin(&[(wire_id, DIGEST)]).unwrap();
        earlier[0].map(|earlier| earlier.digest)
    }

    #[test]
    fn begun_sends_without_an_end_survive_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path(), |_| false);
        for id in ["a.done", "a.open", "a.ended", "a.again"] {
            assert_eq!(begin(&journal, id), None, "{id}");
        }
        journal.end(&[("a.ended".into(), DIGEST), ("a.again".into(), DIGEST)]);
        journal.end(&[("a.open".into(), [8; 16])]);
        assert_eq!(begin(&journal, "a.again"), None, "it ended");
        assert_eq!(begin(&journal, "a.open"), Some(DIGEST));

        // The process was killed: a send that ended is known by its result.
        drop(journal);
        let journal = open(folder.path(), |id| id == "a.done");
        assert_eq!(begin(&journal, "a.done"), None);
        assert_eq!(begin(&journal, "a.open"), Some(DIGEST));
        assert_eq!(begin(&journal, "a.again"), Some(DIGEST));

        // Sends older than the retention are forgotten.
        let path = folder.path().join("sends.begun");
        let journal = JournalFile::open(path, Timestamp::MAX, |_| false).unwrap();
        assert_eq!(begin(&journal, "a.open"), None);
    }

    #[test]
    fn incomplete_lines_are_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sends.begun");
        let digest = u128::from_be_bytes(DIGEST);
        let lines = format!("\0\0\nnonsense\n99 {digest:032x} a.open\n99 0123");
        fs::write(&path, lines).unwrap();
        let journal = open(folder.path(), |_| false);
        assert_eq!(begin(&journal, "a.open"), Some(DIGEST));
    }

    /// After a power failure a page of the file may have any content.
    #[test]
    fn bytes_that_are_no_text_are_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sends.begun");
        let digest = u128::from_be_bytes(DIGEST);
        let mut bytes = format!("99 {digest:032x} a.open\n").into_bytes();
        bytes.extend([0xff, 0xfe, 0, b'\n', 0xc3]);
        fs::write(&path, bytes).unwrap();
        let journal = open(folder.path(), |_| false);
        assert_eq!(begin(&journal, "a.open"), Some(DIGEST));
    }

    #[test]
    fn a_send_that_is_begun_already_does_not_grow_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path(), |_| false);
        let bytes = || {
            fs::metadata(folder.path().join("sends.begun"))
                .unwrap()
                .len()
        };
        assert_eq!(begin(&journal, "a.open"), None);
        let before = bytes();
        assert_eq!(begin(&journal, "a.open"), Some(DIGEST));
        assert_eq!(bytes(), before);
    }

    #[test]
    fn an_id_cannot_forge_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path(), |_| false);
        let digest = u128::from_be_bytes(DIGEST);
        let forged = format!("shop.x\n9999999999999 {digest:032x} shop.order-1");
        assert_eq!(begin(&journal, &forged), None);
        assert_eq!(begin(&journal, "shop.order 17"), None);
        drop(journal);
        let path = folder.path().join("sends.begun");
        let mut text = fs::read_to_string(&path).unwrap();
        // A line of an earlier version.
        writeln!(text, "9999999999999 {digest:032x} shop.sale 17").unwrap();
        fs::write(&path, text).unwrap();
        let journal = open(folder.path(), |_| false);
        for id in ["shop.order-1", "shop.order", "shop.x", "shop.sale"] {
            assert_eq!(begin(&journal, id), None, "{id}");
        }
    }

    #[test]
    fn ended_sends_do_not_grow_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path(), |_| false);
        assert_eq!(begin(&journal, "a.open"), None);
        for n in 0..3 * COMPACT_AFTER_LINES {
            let id = format!("a.{n}");
            assert_eq!(begin(&journal, &id), None);
            journal.end(&[(id, DIGEST)]);
        }
        let text = fs::read_to_string(folder.path().join("sends.begun")).unwrap();
        assert!(text.lines().count() <= COMPACT_AFTER_LINES + 1);
        assert!(text.contains(" a.open\n"));
    }
}
