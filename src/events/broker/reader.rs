//! Reading the stream.
//!
//! A cursor is `stream:{offset}`, the offset of the event it came with. The broker begins later without a word where the
//! log no longer has an offset, so the first offset is asked for first. Where the log begins and ends is learned by
//! attaching to `first` and `last` and asking for a reply on the same channel: what the broker had to deliver comes before
//! it. (A stream's message count lags by seconds.)

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, LongString},
};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    amqp::{AmqpError, Endpoint, Session, Topology, codec, session::Backoff},
    events::{EventStream, ReadError, Start},
    message::time,
    proto::v1,
};

/// The header that carries a delivery's offset, and the argument that says where to begin.
const OFFSET: &str = "x-stream-offset";
/// Deliveries of one reader that are under way at once, and events of a batch at most.
const PREFETCH: u16 = 256;
/// How much the broker's clock may be behind the bridge's when a reader begins at a time.
const CLOCK_SKEW_SECONDS: i64 = 60;
/// How long a cursor may be ahead of the log: a replica of the stream lags behind its leader.
const REPLICA_LAG: Duration = Duration::from_secs(2);

/// All readers of this process. They share one connection, apart from the publisher's.
pub(super) struct Readers {
    endpoint: Endpoint,
    topology: Topology,
    stream: String,
    session: Mutex<Option<Arc<Session>>>,
    closed: CancellationToken,
}

impl Readers {
    pub(super) fn new(endpoint: Endpoint, topology: Topology) -> Self {
        Self {
            endpoint,
            stream: topology.events_log(),
            topology,
            session: Mutex::new(None),
            closed: CancellationToken::new(),
        }
    }

    /// See [`crate::events::EventLog::read`].
    pub(super) async fn read(
        &self,
        start: Start,
        end_at_head: bool,
    ) -> Result<EventStream, ReadError> {
        if self.closed.is_cancelled() {
            return Err(unavailable(AmqpError::Closed));
        }
        let session = self.session().await?;
        let head = if end_at_head {
            match self.probe(&session, Bound::Last).await? {
                Some(head) if start != Start::Now => Some(head),
                _ => return Ok(stream::empty().boxed()),
            }
        } else {
            None
        };
        let mut first_offset = 0;
        let mut since = None;
        let offset = match &start {
            Start::Now => text("next"),
            Start::Since(at) => {
                since = Some(*at);
                let seconds = at.as_second().saturating_sub(CLOCK_SKEW_SECONDS);
                AMQPValue::Timestamp(u64::try_from(seconds).unwrap_or_default())
            }
            Start::After(cursor) => {
                first_offset = self.check_cursor(&session, cursor).await? + 1;
                if head.is_some_and(|head| head < first_offset) {
                    return Ok(stream::empty().boxed());
                }
                AMQPValue::LongLongInt(first_offset)
            }
        };
        let channel = session
            .consuming_channel(PREFETCH)
            .await
            .map_err(unavailable)?;
        let mut consumer = self.attach(&channel, offset).await?;
        let mut taken = None;
        if head.is_some() && since.is_some() {
            // A time after the last event attaches behind the head, and nothing would come.
            self.wait_for_deliveries(&channel).await?;
            match consumer.next().now_or_never() {
                Some(first) => taken = Some(delivered(first)?),
                None => return Ok(stream::empty().boxed()),
            }
        }
        let reader = Reader {
            _channel: channel,
            session,
            consumer,
            taken,
            closed: self.closed.clone(),
            first_offset,
            since,
            head,
            ended: false,
        };
        Ok(stream::unfold(reader, |mut reader| async move {
            reader.next_batch().await.map(|batch| (batch, reader))
        })
        .boxed())
    }

    /// Ends all readers.
    pub(super) async fn close(&self) {
        self.closed.cancel();
        if let Some(session) = self.session.lock().await.take() {
            session.close().await;
        }
    }

    async fn session(&self) -> Result<Arc<Session>, ReadError> {
        let mut slot = self.session.lock().await;
        if let Some(session) = slot.as_ref().filter(|session| session.stands()) {
            return Ok(session.clone());
        }
        let session = Session::open(&self.endpoint, "reader")
            .await
            .map_err(unavailable)?;
        // A reader may come before the publisher has declared what it reads. What stands there in another way is the
        // publisher's to tell: it can be read all the same.
        let declaring = session.consuming_channel(1).await.map_err(unavailable)?;
        match self.topology.declare(&declaring).await {
            Ok(()) | Err(AmqpError::Conflict { .. }) => {}
            Err(error) => return Err(unavailable(error)),
        }
        Ok(slot.insert(Arc::new(session)).clone())
    }

    /// The offset of a cursor whose following events the log still has.
    async fn check_cursor(&self, session: &Session, cursor: &str) -> Result<i64, ReadError> {
        let bad_cursor = || ReadError::BadCursor {
            cursor: cursor.to_owned(),
        };
        let offset = parse_cursor(cursor).ok_or_else(bad_cursor)?;
        let mut backoff = Backoff::default();
        let deadline = tokio::time::Instant::now() + REPLICA_LAG;
        while self
            .probe(session, Bound::Last)
            .await?
            .is_none_or(|last| last < offset)
        {
            // Beyond the log: the cursor of another one, or of one that was deleted.
            if tokio::time::Instant::now() >= deadline {
                return Err(bad_cursor());
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
        match self.probe(session, Bound::First).await? {
            Some(oldest) if oldest > offset + 1 => Err(ReadError::OutOfRange {
                cursor: cursor.to_owned(),
                oldest_cursor: format_cursor(oldest - 1),
            }),
            _ => Ok(offset),
        }
    }

    /// The first or the last offset; `None` where the stream is empty.
    async fn probe(&self, session: &Session, bound: Bound) -> Result<Option<i64>, ReadError> {
        let prefetch = match bound {
            Bound::First => 1,
            Bound::Last => PREFETCH,
        };
        let channel = session
            .consuming_channel(prefetch)
            .await
            .map_err(unavailable)?;
        let from = match bound {
            Bound::First => "first",
            Bound::Last => "last",
        };
        let mut consumer = self.attach(&channel, text(from)).await?;
        let mut found = None;
        loop {
            self.wait_for_deliveries(&channel).await?;
            let mut newest: Option<Delivery> = None;
            while let Some(next) = consumer.next().now_or_never() {
                let delivery = delivered(next)?;
                if matches!(bound, Bound::First) {
                    return Ok(Some(offset_of(&delivery)?));
                }
                newest = Some(delivery);
            }
            let Some(newest) = newest else {
                return Ok(found);
            };
            found = Some(offset_of(&newest)?);
            // `last` is the last chunk: more of it may follow.
            acknowledge_up_to(&newest).await?;
        }
    }

    /// Returns when everything that the broker had to deliver on the channel is here: it came before the reply.
    async fn wait_for_deliveries(&self, channel: &Channel) -> Result<(), ReadError> {
        let passive = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        channel
            .queue_declare(self.stream.as_str().into(), passive, FieldTable::default())
            .await
            .map_err(unavailable)?;
        Ok(())
    }

    async fn attach(&self, channel: &Channel, offset: AMQPValue) -> Result<Consumer, ReadError> {
        let mut arguments = FieldTable::default();
        arguments.insert(OFFSET.into(), offset);
        channel
            .basic_consume(
                self.stream.as_str().into(),
                "".into(),
                BasicConsumeOptions::default(),
                arguments,
            )
            .await
            .map_err(unavailable)
    }
}

/// An end of the log.
#[derive(Debug, Clone, Copy)]
enum Bound {
    First,
    Last,
}

/// One reader.
struct Reader {
    /// Closes when it is dropped.
    _channel: Channel,
    session: Arc<Session>,
    consumer: Consumer,
    /// A delivery that was taken already.
    taken: Option<Delivery>,
    closed: CancellationToken,
    /// The broker begins with the chunk that has this offset.
    first_offset: i64,
    /// Until the first event that is not older.
    since: Option<jiff::Timestamp>,
    /// The last offset to be read.
    head: Option<i64>,
    ended: bool,
}

impl Reader {
    /// The next events; `None` at the end.
    async fn next_batch(&mut self) -> Option<Result<Vec<v1::Event>, ReadError>> {
        while !self.ended {
            match self.receive().await {
                Ok(batch) if batch.is_empty() => {}
                Ok(batch) => return Some(Ok(batch)),
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }

    async fn receive(&mut self) -> Result<Vec<v1::Event>, ReadError> {
        let first = match self.taken.take() {
            Some(taken) => taken,
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
        // Acknowledged before the reader has them: a stream keeps its messages, this only asks for more.
        if let Some(last) = deliveries.back() {
            acknowledge_up_to(last).await?;
        }
        let mut events = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let offset = offset_of(&delivery)?;
            if self.head.is_some_and(|head| offset >= head) {
                self.ended = true;
            }
            if self.head.is_none_or(|head| offset <= head)
                && let Some(event) = self.wanted(offset, &delivery.data)
            {
                events.push(event);
            }
        }
        Ok(events)
    }

    fn wanted(&mut self, offset: i64, body: &[u8]) -> Option<v1::Event> {
        if offset < self.first_offset {
            return None;
        }
        let mut event: v1::Event = match serde_json::from_slice(body) {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(offset, %error, "a message in the event stream is no event: skipped");
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
        event.cursor = format_cursor(offset);
        Some(event)
    }
}

fn delivered(next: Option<lapin::Result<Delivery>>) -> Result<Delivery, ReadError> {
    match next {
        Some(Ok(delivery)) => Ok(delivery),
        Some(Err(error)) => Err(unavailable(error)),
        None => Err(ReadError::Unavailable(
            "the broker's session ended: continue from the last cursor".into(),
        )),
    }
}

async fn acknowledge_up_to(delivery: &Delivery) -> Result<(), ReadError> {
    let acknowledged = delivery
        .acker
        .ack(BasicAckOptions { multiple: true })
        .await
        .map_err(unavailable)?;
    if acknowledged {
        Ok(())
    } else {
        Err(ReadError::Unavailable(
            "the broker's session ended: continue from the last cursor".into(),
        ))
    }
}

fn offset_of(delivery: &Delivery) -> Result<i64, ReadError> {
    codec::number_header(delivery.properties.headers().as_ref(), OFFSET).ok_or_else(|| {
        ReadError::Unavailable("the broker delivered from a queue that is no stream".into())
    })
}

fn parse_cursor(cursor: &str) -> Option<i64> {
    let offset = cursor.strip_prefix("stream:")?;
    if offset.is_empty() || !offset.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Room for the offset after it.
    offset.parse().ok().filter(|offset| *offset < i64::MAX)
}

fn format_cursor(offset: i64) -> String {
    format!("stream:{offset}")
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

fn unavailable(error: impl Into<AmqpError>) -> ReadError {
    ReadError::Unavailable(error.into().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_strict() {
        assert_eq!(parse_cursor(&format_cursor(42)), Some(42));
        for cursor in [
            "",
            "42",
            "stream:",
            "stream:-1",
            "stream:+1",
            "stream: 1",
            "sqlite:1",
            "stream:9223372036854775807",
        ] {
            assert_eq!(parse_cursor(cursor), None, "{cursor}");
        }
    }
}
