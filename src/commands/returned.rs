//! Commands in the queue `returned`. Expired ones are passed to the sender, which refuses them as EXPIRED, or to `lookup`, so that
//! their results are events like all others. The others are dead-lettered.
//!
//! Neighbours: `amqp::topology` says what gets there; `custody` keeps the cause on a copy.

use lapin::message::Delivery;

use super::{Context, envelope::Envelope, invalid::Invalid};
use crate::{
    amqp::{
        Topology,
        headers::{RETURNED, text_header},
    },
    message::reason::Reason,
};

const EXPIRED: &str = "expired";
const DELIVERY_LIMIT: &str = "delivery_limit";
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

/// Why a returned command is dead-lettered; `None` if it has expired.
pub(super) fn dead_letter_reason(context: &Context, delivery: &Delivery) -> Option<Invalid> {
    match cause(&context.commands.topology, delivery).as_str() {
        EXPIRED => None,
        UNROUTABLE => Some(Invalid::new(
            Reason::Unroutable,
            format!(
                "no queue is bound for the routing key `{}`: use sms.send, sms.send.urgent or number.lookup",
                Envelope::new(delivery).routing_key()
            ),
        )),
        DELIVERY_LIMIT => Some(Invalid::new(
            Reason::DeliveryLimit,
            "the broker reached the delivery limit: find out why the command was never acknowledged before you replay it",
        )),
        other => Some(Invalid::new(
            Reason::Returned,
            format!("the broker dead-lettered the command: {other}"),
        )),
    }
}
