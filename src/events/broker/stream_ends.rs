//! Finds the first and the last event of the stream, with a consumer at `first` or `last`.
//!
//! `last` attaches to the last chunk of the stream, so the last event is the last delivery of that chunk. AMQP does not mark the end of
//! a chunk. A pause does not show it either: the network or the broker can be slow.
//! Invariants: the search ends only after a round trip that began after the first delivery, and a wait that is longer than that round
//! trip: what the broker sent before its reply has arrived then, and from RabbitMQ 4.0 on deliveries may come after later replies. No
//! acknowledgement is needed inside a chunk. The stream is empty only if the broker counts no messages, asked twice.
//! Neighbours: `reader` asks for the ends, `stream_reader` reads what is between them.

use std::{pin::pin, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::time::{Instant, sleep_until};

use super::stream_reader::{delivered, offset_of, unavailable};
use crate::{
    amqp::{
        Session,
        event_body::read_event,
        headers::{
            broker::{STREAM_FILTER_VALUE, STREAM_OFFSET},
            property, table, text, text_header,
        },
    },
    events::ReadError,
    message::time,
};

/// How long a delivery of a stream that has messages is waited for.
pub(super) const FIRST_DELIVERY: Duration = Duration::from_secs(5);
/// How long one is waited for where there may be none: the broker's count of messages is seconds old.
const MAYBE_EMPTY: Duration = Duration::from_secs(1);
/// The least and the longest time without a delivery, after the round trip, that ends the search for the last event.
const QUIET: Duration = Duration::from_millis(50);
const LONGEST_QUIET: Duration = Duration::from_secs(2);
/// How long deliveries are received after the round trip: under load there is no quiet time, because events are appended meanwhile.
const LAST_CHUNK: Duration = Duration::from_secs(2);
/// Unacknowledged deliveries of the search: more than a chunk has (RabbitMQ writes at most 8,192 messages at once), so that the broker
/// never waits for an acknowledgement inside the last chunk. The deliveries are dropped as they arrive.
const SEARCH_PREFETCH: u16 = u16::MAX;

/// The last event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) offset: i64,
    /// `None` if it is a message that is not an event.
    pub(super) at: Option<jiff::Timestamp>,
    /// What the broker filters it by.
    pub(super) filter_value: Option<String>,
}

impl Head {
    fn of(delivery: &Delivery) -> Result<Self, ReadError> {
        let event = read_event(delivery).ok();
        let properties = &delivery.properties;
        Ok(Self {
            offset: offset_of(delivery)?,
            at: event.and_then(|event| event.time.as_ref().and_then(time::from_proto)),
            filter_value: text_header(properties.headers().as_ref(), STREAM_FILTER_VALUE).or_else(
                || {
                    (!property(properties.app_id()).is_empty())
                        .then(|| property(properties.app_id()).to_owned())
                },
            ),
        })
    }
}

/// The first message of a stream that is not empty.
pub(super) async fn first_message(session: &Session, stream: &str) -> Result<Delivery, ReadError> {
    let channel = session.consuming_channel(1).await.map_err(unavailable)?;
    let mut consumer = attach(&channel, stream, text("first")).await?;
    certain_delivery(&mut consumer, "the oldest event").await
}

/// The last event, or a later one if events are appended meanwhile; one with the offset `enough` or a later one is as good.
/// `None` if the stream is empty.
pub(super) async fn last_event(
    session: &Session,
    stream: &str,
    enough: Option<i64>,
) -> Result<Option<Head>, ReadError> {
    let channel = session
        .consuming_channel(SEARCH_PREFETCH)
        .await
        .map_err(unavailable)?;
    let mut consumer = attach(&channel, stream, text("last")).await?;
    let Some(mut newest) = first_of_last_chunk(&channel, stream, &mut consumer).await? else {
        return Ok(None);
    };
    let asked = Instant::now();
    let mut answer = pin!(message_count(&channel, stream));
    // Set by the answer: how long no delivery may come, and when the search ends anyway.
    let mut limits: Option<(Duration, Instant)> = None;
    let mut received = Instant::now();
    loop {
        if let Some(enough) = enough
            && offset_of(&newest)? >= enough
        {
            break;
        }
        let until = limits.map_or(asked, |(quiet, latest)| latest.min(received + quiet));
        tokio::select! {
            biased;
            () = sleep_until(until), if limits.is_some() => break,
            answered = &mut answer, if limits.is_none() => {
                answered?;
                received = Instant::now();
                let quiet = (asked.elapsed() * 2).clamp(QUIET, LONGEST_QUIET);
                limits = Some((quiet, received + LAST_CHUNK));
            }
            next = consumer.next() => {
                newest = delivered(next)?;
                received = Instant::now();
            }
        }
    }
    Head::of(&newest).map(Some)
}

/// `None` if the stream is empty.
async fn first_of_last_chunk(
    channel: &Channel,
    stream: &str,
    consumer: &mut Consumer,
) -> Result<Option<Delivery>, ReadError> {
    if message_count(channel, stream).await? == 0 {
        if let Some(first) = delivery_within(consumer, MAYBE_EMPTY).await? {
            return Ok(Some(first));
        }
        if message_count(channel, stream).await? == 0 {
            return Ok(None);
        }
    }
    certain_delivery(consumer, "the newest event")
        .await
        .map(Some)
}

/// How many messages the stream has, as the broker counted seconds ago. Fails if the stream does not exist.
pub(super) async fn message_count(channel: &Channel, stream: &str) -> Result<u32, ReadError> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let declared = channel
        .queue_declare(stream.into(), passive, FieldTable::default())
        .await
        .map_err(unavailable)?;
    Ok(declared.message_count())
}

/// The first delivery of a consumer for which the stream has one.
pub(super) async fn certain_delivery(
    consumer: &mut Consumer,
    what: &str,
) -> Result<Delivery, ReadError> {
    delivery_in(consumer, what, FIRST_DELIVERY).await
}

/// As [`certain_delivery`], with another deadline.
pub(super) async fn delivery_in(
    consumer: &mut Consumer,
    what: &str,
    patience: Duration,
) -> Result<Delivery, ReadError> {
    let first = delivery_within(consumer, patience).await?;
    first.ok_or_else(|| {
        ReadError::Unavailable(format!(
            "the broker did not deliver {what} within {patience:?}: try again"
        ))
    })
}

/// The first delivery of a consumer; `None` if there is none in this time.
pub(super) async fn delivery_within(
    consumer: &mut Consumer,
    patience: Duration,
) -> Result<Option<Delivery>, ReadError> {
    match tokio::time::timeout(patience, consumer.next()).await {
        Ok(first) => delivered(first).map(Some),
        Err(_) => Ok(None),
    }
}

pub(super) async fn attach(
    channel: &Channel,
    stream: &str,
    offset: AMQPValue,
) -> Result<Consumer, ReadError> {
    consume(channel, stream, table([(STREAM_OFFSET, offset)])).await
}

/// A consumer of a queue, on a channel with a prefetch limit.
pub(super) async fn consume(
    channel: &Channel,
    queue: &str,
    arguments: FieldTable,
) -> Result<Consumer, ReadError> {
    channel
        .basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            arguments,
        )
        .await
        .map_err(unavailable)
}
