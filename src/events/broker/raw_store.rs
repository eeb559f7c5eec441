//! The raw store of the broker engine: the quorum queue `{prefix}.intake`.
//!
//! Each replica consumes it, so the response that one replica has read may be split by another; a replica that ends gives back what it
//! took. One delivery at a time, because a response is large.
//!
//! Invariant: a delivery is acknowledged only by [`RawStore::remove`]; what is no response is moved to quarantine.
//! Neighbours: `amqp` publishes and has the topology, `events::raw` has the trait.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture};
use jiff::Timestamp;
use lapin::{
    Acker, Channel, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions},
    types::FieldTable,
};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{quarantine, stream_ends::message_count};
use crate::{
    amqp::{AmqpError, Endpoint, Message, Publisher, Session, Topology, codec, headers},
    events::{
        AppendError,
        raw::{RawResponse, RawStore, RowKind, Waiting},
    },
};

/// The largest response. RabbitMQ 4 ends the session on a message of more than 16 MiB, properties included.
const MAX_BODY_BYTES: usize = 15 * 1024 * 1024;
/// How long the broker may take to count what waits.
const COUNT_TIMEOUT: Duration = Duration::from_secs(5);
/// Why a message of the queue is in quarantine.
const NO_RESPONSE: &str = "it was in the queue of responses and is none";
/// How the bridge came to read a response.
const SOURCE: &str = "pull";

pub struct BrokerRawStore {
    publisher: Arc<Publisher>,
    endpoint: Endpoint,
    topology: Topology,
    consuming: Mutex<Option<Consuming>>,
    /// On the session of the consumer, which is locked while it waits.
    counting: parking_lot::Mutex<Option<Channel>>,
}

struct Consuming {
    session: Session,
    /// The broker cancels the consumer when the channel closes, which happens when it is dropped.
    _channel: Channel,
    consumer: Consumer,
    /// The delivery that was taken last.
    taken: Option<(Uuid, Acker)>,
}

impl BrokerRawStore {
    #[must_use]
    pub fn new(publisher: Arc<Publisher>, endpoint: Endpoint, topology: Topology) -> Self {
        Self {
            publisher,
            endpoint,
            topology,
            consuming: Mutex::new(None),
            counting: parking_lot::Mutex::new(None),
        }
    }

    async fn publish(&self, message: Message) -> Result<(), AppendError> {
        let published = self.publisher.publish_mandatory(message).await;
        published.map_err(unavailable)
    }

    async fn consume(&self) -> Result<Consuming, AmqpError> {
        // Declares the queue, so that nothing is taken from one that drops it after some deliveries.
        let session = self.topology.open_session(&self.endpoint, "intake").await?;
        let channel = session.consuming_channel(1).await?;
        let queue = self.topology.intake();
        let consumer = channel.basic_consume(
            codec::lossy_short(&queue),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = consumer.await?;
        *self.counting.lock() = Some(session.consuming_channel(1).await?);
        Ok(Consuming {
            session,
            _channel: channel,
            consumer,
            taken: None,
        })
    }

    /// Moves a message that is no response to quarantine.
    async fn set_aside(&self, delivery: Delivery) -> Result<(), AppendError> {
        tracing::warn!(
            queue = self.topology.intake(),
            bytes = delivery.data.len(),
            "a message in the queue is no response of the API: moved to quarantine"
        );
        let acker = delivery.acker.clone();
        // None of its own properties: with a `user_id` the broker ends the session of all publications, and `CC` is another address.
        let content_type = headers::property(delivery.properties.content_type());
        let headers = headers::text_table([(headers::DETAIL, NO_RESPONSE)]);
        let (publisher, topology) = (&self.publisher, &self.topology);
        let body = delivery.data.into();
        quarantine::add(
            publisher,
            topology,
            Uuid::now_v7(),
            content_type,
            headers,
            body,
        )
        .await?;
        acknowledge(&acker).await
    }
}

impl RawStore for BrokerRawStore {
    fn keep(&self, response: &RawResponse) -> BoxFuture<'_, Result<(), AppendError>> {
        let response = response.clone();
        async move {
            if response.body.len() > MAX_BODY_BYTES {
                return Err(AppendError::TooLarge {
                    bytes: response.body.len(),
                    max: MAX_BODY_BYTES,
                });
            }
            let headers = headers::text_table([
                (headers::ENDPOINT, response.rows.as_str()),
                (headers::SOURCE, SOURCE),
            ]);
            let at = response.received_at.as_second().max(0).unsigned_abs();
            self.publish(Message {
                exchange: String::new(),
                routing_key: self.topology.intake(),
                properties: codec::properties(&response.content_type)
                    .with_message_id(codec::lossy_short(&response.id.to_string()))
                    .with_timestamp(at)
                    .with_headers(headers),
                body: response.body,
            })
            .await
        }
        .boxed()
    }

    fn open(&self) -> BoxFuture<'_, Result<(), AppendError>> {
        async move {
            let mut consuming = self.consuming.lock().await;
            if let Some(earlier) = consuming.take() {
                earlier.session.close().await;
            }
            *consuming = Some(self.consume().await.map_err(unavailable)?);
            Ok(())
        }
        .boxed()
    }

    fn take(&self) -> BoxFuture<'_, Result<RawResponse, AppendError>> {
        async move {
            let mut consuming = self.consuming.lock().await;
            let consuming = consuming.as_mut().ok_or(AppendError::Closed)?;
            loop {
                let delivery = tokio::select! {
                    () = consuming.session.ended() => None,
                    delivery = consuming.consumer.next() => delivery,
                };
                let delivery = delivery
                    .ok_or_else(|| consuming.session.end())
                    .and_then(|delivery| delivery.map_err(AmqpError::from))
                    .map_err(unavailable)?;
                match response(&delivery) {
                    Some(response) => {
                        consuming.taken = Some((response.id, delivery.acker));
                        return Ok(response);
                    }
                    None => self.set_aside(delivery).await?,
                }
            }
        }
        .boxed()
    }

    fn remove(&self, id: Uuid) -> BoxFuture<'_, Result<(), AppendError>> {
        async move {
            let mut consuming = self.consuming.lock().await;
            let taken = consuming.as_mut().and_then(|open| open.taken.take());
            match taken {
                Some((taken, acker)) if taken == id => acknowledge(&acker).await,
                // It is delivered again in the next session.
                _ => Ok(()),
            }
        }
        .boxed()
    }

    fn lost(&self) -> BoxFuture<'_, ()> {
        async move {
            match &*self.consuming.lock().await {
                Some(consuming) => consuming.session.ended().await,
                None => std::future::pending().await,
            }
        }
        .boxed()
    }

    /// Without the one that each replica has taken.
    fn waiting(&self) -> BoxFuture<'_, Result<Waiting, AppendError>> {
        async move {
            let channel = self.counting.lock().clone();
            let channel =
                channel.ok_or_else(|| not_counted("there is no session with the broker"))?;
            let queue = self.topology.intake();
            let counting = message_count(&channel, &queue);
            let counted = tokio::time::timeout(COUNT_TIMEOUT, counting).await;
            let counted =
                counted.map_err(|_| not_counted("the broker does not count the responses"))?;
            let responses = counted.map_err(|error| not_counted(&error.cause()))?;
            Ok(Waiting {
                responses: responses.into(),
                bytes: 0,
            })
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            if let Some(consuming) = self.consuming.lock().await.take() {
                consuming.session.close().await;
            }
        }
        .boxed()
    }
}

async fn acknowledge(acker: &Acker) -> Result<(), AppendError> {
    let acknowledged = acker.ack(BasicAckOptions::default()).await;
    let is_sent = acknowledged.map_err(|error| unavailable(error.into()))?;
    match is_sent {
        true => Ok(()),
        false => Err(unavailable(AmqpError::Lost("the channel ended".into()))),
    }
}

/// The response in a delivery. One without an id was not published by a bridge: its id is derived from the body.
fn response(delivery: &Delivery) -> Option<RawResponse> {
    let properties = &delivery.properties;
    let kind = headers::text_header(properties.headers().as_ref(), headers::ENDPOINT)?;
    let id = Uuid::parse_str(headers::property(properties.message_id()));
    let at = properties.timestamp().and_then(|at| i64::try_from(at).ok());
    let at = at.and_then(|at| Timestamp::from_second(at).ok());
    Some(RawResponse {
        id: id.unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_OID, &delivery.data)),
        rows: RowKind::parse(&kind)?,
        content_type: headers::property(properties.content_type()).to_owned(),
        received_at: at.unwrap_or_else(Timestamp::now),
        body: Bytes::copy_from_slice(&delivery.data),
    })
}

fn not_counted(why: &str) -> AppendError {
    AppendError::Unavailable(why.to_owned())
}

fn unavailable(error: AmqpError) -> AppendError {
    match error {
        AmqpError::Closed => AppendError::Closed,
        error => AppendError::Unavailable(error.to_string()),
    }
}
