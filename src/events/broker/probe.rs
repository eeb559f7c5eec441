//! Finds the ends of the stream and the event at an offset, each with a consumer of its own that is then closed.
//!
//! A consumer is attached, and followed by a request on the same channel: the broker delivers the messages that exist before it
//! replies to that request. The message count of a stream is not used, because it is seconds old.
//! Neighbours: `reader` checks cursors with it, `stream_reader` looks for the cause of a gap.

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

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

/// Rounds in which deliveries are awaited: far more than a chunk of the stream can have events.
const MAX_ROUNDS: usize = 64;

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
    /// `None` if the stream is empty.
    pub(super) async fn oldest(&self) -> Result<Option<Oldest>, ReadError> {
        let (channel, mut consumer) = self.consume(1, text("first")).await?;
        self.wait_for_deliveries(&channel).await?;
        let first = consumer.next().now_or_never().map(delivered).transpose()?;
        let oldest = |first: Delivery| {
            Ok(Oldest {
                offset: offset_of(&first)?,
                mark: mark_of(&first),
            })
        };
        first.map(oldest).transpose()
    }

    /// The last offset, or a later one if events are appended meanwhile; the offset `enough` or a later one is as good.
    /// `None` if the stream is empty.
    pub(super) async fn last_offset(&self, enough: Option<i64>) -> Result<Option<i64>, ReadError> {
        let (channel, mut consumer) = self.consume(PREFETCH, text("last")).await?;
        let mut found = None;
        for _ in 0..MAX_ROUNDS {
            self.wait_for_deliveries(&channel).await?;
            let mut received = 0;
            let mut newest: Option<Delivery> = None;
            while let Some(next) = consumer.next().now_or_never() {
                newest = Some(delivered(next)?);
                received += 1;
            }
            let Some(newest) = newest else { break };
            let offset = offset_of(&newest)?;
            found = Some(offset);
            // The broker could have delivered more and had no more. A round that waits for none would not end under load.
            if received < PREFETCH || enough.is_some_and(|enough| offset >= enough) {
                break;
            }
            // `last` attaches to the last chunk, of which more deliveries may follow.
            acknowledge_up_to(&newest).await?;
        }
        Ok(found)
    }

    /// The mark of the message at an offset. `None` if the stream does not have it.
    pub(super) async fn mark_at(&self, offset: i64) -> Result<Option<EventMark>, ReadError> {
        let start = AMQPValue::LongLongInt(offset);
        let (channel, mut consumer) = self.consume(PREFETCH, start).await?;
        for _ in 0..MAX_ROUNDS {
            self.wait_for_deliveries(&channel).await?;
            let mut earlier = None;
            while let Some(next) = consumer.next().now_or_never() {
                let delivery = delivered(next)?;
                let found = offset_of(&delivery)?;
                if found >= offset {
                    return Ok((found == offset).then(|| mark_of(&delivery)));
                }
                // The broker starts at the chunk that contains the offset.
                earlier = Some(delivery);
            }
            let Some(earlier) = earlier else { break };
            acknowledge_up_to(&earlier).await?;
        }
        Ok(None)
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

    async fn wait_for_deliveries(&self, channel: &Channel) -> Result<(), ReadError> {
        wait_for_deliveries(channel, self.stream).await
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

/// Returns when every delivery that the broker had for the channel has arrived: the broker sends them before its reply.
pub(super) async fn wait_for_deliveries(channel: &Channel, stream: &str) -> Result<(), ReadError> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    channel
        .queue_declare(stream.into(), passive, FieldTable::default())
        .await
        .map_err(unavailable)?;
    Ok(())
}
