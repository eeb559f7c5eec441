//! Idempotency: finds out what happened to ids that were used before, by a call in progress, by a finished call, or by a process
//! that was killed.
//!
//! Invariants: one call at a time has claimed an id, from before its look-up until the call has ended; an id is new only if it is
//! known that no earlier send used it. Neighbours: `registry` knows the calls in progress, the event log knows earlier sends, and
//! `core` places each slot by what is found here.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;

use super::{
    SendError,
    call::{Call, Settled},
    registry::{Claim, Registry},
};
use crate::events::{BeginSends, EarlierSend, RecordedSend, SharedEventLog};

/// How an id was used before.
pub(super) enum Earlier {
    /// Its send has a recorded result.
    Done(Box<RecordedSend>),
    /// Another call is sending it: that call and its slot.
    InProgress(Arc<Call>, usize),
    /// Its send began at this time, and its outcome is not known.
    Interrupted(Timestamp),
    /// It was used for different content.
    OtherContent,
}

/// Looks up what earlier or concurrent calls did with the ids of this call, by slot. `None` if the log can't be read; the call has
/// then failed.
pub(super) async fn check(
    registry: &Arc<Registry>,
    log: &SharedEventLog,
    call: &Arc<Call>,
    conflicting_ids: &[String],
) -> Option<HashMap<usize, Earlier>> {
    let mut earlier = HashMap::new();
    let mut claimed = Vec::new();
    for (slot, of) in call.slots.iter().enumerate() {
        let Some(digest) = of.digest else { continue };
        match registry.claim(call, slot) {
            Claim::Mine => claimed.push((slot, (of.wire_id.clone(), digest))),
            Claim::HeldBy(other, their_slot) => {
                let same = other
                    .slots
                    .get(their_slot)
                    .is_some_and(|other| other.digest == of.digest);
                let what = if same {
                    Earlier::InProgress(other, their_slot)
                } else {
                    Earlier::OtherContent
                };
                earlier.insert(slot, what);
            }
        }
    }
    if claimed.is_empty() {
        return Some(earlier);
    }
    let sends: Vec<_> = claimed.iter().map(|(_, send)| send.clone()).collect();
    let (claims, notes) = (Arc::clone(registry), Arc::clone(log));
    let begin = BeginSends {
        sends: sends.clone(),
        conflicting_ids: conflicting_ids.to_vec(),
    };
    call.release_when_done(move |is_known| {
        // Before another call can claim the ids.
        if is_known {
            notes.end_sends(&sends);
        }
        claims.release(sends.iter().map(|(wire_id, _)| wire_id));
    });
    let found = match log.begin_sends(begin).await {
        Ok(found) => found,
        Err(error) => {
            let error = SendError::LogUnreadable(error.to_string());
            for slot in 0..call.slots.len() {
                call.settle(slot, Settled::Failed(error.clone()));
            }
            return None;
        }
    };
    for ((slot, (_, digest)), sent) in claimed.into_iter().zip(found.sends) {
        let what = match sent {
            _ if found.conflicting_id => Earlier::OtherContent,
            Some(EarlierSend::Done(sent)) if sent.digest == digest => Earlier::Done(sent),
            Some(EarlierSend::Interrupted { at, digest: of }) if of == digest => {
                Earlier::Interrupted(at)
            }
            Some(_) => Earlier::OtherContent,
            None => continue,
        };
        earlier.insert(slot, what);
    }
    Some(earlier)
}
