//! Redelivered commands without a request id: their outcome is unknown, and they are never sent again.
//!
//! Without a request id the bridge cannot find out whether an earlier delivery was sent, and sending at most once is the
//! promise (docs/RELIABILITY.md#how-a-send-stays-single). The command is not validated, so its texts are cut in the results.

use jiff::Timestamp;

use super::{Context, command::Command, lease::HeldDelivery, reply::reply};
use crate::{
    events::NewEvent,
    message::{address::normalize_number, id::derive_message_id, reason::Reason, violations},
    primitives::bounded_text::{MAX_TEXT_BYTES, cut},
    proto::v1,
    send::Sent,
};

/// Appends a result with the outcome `unknown` for each destination, replies, and acknowledges the delivery.
pub(super) async fn report_unknown(context: &Context, delivery: &HeldDelivery, command: Command) {
    let results: Vec<_> = results(&command).collect();
    for result in &results {
        let application = &command.send.application;
        let event = NewEvent::send_result(
            application,
            "",
            None,
            Box::new(result.clone()),
            Timestamp::now(),
        )
        .caused_by(command.send.traceparent);
        if !context.append_until_durable(delivery, event).await {
            return;
        }
    }
    let sent = Sent {
        tracking_process_key: String::new(),
        results,
    };
    let encoding = command.encoding;
    reply(context, delivery, encoding, &command.into_request(), sent).await;
    context.acknowledge(delivery, None).await;
}

fn results(command: &Command) -> impl Iterator<Item = v1::SendResult> {
    let messages = command.send.request.messages.iter().enumerate();
    messages.flat_map(move |(index, message)| {
        let of_message = message
            .destinations
            .is_empty()
            .then(|| without_destination(command, index));
        let of_destinations = message
            .destinations
            .iter()
            .map(move |destination| unknown(command, index, destination));
        of_message.into_iter().chain(of_destinations)
    })
}

fn unknown(command: &Command, index: usize, destination: &v1::Destination) -> v1::SendResult {
    let message_id = if destination.message_id.is_empty() {
        derive_message_id("", 0, 1)
    } else {
        cut(&destination.message_id, MAX_TEXT_BYTES).into_owned()
    };
    let to =
        normalize_number(&destination.to).unwrap_or_else(|_| cut(&destination.to, MAX_TEXT_BYTES));
    v1::SendResult {
        to: to.into_owned(),
        message_id,
        outcome: v1::Outcome::Unknown.into(),
        message_index: i32::try_from(index).unwrap_or(i32::MAX),
        bulk_id: bulk_id(command),
        refusal: Some(Box::new(v1::Refusal {
            reason: Reason::RedeliveredWithoutRequestId.into(),
            detail: "the command was delivered before and may have been sent; without a request id (property \
                     message_id) it is never sent again"
                .into(),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn bulk_id(command: &Command) -> String {
    cut(&command.send.request.bulk_id, MAX_TEXT_BYTES).into_owned()
}

/// The result of a message without destinations, which is certain: no earlier delivery can have sent it.
fn without_destination(command: &Command, index: usize) -> v1::SendResult {
    let violations = vec![v1::FieldViolation {
        field: command.form.message_field(index, "destinations"),
        description: "is empty: give at least one destination".into(),
    }];
    v1::SendResult {
        outcome: v1::Outcome::Rejected.into(),
        message_index: i32::try_from(index).unwrap_or(i32::MAX),
        bulk_id: bulk_id(command),
        refusal: Some(Box::new(v1::Refusal {
            reason: Reason::InvalidRequest.into(),
            detail: violations::summary(&violations),
            violations,
            ..Default::default()
        })),
        ..Default::default()
    }
}
