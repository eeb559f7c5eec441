//! What the broker gives back in `returned`: lapsed commands, which the sender refuses as EXPIRED so that their results
//! are events like all others; and those that are given up.

use lapin::message::Delivery;

use super::{
    Context,
    command::{Envelope, Invalid},
};
use crate::message::reason::Reason;

/// Why a returned command is given up; `None` where it lapsed.
pub(super) fn given_up(context: &Context, delivery: &Delivery) -> Option<Invalid> {
    let envelope = Envelope::new(delivery);
    if delivery.exchange.as_str() == context.commands.topology.commands() {
        return Some(Invalid::new(
            Reason::Unroutable,
            format!(
                "no queue takes the routing key `{}`: use sms.send or sms.send.urgent",
                delivery.routing_key
            ),
        ));
    }
    let reason = envelope.death().map(|death| death.reason);
    match reason.as_deref() {
        Some("expired") | None => None,
        Some("delivery_limit") => Some(Invalid::new(
            Reason::DeliveryLimit,
            "it was delivered too often without an end: look for what it does to the bridge before it is replayed",
        )),
        Some(other) => Some(Invalid::new(
            Reason::Returned,
            format!("the broker gave it back: {other}"),
        )),
    }
}
