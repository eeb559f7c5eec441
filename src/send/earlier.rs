//! What became of ids that were used before: by a call under way here, by one that is done, by a process that was killed.
//!
//! Invariants: an id is claimed by one call at a time, from before its look-up until that call is done; what is not known to
//! have ended is never taken for new. Neighbours: `registry` knows the calls under way, the event log what was before; `core`
//! places each slot by what is found here.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;

use super::{
    SendError,
    call::{Call, Settled},
    registry::{Claim, Registry},
};
use crate::events::{BeginSends, EarlierSend, RecordedSend, SharedEventLog};

/// What is known of an id that was used before.
pub(super) enum Earlier {
    /// It is done.
    Done(Box<RecordedSend>),
    /// Another call sends it.
    UnderWay(Arc<Call>, usize),
    /// It was begun then, and nobody knows what came of it.
    Interrupted(Timestamp),
    /// It was used for something else.
    OtherContent,
}

/// What earlier or concurrent calls did with the same ids, for each slot; `None` where it can't be known, and the call
/// has failed.
pub(super) async fn find(
    registry: &Arc<Registry>,
    log: &SharedEventLog,
    call: &Arc<Call>,
    other_shapes: &[String],
) -> Option<HashMap<usize, Earlier>> {
    let mut earlier = HashMap::new();
    let mut claimed = Vec::new();
    for (slot, of) in call.slots.iter().enumerate() {
        let Some(digest) = of.digest else { continue };
        match registry.claim(call, slot) {
            Claim::Mine => claimed.push((slot, (of.wire_id.clone(), digest))),
            Claim::Of(other, their_slot) => {
                let same = other
                    .slots
                    .get(their_slot)
                    .is_some_and(|other| other.digest == of.digest);
                let what = if same {
                    Earlier::UnderWay(other, their_slot)
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
        other_shapes: other_shapes.to_vec(),
    };
    call.release_when_done(move |is_known| {
        // Before others may claim the ids.
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
            _ if found.other_shape => Earlier::OtherContent,
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
