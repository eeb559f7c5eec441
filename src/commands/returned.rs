//! Commands in the queue `returned`. Expired ones are passed to the sender, which refuses them as EXPIRED, so that their
//! results are events like all others. The others are dead-lettered.

use lapin::message::Delivery;

use super::{Context, envelope::Envelope, invalid::Invalid};
use crate::message::reason::Reason;

/// Why a returned command is dead-lettered; `None` if it has expired.
pub(super) fn dead_letter_reason(context: &Context, delivery: &Delivery) -> Option<Invalid> {
    if delivery.exchange.as_str() == context.commands.topology.commands() {
        return Some(Invalid::new(
            Reason::Unroutable,
            format!(
                "no queue is bound for the routing key `{}`: use sms.send or sms.send.urgent",
                delivery.routing_key
            ),
        ));
    }
    let reason = Envelope::new(delivery).death().map(|death| death.reason);
    match reason.as_deref() {
        Some("expired") | None => None,
        Some("delivery_limit") => Some(Invalid::new(
            Reason::DeliveryLimit,
            "the broker reached the delivery limit: find out why the command was never acknowledged before you replay it",
        )),
        Some(other) => Some(Invalid::new(
            Reason::Returned,
            format!("the broker dead-lettered the command: {other}"),
        )),
    }
}
