//! What becomes of a command whose handler panicked.
//!
//! Invariant: such a command is never sent again without a look-up (P2), and has an end (P7, docs/RELIABILITY.md).
//! Neighbours: `handle` catches the panic; `custody` requeues and dead-letters.

use std::time::Duration;

use bytes::Bytes;

use super::{
    Context,
    command::Source,
    custody::{Copy, Requeue},
    envelope::Envelope,
    invalid::Invalid,
    lease::HeldDelivery,
};
use crate::{
    amqp::headers::PANICS,
    message::{id::logged_id, reason::Reason},
};

/// Minimum delay before the command is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(60);

/// A mistake of the bridge, which this command may cause each time, so it must not end the process: all others would look tried. The
/// command is looked up before it is sent again, and has an end.
pub(super) async fn requeue_or_end(context: &Context, source: Source, delivery: &HeldDelivery) {
    let envelope = Envelope::new(delivery);
    context.commands.metrics.command_panic();
    tracing::error!(
        request_id = logged_id(envelope.request_id()),
        "the handler of a command panicked, which is a mistake of the bridge: the command is tried again later"
    );
    let body = Bytes::copy_from_slice(&delivery.data);
    let panics = envelope.panics();
    if panics >= i64::from(context.commands.max_attempts) {
        let detail = "the bridge panicked while it handled the command, each time: it may have been sent; please report this";
        let invalid = Invalid::new(Reason::AttemptLimit, detail);
        return context.dead_letter(source, delivery, invalid, None).await;
    }
    let copy = Copy {
        body,
        requeue: Requeue::Delayed(RETRY_DELAY),
        may_be_sent: true,
        count: Some((PANICS, panics.saturating_add(1))),
    };
    let queue = source.queue(&context.commands.topology);
    context.requeue(queue, delivery, copy, None).await;
}
