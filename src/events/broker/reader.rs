//! Attaches readers to the stream at a cursor, at a time, or at its end.
//!
//! The broker silently starts later if the stream no longer has the requested offset, so the first offset is queried before.
//! The ends of the stream are found with a consumer at `first` or `last`. From RabbitMQ 4.0 on deliveries may come after the replies to later
//! requests, so they are waited for. The message count of a stream only tells that it is not empty, because it is seconds old.
//! Neighbours: `stream_reader` reads the deliveries, `cursor` has the format of cursors.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    cursor::{format_cursor, parse_cursor},
    stream_reader::{PREFETCH, StreamReader, acknowledge_up_to, delivered, offset_of, unavailable},
};
use crate::{
    amqp::{
        AmqpError, Endpoint, Session, Topology,
        headers::{broker::STREAM_OFFSET, text},
        session::RECONNECT,
    },
    events::{EventStream, ReadError, Start},
    primitives::retry::Backoff,
};

/// How much the broker's clock may be behind the bridge's when a reader starts at a time.
const CLOCK_SKEW_SECONDS: i64 = 60;
/// How long a delivery of a stream that has messages is waited for.
const FIRST_DELIVERY: Duration = Duration::from_secs(5);
/// How long one is waited for where there may be none: the broker's count of messages is seconds old.
const MAYBE_EMPTY: Duration = Duration::from_secs(1);
/// Deliveries of one chunk of the stream follow each other more closely than this.
const QUIET: Duration = Duration::from_millis(50);
/// How long deliveries of the last chunk are received.
const LAST_CHUNK: Duration = Duration::from_secs(2);
/// How long a cursor may be past the end of the log, because a replica of the stream lags behind its leader.
const REPLICA_LAG: Duration = Duration::from_secs(2);
/// All readers of this process. They share one connection, which is not the publisher's.
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
            match self.last_offset(&session, None).await? {
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
                let seconds = at.as_second() - CLOCK_SKEW_SECONDS;
                AMQPValue::Timestamp(seconds.max(0).unsigned_abs())
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
        let mut received = None;
        if head.is_some() && since.is_some() {
            // A start after the last event attaches after the head, where no delivery arrives until another event is appended.
            match Self::first_delivery(&mut consumer, MAYBE_EMPTY).await? {
                Some(first) => received = Some(first),
                None => return Ok(stream::empty().boxed()),
            }
        }
        let reader = StreamReader {
            _channel: channel,
            session,
            consumer,
            received,
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

    /// Ends all readers and closes their connection.
    pub(super) async fn close(&self) {
        self.closed.cancel();
        if let Some(session) = self.session.lock().await.take() {
            session.close().await;
        }
    }

    async fn session(&self) -> Result<Arc<Session>, ReadError> {
        let mut slot = self.session.lock().await;
        if let Some(session) = slot.as_ref().filter(|session| session.is_open()) {
            return Ok(session.clone());
        }
        // The first reader may start before the publisher has declared the stream. A stream with different arguments can still be
        // read; the publisher reports the conflict.
        let session = match self.topology.open_session(&self.endpoint, "reader").await {
            Err(AmqpError::Conflict { .. }) => Session::open(&self.endpoint, "reader").await,
            opened => opened,
        };
        let session = session.map_err(unavailable)?;
        Ok(slot.insert(Arc::new(session)).clone())
    }

    /// The offset of a cursor. Fails if the log no longer has the events after it, or never had it.
    async fn check_cursor(&self, session: &Session, cursor: &str) -> Result<i64, ReadError> {
        let bad_cursor = || ReadError::BadCursor {
            cursor: cursor.to_owned(),
        };
        let offset = parse_cursor(cursor).ok_or_else(bad_cursor)?;
        let mut backoff = Backoff::new(RECONNECT);
        let deadline = Instant::now() + REPLICA_LAG;
        while self
            .last_offset(session, Some(offset))
            .await?
            .is_none_or(|last| last < offset)
        {
            // Past the end of the log: a cursor of another log, or of one that was deleted.
            if Instant::now() >= deadline {
                return Err(bad_cursor());
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
        match self.first_offset(session).await? {
            oldest if oldest > offset + 1 => Err(ReadError::OutOfRange {
                cursor: cursor.to_owned(),
                oldest_cursor: format_cursor(oldest - 1),
            }),
            _ => Ok(offset),
        }
    }

    /// The first offset of a stream that is not empty.
    async fn first_offset(&self, session: &Session) -> Result<i64, ReadError> {
        let channel = session.consuming_channel(1).await.map_err(unavailable)?;
        let mut consumer = self.attach(&channel, text("first")).await?;
        match Self::first_delivery(&mut consumer, FIRST_DELIVERY).await? {
            Some(first) => offset_of(&first),
            None => Err(ReadError::Unavailable(
                "the broker did not deliver the oldest event in time".into(),
            )),
        }
    }

    /// The last offset, or a later one if events are appended meanwhile; the offset `enough` or a later one is as good.
    /// `None` if the stream is empty.
    async fn last_offset(
        &self,
        session: &Session,
        enough: Option<i64>,
    ) -> Result<Option<i64>, ReadError> {
        let channel = session
            .consuming_channel(PREFETCH)
            .await
            .map_err(unavailable)?;
        let mut consumer = self.attach(&channel, text("last")).await?;
        let mut next = Self::first_delivery(&mut consumer, self.patience(&channel).await?).await?;
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

    /// How long the first delivery of a consumer is waited for: longer if the broker has counted messages.
    async fn patience(&self, channel: &Channel) -> Result<Duration, ReadError> {
        let passive = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let declared = channel
            .queue_declare(self.stream.as_str().into(), passive, FieldTable::default())
            .await
            .map_err(unavailable)?;
        Ok(match declared.message_count() {
            0 => MAYBE_EMPTY,
            _ => FIRST_DELIVERY,
        })
    }

    /// The first delivery of a consumer; `None` if there is none in this time.
    async fn first_delivery(
        consumer: &mut Consumer,
        patience: Duration,
    ) -> Result<Option<Delivery>, ReadError> {
        match tokio::time::timeout(patience, consumer.next()).await {
            Ok(first) => delivered(first).map(Some),
            Err(_) => Ok(None),
        }
    }

    async fn attach(&self, channel: &Channel, offset: AMQPValue) -> Result<Consumer, ReadError> {
        let mut arguments = FieldTable::default();
        arguments.insert(STREAM_OFFSET.into(), offset);
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
