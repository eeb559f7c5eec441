//! Placement: decides for each slot of a call whether it goes to a lane, to the resolver, or gets its result without a request.
//!
//! Invariant: a slot whose message may have been sent before goes to the resolver, never directly to a lane (P2,
//! docs/RELIABILITY.md).
//! Neighbours: `idempotency` found the earlier uses of the ids; `admission` refuses; `lanes` and `resolver` take over.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    Inner,
    admission::{refuse_reused, violations},
};
use crate::{
    proto::v1::{self, Outcome},
    send::{
        Arrival, SendError,
        batch_item::{BatchItem, BatchSlots, ExclusiveRequest},
        call::{Call, Settled},
        idempotency::EarlierUse,
        plan::{PlacementPlan, PlannedMessage},
        recorder::SlotResult,
        resolver::InDoubtSend,
        slot::first_violations,
    },
};

/// What [`Inner::place`] leaves for [`Inner::complete`], because it needs to wait.
#[derive(Default)]
pub(super) struct Deferred {
    refusals: Vec<SlotResult>,
    in_doubt: Vec<InDoubtSend>,
}

impl Deferred {
    pub(super) fn is_empty(&self) -> bool {
        self.refusals.is_empty() && self.in_doubt.is_empty()
    }
}

impl Inner {
    /// Pushes the slots that may be sent now to the lanes. Returns the others, apart from those that are settled or follow
    /// another call.
    pub(super) fn place(
        &self,
        call: &Arc<Call>,
        plan: &PlacementPlan,
        earlier: &HashMap<usize, EarlierUse>,
        arrival: Arrival,
    ) -> Deferred {
        let mut deferred = Deferred::default();
        if call.is_lost() {
            withdraw(call, earlier.is_empty() && arrival == Arrival::First);
            return deferred;
        }
        let is_invalid = |planned: &PlannedMessage, slot: usize| {
            violations(planned, earlier.get(&slot), arrival)
                .next()
                .is_some()
        };
        let mut slots = plan.messages.iter().flat_map(|planned| {
            let slots = planned.slots.clone();
            slots.map(move |slot| (planned, slot))
        });
        if slots.all(|(planned, slot)| is_invalid(planned, slot)) {
            settle_invalid(call, plan);
            return deferred;
        }
        let reused = |slot: &usize| matches!(earlier.get(slot), Some(EarlierUse::OtherContent));
        // If all ids were reused and that is all that is wrong, the call fails as a whole. Otherwise each reused id gets a result
        // of its own.
        let all_are_reused = (0..call.slots.len()).all(|slot| reused(&slot))
            && plan.messages.iter().all(|one| one.violations.is_empty());
        let alone = call.is_alone().then(Arc::<ExclusiveRequest>::default);
        for (message, planned) in plan.messages.iter().enumerate() {
            let mut allowed = BatchSlots::with_capacity(planned.slots.len());
            let mut refused_later = HashMap::new();
            for slot in planned.slots.clone() {
                let refusal = if !all_are_reused && reused(&slot) {
                    Some(refuse_reused(call, planned, slot))
                } else {
                    self.refuse(call, message, planned, slot, earlier.get(&slot), arrival)
                };
                match refusal {
                    None => allowed.push(slot),
                    // It may have been sent with its original, so it is looked up first.
                    Some(result)
                        if arrival != Arrival::First
                            && !earlier.contains_key(&slot)
                            && planned.violations.is_empty() =>
                    {
                        allowed.push(slot);
                        refused_later.insert(slot, result);
                    }
                    Some(result) => deferred.refusals.push(SlotResult {
                        call: Arc::clone(call),
                        slot,
                        result,
                    }),
                }
            }
            let placing = MessagePlacement {
                call,
                message,
                exclusive: plan.exclusive.as_ref().or(alone.as_ref()),
                earlier,
                arrival,
            };
            let in_doubt = self.push_to_lanes(&placing, allowed, refused_later);
            deferred.in_doubt.extend(in_doubt);
        }
        // The drain may have emptied the lanes just before.
        self.end_late_placements();
        deferred
    }

    /// Hands sends in doubt to the resolver and records refusals.
    pub(super) async fn complete(&self, deferred: Deferred) {
        for send in deferred.in_doubt {
            self.resolver.submit(send).await;
        }
        self.recorder.record(deferred.refusals).await;
    }

    /// Pushes the new slots of a message to the lanes, settles those whose earlier send has a result, and returns those in doubt.
    /// `refused` are those that are refused if the API's logs do not have them.
    fn push_to_lanes(
        &self,
        placing: &MessagePlacement<'_>,
        slots: BatchSlots,
        mut refused: HashMap<usize, Box<v1::SendResult>>,
    ) -> Vec<InDoubtSend> {
        let &MessagePlacement {
            call,
            message,
            exclusive,
            earlier,
            arrival,
        } = placing;
        // The API takes a scheduled message as a bulk, so it does not share a request.
        let is_scheduled = call.messages[message].send_at.is_some();
        let exclusive = exclusive
            .cloned()
            .or_else(|| is_scheduled.then(Arc::<ExclusiveRequest>::default));
        let item = |slots: BatchSlots| BatchItem {
            call: Arc::clone(call),
            message,
            slots,
            since: Instant::now(),
            in_doubt_since: None,
            is_resent: false,
            exclusive: exclusive.clone(),
        };
        // When a request that an earlier process began has ended.
        let since = |at| Timestamp::now().duration_since(at).unsigned_abs();
        let others_end = match arrival {
            Arrival::Returned { at } => self.request_timeout.saturating_sub(since(at)),
            // Nobody looks it up again soon.
            Arrival::GivenUp { at } => {
                (self.request_timeout + self.log_lag).saturating_sub(since(at))
            }
            Arrival::First | Arrival::Redelivered | Arrival::LookUpFirst => self.request_timeout,
        };
        let resolve = |slot| {
            let item = item(BatchSlots::from_elem(slot, 1));
            let send = InDoubtSend::redelivered(item, others_end, self.account.clock.now());
            let send = match arrival {
                Arrival::Returned { .. } => send.looked_up_once(),
                Arrival::GivenUp { .. } => send.never_resent(),
                _ => send,
            };
            match call.published_at() {
                Some(at) => send.begun_at(at),
                None => send,
            }
        };
        let mut in_doubt = Vec::new();
        let mut new = slots;
        new.retain(|&mut slot| {
            match earlier.get(&slot) {
                None if arrival == Arrival::First => return true,
                None if arrival == Arrival::LookUpFirst => {
                    let item = item(BatchSlots::from_elem(slot, 1));
                    let send = InDoubtSend::untried(item, self.account.clock.now());
                    in_doubt.push(send.refused(refused.remove(&slot)));
                }
                None => in_doubt.push(resolve(slot).refused(refused.remove(&slot))),
                Some(EarlierUse::Done(send)) if send.result.outcome() == Outcome::Unknown => {
                    in_doubt.push(resolve(slot));
                }
                Some(EarlierUse::Interrupted(at)) => in_doubt.push(resolve(slot).begun_at(*at)),
                Some(EarlierUse::Done(send)) => {
                    call.settle_as(slot, Settled::Result(send.result.clone()));
                }
                Some(EarlierUse::InProgress(other, their_slot)) => {
                    other.follow(*their_slot, call, slot);
                }
                Some(EarlierUse::OtherContent) => {
                    let id = call.slots[slot].message_id.clone();
                    call.settle(slot, Settled::Failed(SendError::IdReused { id }));
                }
            }
            false
        });
        let max_slots = match &exclusive {
            Some(request) if request.is_named() => usize::MAX,
            _ => self.config.max_batch,
        };
        if new.len() > max_slots {
            let shares = new.chunks(max_slots).map(|slots| item(slots.into()));
            self.lanes.push(shares);
        } else if !new.is_empty() {
            self.lanes.push([item(new)]);
        }
        in_doubt
    }
}

/// One message of a call that is placed.
struct MessagePlacement<'a> {
    call: &'a Arc<Call>,
    message: usize,
    exclusive: Option<&'a Arc<ExclusiveRequest>>,
    earlier: &'a HashMap<usize, EarlierUse>,
    arrival: Arrival,
}

/// Ends a call whose delivery was lost while its ids were looked up.
fn withdraw(call: &Call, is_new: bool) {
    let error = match is_new {
        true => SendError::Withdrawn,
        false => SendError::StillInDoubt,
    };
    for slot in 0..call.slots.len() {
        call.settle(slot, Settled::Failed(error.clone()));
    }
}

/// Fails a call of which no message is valid. The error of the first slot is that of the call, so it has all violations.
fn settle_invalid(call: &Call, plan: &PlacementPlan) {
    let all = plan.messages.iter().flat_map(|planned| {
        let violations = planned.violations.iter();
        violations.chain(&planned.past).cloned()
    });
    let all: Vec<_> = all.collect();
    for slot in 1..call.slots.len() {
        let violations = first_violations(all.iter(), call.slots.len());
        call.settle(slot, Settled::Failed(SendError::Invalid(violations)));
    }
    call.settle(0, Settled::Failed(SendError::Invalid(all)));
}
