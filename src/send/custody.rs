//! Commands that are no longer this process's: their queue has given them to another process, or will, so nothing of them may be
//! begun here.
//!
//! Invariant: an item that is withdrawn here is settled, and its command is not acknowledged: its next delivery is looked up before
//! anything is sent (P2, docs/RELIABILITY.md).
//! Neighbours: `commands` knows of the loss; `lanes` hold the items; `dispatcher` asks before each request; `resolver` withdraws sends
//! in doubt.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Lease, QueueDelivery, SendError, batch_item::BatchItem, dispatcher::settle_all, lanes::Lanes,
};

/// When a command that waited for as long as its queue allows is tried again, at least.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Ends the items in the lanes whose command is lost, or has to be handed back now.
pub(super) fn end_holds(lanes: &Lanes) {
    let mut leases = Leases::default();
    if !lanes.any(|item| item.call.is_hold_over_by(&mut leases)) {
        return;
    }
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

/// Asks a lease once for all items that have it: usually that is one lease.
pub(super) struct Leases {
    now: Instant,
    asked: Option<(Arc<dyn Lease>, bool)>,
}

impl Default for Leases {
    fn default() -> Self {
        Self {
            now: Instant::now(),
            asked: None,
        }
    }
}

impl Leases {
    /// Whether the delivery is lost, or its command has to be handed back now.
    pub(super) fn is_over(&mut self, delivery: &QueueDelivery) -> bool {
        delivery.hold_until <= self.now || self.is_lost(&delivery.lease)
    }

    fn is_lost(&mut self, lease: &Arc<dyn Lease>) -> bool {
        match &self.asked {
            Some((asked, is_lost)) if Arc::ptr_eq(asked, lease) => *is_lost,
            _ => {
                let is_lost = lease.is_lost();
                self.asked = Some((Arc::clone(lease), is_lost));
                is_lost
            }
        }
    }
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
