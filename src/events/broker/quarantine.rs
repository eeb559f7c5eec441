//! The quarantine of the broker engine: the queue `{prefix}.quarantine`.
//!
//! Invariant: a message of it is not larger than the broker takes. A larger body is several messages, in their order, with the same
//! `message_id` and a header each that counts them.
//! Neighbours: `raw_store` quarantines what is no response, `events::quarantine` has the trait.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use lapin::types::FieldTable;
use uuid::Uuid;

use super::{BrokerLog, MAX_EVENT_BYTES};
use crate::{
    amqp::{AmqpError, Message, Publisher, Topology, codec, headers},
    events::{AppendError, Quarantine, Quarantined},
};

/// The largest message. RabbitMQ 4 ends the session on one of more than 16 MiB.
const MAX_PART_BYTES: usize = MAX_EVENT_BYTES;

impl Quarantine for BrokerLog {
    fn add(&self, body: Quarantined) -> BoxFuture<'_, Result<(), AppendError>> {
        let headers = headers::text_table([
            (headers::ENDPOINT, body.endpoint),
            (headers::DETAIL, &body.detail),
        ]);
        let id = body.key.unwrap_or_else(Uuid::now_v7);
        Box::pin(async move {
            let (publisher, topology) = (&self.publisher, &self.topology);
            add(
                publisher,
                topology,
                id,
                &body.content_type,
                headers,
                body.body,
            )
            .await
        })
    }
}

/// Stores a body. After an error some of its parts may be stored.
pub(super) async fn add(
    publisher: &Publisher,
    topology: &Topology,
    id: Uuid,
    content_type: &str,
    headers: FieldTable,
    body: Bytes,
) -> Result<(), AppendError> {
    let now = Timestamp::now().as_second().max(0).unsigned_abs();
    let parts = body.len().div_ceil(MAX_PART_BYTES).max(1);
    for part in 0..parts {
        let mut headers = headers.clone();
        if parts > 1 {
            let of = format!("{}/{parts}", part + 1);
            headers.insert(headers::PART.into(), headers::text(&of));
        }
        let end = body.len().min((part + 1) * MAX_PART_BYTES);
        let message = Message {
            exchange: String::new(),
            routing_key: topology.quarantine(),
            properties: codec::properties(content_type)
                .with_message_id(codec::lossy_short(&id.to_string()))
                .with_timestamp(now)
                .with_headers(headers),
            body: body.slice(part * MAX_PART_BYTES..end),
        };
        publisher
            .publish_mandatory(message)
            .await
            .map_err(|error| match error {
                AmqpError::Closed => AppendError::Closed,
                error => AppendError::Unavailable(error.to_string()),
            })?;
    }
    Ok(())
}
