//! Attaches readers to the stream at a cursor, at a time, or at its end.
//!
//! The broker silently starts later if the stream no longer has the requested offset, so the first offset is queried before; `continuity`
//! notices what is truncated after that.
//! Invariant: a read up to the end attaches where the stream has an event, so that a missing delivery is an error and not the end.
//! Neighbours: `stream_ends` finds the end of the stream, `probe` checks that a cursor belongs to it, `stream_reader` reads the deliveries, `cursor` has the format of cursors,
//! `stream_filter` lets the broker leave events out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use lapin::types::AMQPValue;
use tokio::{sync::Mutex, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    continuity::{Continuity, is_missing_between},
    cursor::{Cursor, Mark},
    probe::{mark_at, oldest},
    stream_ends::{FIRST_DELIVERY, consume, delivery_in, last_event, message_count},
    stream_filter::StreamFilter,
    stream_reader::{PREFETCH, StreamReader, unavailable},
};
use crate::{
    amqp::{
        AmqpError, Endpoint, Session, Topology,
        headers::{broker::STREAM_OFFSET, table, text},
        session::RECONNECT,
    },
    events::{EventStream, ReadError, Start},
    primitives::retry::Backoff,
};

/// How much the broker's clock may be behind the bridge's when a reader starts at a time.
const CLOCK_SKEW_SECONDS: i64 = 60;
/// How long a cursor may be past the end of the log, because a replica of the stream lags behind its leader.
const REPLICA_LAG: Duration = Duration::from_secs(2);

/// How long the first event of a filtered read may take.
const FIRST_FILTERED: Duration = Duration::from_mins(1);

/// All readers of this process. They share one connection, which is not the publisher's.
pub(super) struct Readers {
    endpoint: Endpoint,
    topology: Topology,
    stream: String,
    session: Mutex<Option<Arc<Session>>>,
    closed: CancellationToken,
    /// The broker has stream filters, and they are not enabled.
    is_filter_refused: AtomicBool,
}

impl Readers {
    pub(super) fn new(endpoint: Endpoint, topology: Topology) -> Self {
        Self {
            endpoint,
            stream: topology.events_log(),
            topology,
            session: Mutex::new(None),
            closed: CancellationToken::new(),
            is_filter_refused: AtomicBool::new(false),
        }
    }

    /// See [`crate::events::EventLog::read`].
    pub(super) async fn read(
        &self,
        start: Start,
        end_at_head: bool,
        applications: Vec<String>,
    ) -> Result<EventStream, ReadError> {
        if self.closed.is_cancelled() {
            return Err(unavailable(AmqpError::Closed));
        }
        let session = self.session().await?;
        let head = if end_at_head {
            match last_event(&session, &self.stream, None).await? {
                Some(head) if start != Start::Now => Some(head),
                _ => return Ok(stream::empty().boxed()),
            }
        } else {
            None
        };
        let mut first_offset = 0;
        let mut after = None;
        let mut since = None;
        let offset = match &start {
            Start::Now => text("next"),
            Start::Since(at) => {
                since = Some(*at);
                // A start after the last event would attach after the head, where no delivery arrives until another event is appended.
                // Where the last message has no time, all messages are read.
                let from = head
                    .as_ref()
                    .map_or(*at, |head| head.at.unwrap_or_default().min(*at));
                let seconds = from.as_second() - CLOCK_SKEW_SECONDS;
                AMQPValue::Timestamp(seconds.max(0).unsigned_abs())
            }
            Start::After(cursor) => {
                let offset = self.check_cursor(&session, cursor).await?;
                after = Some((offset, cursor.clone()));
                first_offset = offset + 1;
                if head.as_ref().is_some_and(|head| head.offset < first_offset) {
                    return Ok(stream::empty().boxed());
                }
                AMQPValue::LongLongInt(first_offset)
            }
        };
        let channel = session
            .consuming_channel(PREFETCH)
            .await
            .map_err(unavailable)?;
        let last = head.as_ref().and_then(|head| head.filter_value.as_deref());
        let filter = match self.is_filter_refused.load(Ordering::Relaxed) {
            true => None,
            false => StreamFilter::new(&applications, last),
        };
        let mut arguments = table([(STREAM_OFFSET, offset)]);
        if let Some(filter) = &filter {
            filter.add_to(&mut arguments);
        }
        let mut consumer = match consume(&channel, &self.stream, arguments).await {
            Ok(consumer) => consumer,
            // RabbitMQ 3.13 whose feature flag `stream_filtering` is not enabled. The channel is closed, and its session with it.
            Err(error) if filter.is_some() && error.to_string().contains("filter") => {
                self.is_filter_refused.store(true, Ordering::Relaxed);
                tracing::warn!(%error, "the broker refuses to filter the event stream: it is read without its filter from now on");
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        let (continued, stream) = (session.clone(), self.stream.clone());
        let continuity = Continuity::new(continued, stream, filter.is_some(), after);
        continuity.attached().await?;
        // The broker looks at each chunk that it leaves out.
        let patience = if filter.is_some() {
            FIRST_FILTERED
        } else {
            FIRST_DELIVERY
        };
        let received = match &head {
            Some(_) => {
                let what = "the first event to read";
                Some(delivery_in(&mut consumer, what, patience).await?)
            }
            None => None,
        };
        let reader = StreamReader {
            _channel: channel,
            session,
            consumer,
            received,
            closed: self.closed.clone(),
            first_offset,
            since,
            head: head.as_ref().map(|head| head.offset),
            continuity,
            gap: None,
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
        // The first reader may start before the publisher has declared the stream. A stream can be read although it has different
        // arguments, or another queue is missing or may not be declared; the publisher reports these.
        let session = match self.topology.open_session(&self.endpoint, "reader").await {
            Err(
                error @ (AmqpError::Conflict { .. }
                | AmqpError::Missing { .. }
                | AmqpError::NoPermission { .. }),
            ) => self.session_without_declaring(error).await?,
            opened => opened.map_err(unavailable)?,
        };
        Ok(slot.insert(Arc::new(session)).clone())
    }

    /// A session, if the stream exists; else the error of its declaration.
    async fn session_without_declaring(&self, undeclared: AmqpError) -> Result<Session, ReadError> {
        let session = Session::open(&self.endpoint, "reader")
            .await
            .map_err(unavailable)?;
        let checked = async {
            let channel = session.consuming_channel(1).await.map_err(unavailable)?;
            message_count(&channel, &self.stream).await
        };
        if checked.await.is_ok() {
            return Ok(session);
        }
        session.close().await;
        Err(unavailable(undeclared))
    }

    /// The offset of a cursor. Fails if the log no longer has the events after it, or never had it.
    async fn check_cursor(&self, session: &Session, text: &str) -> Result<i64, ReadError> {
        let bad_cursor = || ReadError::BadCursor {
            cursor: text.to_owned(),
        };
        let cursor = Cursor::parse(text).ok_or_else(bad_cursor)?;
        let offset = cursor.offset;
        // The message whose mark the cursor has.
        let marked = match cursor.mark {
            Mark::None | Mark::Event(_) => offset,
            Mark::NextEvent(_) => offset + 1,
        };
        let mut backoff = Backoff::new(RECONNECT);
        let deadline = Instant::now() + REPLICA_LAG;
        while last_event(session, &self.stream, Some(marked))
            .await?
            .is_none_or(|last| last.offset < marked)
        {
            // Past the end of the log: a cursor of another log, or of one that was deleted.
            if Instant::now() >= deadline {
                return Err(bad_cursor());
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
        let oldest = oldest(session, &self.stream).await?;
        if is_missing_between(offset, oldest.offset) {
            return Err(ReadError::OutOfRange {
                cursor: text.to_owned(),
                oldest_cursor: oldest.cursor_before(),
            });
        }
        let belongs = match cursor.mark {
            Mark::None => true,
            // The cursor's own event may be the newest of those that the log no longer has. Then none is missing.
            Mark::Event(mark) => {
                let found = mark_at(session, &self.stream, marked).await?;
                found.is_none_or(|found| found == mark)
            }
            Mark::NextEvent(mark) => mark_at(session, &self.stream, marked).await? == Some(mark),
        };
        if belongs {
            Ok(offset)
        } else {
            Err(bad_cursor())
        }
    }
}
