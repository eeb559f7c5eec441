//! Admission: plans a command and reserves its places in the queue; refuses single destinations for the bridge's own reasons.
//!
//! Invariants: nothing is admitted while the event log is known to be unavailable; an admitted call holds one permit of `send.queue_capacity` for each slot until it is done (P9,
//! docs/RELIABILITY.md); a refused command keeps its slots, because each of them gets a result.
//! Neighbours: `plan` validates; `placement` continues with the admitted call and asks for the refusals; `guards` has the
//! operator's limits.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use secrecy::ExposeSecret;
use tokio::sync::OwnedSemaphorePermit;

use super::Inner;
use crate::{
    message::{
        id::{ApplicationName, MAX_ID_CHARACTERS, logged_id},
        reason::Reason,
        violations::summary,
    },
    primitives::joined::Joined,
    proto::v1::{self, FieldViolation, Outcome},
    send::{
        Arrival, SendCommand, SendError, Sent,
        call::Call,
        idempotency::EarlierUse,
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
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) arrival: Arrival,
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
        } = command;
        if self.closing.is_cancelled() {
            return Err(Box::new(Refused {
                error: SendError::ShuttingDown,
                slots: plan::slots_of(&application, &mut request),
                bulk_id: request.bulk_id,
            }));
        }
        let planned = plan::plan(
            &application,
            &mut request,
            form,
            violations,
            &Defaults {
                notify_url: self.notify_url.as_ref().map(ExposeSecret::expose_secret),
                sender: self.guards.default_sender(application.as_str()),
            },
            Timestamp::now(),
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
        let permits = u32::try_from(plan.slots.len()).unwrap_or(u32::MAX);
        let Ok(permit) = Arc::clone(&self.capacity).try_acquire_many_owned(permits) else {
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
            permit,
            arrival,
        })
    }

    /// The refusal of a destination, if its message is invalid or a guard refuses it. Guards check only ids that were not used
    /// before, so that a repeated request is answered with its earlier results.
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
        let refusal = self
            .guards
            .check(
                application,
                &call.messages[message].from,
                to,
                std::time::Instant::now,
            )
            .err()?;
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
