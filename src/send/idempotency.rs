//! Idempotency: determines how the ids of a call were used before: by a call in progress, by a finished call, or by a process that
//! was killed.
//!
//! Invariants: at most one call has claimed an id, from before its look-up until the call is done; an id counts as new only if no
//! earlier send used it (P2, docs/RELIABILITY.md).
//! Neighbours: `registry` has the calls in progress, the journal of the event log has earlier sends, and `core` places each slot by its earlier
//! use.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;

use super::{
    SendError,
    call::{Call, Settled},
    registry::{Claim, Registry},
};
use crate::events::{BeginSends, EarlierSend, RecordedSend, SendJournal};

/// How an id was used before.
pub(super) enum EarlierUse {
    /// Its send has a recorded result.
    Done(Box<RecordedSend>),
    /// Another call is sending it: that call and its slot.
    InProgress(Arc<Call>, usize),
    /// Its send began at this time, and its outcome is not known.
    Interrupted(Timestamp),
    /// It was used for different content.
    OtherContent,
}

/// Looks up what earlier or concurrent calls did with the ids of this call, by slot. `None` if the journal cannot be read: the call has
/// then failed.
pub(super) async fn check(
    registry: &Arc<Registry>,
    journal: &Arc<dyn SendJournal>,
    call: &Arc<Call>,
    conflicting_ids: &[String],
) -> Option<HashMap<usize, EarlierUse>> {
    let mut earlier = HashMap::new();
    let mut claimed = Vec::new();
    for (slot, own) in call.slots.iter().enumerate() {
        let Some(digest) = own.digest else { continue };
        match registry.claim(call, slot) {
            Claim::Mine => claimed.push((slot, (own.wire_id.clone(), digest))),
            Claim::HeldBy(other, their_slot) => {
                let same_content = other
                    .slots
                    .get(their_slot)
                    .is_some_and(|other| other.digest == own.digest);
                let earlier_use = if same_content {
                    EarlierUse::InProgress(other, their_slot)
                } else {
                    EarlierUse::OtherContent
                };
                earlier.insert(slot, earlier_use);
            }
        }
    }
    if claimed.is_empty() {
        return Some(earlier);
    }
    let sends: Vec<_> = claimed.iter().map(|(_, send)| send.clone()).collect();
    let (registry, ending) = (Arc::clone(registry), Arc::clone(journal));
    let begin = BeginSends {
        sends: sends.clone(),
        conflicting_ids: conflicting_ids.to_vec(),
    };
    call.release_when_done(move |is_known| {
        // The journal is updated before another call can claim the ids.
        if is_known {
            ending.end(&sends);
        }
        registry.release(sends.iter().map(|(wire_id, _)| wire_id));
    });
    let found = match journal.begin(begin).await {
        Ok(found) => found,
        Err(error) => {
            let error = SendError::LogUnreadable(error.cause());
            for slot in 0..call.slots.len() {
                call.settle(slot, Settled::Failed(error.clone()));
            }
            return None;
        }
    };
    for ((slot, (_, digest)), sent) in claimed.into_iter().zip(found.sends) {
        let earlier_use = match sent {
            _ if found.conflicting_id => EarlierUse::OtherContent,
            Some(EarlierSend::Done(sent)) if sent.digest == digest => EarlierUse::Done(sent),
            Some(EarlierSend::Interrupted { at, digest: noted }) if noted == digest => {
                EarlierUse::Interrupted(at)
            }
            Some(_) => EarlierUse::OtherContent,
            None => continue,
        };
        earlier.insert(slot, earlier_use);
    }
    Some(earlier)
}
