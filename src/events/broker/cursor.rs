//! Cursors of the broker's log: `stream:{offset}-{mark}`, with the offset of an event in the stream and a mark of its id.
//!
//! The mark names the stream: one that was deleted and declared again has another event at this offset, so that the cursor is
//! refused instead of pointing to other events. The cursor before the oldest event has the mark of that event, because its own
//! one is gone: `stream:{offset}~{mark}`. Cursors of earlier versions have no mark. They are accepted without that check.

use std::fmt;

use sha1::{Digest as _, Sha1};

/// A position in the stream: after the event with this offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) offset: i64,
    pub(super) mark: Mark,
}

/// What tells whether a cursor belongs to the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nothing.
    None,
    /// The event at its offset.
    Event(EventMark),
    /// The event after its offset.
    NextEvent(EventMark),
}

/// A digest of an event's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EventMark(u32);

impl EventMark {
    pub(super) fn of(event_id: &str) -> Self {
        let digest = Sha1::digest(event_id);
        Self(u32::from_be_bytes(std::array::from_fn(|byte| digest[byte])))
    }
}

impl Cursor {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("stream:")?;
        let end = text.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = text.split_at(end);
        // The reader attaches to the offset after it, which must be valid too.
        let offset = digits.parse().ok().filter(|offset| *offset < i64::MAX)?;
        let mark = match (rest.as_bytes().first(), rest.get(1..)) {
            (None, _) => Mark::None,
            (Some(b'-'), Some(mark)) => Mark::Event(parse_mark(mark)?),
            (Some(b'~'), Some(mark)) => Mark::NextEvent(parse_mark(mark)?),
            _ => return None,
        };
        Some(Self { offset, mark })
    }
}

fn parse_mark(text: &str) -> Option<EventMark> {
    let is_mark = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mark = is_mark.then(|| u32::from_str_radix(text, 16).ok())??;
    Some(EventMark(mark))
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = self.offset;
        match self.mark {
            Mark::None => write!(f, "stream:{offset}"),
            Mark::Event(EventMark(mark)) => write!(f, "stream:{offset}-{mark:08x}"),
            Mark::NextEvent(EventMark(mark)) => write!(f, "stream:{offset}~{mark:08x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_they_are_written_and_malformed_ones_are_refused() {
        let mark = EventMark::of("5f0e6f6c-8a44-4b51-9d0b-3c5f52a17e90");
        for mark in [Mark::None, Mark::Event(mark), Mark::NextEvent(mark)] {
            let cursor = Cursor { offset: 42, mark };
            assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        }
        for text in [
            "",
            "42",
            "stream:",
            "stream:-1",
            "stream:+1",
            "stream: 1",
            "stream:1-",
            "stream:1-1234567",
            "stream:1-+1234567",
            "stream:1~123456789",
            "stream:1/12345678",
            "stream:1é",
            "sqlite:1",
            "stream:9223372036854775807",
        ] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }
}
