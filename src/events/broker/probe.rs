//! Finds the ends of the stream and the event at an offset, each with a consumer of its own that is then closed.
//!
//! The broker delivers independently of its replies to later requests, so deliveries are waited for. The message count of a stream
//! only tells that it is not empty, because it is seconds old.
//! Neighbour: `reader` finds the end of a read and checks cursors with it.

use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    cursor::{Cursor, EventMark, Mark},
    stream_reader::{PREFETCH, acknowledge_up_to, delivered, offset_of, unavailable},
};
use crate::{
    amqp::{
        Session,
        headers::{broker::STREAM_OFFSET, text},
    },
    events::ReadError,
};

/// How long a delivery of a stream that has messages is waited for.
const FIRST_DELIVERY: Duration = Duration::from_secs(5);
/// How long one is waited for where there may be none: the broker's count of messages is seconds old.
pub(super) const MAYBE_EMPTY: Duration = Duration::from_secs(1);
/// Deliveries of one chunk of the stream follow each other more closely than this.
const QUIET: Duration = Duration::from_millis(50);
/// How long deliveries of the last chunk are received.
const LAST_CHUNK: Duration = Duration::from_secs(2);

pub(super) struct Probe<'a> {
    pub(super) session: &'a Session,
    pub(super) stream: &'a str,
}

/// The oldest message of the stream.
pub(super) struct Oldest {
    pub(super) offset: i64,
    mark: EventMark,
}

impl Oldest {
    /// Reading after this cursor starts at the oldest event.
    pub(super) fn cursor_before(&self) -> String {
        let cursor = Cursor {
            offset: self.offset - 1,
            mark: Mark::NextEvent(self.mark),
        };
        cursor.to_string()
    }
}

impl Probe<'_> {
    /// The oldest message of a stream that is not empty.
    pub(super) async fn oldest(&self) -> Result<Oldest, ReadError> {
        let (_channel, mut consumer) = self.consume(1, text("first")).await?;
        let first = first_delivery(&mut consumer, FIRST_DELIVERY).await?;
        let first = first.ok_or_else(|| late("the oldest event"))?;
        Ok(Oldest {
            offset: offset_of(&first)?,
            mark: mark_of(&first),
        })
    }

    /// The last offset, or a later one if events are appended meanwhile; the offset `enough` or a later one is as good.
    /// `None` if the stream is empty.
    pub(super) async fn last_offset(&self, enough: Option<i64>) -> Result<Option<i64>, ReadError> {
        let (channel, mut consumer) = self.consume(PREFETCH, text("last")).await?;
        let mut next = first_delivery(&mut consumer, self.patience(&channel).await?).await?;
        let mut found = None;
        let mut unacknowledged = 0;
        let latest = Instant::now() + LAST_CHUNK;
        while let Some(newest) = next {
            let offset = offset_of(&newest)?;
            found = Some(offset);
            if enough.is_some_and(|enough| offset >= enough) {
                break;
            }
            unacknowledged += 1;
            if unacknowledged == PREFETCH {
                // `last` attaches to the last chunk, of which more deliveries may follow.
                acknowledge_up_to(&newest).await?;
                unacknowledged = 0;
            }
            // Under load there is no quiet moment: what is appended meanwhile need not be in the log's end.
            let until = latest.min(Instant::now() + QUIET);
            next = match timeout_at(until, consumer.next()).await {
                Ok(next) => Some(delivered(next)?),
                Err(_) => None,
            };
        }
        Ok(found)
    }

    /// The mark of the message at an offset that the stream has reached. `None` if no message is there: it was truncated, or the
    /// broker uses the offset itself.
    pub(super) async fn mark_at(&self, offset: i64) -> Result<Option<EventMark>, ReadError> {
        let start = AMQPValue::LongLongInt(offset);
        let (_channel, mut consumer) = self.consume(PREFETCH, start).await?;
        let mut unacknowledged = 0;
        let latest = Instant::now() + FIRST_DELIVERY;
        while let Ok(next) = timeout_at(latest, consumer.next()).await {
            let delivery = delivered(next)?;
            let found = offset_of(&delivery)?;
            if found >= offset {
                return Ok((found == offset).then(|| mark_of(&delivery)));
            }
            // The broker may start at the chunk that contains the offset.
            unacknowledged += 1;
            if unacknowledged == PREFETCH {
                acknowledge_up_to(&delivery).await?;
                unacknowledged = 0;
            }
        }
        Err(late("the event of the cursor"))
    }

    async fn consume(
        &self,
        prefetch: u16,
        start: AMQPValue,
    ) -> Result<(Channel, Consumer), ReadError> {
        let channel = self.session.consuming_channel(prefetch).await;
        let channel = channel.map_err(unavailable)?;
        let consumer = attach(&channel, self.stream, start).await?;
        Ok((channel, consumer))
    }

    /// How long the first delivery of a consumer is waited for: longer if the broker has counted messages.
    async fn patience(&self, channel: &Channel) -> Result<Duration, ReadError> {
        let passive = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let declared = channel
            .queue_declare(self.stream.into(), passive, FieldTable::default())
            .await
            .map_err(unavailable)?;
        Ok(match declared.message_count() {
            0 => MAYBE_EMPTY,
            _ => FIRST_DELIVERY,
        })
    }
}

/// The mark of an event. Messages that are not events have one too, so that the oldest message always has one.
fn mark_of(delivery: &Delivery) -> EventMark {
    #[derive(serde::Deserialize)]
    struct Named {
        id: String,
    }
    let named: Option<Named> = serde_json::from_slice(&delivery.data).ok();
    EventMark::of(named.as_ref().map_or("", |named| &named.id))
}

/// Attaches a consumer of the stream to a channel.
pub(super) async fn attach(
    channel: &Channel,
    stream: &str,
    start: AMQPValue,
) -> Result<Consumer, ReadError> {
    let mut arguments = FieldTable::default();
    arguments.insert(STREAM_OFFSET.into(), start);
    channel
        .basic_consume(
            stream.into(),
            "".into(),
            BasicConsumeOptions::default(),
            arguments,
        )
        .await
        .map_err(unavailable)
}

/// The first delivery of a consumer; `None` if there is none in this time.
pub(super) async fn first_delivery(
    consumer: &mut Consumer,
    patience: Duration,
) -> Result<Option<Delivery>, ReadError> {
    match timeout(patience, consumer.next()).await {
        Ok(first) => delivered(first).map(Some),
        Err(_) => Ok(None),
    }
}

fn late(what: &str) -> ReadError {
    ReadError::Unavailable(format!("the broker did not deliver {what} in time"))
}
