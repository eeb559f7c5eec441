//! Cursors of the embedded log: `{log}-{sequence number}`.
//!
//! Each cursor contains the log's random id, so that a cursor of another log (one that was moved away) is refused instead of
//! pointing to another event.

use super::super::ReadError;

/// The random id of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogId(pub(super) u32);

impl LogId {
    /// The cursor of the event with this sequence number.
    pub(super) fn cursor(self, seq: i64) -> String {
        format!("{:08x}-{seq}", self.0)
    }

    /// The sequence number in a cursor of this log. Refuses other cursors, and those after `head`.
    pub(super) fn parse_cursor(self, cursor: &str, head: i64) -> Result<i64, ReadError> {
        let seq = cursor
            .split_once('-')
            .filter(|(log, _)| u32::from_str_radix(log, 16) == Ok(self.0))
            .and_then(|(_, seq)| seq.parse::<i64>().ok())
            .filter(|seq| (0..=head).contains(seq));
        seq.ok_or_else(|| ReadError::BadCursor {
            cursor: cursor.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_of_other_logs_and_past_the_head_are_refused() {
        let log = LogId(0xabc);
        assert_eq!(log.parse_cursor(&log.cursor(7), 9).unwrap(), 7);
        for cursor in [
            LogId(0xabd).cursor(7),
            log.cursor(10),
            "7".into(),
            String::new(),
            "-1".into(),
        ] {
            assert!(log.parse_cursor(&cursor, 9).is_err(), "{cursor}");
        }
    }
}
