//! Commands in the queue `returned`. Expired ones are passed to the sender, which refuses them as EXPIRED, or to `lookup`, so that
//! their results are events like all others. The others are dead-lettered; those that may have been sent only after they were looked up
//! in the API's logs.
//!
//! Invariant: nothing that comes from here is sent. Neighbours: `amqp::topology` says what gets there; `handle` carries out what this
//! module decides; `custody` keeps the cause on a copy.

use jiff::SignedDuration;
use lapin::message::Delivery;

use super::{
    Context,
    envelope::{Envelope, now_ms},
    invalid::Invalid,
};
use crate::{
    amqp::{
        Topology,
        headers::{RETURNED, text_header},
    },
    message::reason::Reason,
    proto::v1::SendResult,
    send::{MAX_RESEND_AGE, Sent},
};

const EXPIRED: &str = "expired";
const DELIVERY_LIMIT: &str = "delivery_limit";
const BEYOND_THE_LOGS: &str = "; that was more than 24 hours ago, so the API's logs may not have what was sent of it any more";
/// The broker has no word for it.
const UNROUTABLE: &str = "unroutable";

/// Why the broker returned a command. A copy has neither the exchange nor the `x-death` of its original.
pub(super) fn cause(topology: &Topology, delivery: &Delivery) -> String {
    if let Some(noted) = text_header(delivery.properties.headers().as_ref(), RETURNED) {
        return noted;
    }
    match Envelope::new(delivery).death() {
        Some(death) if death.queue == Some(topology.unroutable()) => UNROUTABLE.to_owned(),
        Some(death) => death.reason,
        // From the alternate exchange directly: an earlier build bound it to this queue.
        None if delivery.exchange.as_str() == topology.commands() => UNROUTABLE.to_owned(),
        None => EXPIRED.to_owned(),
    }
}

/// Whether the broker returned it because its time was over.
pub(super) fn has_expired(topology: &Topology, delivery: &Delivery) -> bool {
    cause(topology, delivery) == EXPIRED
}

/// What becomes of a returned command.
pub(super) enum Returned {
    /// It gets the result EXPIRED, unless it was sent.
    Expired,
    /// No consumer had it.
    Unroutable(Invalid),
    /// Consumers had it. It is a dead letter for this reason, unless it was sent.
    GivenUp(Invalid),
}

pub(super) fn decide(context: &Context, delivery: &Delivery) -> Returned {
    match by_cause(context, delivery) {
        Returned::GivenUp(mut why) if is_beyond_the_logs(delivery) => {
            why.detail.push_str(BEYOND_THE_LOGS);
            Returned::GivenUp(why)
        }
        decided => decided,
    }
}

/// Whether it was given up so long ago that the API's logs may have what was sent of it no more. Nothing that old is sent again either.
fn is_beyond_the_logs(delivery: &Delivery) -> bool {
    let age_ms = now_ms().saturating_sub(Envelope::new(delivery).returned_ms());
    SignedDuration::from_millis(age_ms) >= MAX_RESEND_AGE
}

fn by_cause(context: &Context, delivery: &Delivery) -> Returned {
    match cause(&context.commands.topology, delivery).as_str() {
        EXPIRED => Returned::Expired,
        UNROUTABLE => Returned::Unroutable(Invalid::new(
            Reason::Unroutable,
            format!(
                "no queue is bound for the routing key `{}`: use sms.send, sms.send.urgent or number.lookup",
                Envelope::new(delivery).routing_key()
            ),
        )),
        DELIVERY_LIMIT => Returned::GivenUp(Invalid::new(
            Reason::DeliveryLimit,
            "the broker reached the delivery limit: find out why the command was never acknowledged before you replay it",
        )),
        other => Returned::GivenUp(Invalid::new(
            Reason::Returned,
            format!("the broker dead-lettered the command: {other}"),
        )),
    }
}

/// Adds what the look-up of a command that was given up has found.
pub(super) fn not_found(mut why: Invalid, destinations: usize, missing: usize) -> Invalid {
    let found = match destinations == missing {
        true => "the API's logs have none of its messages".to_owned(),
        false => format!(
            "the API's logs do not have {missing} of its {destinations} messages; the others have results"
        ),
    };
    why.detail = format!("{}. It was looked up: {found}", why.detail);
    why
}

/// How many destinations the logs do not have; `None` if none, or if others have to be looked up again first.
pub(super) fn missing(sent: &Sent) -> Option<usize> {
    let retryable = sent
        .results
        .iter()
        .filter(|one| one.has_retryable_refusal());
    let is_missing = |result: &SendResult| {
        let refusal = result.refusal.as_ref();
        refusal.is_some_and(|refusal| refusal.reason == Reason::Returned.as_str())
    };
    let mut count = 0;
    for result in retryable {
        if !is_missing(result) {
            return None;
        }
        count += 1;
    }
    (count > 0).then_some(count)
}
