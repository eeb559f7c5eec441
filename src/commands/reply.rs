//! Publishes the response to a command, if its publisher asked for one with `reply_to`.

use lapin::message::Delivery;

use super::{Context, encoding::Encoding};
use crate::{
    amqp::{Message, codec, headers::property},
    send::{
        Sent,
        request::{SendRequest, SendResponse},
    },
};

/// Publishes the response, in the encoding of the command. The results are durable as events already, so a reply that cannot
/// be published is only logged, and one without a queue is dropped.
pub(super) async fn reply(
    context: &Context,
    delivery: &Delivery,
    encoding: Encoding,
    request: &SendRequest,
    sent: Sent,
) {
    let reply_to = property(delivery.properties.reply_to());
    if reply_to.is_empty() {
        return;
    }
    let (name, body) = match request.response(sent) {
        SendResponse::Single(response) => {
            ("smsbridge.v1.SendSmsResponse", encoding.encode(&response))
        }
        SendResponse::Bulk(response) => (
            "smsbridge.v1.SendSmsBulkResponse",
            encoding.encode(&response),
        ),
    };
    let request_id = request.bulk.request_id.as_str();
    let correlation_id = delivery
        .properties
        .correlation_id()
        .as_ref()
        .map_or(request_id, |id| id.as_str());
    let message = Message {
        exchange: String::new(),
        routing_key: reply_to.to_owned(),
        properties: codec::properties(encoding.content_type())
            .with_type(codec::lossy_short(name))
            .with_correlation_id(codec::lossy_short(correlation_id)),
        body,
    };
    for outcome in context.commands.publisher.publish_all(vec![message]).await {
        if let Err(error) = outcome {
            tracing::warn!(%error, request_id, "a reply could not be published");
        }
    }
}
