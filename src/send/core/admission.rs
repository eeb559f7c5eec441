//! Admission: plans a command and reserves its places in the queue; refuses single destinations for the bridge's own reasons.
//!
//! Invariants: nothing is admitted while the event log is known to be unavailable; an admitted call holds one place of
//! `send.queue_capacity` for each slot, or all that its lane may have, until it is done (P9, docs/RELIABILITY.md); a refused command keeps
//! its slots, because each of them gets a result.
//! Neighbours: `plan` validates; `placement` continues with the admitted call and asks for the refusals; `guards` has the
//! operator's limits.

use std::time::Duration;

use jiff::Timestamp;
use secrecy::ExposeSecret;

use super::Inner;
use crate::{
    message::{
        id::{ApplicationName, MAX_ID_CHARACTERS, logged_id},
        reason::Reason,
        traceparent::Traceparent,
        violations::summary,
    },
    primitives::joined::Joined,
    proto::v1::{self, FieldViolation, Outcome},
    send::{
        Arrival, QueueDelivery, SendCommand, SendError, Sent,
        call::Call,
        idempotency::EarlierUse,
        lane_of,
        places::Taken,
        plan::{self, Defaults, Plan, PlannedMessage},
        slot::{Slots, failed_results, first_violations},
    },
};

/// A command whose call may start.
pub(super) struct Admitted {
    pub(super) application: ApplicationName,
    pub(super) request_id: String,
    pub(super) bulk_id: String,
    pub(super) plan: Plan,
    pub(super) places: Taken,
    pub(super) arrival: Arrival,
    pub(super) traceparent: Option<Traceparent>,
    pub(super) delivery: Option<QueueDelivery>,
}

/// A command of which nothing is sent.
pub(super) struct Refused {
    pub(super) error: SendError,
    slots: Slots,
    bulk_id: String,
}

impl Refused {
    /// One result for each destination, with the error as its refusal.
    pub(super) fn results(&self) -> Sent {
        failed_results(&self.slots, &self.bulk_id, std::iter::repeat(&self.error))
    }
}

impl Inner {
    pub(super) fn admit(&self, command: SendCommand) -> Result<Admitted, Box<Refused>> {
        let logged = LoggedCommand::received(&command);
        let outcome = self.try_admit(command);
        if let Some(logged) = logged {
            logged.ended(&outcome);
        }
        outcome
    }

    fn try_admit(&self, command: SendCommand) -> Result<Admitted, Box<Refused>> {
        let SendCommand {
            application,
            form,
            mut request,
            violations,
            arrival,
            traceparent,
            delivery,
        } = command;
        if self.closing.is_cancelled() {
            return Err(Box::new(Refused {
                error: SendError::ShuttingDown,
                slots: plan::slots_of(&application, &mut request),
                bulk_id: request.bulk_id,
            }));
        }
        let now = Timestamp::now();
        let times = plan::Times {
            now,
            send_at_not_before: match &delivery {
                Some(delivery) => delivery.send_at_not_before,
                None => Some(now),
            },
        };
        let planned = plan::plan(
            &application,
            &mut request,
            form,
            violations,
            &Defaults {
                notify_url: self.notify_url.as_ref().map(ExposeSecret::expose_secret),
                sender: self.guards.default_sender(application.as_str()),
                intermediate_reports: self.config.intermediate_reports,
            },
            &times,
        );
        let plan = match planned {
            Ok(plan) => plan,
            Err(invalid) => {
                return Err(Box::new(Refused {
                    error: SendError::Invalid(invalid.violations),
                    slots: invalid.slots,
                    bulk_id: request.bulk_id,
                }));
            }
        };
        // A log that becomes unavailable after this check is the recorder's concern.
        if !self.log.is_ready()
            && let Some(cause) = self.log.outage()
        {
            return Err(Box::new(Refused {
                error: SendError::LogUnreadable(cause),
                slots: plan.slots,
                bulk_id: request.bulk_id,
            }));
        }
        let lane = lane_of(&plan.messages);
        let places = match plan.slots.len() {
            // It waits until there is room, and must not wait for ever.
            slots if delivery.is_some() => self.room.try_take_at_most(lane, slots),
            slots => self.room.try_take(lane, slots),
        };
        let Some(places) = places else {
            let error = SendError::QueueFull {
                retry_after: Duration::from_secs(1),
            };
            return Err(Box::new(Refused {
                error,
                slots: plan.slots,
                bulk_id: request.bulk_id,
            }));
        };
        Ok(Admitted {
            application,
            request_id: request.request_id,
            bulk_id: request.bulk_id,
            plan,
            places,
            arrival,
            traceparent,
            delivery,
        })
    }

    /// The refusal of a destination, if its message is invalid or a guard refuses it. Guards check only ids that were not used
    /// before. Their refusal of a command that may have been sent counts only if the API's logs do not have it.
    pub(super) fn refuse(
        &self,
        call: &Call,
        message: usize,
        planned: &PlannedMessage,
        slot: usize,
        earlier: Option<&EarlierUse>,
        arrival: Arrival,
    ) -> Option<Box<v1::SendResult>> {
        let mut found = violations(planned, earlier, arrival).peekable();
        if found.peek().is_some() {
            let found: Vec<_> = found.cloned().collect();
            return Some(call.refusal(
                slot,
                Outcome::Rejected,
                Reason::InvalidRequest,
                summary(&found),
                first_violations(found.iter(), call.slots.len()),
            ));
        }
        if earlier.is_some() {
            return None;
        }
        let application = call.application.as_str();
        let to = &call.slots.get(slot)?.to;
        let from = &call.messages[message].from;
        let checked = match arrival {
            Arrival::First | Arrival::LookUpFirst => {
                let now = std::time::Instant::now;
                self.guards.check(application, from, to, now)
            }
            // It may have been counted before.
            Arrival::Redelivered => {
                let checked = self.guards.check_rules(application, from, to);
                checked.map(|()| None)
            }
            // It is not sent.
            Arrival::Returned { .. } | Arrival::GivenUp { .. } => return None,
        };
        let refusal = match checked {
            Ok(counted) => {
                if let Some(counted) = counted {
                    call.note_counted(slot, counted);
                }
                return None;
            }
            Err(refusal) => refusal,
        };
        Some(call.refusal(
            slot,
            Outcome::Rejected,
            refusal.reason(),
            refusal.to_string(),
            Vec::new(),
        ))
    }
}

/// The ids of a command for its lines at `debug`.
struct LoggedCommand {
    application: ApplicationName,
    request_id: String,
}

impl LoggedCommand {
    /// `None` if `debug` is off.
    fn received(command: &SendCommand) -> Option<Self> {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return None;
        }
        // Not validated yet.
        let id = &command.request.request_id;
        let logged = Self {
            application: command.application.clone(),
            request_id: id.chars().take(MAX_ID_CHARACTERS).collect(),
        };
        tracing::debug!(
            application = %logged.application,
            request_id = logged_id(&logged.request_id),
            messages = command.request.messages.len(),
            redelivered = command.arrival == Arrival::Redelivered,
            "a send was received"
        );
        Some(logged)
    }

    fn ended(&self, outcome: &Result<Admitted, Box<Refused>>) {
        match outcome {
            Ok(admitted) => {
                let ids = admitted.plan.slots.iter().map(|slot| &slot.wire_id);
                tracing::debug!(
                    application = %self.application,
                    request_id = logged_id(&self.request_id),
                    destinations = admitted.plan.slots.len(),
                    message_ids = %Joined(ids),
                    "a send was admitted"
                );
            }
            Err(refused) => tracing::debug!(
                application = %self.application,
                request_id = logged_id(&self.request_id),
                reason = %refused.error.reason(),
                "a send was refused"
            ),
        }
    }
}

/// The violations because of which a destination is refused. A destination with an earlier result has none: its repetition gets that
/// result. A `send_at` that has passed is none if the message may have been sent before.
pub(super) fn violations<'a>(
    planned: &'a PlannedMessage,
    earlier: Option<&EarlierUse>,
    arrival: Arrival,
) -> impl Iterator<Item = &'a FieldViolation> {
    let has_result = match earlier {
        Some(EarlierUse::Done(send)) => send.result.outcome() != Outcome::Unknown,
        Some(EarlierUse::InProgress(..) | EarlierUse::OtherContent) => true,
        Some(EarlierUse::Interrupted(_)) | None => false,
    };
    let may_be_sent = earlier.is_some() || arrival != Arrival::First;
    let of_content = (!has_result).then_some(&planned.violations);
    let of_time = (!may_be_sent).then_some(&planned.past);
    of_content
        .into_iter()
        .flatten()
        .chain(of_time.into_iter().flatten())
}

/// The refusal of a destination whose id was used for other content. It has the mistakes of the message as well.
pub(super) fn refuse_reused(
    call: &Call,
    planned: &PlannedMessage,
    slot: usize,
) -> Box<v1::SendResult> {
    let id = call.slots[slot].message_id.clone();
    let error = SendError::IdReused { id };
    call.refusal(
        slot,
        Outcome::Rejected,
        Reason::IdReused,
        error.to_string(),
        first_violations(planned.violations.iter(), call.slots.len()),
    )
}
