//! Reads one consumer of the stream: receives deliveries, decodes them, and returns events in batches.
//!
//! Invariant: events are returned in the order of their offsets, without gaps inside the requested range: where truncation has made one,
//! the stream ends with `OutOfRange`. A message that is not an event is skipped.
//! Neighbours: `reader` attaches the consumer, `continuity` notices gaps.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::{Channel, Consumer, message::Delivery, options::BasicAckOptions};
use tokio_util::sync::CancellationToken;

use super::{
    continuity::Continuity,
    cursor::{Cursor, EventMark, Mark},
};
use crate::{
    amqp::{
        AmqpError, Session,
        event_body::read_event,
        headers::{broker::STREAM_OFFSET, number_header},
    },
    events::ReadError,
    message::time,
    proto::v1,
};

/// Unacknowledged deliveries of one reader, and events in one batch.
pub(super) const PREFETCH: u16 = 256;

/// One attached consumer of the stream.
pub(super) struct StreamReader {
    /// The broker cancels the consumer when the channel closes, which happens when it is dropped.
    pub(super) _channel: Channel,
    pub(super) session: Arc<Session>,
    pub(super) consumer: Consumer,
    /// A delivery that was received while attaching.
    pub(super) received: Option<Delivery>,
    pub(super) closed: CancellationToken,
    /// The first offset to return. The broker starts at the chunk that contains it, so earlier ones are skipped.
    pub(super) first_offset: i64,
    /// Events are skipped until the first one at or after this time. `None` from then on, or if no time was requested.
    pub(super) since: Option<jiff::Timestamp>,
    /// The last offset to return.
    pub(super) head: Option<i64>,
    pub(super) continuity: Continuity,
    /// The error that follows the events before a gap.
    pub(super) gap: Option<ReadError>,
    pub(super) ended: bool,
}

impl StreamReader {
    /// The next events. `None` at the end of the stream.
    pub(super) async fn next_batch(&mut self) -> Option<Result<Vec<v1::Event>, ReadError>> {
        if let Some(gap) = self.gap.take() {
            self.ended = true;
            return Some(Err(gap));
        }
        while !self.ended {
            match self.receive().await {
                Ok(batch) if batch.is_empty() => {}
                Ok(batch) => {
                    self.continuity.returned();
                    return Some(Ok(batch));
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }

    async fn receive(&mut self) -> Result<Vec<v1::Event>, ReadError> {
        let first = match self.received.take() {
            Some(received) => received,
            None => tokio::select! {
                () = self.closed.cancelled() => {
                    self.ended = true;
                    return Ok(Vec::new());
                }
                () = self.session.ended() => delivered(None)?,
                first = self.consumer.next() => delivered(first)?,
            },
        };
        let mut deliveries = VecDeque::from([first]);
        while deliveries.len() < usize::from(PREFETCH)
            && let Some(more) = self.consumer.next().now_or_never()
        {
            deliveries.push_back(delivered(more)?);
        }
        if let Some(last) = deliveries.back() {
            let is_all = deliveries.len() >= usize::from(PREFETCH);
            self.continuity.received(offset_of(last)?, is_all).await?;
            // An acknowledgement removes nothing from a stream; it only gives the broker credit to deliver more.
            acknowledge_up_to(last).await?;
        }
        let mut events = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let offset = offset_of(&delivery)?;
            if offset < self.first_offset {
                continue;
            }
            if let Err(gap) = self.continuity.next(offset).await {
                if events.is_empty() {
                    return Err(gap);
                }
                self.gap = Some(gap);
                break;
            }
            if self.head.is_some_and(|head| offset >= head) {
                self.ended = true;
            }
            if self.head.is_none_or(|head| offset <= head)
                && let Some(event) = self.wanted(offset, &delivery)
            {
                self.continuity.returns(&event.cursor);
                events.push(event);
            }
        }
        Ok(events)
    }

    /// Decodes an event, unless it is before the requested time.
    fn wanted(&mut self, offset: i64, delivery: &Delivery) -> Option<v1::Event> {
        let mut event = match read_event(delivery) {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(offset, %error, "skipped a message in the event stream that is not an event");
                return None;
            }
        };
        if let Some(since) = self.since {
            let at = event.time.as_ref().and_then(time::from_proto);
            if at.is_some_and(|at| at < since) {
                return None;
            }
            self.since = None;
        }
        let cursor = Cursor {
            offset,
            mark: Mark::Event(EventMark::of(&event.id)),
        };
        event.cursor = cursor.to_string();
        Some(event)
    }
}

pub(super) fn delivered(next: Option<lapin::Result<Delivery>>) -> Result<Delivery, ReadError> {
    match next {
        Some(Ok(delivery)) => Ok(delivery),
        Some(Err(error)) => Err(unavailable(error)),
        None => Err(session_ended()),
    }
}

pub(super) async fn acknowledge_up_to(delivery: &Delivery) -> Result<(), ReadError> {
    let acknowledged = delivery
        .acker
        .ack(BasicAckOptions { multiple: true })
        .await
        .map_err(unavailable)?;
    if acknowledged {
        Ok(())
    } else {
        Err(session_ended())
    }
}

pub(super) fn offset_of(delivery: &Delivery) -> Result<i64, ReadError> {
    let headers = delivery.properties.headers().as_ref();
    number_header(headers, STREAM_OFFSET).ok_or_else(|| {
        ReadError::Unavailable("the broker delivered a message without a stream offset".into())
    })
}

fn session_ended() -> ReadError {
    ReadError::Unavailable("the broker's session ended: continue from the last cursor".into())
}

pub(super) fn unavailable(error: impl Into<AmqpError>) -> ReadError {
    ReadError::Unavailable(error.into().to_string())
}
