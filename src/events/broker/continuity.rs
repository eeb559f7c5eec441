//! Notices that truncation has overtaken a reader of the stream.
//!
//! The broker says nothing of that: a consumer whose next chunk was truncated continues at the oldest one (measured on RabbitMQ 3.10, 4.0
//! and 4.3). Offsets do not follow each other without holes either: the broker begins each segment with a record of its own, which has an
//! offset, and writes more of them for consumers of the stream protocol. So a hole leads to a look at the oldest message: while the log
//! has the message before the hole, nothing of the hole was truncated.
//!
//! With the broker's filter (`stream_filter`) holes of any size are usual, and nothing tells which messages were in them. What counts
//! then is whether the log still has what comes next at a moment when the broker delivers nothing, because the reader has not
//! acknowledged what it has.
//! Invariants: a reader that keeps up is never stopped; what was delivered before a gap is returned before the error.
//! Neighbours: `stream_reader` asks for each delivery, `probe` finds the oldest message.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::probe::{Oldest, oldest};
use crate::{amqp::Session, events::ReadError};

/// Records of the broker itself at the beginning of a segment. Whole segments are truncated, so that more than this is missing after a
/// message whose next ones were truncated.
const OWN_RECORDS: i64 = 1;
/// A filtered reader that returned this long after its last batch may have been overtaken.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a filtered reader may be behind without a look.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

pub(super) struct Continuity {
    session: Arc<Session>,
    stream: String,
    is_filtered: bool,
    /// The offset after which the next message comes. `None`: the reader asked for no particular one.
    last: Option<i64>,
    /// The last cursor that the reader was given, or gave.
    cursor: String,
    /// The offset of the oldest message, as it was after the current deliveries were received.
    kept_from: Option<i64>,
    /// With a filter: the oldest message, when it was found to be after the next one of the reader. The broker may still have the file of the
    /// segment that it reads.
    passed: Option<i64>,
    looked_at: Instant,
    returned_at: Instant,
}

impl Continuity {
    /// Of a reader that starts after this offset and its cursor, or anywhere.
    pub(super) fn new(
        session: Arc<Session>,
        stream: String,
        is_filtered: bool,
        after: Option<(i64, String)>,
    ) -> Self {
        let (last, cursor) = after.unzip();
        Self {
            session,
            stream,
            is_filtered,
            last,
            cursor: cursor.unwrap_or_default(),
            kept_from: None,
            passed: None,
            looked_at: Instant::now(),
            returned_at: Instant::now(),
        }
    }

    /// A consumer with a filter was attached after the start of the reader: fails if that was truncated before.
    pub(super) async fn attached(&self) -> Result<(), ReadError> {
        match self.last {
            Some(last) if self.is_filtered => {
                let oldest = self.look().await?;
                self.check(last, &oldest)
            }
            _ => Ok(()),
        }
    }

    /// Messages were received, up to this offset, and are not acknowledged. `is_all`: the broker sends no more until then.
    pub(super) async fn received(&mut self, up_to: i64, is_all: bool) -> Result<(), ReadError> {
        self.kept_from = None;
        let is_due = self.returned_at.elapsed() >= PAUSE || self.looked_at.elapsed() >= LOOK_AGAIN;
        if self.is_filtered && is_all && is_due && self.passed.is_none() {
            let oldest = self.look().await?;
            self.looked_at = Instant::now();
            let is_passed = is_missing_between(up_to, oldest.offset);
            self.passed = is_passed.then_some(oldest.offset);
        }
        Ok(())
    }

    /// Fails if messages between the last one and this one were truncated.
    pub(super) async fn next(&mut self, offset: i64) -> Result<(), ReadError> {
        if let Some(last) = self.last {
            let is_doubtful = match self.is_filtered {
                true => self.passed.is_some_and(|passed| offset >= passed),
                false => {
                    is_missing_between(last, offset)
                        && self
                            .kept_from
                            .is_none_or(|kept| is_missing_between(last, kept))
                }
            };
            if is_doubtful {
                let oldest = self.look().await?;
                self.check(last, &oldest)?;
                self.kept_from = Some(oldest.offset);
                self.passed = None;
            }
        }
        self.last = Some(offset);
        Ok(())
    }

    /// The reader returns an event with this cursor.
    pub(super) fn returns(&mut self, cursor: &str) {
        cursor.clone_into(&mut self.cursor);
    }

    /// The reader returns its batch.
    pub(super) fn returned(&mut self) {
        self.returned_at = Instant::now();
    }

    async fn look(&self) -> Result<Oldest, ReadError> {
        oldest(&self.session, &self.stream).await
    }

    fn check(&self, last: i64, oldest: &Oldest) -> Result<(), ReadError> {
        if is_missing_between(last, oldest.offset) {
            return Err(ReadError::OutOfRange {
                cursor: self.cursor.clone(),
                oldest_cursor: oldest.cursor_before(),
            });
        }
        Ok(())
    }
}

/// Whether a message can be missing between these two.
pub(super) fn is_missing_between(last: i64, next: i64) -> bool {
    next.saturating_sub(last) > 1 + OWN_RECORDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_at_the_beginning_of_a_segment_is_no_message() {
        assert!(!is_missing_between(19, 20));
        assert!(!is_missing_between(19, 21));
        assert!(is_missing_between(19, 22));
        assert!(!is_missing_between(21, 19));
    }
}
