//! What this process has done recently: the results of sends, the sends that began and have not ended, and which messages have a
//! final report.
//!
//! Bounded: the oldest entries are forgotten.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    events::{BeginSends, ContentDigest, EarlierSend, EarlierSends, NewEvent, RecordedSend},
    message::{event_type::EventType, id::FOREIGN_APPLICATION},
    primitives::recent_map::RecentMap,
    proto::v1::{self, event::Payload},
};

/// Results of sends that are always kept (some hundred bytes each).
const SENDS: usize = 8192;
/// Final reports that are always kept (16 bytes each).
const FINALS: usize = 65_536;
/// Begun sends without an end that are always kept (some hundred bytes each): more than `send.queue_capacity` usually allows at
/// once.
const BEGUN: usize = 32_768;
/// How long a begun send is kept: longer than the API's logs can tell its outcome (48 h).
const BEGUN_FOR: Duration = Duration::from_hours(72);

/// A send that began and has not ended.
#[derive(Debug, Clone, Copy)]
struct BegunSend {
    at: Timestamp,
    digest: ContentDigest,
}

#[derive(Default)]
pub(super) struct History {
    sends: RecentMap<String, RecordedSend, SENDS>,
    /// Entries leave it when their sends end, so that it holds the sends in flight and those whose results could not be stored.
    begun: RecentMap<String, BegunSend, BEGUN>,
    /// Keyed by a hash of the wire id. A collision drops a pending report at worst.
    finals: RecentMap<u64, (), FINALS>,
    hasher: RandomState,
}

impl History {
    /// Whether the event may be published now: a pending report must not follow a final one (P6). Remembers a final report, so it is
    /// asked in the order of the publications.
    pub(super) fn allows(&mut self, new: &NewEvent) -> bool {
        if new.is_final_report() {
            let key = self.hasher.hash_one(&new.wire_id);
            self.finals.insert(key, ());
        }
        !new.is_pending_report()
            || !self
                .finals
                .contains_key(&self.hasher.hash_one(&new.wire_id))
    }

    /// Whether a stored event is a pending report of a message that has a final one.
    pub(super) fn is_late_pending(&self, event: &v1::Event) -> bool {
        if event.r#type != EventType::ReportPending.as_str() {
            return false;
        }
        let Some(Payload::Report(report)) = &event.payload else {
            return false;
        };
        // See `NewEvent::report`: an id of the API that is none of the bridge's is the message id.
        let wire_id = if event.application == FOREIGN_APPLICATION {
            report.message_id.clone()
        } else {
            format!("{}.{}", event.application, report.message_id)
        };
        self.finals.contains_key(&self.hasher.hash_one(&wire_id))
    }

    /// If the event is the result of a send that the caller can repeat, remembers the result.
    pub(super) fn note_send(&mut self, new: &NewEvent) {
        if let (Some(Payload::Result(result)), Some(digest)) = (&new.event.payload, new.digest) {
            let result = result.clone();
            self.end_send(&new.wire_id, digest);
            self.sends
                .insert(new.wire_id.clone(), RecordedSend { digest, result });
        }
    }

    /// See [`crate::events::SendJournal::begin`].
    pub(super) fn begin_sends(&mut self, begin: &BeginSends, now: Timestamp) -> EarlierSends {
        let mut sends = Vec::with_capacity(begin.sends.len());
        for (wire_id, digest) in &begin.sends {
            let earlier = self.earlier(wire_id, now);
            if earlier.is_none() {
                let begun = BegunSend {
                    at: now,
                    digest: *digest,
                };
                self.begun.insert(wire_id.clone(), begun);
            }
            sends.push(earlier);
        }
        let mut others = begin.conflicting_ids.iter();
        EarlierSends {
            sends,
            conflicting_id: others.any(|wire_id| self.earlier(wire_id, now).is_some()),
        }
    }

    /// See [`crate::events::SendJournal::end`].
    pub(super) fn end_send(&mut self, wire_id: &String, digest: ContentDigest) {
        // A call that was rejected for conflicting content must not end the original's send.
        if self
            .begun
            .get(wire_id)
            .is_some_and(|begun| begun.digest == digest)
        {
            self.begun.remove(wire_id);
        }
    }

    fn earlier(&self, wire_id: &String, now: Timestamp) -> Option<EarlierSend> {
        if let Some(done) = self.sends.get(wire_id) {
            return Some(EarlierSend::Done(Box::new(done.clone())));
        }
        let begun = self.begun.get(wire_id)?;
        (now.duration_since(begun.at).unsigned_abs() < BEGUN_FOR).then_some(
            EarlierSend::Interrupted {
                at: begun.at,
                digest: begun.digest,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: ContentDigest = [7; 16];

    fn begin(history: &mut History, wire_id: &str, now: Timestamp) -> Option<EarlierSend> {
        let begin = BeginSends {
            sends: vec![(wire_id.to_owned(), DIGEST)],
            ..BeginSends::default()
        };
        history.begin_sends(&begin, now).sends.remove(0)
    }

    #[test]
    fn begun_sends_are_forgotten_by_age_and_by_number() {
        let (mut history, now) = (History::default(), Timestamp::now());
        assert_eq!(begin(&mut history, "shop.old", now), None);
        let at = now + BEGUN_FOR - Duration::from_secs(1);
        let interrupted = begin(&mut history, "shop.old", at);
        let digest = DIGEST;
        let expected = EarlierSend::Interrupted { at: now, digest };
        assert_eq!(interrupted, Some(expected));
        let at = now + BEGUN_FOR;
        assert_eq!(begin(&mut history, "shop.old", at), None, "begins anew");
        assert!(begin(&mut history, "shop.old", at).is_some());

        for n in 0..2 * BEGUN {
            assert_eq!(begin(&mut history, &format!("shop.{n}"), at), None);
        }
        assert_eq!(begin(&mut history, "shop.old", at), None);
    }

    #[test]
    fn sends_that_ended_leave_room_for_those_that_did_not() {
        let (mut history, now) = (History::default(), Timestamp::now());
        assert_eq!(begin(&mut history, "shop.open", now), None);
        for n in 0..3 * BEGUN {
            let wire_id = format!("shop.{n}");
            assert_eq!(begin(&mut history, &wire_id, now), None);
            history.end_send(&wire_id, DIGEST);
        }
        assert!(begin(&mut history, "shop.open", now).is_some());
    }
}
