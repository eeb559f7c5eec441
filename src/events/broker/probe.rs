//! Finds the messages that tell whether a cursor belongs to the stream: the oldest one, and the one at an offset.
//!
//! Each is sought with a consumer of its own that is then closed.
//! Neighbours: `reader` checks cursors with it, `stream_ends` finds the ends of the stream.

use futures_util::StreamExt as _;
use lapin::{message::Delivery, types::AMQPValue};
use tokio::time::{Instant, timeout_at};

use super::{
    cursor::{Cursor, EventMark, Mark},
    stream_ends::{FIRST_DELIVERY, attach, first_message},
    stream_reader::{PREFETCH, acknowledge_up_to, delivered, offset_of, unavailable},
};
use crate::{
    amqp::{Session, event_body::read_event},
    events::ReadError,
};

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

/// The oldest message of a stream that is not empty.
pub(super) async fn oldest(session: &Session, stream: &str) -> Result<Oldest, ReadError> {
    let first = first_message(session, stream).await?;
    Ok(Oldest {
        offset: offset_of(&first)?,
        mark: mark_of(&first),
    })
}

/// The mark of the message at an offset that the stream has reached. `None` if no message is there: it was truncated, or the
/// broker uses the offset itself.
pub(super) async fn mark_at(
    session: &Session,
    stream: &str,
    offset: i64,
) -> Result<Option<EventMark>, ReadError> {
    let channel = session.consuming_channel(PREFETCH).await;
    let channel = channel.map_err(unavailable)?;
    let mut consumer = attach(&channel, stream, AMQPValue::LongLongInt(offset)).await?;
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
    Err(ReadError::Unavailable(format!(
        "the broker did not deliver the event of the cursor within {FIRST_DELIVERY:?}: try again"
    )))
}

/// The mark of an event. Messages that are not events have one too, so that the oldest message always has one.
fn mark_of(delivery: &Delivery) -> EventMark {
    let event = read_event(delivery).ok();
    EventMark::of(event.as_ref().map_or("", |event| &event.id))
}
