//! Commands that are no longer this process's: their queue has given them to another process, or will, so nothing of them may be
//! begun here.
//!
//! Invariant: an item that is withdrawn here is settled, and its command is not acknowledged: its next delivery is looked up before
//! anything is sent (P2, docs/RELIABILITY.md).
//! Neighbours: `commands` knows of the loss; `lanes` hold the items; `dispatcher` asks before each request; `resolver` withdraws sends
//! in doubt.

use std::time::Duration;

use super::{SendError, batch_item::BatchItem, dispatcher::settle_all, lanes::Lanes};

/// When a command that waited for as long as its queue allows is tried again, at least.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Ends the items in the lanes whose command is lost, or has to be handed back now.
pub(super) fn end_holds(lanes: &Lanes) {
    for item in lanes.remove(|item| item.call.is_hold_over()) {
        let untried = if item.call.is_lost() {
            SendError::Withdrawn
        } else {
            SendError::Unavailable {
                detail: "it waited to be sent for as long as its queue allows".to_owned(),
                retry_after: RETRY_AFTER,
            }
        };
        hand_back(&item, &untried);
    }
}

/// The items without those of lost deliveries, which are withdrawn.
pub(super) fn without_lost(mut items: Vec<BatchItem>) -> Vec<BatchItem> {
    for item in items.extract_if(.., |item| item.call.is_lost()) {
        hand_back(&item, &SendError::Withdrawn);
    }
    items
}

/// Hands the commands that wait in the lanes back to their queues, because the process shuts down.
pub(super) fn hand_commands_back(lanes: &Lanes) {
    for item in lanes.remove(|item| item.call.is_command) {
        hand_back(&item, &SendError::ShuttingDown);
    }
}

/// Ends an item of a command without a result: with `untried`, unless it may have been sent.
pub(super) fn hand_back(item: &BatchItem, untried: &SendError) {
    if item.in_doubt_since.is_none() {
        settle_all(item, untried);
    } else {
        settle_all(item, &SendError::StillInDoubt);
    }
}
