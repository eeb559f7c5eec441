//! Publishes the response to a command, or why it is a dead letter, if its publisher asked for a reply with `reply_to`.
//!
//! Invariant: no reply goes to a queue of the bridge, or to a malformed name of a direct reply: RabbitMQ (3.10) crashes the channel
//! that publishes to one, and closes its connection.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use lapin::message::Delivery;
use percent_encoding::percent_decode_str;

use super::{Context, encoding::Encoding};
use crate::{
    amqp::{Message, Topology, codec, headers::property},
    message::id::logged_id,
    proto::v1,
    send::{
        Sent,
        request::{SendRequest, SendResponse},
    },
};

/// The largest reply. The broker ends the session on a message above its own limit (RabbitMQ 4: 16 MiB unless configured).
pub(super) const MAX_REPLY_BYTES: usize = 8 * 1024 * 1024;
/// Names of direct replies, which the broker makes, begin with it.
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to.";
/// The addresses of queues in AMQP 1.0 begin with it.
const QUEUE_ADDRESS: &str = "/queues/";
/// The bytes before the node's name in an encoded process identifier: the version of Erlang's external term format, and
/// NEW_PID_EXT.
const PROCESS: [u8; 2] = [131, 88];
const ATOM_UTF8: u8 = 118;
const SMALL_ATOM_UTF8: u8 = 119;
/// The bytes after the node's name: id, serial and creation.
const PROCESS_NUMBERS: usize = 12;

/// Publishes the response, in the encoding of the command. The results are durable as events already.
pub(super) async fn reply(
    context: &Context,
    delivery: &Delivery,
    encoding: Encoding,
    request: &SendRequest,
    sent: Sent,
) {
    let request_id = request.bulk.request_id.as_str();
    let Some(reply_to) = queue_of(context, delivery, request_id) else {
        return;
    };
    let (name, body) = match request.response(sent) {
        SendResponse::Single(response) => {
            ("smsbridge.v1.SendSmsResponse", encoding.encode(&response))
        }
        SendResponse::Bulk(response) => (
            "smsbridge.v1.SendSmsBulkResponse",
            encoding.encode(&response),
        ),
    };
    let reply = Reply {
        reply_to,
        request_id,
        encoding,
        name,
        body,
    };
    publish(context, delivery, reply).await;
}

/// Publishes the results of a look-up, in the encoding of the command. They are durable as events already.
pub(super) async fn reply_lookup(
    context: &Context,
    delivery: &Delivery,
    encoding: Encoding,
    request_id: &str,
    response: &v1::LookupNumbersResponse,
) {
    let Some(reply_to) = queue_of(context, delivery, request_id) else {
        return;
    };
    let reply = Reply {
        reply_to,
        request_id,
        encoding,
        name: "smsbridge.v1.LookupNumbersResponse",
        body: encoding.encode(response),
    };
    publish(context, delivery, reply).await;
}

/// Publishes why the command is a dead letter, which is in its queue already: in the encoding of the command, or in JSON if it has none
/// that the bridge knows.
pub(super) async fn reply_dead(
    context: &Context,
    delivery: &Delivery,
    request_id: &str,
    invalid: &v1::InvalidCommand,
) {
    let Some(reply_to) = queue_of(context, delivery, request_id) else {
        return;
    };
    let encoding = Encoding::of(&delivery.properties).unwrap_or(Encoding::Json);
    let reply = Reply {
        reply_to,
        request_id,
        encoding,
        name: "smsbridge.v1.InvalidCommand",
        body: encoding.encode(invalid),
    };
    publish(context, delivery, reply).await;
}

/// The queue that the reply goes to, if the publisher named one that may get it.
fn queue_of<'a>(
    context: &Context,
    delivery: &'a Delivery,
    request_id: &str,
) -> Option<Cow<'a, str>> {
    let reply_to = property(delivery.properties.reply_to());
    if reply_to.is_empty() {
        return None;
    }
    let reply_to = queue_name(reply_to);
    let may_receive = may_receive(&reply_to, &context.commands.topology);
    if !may_receive {
        tracing::warn!(
            request_id = logged_id(request_id),
            "a reply is not published: its reply_to is a name of the bridge or no name that the broker made"
        );
    }
    may_receive.then_some(reply_to)
}

/// The name in the address of a queue: RabbitMQ before 4.3 passes the `reply-to` of an AMQP 1.0 publisher on as it is.
fn queue_name(reply_to: &str) -> Cow<'_, str> {
    let encoded = reply_to.strip_prefix(QUEUE_ADDRESS);
    let name = encoded.and_then(|encoded| percent_decode_str(encoded).decode_utf8().ok());
    name.unwrap_or(Cow::Borrowed(reply_to))
}

struct Reply<'a> {
    reply_to: Cow<'a, str>,
    request_id: &'a str,
    encoding: Encoding,
    /// The property `type`.
    name: &'a str,
    body: Bytes,
}

/// A reply that cannot be published or is too large is only logged, and one without a queue is dropped.
async fn publish(context: &Context, delivery: &Delivery, reply: Reply<'_>) {
    let Reply {
        reply_to,
        request_id,
        encoding,
        name,
        body,
    } = reply;
    if body.len() > MAX_REPLY_BYTES {
        tracing::warn!(
            request_id = logged_id(request_id),
            bytes = body.len(),
            max = MAX_REPLY_BYTES,
            "a reply is not published: it is too large"
        );
        return;
    }
    let correlation_id = delivery
        .properties
        .correlation_id()
        .as_ref()
        .map_or(request_id, |id| id.as_str());
    let message = Message {
        exchange: String::new(),
        routing_key: reply_to.into_owned(),
        properties: codec::properties(encoding.content_type())
            .with_type(codec::lossy_short(name))
            .with_correlation_id(codec::lossy_short(correlation_id)),
        body,
    };
    for outcome in context.commands.publisher.publish_all(vec![message]).await {
        if let Err(error) = outcome {
            tracing::warn!(%error, request_id = logged_id(request_id), "a reply could not be published");
        }
    }
}

fn may_receive(reply_to: &str, topology: &Topology) -> bool {
    match reply_to.strip_prefix(DIRECT_REPLY) {
        Some(name) => is_direct_reply(name),
        None => !topology.owns(reply_to),
    }
}

/// Whether it has the form `{process}.{key}`, both in Base64.
fn is_direct_reply(name: &str) -> bool {
    let Some((process, key)) = name.split_once('.') else {
        return false;
    };
    let is_base64 = |text: &str| STANDARD.decode(text).is_ok_and(|bytes| !bytes.is_empty());
    is_base64(key) && STANDARD.decode(process).is_ok_and(|term| is_process(&term))
}

/// Whether it is the encoded identifier of a process on a node with the name `reply@{hash}`, which stands for the real name.
fn is_process(term: &[u8]) -> bool {
    let Some(atom) = term.strip_prefix(&PROCESS) else {
        return false;
    };
    let (length, rest) = match atom {
        [SMALL_ATOM_UTF8, length, rest @ ..] => (usize::from(*length), rest),
        [ATOM_UTF8, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return false,
    };
    let Some((node, numbers)) = rest.split_at_checked(length) else {
        return false;
    };
    let hash = node.strip_prefix(b"reply@").unwrap_or_default();
    let is_hash = (1..=10).contains(&hash.len()) && hash.iter().all(u8::is_ascii_digit);
    is_hash && numbers.len() == PROCESS_NUMBERS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn direct_replies_have_the_form_that_the_broker_gives_them() {
        // Both kinds of atoms, as RabbitMQ 3.10 encodes and decodes them.
        for name in [
            "g1h2AAlyZXBseUAxMjMAAAABAAAAAgAAAAM=.4fiJ4bT4HoB8Mrzv5RPcaw==",
            "g1h3CXJlcGx5QDEyMwAAAAEAAAACAAAAAw==.4fiJ4bT4HoB8Mrzv5RPcaw==",
        ] {
            assert!(is_direct_reply(name), "{name}");
        }
        for name in [
            "",
            "x",
            "x.y",
            "AAAA.AAAA",
            "g1h2AAlyZXBseUAxMjMAAAABAAAAAgAAAAM=",
            "g1h2AAlyZXBseUAxMjMAAAABAAAAAgAAAAM=.",
            "g1h2AAlyZXBseUAxMjMAAAABAAAAAgAAAAM=.x.y",
            // Too short, too long, no hash, and the real name of a node.
            "g1h2AAlyZXBseUAxMjMAAAABAAAAAgAA.AAAA",
            "g1h2AAlyZXBseUAxMjMAAAABAAAAAgAAAAMA.AAAA",
            "g1h3B3JlcGx5QGEAAAAAAAAAAAAAAAA=.AAAA",
            "g1h3BmFAaG9zdAAAAAAAAAAAAAAAAA==.AAAA",
        ] {
            assert!(!is_direct_reply(name), "{name}");
        }
    }

    #[test]
    fn the_address_of_a_queue_is_its_name() {
        for (reply_to, expected) in [
            ("replies", "replies"),
            ("/queues/replies", "replies"),
            ("/queues/my%20replies%2F1", "my replies/1"),
            // The guard below refuses it.
            ("/queues/smsbridge%2Edead", "smsbridge.dead"),
            ("/queues/%ff", "/queues/%ff"),
            ("/exchanges/a/b", "/exchanges/a/b"),
        ] {
            assert_eq!(queue_name(reply_to), expected);
        }
    }

    #[test]
    fn a_name_of_the_bridge_is_no_reply_queue() {
        let topology = Topology::new(&config::Amqp::with_prefix("smsbridge"));
        for (name, expected) in [
            ("smsbridge", false),
            ("smsbridge.dead", false),
            ("smsbridge.anything", false),
            ("smsbridge-replies", true),
            ("replies", true),
        ] {
            assert_eq!(may_receive(name, &topology), expected, "{name}");
        }
    }
}
